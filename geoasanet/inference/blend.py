"""Putting overlapping windows together in bounded memory.

Windows arrive row by row, left to right. Every window's probabilities are multiplied by a weight that is a product
of a row vector and a column vector, both strictly positive and already divided by the sum over all windows that
cover the pixel, so that weights sum to one everywhere, at the scene's edges too, and no count map is needed.

Only two things are held, on the network's device: sums over the window at hand (``size`` x ``size``, small enough for
a processor's cache), and sums of the rows that the next row of windows will touch again (about ``overlap`` rows, full
width). Sums are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoasanet.errors import ConfigError
from geoasanet.inference.devicesums import DeviceSums
from geoasanet.inference.spans import Span
from geoasanet.sample import BoolArray
from geoasanet.windows import RowPlan

FloatArray = NDArray[np.float32]


def _hann(size: int) -> NDArray[np.float64]:
    return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)


def _gaussian(size: int) -> NDArray[np.float64]:
    distance = (np.arange(size) + 0.5 - size / 2) / (size / 8)
    return np.asarray(np.exp(-0.5 * distance**2))


def _flat(size: int) -> NDArray[np.float64]:
    return np.ones(size)


BLENDS: dict[str, Callable[[int], NDArray[np.float64]]] = {"hann": _hann, "gaussian": _gaussian, "flat": _flat}
"""Window weight along one axis by name: raised cosine, Gaussian with sigma = size / 8, constant."""


def blend_weights(length: int, starts: tuple[int, ...], size: int, blend: str) -> FloatArray:
    """Return the weight of each window along one axis, normalised so that they sum to 1 at every pixel.

    Args:
        length: Pixels of the scene along the axis.
        starts: First pixel of each window.
        size: Pixels of a window.
        blend: A name from :data:`BLENDS`.

    Returns:
        float32 array of shape (windows, size); 0 beyond the scene.

    Raises:
        ConfigError: If ``blend`` is unknown.
    """
    if blend not in BLENDS:
        raise ConfigError(f"Blend {blend!r} is unknown; one of {', '.join(BLENDS)} is needed.")
    profile = BLENDS[blend](size)
    total = np.zeros(max(length, size))
    for start in starts:
        total[start : start + size] += profile
    weights = np.stack([profile / total[start : start + size] for start in starts])
    if length < size:
        weights[:, length:] = 0
    return weights.astype(np.float32)


class RowBlender:
    """Blends one row of windows after the other.

    Args:
        plan: The windows that are blended. Pixels at its left and right that other windows cover too are not
            complete.
        num_classes: Classes of the network.
        blend: A name from :data:`BLENDS`.
        device: Where the sums are held and the classes found.
        keep_confidence: Also return the probability of the class given.
        keep_probabilities: Also return every class's probability.
        logits: Whether windows come as logits, of which the softmax is still to be taken.
    """

    def __init__(
        self,
        plan: RowPlan,
        num_classes: int,
        blend: str,
        *,
        device: torch.device | str = "cpu",
        keep_confidence: bool = False,
        keep_probabilities: bool = False,
        logits: bool = False,
    ) -> None:
        tiling, size = plan.tiling, plan.tiling.size
        self._plan = plan
        starts = [tiling.cols[column] - plan.first_col for column in plan.columns]
        stops = [*starts[1:], starts[-1] + size]
        self._spans = [Span(*span) for span in zip(plan.columns, starts, stops, strict=True)]
        steps = [len(tiling.finished_rows(i)) for i in range(len(tiling.rows) - 1)]
        shape = num_classes, size, size - min(steps, default=size), plan.width
        weights = (
            blend_weights(tiling.height, tiling.rows, size, blend),
            blend_weights(tiling.width, tiling.cols, size, blend),
        )
        self._sums = _sums_on(torch.device(device), *shape, *weights, logits)
        self._keep = keep_confidence, keep_probabilities
        self._carried_rows = 0
        self._next_row: int | None = None

    @torch.inference_mode()
    def add_row(
        self, index: int, predictions: Iterable[Tensor | None], valid: BoolArray
    ) -> tuple[NDArray[np.uint8], FloatArray | None, FloatArray | None]:
        """Return the scene rows that row of windows ``index`` finishes.

        Rows of windows must come in order; the first may be any. What the rows before it would have added to its
        own rows is then missing, see :meth:`Tiling.first_touching`.

        Args:
            index: Row of windows.
            predictions: Probabilities (or logits) of each window, left to right, float32 of shape (classes, size,
                size); None for a window that was not run because none of its pixels is valid.
            valid: True where the map is wanted, for the finished rows, shape (rows, width of the plan).

        Returns:
            Class ids (rows, width), uint8, 255 where not valid; confidence (rows, width) and probabilities (classes,
            rows, width), float32, NaN where not valid, or None where not asked for.
        """
        assert self._next_row is None or index == self._next_row, "rows of windows must be consecutive"
        self._next_row = index + 1
        tiling, size = self._plan.tiling, self._plan.tiling.size
        out = self._sums.rows(valid, *self._keep)
        self._sums.add_row(index, zip(self._spans, predictions, strict=True), self._carried_rows, out)
        finished = len(tiling.finished_rows(index))
        self._carried_rows = max(0, size - finished) if index + 1 < len(tiling.rows) else 0
        result: tuple[NDArray[np.uint8], FloatArray | None, FloatArray | None] = out.result()
        return result


def _sums_on(device: torch.device, *arguments: Any) -> Any:
    """Return the sums for a device, made from what both kinds take."""
    if device.type != "cpu":
        return DeviceSums(device, *arguments)
    from geoasanet.inference.hostsums import HostSums  # loads numba, which a device does not need

    return HostSums(*arguments)
