"""What travels between raster code and network code: plain arrays, no file handles and no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.windows import Window

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sample:
    """Both sensors over one window of the reference grid."""

    window: Window
    """Where the pixels are."""
    rgb: NDArray[Any]
    """The optical bands with shape (3, height, width), in the raster's dtype; 0 where not valid."""
    sar: NDArray[Any]
    """The SAR bands with shape (bands, height, width), in the raster's dtype or float32; 0 where not valid."""
    rgb_valid: BoolArray
    """Shape (height, width). True where the optical raster has data."""
    sar_valid: BoolArray
    """Shape (height, width). True where the SAR raster has data."""


@dataclass(frozen=True, slots=True)
class RowBand:
    """Finished rows of a map, full width of the output."""

    row: int
    """First row, on the scene's grid."""
    classes: NDArray[np.uint8]
    """Class ids with shape (rows, columns), 255 where there is none."""
    confidence: NDArray[np.float32] | None = None
    """Probability of the class given, shape (rows, columns), NaN where there is none."""
    probabilities: NDArray[np.float32] | None = None
    """Probability of every class, shape (classes, rows, columns), NaN where there is none."""
    filled: int = 0
    """Mapped pixels that had no SAR data."""
