"""Pixels of a scaled, cropped and turned tile, computed one crop at a time.

Only what the crop shows is computed, straight from the tile: scaling all of it first would cost up to four times as
much. Positions are those of OpenCV's ``resize``, which the original scales with: pixel centres at half-pixel
coordinates and edges repeated for images, the floor of the scaled index for labels, no smoothing when shrinking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.sample import BoolArray

Floats = NDArray[np.float32]
Indices = NDArray[np.uintp]
"""Unsigned: numba then need not look for negative ones."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The rows, or the columns, that a crop shows of a scaled tile."""

    source: int
    """Pixels of the tile."""
    scaled: int
    """Pixels of the scaled tile."""
    start: int
    """First pixel of the crop, in the scaled tile."""
    count: int
    """Pixels of the crop; all lie in the scaled tile."""
    reverse: bool = False
    """True if the crop shows them from last to first."""

    def nearest(self) -> Indices:
        """Return the tile's pixel for each pixel of the crop, for labels."""
        step = 1 / (self.scaled / self.source)
        index = np.floor(self._targets() * step)
        return np.asarray(np.minimum(index, self.source - 1), np.uintp)

    def linear(self) -> tuple[Indices, Indices, Floats]:
        """Return, for each pixel of the crop, the tile's pixel before and after it and the share of the latter."""
        position = (self._targets() + 0.5) * (self.source / self.scaled) - 0.5
        position = np.clip(position, 0, self.source - 1)
        lower = np.floor(position)
        upper = np.minimum(lower + 1, self.source - 1)
        return lower.astype(np.uintp), upper.astype(np.uintp), (position - lower).astype(np.float32)

    def _targets(self) -> NDArray[np.int64]:
        pixels = np.arange(self.start, self.start + self.count, dtype=np.int64)
        return pixels[::-1] if self.reverse else pixels


def sample_images(
    pixels: NDArray[Any],
    valid: BoolArray | None,
    rows: Axis,
    cols: Axis,
    mean: Floats,
    gain: Floats,
    offset: Floats,
    out: Floats,
) -> BoolArray | None:
    """Write ``(bilinear pixels - mean) * gain + offset`` into the top left of ``out``.

    Args:
        pixels: Bands of a tile, shape (bands, height, width), of any number type.
        valid: Shape (height, width), True where they are data; ``None`` if all are. Others get no weight.
        rows: Rows that are shown.
        cols: Columns that are shown.
        mean: What is subtracted, one for each band.
        gain: What that is multiplied by.
        offset: What is added in the end.
        out: Shape (bands, at least ``rows.count``, at least ``cols.count``); 0 where no valid pixel is near.

    Returns:
        Where ``out`` was computed from valid pixels, shape (rows.count, cols.count); ``None`` if everywhere.
    """
    affine = (mean, gain, offset)
    pixels = np.ascontiguousarray(pixels)
    if valid is None:
        _bilinear(pixels, *rows.linear(), *cols.linear(), *affine, out)
        return None
    seen = np.zeros((rows.count, cols.count), np.bool_)
    _bilinear_valid(pixels, np.ascontiguousarray(valid), *rows.linear(), *cols.linear(), *affine, out, seen)
    return seen


def sample_labels(label: NDArray[np.uint8], rows: Axis, cols: Axis, out: NDArray[np.uint8]) -> None:
    """Write the nearest class ids of ``label`` (height, width) into the top left of ``out``."""
    _nearest(np.ascontiguousarray(label), rows.nearest(), cols.nearest(), out)


def count_labels(label: NDArray[np.uint8], rows: Axis, cols: Axis) -> NDArray[np.int64]:
    """Return how often each of the values 0 to 255 would stand in the crop, int64 (256,)."""
    counts = np.zeros(256, np.int64)
    times = [np.bincount(axis.nearest().view(np.intp), minlength=axis.source) for axis in (rows, cols)]
    shown = [np.flatnonzero(t).view(np.uintp) for t in times]
    _tally(np.ascontiguousarray(label), shown[0], times[0], shown[1], times[1], counts)
    return counts


@kernel
def _bilinear(
    pixels: Any,
    row0: Any,
    row1: Any,
    row_share: Any,
    col0: Any,
    col1: Any,
    col_share: Any,
    mean: Any,
    gain: Any,
    offset: Any,
    out: Any,
) -> None:
    """Fill ``out``; see :func:`sample_images`. Rows are blended first: that runs over adjacent pixels."""
    first, last = min(col0[0], col0[-1]), max(col1[0], col1[-1])
    blended = np.empty(pixels.shape[2], np.float32)
    for b in range(pixels.shape[0]):
        m, g, o = mean[b], gain[b], offset[b]  # once for all rows: the compiler must reread what an array holds
        for r in range(row0.size):
            above, below, share = pixels[b, row0[r]], pixels[b, row1[r]], row_share[r]
            for k in range(first, last + 1):
                upper, lower = np.float32(above[k]), np.float32(below[k])
                blended[k] = (upper + share * (lower - upper) - m) * g + o
            target = out[b, r]
            for c in range(col0.size):
                left, right = blended[col0[c]], blended[col1[c]]
                target[c] = left + col_share[c] * (right - left)


@kernel
def _bilinear_valid(
    pixels: Any,
    valid: Any,
    row0: Any,
    row1: Any,
    row_share: Any,
    col0: Any,
    col1: Any,
    col_share: Any,
    mean: Any,
    gain: Any,
    offset: Any,
    out: Any,
    seen: Any,
) -> None:
    """Fill ``out`` and ``seen`` from valid pixels; see :func:`sample_images`.

    Values and weights are both blended with pixels that are not valid at 0; their quotient is the mean of the others.
    """
    zero, one = np.float32(0), np.float32(1)
    first, last = min(col0[0], col0[-1]), max(col1[0], col1[-1])
    blended = np.empty(pixels.shape[2], np.float32)
    weight = np.empty(pixels.shape[2], np.float32)
    inverse = np.empty(col0.size, np.float32)
    for r in range(row0.size):
        share = row_share[r]
        above_valid, below_valid = valid[row0[r]], valid[row1[r]]
        for k in range(first, last + 1):
            weight[k] = (one - share if above_valid[k] else zero) + (share if below_valid[k] else zero)
        for c in range(col0.size):
            total = (one - col_share[c]) * weight[col0[c]] + col_share[c] * weight[col1[c]]
            seen[r, c] = total > zero
            inverse[c] = one / total if total > zero else zero
        for b in range(pixels.shape[0]):
            m, g, o = mean[b], gain[b], offset[b]
            above, below, target = pixels[b, row0[r]], pixels[b, row1[r]], out[b, r]
            for k in range(first, last + 1):
                upper = (np.float32(above[k]) - m) * (one - share) if above_valid[k] else zero
                lower = (np.float32(below[k]) - m) * share if below_valid[k] else zero
                blended[k] = upper + lower
            for c in range(col0.size):
                value = (one - col_share[c]) * blended[col0[c]] + col_share[c] * blended[col1[c]]
                target[c] = value * inverse[c] * g + o if inverse[c] > zero else zero


@kernel
def _nearest(label: Any, rows: Any, cols: Any, out: Any) -> None:
    for r in range(rows.size):
        line, target = label[rows[r]], out[r]
        for c in range(cols.size):
            target[c] = line[cols[c]]


@kernel
def _tally(label: Any, rows: Any, row_times: Any, cols: Any, col_times: Any, counts: Any) -> None:
    """Add up, for each pixel of the tile that a crop shows, how often it shows it."""
    for row in rows:
        times, line = row_times[row], label[row]
        for col in cols:
            counts[line[col]] += times * col_times[col]
