"""Putting overlapping windows together in bounded memory.

Windows arrive row by row, left to right. Every window's probabilities are multiplied by a weight that is a product
of a row vector and a column vector, both strictly positive and already divided by the sum over all windows that
cover the pixel, so that weights sum to one everywhere, at the scene's edges too, and no count map is needed.

Only two things are held: sums over the window at hand (``size`` x ``size``), and sums of the rows that the next row
of windows will touch again (about ``overlap`` rows, full width). Sums are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.errors import ConfigError
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
        keep_probabilities: Also return every class's probability.
    """

    def __init__(
        self, plan: RowPlan, num_classes: int, blend: str, *, keep_probabilities: bool = False
    ) -> None:
        tiling = self._tiling = plan.tiling
        self._plan = plan
        size = tiling.size
        self._row_weights = blend_weights(tiling.height, tiling.rows, size, blend)
        self._col_weights = blend_weights(tiling.width, tiling.cols, size, blend)
        steps = [len(tiling.finished_rows(i)) for i in range(len(tiling.rows) - 1)]
        carried = size - min(steps, default=size)
        self._carry = np.zeros((carried, num_classes, plan.width), np.float32)
        self._window = np.zeros((size, num_classes, size), np.float32)
        self._keep = keep_probabilities
        self._num_classes = num_classes
        self._carried_rows = 0
        self._next_row: int | None = None

    def add_row(
        self, index: int, predictions: Iterable[FloatArray | None], valid: BoolArray
    ) -> tuple[NDArray[np.uint8], FloatArray, FloatArray | None]:
        """Return the scene rows that row of windows ``index`` finishes.

        Rows of windows must come in order; the first may be any. What the rows before it would have added to its
        own rows is then missing, see :meth:`Tiling.first_touching`.

        Args:
            index: Row of windows.
            predictions: Probabilities of each window, left to right, float32 of shape (classes, size, size); None
                for a window that was not run because none of its pixels is valid.
            valid: True where the map is wanted, for the finished rows, shape (rows, width of the plan).

        Returns:
            Class ids (rows, width), uint8, 255 where not valid; confidence, float32, NaN where not valid; and
            probabilities (classes, rows, width) or None.
        """
        assert self._next_row is None or index == self._next_row, "rows of windows must be consecutive"
        self._next_row = index + 1
        plan, tiling, size = self._plan, self._tiling, self._tiling.size
        finished = len(tiling.finished_rows(index))
        rows = min(finished, size)
        classes = np.full((rows, plan.width), NODATA, np.uint8)
        confidence = np.full((rows, plan.width), np.nan, np.float32)
        shape = (self._num_classes, rows, plan.width) if self._keep else (0, 0, 0)
        probabilities = np.full(shape, np.nan, np.float32)
        self._window[:] = 0
        last = plan.columns[-1]
        for column, prediction in zip(plan.columns, predictions, strict=True):
            start = tiling.cols[column]
            if prediction is not None:
                _accumulate(self._window, prediction, self._row_weights[index], self._col_weights[column])
            stop = tiling.cols[column + 1] if column != last else start + size
            _flush(
                self._window,
                self._carry,
                self._carried_rows,
                finished,
                start - plan.first_col,
                stop - start,
                valid,
                classes,
                confidence,
                probabilities,
            )
        self._carried_rows = max(0, size - finished) if index + 1 < len(tiling.rows) else 0
        return classes, confidence, probabilities if self._keep else None


@numba.njit(cache=True, nogil=True)
def _accumulate(window: Any, prediction: Any, row_weight: Any, col_weight: Any) -> None:
    """Add a window's weighted probabilities: window (size, classes, size) += prediction (classes, size, size)."""
    classes, size, _ = prediction.shape
    for r in range(size):
        for k in range(classes):
            for c in range(size):
                window[r, k, c] += prediction[k, r, c] * (row_weight[r] * col_weight[c])


@numba.njit(cache=True, nogil=True)
def _flush(
    window: Any,
    carry: Any,
    carried_rows: int,
    finished: int,
    start: int,
    count: int,
    valid: Any,
    classes: Any,
    confidence: Any,
    probabilities: Any,
) -> None:
    """Take the first ``count`` columns out of the window sums: finished rows to the output, the rest to the carry."""
    size, num_classes, _ = window.shape
    best = np.empty(count, np.float32)
    best_class = np.empty(count, np.uint8)
    for r in range(size):
        if r < carried_rows:
            for k in range(num_classes):
                for c in range(count):
                    window[r, k, c] += carry[r, k, start + c]
        if r >= finished:
            if r - finished < carry.shape[0]:
                for k in range(num_classes):
                    for c in range(count):
                        carry[r - finished, k, start + c] = window[r, k, c]
        elif r < classes.shape[0]:
            for c in range(count):
                best[c] = window[r, 0, c]
                best_class[c] = 0
            for k in range(1, num_classes):
                for c in range(count):
                    if window[r, k, c] > best[c]:
                        best[c] = window[r, k, c]
                        best_class[c] = k
            for c in range(count):
                if valid[r, start + c]:
                    classes[r, start + c] = best_class[c]
                    confidence[r, start + c] = best[c]
            if probabilities.shape[0]:
                for k in range(num_classes):
                    for c in range(count):
                        if valid[r, start + c]:
                            probabilities[k, r, start + c] = window[r, k, c]
        for k in range(num_classes):
            for c in range(size - count):
                window[r, k, c] = window[r, k, c + count]
            for c in range(size - count, size):
                window[r, k, c] = 0.0
