"""Resampling kernels: source pixels at the positions that a lattice of control points gives.

Between control points, coordinates are linear along a row, so a run of pixels within one cell of the lattice is
located with two multiplications each, its four neighbours are gathered, and the rest is arithmetic on short arrays
that the compiler turns into vector instructions. A pixel's value depends on its position alone, not on the run or
the window it came in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import copy_pair, kernel
from geoasanet.sample import BoolArray
from geoasanet.windows import Window

FloatArray = NDArray[np.float64]


class Nodes(NamedTuple):
    """Control points: target pixels whose place in the source is known exactly."""

    rows: FloatArray
    """Source rows, shape (node rows, node columns)."""
    cols: FloatArray
    """Source columns, the same shape."""
    row: int
    """Target row of the first node."""
    col: int
    """Target column of the first node."""

    def around(self, window: Window, spacing: int) -> Nodes:
        """Return the nodes around ``window``, which are among these."""
        down = slice((window.row - self.row) // spacing, -(-(window.row_stop - self.row) // spacing) + 1)
        across = slice((window.col - self.col) // spacing, -(-(window.col_stop - self.col) // spacing) + 1)
        row, col = self.row + down.start * spacing, self.col + across.start * spacing
        return Nodes(self.rows[down, across], self.cols[down, across], row, col)


class Place(NamedTuple):
    """Where target pixels lie in the source."""

    window: Window
    """The target pixels."""
    nodes: Nodes
    """Control points around them."""
    spacing: int
    """Target pixels between control points."""
    shrink: tuple[float, float]
    """Source rows and columns per target pixel, each at least 1."""
    corner: tuple[int, int]
    """Row and column of the first source pixel at hand."""


Resampler = Callable[[NDArray[Any], BoolArray, Place, NDArray[np.float32], BoolArray, tuple[int, int]], None]
"""What does the work of :func:`resample`, and takes what it takes."""


def resample(
    data: NDArray[Any],
    valid: BoolArray,
    place: Place,
    out: NDArray[np.float32],
    out_valid: BoolArray,
    at: tuple[int, int],
) -> None:
    """Write source pixels, resampled bilinearly to a window of the target grid, into ``out`` and ``out_valid``.

    Where a target pixel spans more than one source pixel, the triangle is widened by that factor, so that
    coarsening averages rather than picks. Weights are taken over valid source pixels; a pixel is valid if they carry
    at least half of the weight. Pixels that are not valid are left as they are.

    Args:
        data: Source pixels, shape (bands, rows, columns); 0 where not valid.
        valid: Source validity, shape (rows, columns).
        place: Target pixels wanted, and where they lie.
        out: Shape (bands, rows, columns), C-contiguous.
        out_valid: Shape (rows, columns).
        at: Row and column of ``out`` where the first pixel wanted goes.
    """
    window, (rows, cols, row0, col0), spacing, shrink, corner = place
    extent = window.row - row0, window.col - col0, window.height, window.width, spacing
    pixels = np.ascontiguousarray(data)
    if shrink == (1.0, 1.0):
        _bilinear(pixels, valid, bool(valid.all()), *corner, rows, cols, *extent, out, out_valid, *at)
    else:
        _triangle(pixels, valid, *corner, rows, cols, *extent, *shrink, out, out_valid, *at)


@kernel
def _bilinear(
    data: Any,
    valid: Any,
    all_valid: bool,
    row_off: int,
    col_off: int,
    node_rows: Any,
    node_cols: Any,
    drow: int,
    dcol: int,
    rows: int,
    cols: int,
    spacing: int,
    out: Any,
    out_valid: Any,
    out_row: int,
    out_col: int,
) -> None:
    """Interpolate between the four pixels around each position; see :func:`resample`."""
    bands, height, width = data.shape
    flat, flat_valid = data.reshape(bands, height * width), valid.reshape(height * width)
    below, right = np.uint32(width), np.uint32(1)  # unsigned: no test for negative indices
    index = np.empty(spacing, np.uint32)
    small = height * width < 2**32
    row0, col0 = np.int32(row_off), np.int32(col_off)
    fx, fy = np.empty(spacing, np.float32), np.empty(spacing, np.float32)
    upper, lower = np.empty(2 * spacing, data.dtype), np.empty(2 * spacing, data.dtype)
    steps = np.arange(spacing).astype(np.float64)  # converting whole numbers one by one takes longer than reading them
    for r in range(rows):
        i = (r + drow) // spacing
        v = ((r + drow - i * spacing) + 0.5) / spacing
        start = 0
        while start < cols:
            j = (start + dcol) // spacing
            stop = min(cols, (j + 1) * spacing - dcol)
            count = stop - start
            # Position of the pixel centre: y = y0 + dy * t, t target pixels from the control points on the left.
            y0 = (1 - v) * node_rows[i, j] + v * node_rows[i + 1, j] - 0.5
            x0 = (1 - v) * node_cols[i, j] + v * node_cols[i + 1, j] - 0.5
            dy = ((1 - v) * node_rows[i, j + 1] + v * node_rows[i + 1, j + 1] - 0.5 - y0) / spacing
            dx = ((1 - v) * node_cols[i, j + 1] + v * node_cols[i + 1, j + 1] - 0.5 - x0) / spacing
            t0 = start + dcol - j * spacing + 0.5
            t1 = t0 + (count - 1)
            # Positions are monotonic in t: if both ends have four neighbours, all have.
            top, bottom = min(y0 + dy * t0, y0 + dy * t1), max(y0 + dy * t0, y0 + dy * t1)
            left, east = min(x0 + dx * t0, x0 + dx * t1), max(x0 + dx * t0, x0 + dx * t1)
            clear = top >= row_off and bottom < row_off + height - 1
            clear = clear and small and left >= col_off and east < col_off + width - 1
            if clear:
                for k in range(count):
                    y, x = y0 + dy * (t0 + steps[k]), x0 + dx * (t0 + steps[k])
                    yi, xi = np.int32(y), np.int32(x)
                    fy[k], fx[k] = y - yi, x - xi
                    index[k] = np.uint32(yi - row0) * below + np.uint32(xi - col0)
                if not all_valid:
                    for k in range(count):
                        q = index[k]
                        clear &= flat_valid[q] & flat_valid[q + right]
                        clear &= flat_valid[q + below] & flat_valid[q + below + right]
            if clear:
                for b in range(bands):
                    band = flat[b]
                    for k in range(count):
                        q = index[k]
                        copy_pair(upper, 2 * k, band, q)
                        copy_pair(lower, 2 * k, band, q + below)
                    target = out[b, out_row + r, out_col + start : out_col + stop]
                    for k in range(count):
                        target[k] = _between(
                            upper[2 * k], upper[2 * k + 1], lower[2 * k], lower[2 * k + 1], fy[k], fx[k]
                        )
                out_valid[out_row + r, out_col + start : out_col + stop] = True
            elif np.isfinite(top + bottom + left + east):
                for k in range(count):
                    y, x = y0 + dy * (t0 + k), x0 + dx * (t0 + k)
                    yf, xf = np.floor(y), np.floor(x)
                    at = int(yf) - row_off, int(xf) - col_off
                    near = out_row + r, out_col + start + k
                    _one_pixel(data, valid, at, np.float32(y - yf), np.float32(x - xf), out, out_valid, near)
            start = stop


@kernel
def _between(nw: Any, ne: Any, sw: Any, se: Any, fy: Any, fx: Any) -> Any:
    """Interpolate between four neighbours, in float32."""
    a, b, c, d = np.float32(nw), np.float32(ne), np.float32(sw), np.float32(se)
    upper = a + (b - a) * fx
    lower = c + (d - c) * fx
    return upper + (lower - upper) * fy


@kernel
def _one_pixel(data: Any, valid: Any, at: Any, fy: Any, fx: Any, out: Any, out_valid: Any, target: Any) -> None:
    """Interpolate at one position some of whose neighbours may be missing; the same bits where none is."""
    bands, height, width = data.shape
    seen, known = 0.0, 0
    for k in range(2):
        for m in range(2):
            row, col = at[0] + k, at[1] + m
            if 0 <= row < height and 0 <= col < width and valid[row, col]:
                seen += (fy if k else 1.0 - fy) * (fx if m else 1.0 - fx)
                known += 1
    if known == 0 or seen < 0.5:
        return
    out_valid[target] = True
    for b in range(bands):
        if known == 4:
            row, col = at
            value = _between(
                data[b, row, col], data[b, row, col + 1], data[b, row + 1, col], data[b, row + 1, col + 1], fy, fx
            )
        else:
            total = 0.0
            for k in range(2):
                for m in range(2):
                    row, col = at[0] + k, at[1] + m
                    if 0 <= row < height and 0 <= col < width and valid[row, col]:
                        total += (fy if k else 1.0 - fy) * (fx if m else 1.0 - fx) * data[b, row, col]
            value = np.float32(total / seen)
        out[b, target[0], target[1]] = value


@kernel
def _triangle(
    data: Any,
    valid: Any,
    row_off: int,
    col_off: int,
    node_rows: Any,
    node_cols: Any,
    drow: int,
    dcol: int,
    rows: int,
    cols: int,
    spacing: int,
    ry: float,
    rx: float,
    out: Any,
    out_valid: Any,
    out_row: int,
    out_col: int,
) -> None:
    """Average under a triangle of half-width ``ry`` by ``rx`` source pixels; see :func:`resample`."""
    bands, height, width = data.shape
    weights_y, weights_x = np.empty(int(2 * ry) + 3), np.empty(int(2 * rx) + 3)
    sums = np.empty(bands)
    for r in range(rows):
        i = (r + drow) // spacing
        v = ((r + drow - i * spacing) + 0.5) / spacing
        for c in range(cols):
            j = (c + dcol) // spacing
            u = ((c + dcol - j * spacing) + 0.5) / spacing
            w00, w01, w10, w11 = (1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u
            y = w00 * node_rows[i, j] + w01 * node_rows[i, j + 1]
            y += w10 * node_rows[i + 1, j] + w11 * node_rows[i + 1, j + 1]
            x = w00 * node_cols[i, j] + w01 * node_cols[i, j + 1]
            x += w10 * node_cols[i + 1, j] + w11 * node_cols[i + 1, j + 1]
            if not (np.isfinite(y) and np.isfinite(x)):
                continue
            first_row, total_y = _triangle_weights(y - 0.5, ry, weights_y)
            first_col, total_x = _triangle_weights(x - 0.5, rx, weights_x)
            row0, col0 = first_row[0] - row_off, first_col[0] - col_off
            count_y, count_x = first_row[1], first_col[1]
            seen = 0.0
            sums[:] = 0.0
            for k in range(max(0, -row0), min(count_y, height - row0)):
                for m in range(max(0, -col0), min(count_x, width - col0)):
                    if valid[row0 + k, col0 + m]:
                        weight = weights_y[k] * weights_x[m]
                        seen += weight
                        for b in range(bands):
                            sums[b] += weight * data[b, row0 + k, col0 + m]
            if seen <= 0.0 or seen < 0.5 * total_y * total_x:
                continue
            out_valid[out_row + r, out_col + c] = True
            for b in range(bands):
                out[b, out_row + r, out_col + c] = sums[b] / seen


@kernel
def _triangle_weights(center: float, reach: float, weights: Any) -> Any:
    """Fill ``weights`` around ``center``; return the first pixel and the count of pixels, and the sum of weights."""
    first = int(np.floor(center - reach)) + 1
    count = int(np.ceil(center + reach)) - first
    total = 0.0
    for k in range(count):
        weights[k] = 1.0 - abs(first + k - center) / reach
        total += weights[k]
    return (first, count), total
