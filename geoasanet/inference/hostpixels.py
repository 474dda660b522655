"""Pixels of a window as a network takes them, in one pass over main memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoasanet.kernels import kernel


@kernel
def normalize(pixels: Any, mean: Any, scale: Any, out: Any) -> None:
    """Write ``(pixels - mean) * scale`` of each band to ``out``, or the pixels themselves where ``mean`` is empty.

    A window lies scattered over its row of windows, a few hundred bytes in each row of pixels. torch takes twice as
    long to gather them.

    Args:
        pixels: Shape (bands, height, width), of any dtype that numba knows (not float16), in any order.
        mean: Shape (bands) or (0), float32.
        scale: As ``mean``.
        out: Shape (bands, height, width), float32.
    """
    bands, height, width = out.shape
    for band in range(bands):
        for y in range(height):
            source, target = pixels[band, y], out[band, y]
            if mean.size:
                offset, factor = mean[band], scale[band]
                for x in range(width):
                    target[x] = (np.float32(source[x]) - offset) * factor
            else:
                for x in range(width):
                    target[x] = source[x]
