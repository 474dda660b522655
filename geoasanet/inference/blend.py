"""Putting overlapping windows together in bounded memory.

Windows arrive row by row, left to right. Every window's probabilities are multiplied by a weight that is a product
of a row vector and a column vector, both strictly positive and already divided by the sum over all windows that
cover the pixel, so that weights sum to one everywhere, at the scene's edges too, and no count map is needed.

Only two things are held, on the network's device: sums over the window at hand (``size`` x ``size``, small enough for
a processor's cache), and sums of the rows that the next row of windows will touch again (about ``overlap`` rows, full
width). Sums are float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        device: Where the sums are held and the classes found.
        keep_confidence: Also return the probability of the class given.
        keep_probabilities: Also return every class's probability.
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
    ) -> None:
        tiling = plan.tiling
        size = tiling.size
        self._plan = plan
        self._device = torch.device(device)
        row_weights = blend_weights(tiling.height, tiling.rows, size, blend)
        col_weights = blend_weights(tiling.width, tiling.cols, size, blend)
        self._row_weights = torch.from_numpy(row_weights).to(self._device)
        self._col_weights = torch.from_numpy(col_weights).to(self._device)
        steps = [len(tiling.finished_rows(i)) for i in range(len(tiling.rows) - 1)]
        self._carry = torch.zeros(num_classes, size - min(steps, default=size), plan.width, device=self._device)
        self._sums = torch.zeros(num_classes, size, size, device=self._device)
        self._carried_rows = 0
        self._next_row: int | None = None
        self._keep_confidence = keep_confidence
        self._keep_probabilities = keep_probabilities

    @torch.inference_mode()
    def add_row(
        self, index: int, predictions: Iterable[Tensor | None], valid: BoolArray
    ) -> tuple[NDArray[np.uint8], FloatArray | None, FloatArray | None]:
        """Return the scene rows that row of windows ``index`` finishes.

        Rows of windows must come in order; the first may be any. What the rows before it would have added to its
        own rows is then missing, see :meth:`Tiling.first_touching`.

        Args:
            index: Row of windows.
            predictions: Probabilities of each window, left to right, float32 of shape (classes, size, size); None
                for a window that was not run because none of its pixels is valid.
            valid: True where the map is wanted, for the finished rows, shape (rows, width of the plan).

        Returns:
            Class ids (rows, width), uint8, 255 where not valid; confidence (rows, width) and probabilities (classes,
            rows, width), float32, NaN where not valid, or None where not asked for.
        """
        assert self._next_row is None or index == self._next_row, "rows of windows must be consecutive"
        self._next_row = index + 1
        plan, tiling, size = self._plan, self._plan.tiling, self._plan.tiling.size
        finished = len(tiling.finished_rows(index))
        out = _Rows(
            finished, plan.width, len(self._sums), self._device, self._keep_confidence, self._keep_probabilities
        )
        self._sums.zero_()
        for column, prediction in zip(plan.columns, predictions, strict=True):
            start = tiling.cols[column]
            stop = tiling.cols[column + 1] if column != plan.columns[-1] else start + size
            with _one_thread(self._device):
                if prediction is not None:
                    weight = self._row_weights[index, :, None] * self._col_weights[column]
                    self._sums.addcmul_(prediction, weight)
                self._take(finished, start - plan.first_col, stop - start, out)
        self._carried_rows = max(0, size - finished) if index + 1 < len(tiling.rows) else 0
        return out.masked(torch.from_numpy(valid).to(self._device))

    def _take(self, finished: int, start: int, count: int, out: _Rows) -> None:
        """Take the first ``count`` columns out of the sums: finished rows to ``out``, the rest to the carry."""
        sums, carry = self._sums, self._carry
        size = sums.shape[1]
        taken = sums[:, :, :count]
        if self._carried_rows:
            taken[:, : self._carried_rows] += carry[:, : self._carried_rows, start : start + count]
        out.put(start, taken[:, :finished])
        rest = min(size - finished, carry.shape[1])
        if rest > 0:
            carry[:, :rest, start : start + count] = taken[:, finished : finished + rest]
        if count < size:
            sums[:, :, : size - count] = sums[:, :, count:].clone()
        sums[:, :, size - count :] = 0


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Run on one CPU thread: on arrays this small, waiting for a second one costs more than it saves."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Rows:
    """Finished rows in the making."""

    def __init__(
        self, rows: int, width: int, num_classes: int, device: torch.device, confidence: bool, probabilities: bool
    ) -> None:
        self._classes = torch.empty(rows, width, dtype=torch.uint8, device=device)
        self._confidence = torch.empty(rows, width, device=device) if confidence else None
        self._probabilities = torch.empty(num_classes, rows, width, device=device) if probabilities else None

    def put(self, start: int, sums: Tensor) -> None:
        """Decide the class of the columns from ``start`` on, given sums of shape (classes, rows, columns)."""
        columns = slice(start, start + sums.shape[2])
        classes = self._classes[:, columns]
        classes.zero_()
        best = sums[0].clone()
        for k in range(1, len(sums)):
            classes.masked_fill_(sums[k] > best, k)
            torch.maximum(best, sums[k], out=best)
        if self._confidence is not None:
            self._confidence[:, columns] = best
        if self._probabilities is not None:
            self._probabilities[:, :, columns] = sums

    def masked(self, valid: Tensor) -> tuple[NDArray[np.uint8], FloatArray | None, FloatArray | None]:
        """Return host arrays, without a class where not ``valid``."""
        invalid = ~valid
        self._classes.masked_fill_(invalid, NODATA)
        for part in (self._confidence, self._probabilities):
            if part is not None:
                part.masked_fill_(invalid, torch.nan)
        confidence, probabilities = self._confidence, self._probabilities
        return (
            self._classes.cpu().numpy(),
            None if confidence is None else confidence.cpu().numpy(),
            None if probabilities is None else probabilities.cpu().numpy(),
        )
