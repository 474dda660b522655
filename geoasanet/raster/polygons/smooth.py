"""Smoothing of shared borders by corner cutting (Chaikin), every arc once, nodes fixed, coverage kept.

A corner b between a and c is replaced by two points on its edges, a quarter of the edge away from b but no more than
``REACH_PX``, so that long straight borders stay straight. It is cut only if the triangle that goes, edges included,
holds no vertex of any border. Then no edge enters that triangle, and two such triangles never overlap: all corners of
a pass can be cut at once and no two borders touch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs
from geoasanet.raster.polygons.spool import Column, forget, keep
from geoasanet.raster.polygons.threads import ordered_map

REACH_PX = 4.0
"""How far from a corner it is cut at most, in pixels."""
CELL_PX = 4.0
"""Side of the cells in which vertices are looked up, in pixels."""
MARGIN_PX2 = 1e-9
"""Vertices this close outside a triangle (twice the area they span with an edge) count as inside."""
CHUNK = 4096
"""Arcs that a thread takes at a time."""
COPIED = 1 << 20
"""Vertices that are copied at a time."""

Floats = NDArray[np.float64]


def smooth_arcs(arcs: Arcs, passes: int, shape: tuple[int, int], workers: int, folder: Path | None = None) -> Arcs:
    """Return the arcs after ``passes`` rounds of corner cutting.

    Args:
        arcs: The borders.
        passes: Rounds; each at most doubles the number of vertices.
        shape: Rows and columns of the map.
        workers: Threads.
        folder: Where temporary files lie; None: the system's folder for them.
    """
    arcs = replace(arcs, cols=_as_float(arcs.cols, folder), rows=_as_float(arcs.rows, folder))
    batches = [range(k, min(k + CHUNK, len(arcs))) for k in range(0, len(arcs), CHUNK)]
    for _ in range(passes):
        cells, members = _index(arcs.cols, arcs.rows, arcs.first, arcs.size, *_cells(shape))
        cut = np.zeros(len(arcs.cols), np.bool_)
        for _ in ordered_map(partial(_flag_batch, arcs, cells, members, cut), batches, workers):
            pass
        del cells, members
        arcs = _cut_arcs(arcs, cut, batches, folder)
    return arcs


def _as_float(values: NDArray[np.int32], folder: Path | None) -> Floats:
    """Return values as floats, in a file."""
    result = Column(np.float64, folder)
    for start in range(0, len(values), COPIED):
        result.append(values[start : start + COPIED].astype(np.float64))
    forget(values)
    return result.array()


def _cut_arcs(arcs: Arcs, cut: NDArray[np.bool_], batches: list[range], folder: Path | None) -> Arcs:
    """Return the arcs after cutting the flagged corners, in files."""
    cols, rows = Column(np.float64, folder), Column(np.float64, folder)
    first, size = np.empty(len(arcs), np.int64), np.empty(len(arcs), np.int32)
    for batch in batches:
        part = slice(batch.start, batch.stop)
        x, y, first[part], size[part] = _cut(
            arcs.cols, arcs.rows, arcs.first[part], arcs.size[part], arcs.closed[part], cut
        )
        first[part] += len(cols)
        cols.append(x)
        rows.append(y)
    forget(arcs.cols, arcs.rows)
    return replace(arcs, cols=cols.array(), rows=rows.array(), first=keep(first, folder), size=keep(size, folder))


def _flag_batch(
    arcs: Arcs, cells: NDArray[np.int64], members: NDArray[np.int64], cut: NDArray[np.bool_], batch: range
) -> None:
    """Set ``cut`` for the corners of a batch of arcs that can go; see :func:`_index` for the other arrays."""
    _flag_corners(
        batch.start, batch.stop, arcs.cols, arcs.rows, arcs.first, arcs.size, arcs.closed, cells, members, cut
    )


def _cells(shape: tuple[int, int]) -> tuple[int, int]:
    return int(shape[0] / CELL_PX) + 1, int(shape[1] / CELL_PX) + 1


@kernel
def _index(
    cols: Floats, rows: Floats, first: NDArray[np.int64], size: NDArray[np.int32], down: int, across: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return vertices by cell: offsets of shape (down, across + 1), the last column closing each row; and vertices."""
    offsets = np.zeros((down, across + 1), np.int64)
    for arc in range(first.size):
        for v in range(first[arc], first[arc] + size[arc]):
            offsets[int(rows[v] / CELL_PX), int(cols[v] / CELL_PX)] += 1
    total = 0
    for i in range(down):
        for j in range(across + 1):
            count = offsets[i, j]
            offsets[i, j] = total
            total += count
    members = np.empty(total, np.int64)
    for arc in range(first.size):
        for v in range(first[arc], first[arc] + size[arc]):
            i = int(rows[v] / CELL_PX)
            j = int(cols[v] / CELL_PX)
            members[offsets[i, j]] = v
            offsets[i, j] += 1
    for i in range(down - 1, -1, -1):  # every offset has moved to the next cell's; move them back
        for j in range(across, -1, -1):
            if j > 0:
                offsets[i, j] = offsets[i, j - 1]
            elif i > 0:
                offsets[i, j] = offsets[i - 1, across]
            else:
                offsets[i, j] = 0
    return offsets, members


@kernel
def _cut_points(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> tuple[float, float, float, float]:
    """Return the points that replace corner b between a and c."""
    ab = np.hypot(ax - bx, ay - by)
    bc = np.hypot(cx - bx, cy - by)
    s = min(0.25, REACH_PX / ab)
    t = min(0.25, REACH_PX / bc)
    return bx + s * (ax - bx), by + s * (ay - by), bx + t * (cx - bx), by + t * (cy - by)


@kernel
def _flag_corners(
    start: int,
    stop: int,
    cols: Floats,
    rows: Floats,
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    closed: NDArray[np.bool_],
    cells: NDArray[np.int64],
    members: NDArray[np.int64],
    cut: NDArray[np.bool_],
) -> None:
    """Set ``cut`` for the vertices of arcs start … stop - 1 whose corner can go."""
    for arc in range(start, stop):
        f = first[arc]
        n = size[arc]
        for k in range(0 if closed[arc] else 1, n - 1):
            b = f + k
            a = b - 1 if k > 0 else f + n - 2
            px, py, qx, qy = _cut_points(cols[a], rows[a], cols[b], rows[b], cols[b + 1], rows[b + 1])
            cut[b] = _holds_none(px, py, cols[b], rows[b], qx, qy, cols, rows, cells, members)


@kernel
def _holds_none(
    ax: float,
    ay: float,
    bx: float,
    by: float,
    cx: float,
    cy: float,
    cols: Floats,
    rows: Floats,
    cells: NDArray[np.int64],
    members: NDArray[np.int64],
) -> bool:
    """Return True if the closed triangle a, b, c, whose corner b is a vertex, holds no other vertex."""
    left = int(min(ax, bx, cx) / CELL_PX)
    right = int(max(ax, bx, cx) / CELL_PX)
    for i in range(int(min(ay, by, cy) / CELL_PX), int(max(ay, by, cy) / CELL_PX) + 1):
        for k in range(cells[i, left], cells[i, right + 1]):
            x = cols[members[k]]
            y = rows[members[k]]
            if x == bx and y == by:
                continue
            ab = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
            bc = (cx - bx) * (y - by) - (cy - by) * (x - bx)
            ca = (ax - cx) * (y - cy) - (ay - cy) * (x - cx)
            low = min(ab, bc, ca)
            high = max(ab, bc, ca)
            if low >= -MARGIN_PX2 or high <= MARGIN_PX2:
                return False
    return True


@kernel
def _cut(
    cols: Floats,
    rows: Floats,
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    closed: NDArray[np.bool_],
    cut: NDArray[np.bool_],
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int32]]:
    """Return columns, rows, first and size of the arcs after cutting the flagged corners."""
    room = 1
    for arc in range(first.size):
        for v in range(first[arc], first[arc] + size[arc]):
            room += 2 if cut[v] else 1
    new_cols = np.empty(room + first.size)
    new_rows = np.empty(room + first.size)
    new_first = np.empty(first.size, np.int64)
    new_size = np.empty(first.size, np.int32)
    m = 0
    for arc in range(first.size):
        f = first[arc]
        n = size[arc]
        new_first[arc] = m
        for k in range(n - 1 if closed[arc] else n):
            b = f + k
            if cut[b]:
                a = b - 1 if k > 0 else f + n - 2
                px, py, qx, qy = _cut_points(cols[a], rows[a], cols[b], rows[b], cols[b + 1], rows[b + 1])
                new_cols[m] = px
                new_rows[m] = py
                new_cols[m + 1] = qx
                new_rows[m + 1] = qy
                m += 2
            else:
                new_cols[m] = cols[b]
                new_rows[m] = rows[b]
                m += 1
        if closed[arc]:
            new_cols[m] = new_cols[new_first[arc]]
            new_rows[m] = new_rows[new_first[arc]]
            m += 1
        new_size[arc] = m - new_first[arc]
    return new_cols[:m].copy(), new_rows[:m].copy(), new_first, new_size
