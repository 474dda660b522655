"""Simplification of shared borders: every arc once, and never so that two borders touch.

Visvalingam–Whyatt: the bend that spans the smallest triangle with its neighbours goes first, until all triangles are
larger than the tolerance squared (as in ``shapely.coverage_simplify``). A bend goes only if its triangle, edges
included, holds no other vertex of any border. Then no edge can enter the triangle either, since it would have to cross
the two sides that are borders themselves; so borders keep their order, neighbours stay neighbours, holes stay in
their shells, at any tolerance. Nodes stay where they are. An arc that shares both its nodes with another arc keeps one
bend, for both could otherwise become the same chord.

Vertices are lattice points throughout; where they are is a bitmap. Arcs within a tile of fixed size touch no other
tile's bits, so tiles run in parallel; arcs across tiles follow in tiles shifted by half, then the rest one by one. The
result depends on the map only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoasanet.raster.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs
from geoasanet.raster.polygons.scan import EVERY_BIT, NO_BIT, ONE_BIT, bit_place
from geoasanet.raster.polygons.threads import ordered_map

TILE = 1024
"""Side of the tiles in pixels; half of it must be a multiple of 64, the bits in a word of the bitmap."""
ROUNDS = 3
"""How often arcs are taken up again that had a bend blocked by a neighbour which may have gone since."""


def simplify_arcs(arcs: Arcs, limits: NDArray[np.float64], shape: tuple[int, int], workers: int) -> Arcs:
    """Return the simplified arcs.

    Args:
        arcs: Arcs as traced, vertices on the lattice.
        limits: For each arc, the largest triangle to remove, in square pixels.
        shape: Rows and columns of the map.
        workers: Threads.
    """
    height, width = shape
    occupied = np.zeros((height + 1, width // 64 + 1), np.uint64)
    keep = np.ones(len(arcs.cols), np.bool_)
    pending = np.ones(len(arcs), np.bool_)
    least = _least_sizes(arcs.closed, arcs.start, arcs.end, arcs.leaving, arcs.arriving, arcs.nodes)
    _mark(arcs.cols, arcs.rows, arcs.first, arcs.size, occupied)

    def run(batch: NDArray[np.int64]) -> None:
        _simplify(
            batch, arcs.cols, arcs.rows, arcs.first, arcs.size, arcs.closed, least, limits, occupied, keep, pending
        )

    for _ in range(ROUNDS):
        todo = pending & (arcs.size > np.where(arcs.closed, least + 1, least))
        pending[:] = False
        for shift in (0, TILE // 2):
            tiles = _tiles(arcs.cols, arcs.rows, arcs.first, arcs.size, todo, shift, width // TILE + 2)
            for _ in ordered_map(run, _grouped(tiles), workers):
                pass
            todo &= tiles < 0
        run(np.flatnonzero(todo))
        if not pending.any():
            break
    cols, rows, first, size = _compact(arcs.cols, arcs.rows, arcs.first, arcs.size, arcs.closed, keep)
    return replace(arcs, cols=cols, rows=rows, first=first, size=size)


def _grouped(tiles: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the arcs of each tile, in order."""
    order = np.argsort(tiles, kind="stable")
    order = order[np.searchsorted(tiles[order], 0) :]
    return np.split(order, np.flatnonzero(np.diff(tiles[order])) + 1) if len(order) else []


@kernel
def _least_sizes(
    closed: NDArray[np.bool_],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    leaving: NDArray[np.uint8],
    arriving: NDArray[np.uint8],
    nodes: int,
) -> NDArray[np.int8]:
    """Return how many vertices each arc must keep: 3 if closed, 4 round a node, 3 beside a twin, else 2."""
    count = closed.size
    other_end = np.full((nodes, 4), -1, np.int32)
    for arc in range(count):
        if not closed[arc]:
            other_end[start[arc], leaving[arc]] = end[arc]
            other_end[end[arc], (arriving[arc] + 2) & 3] = start[arc]
    least = np.full(count, 2, np.int8)
    for arc in range(count):
        if closed[arc]:
            least[arc] = 3
        elif start[arc] == end[arc]:
            least[arc] = 4
        else:
            twins = 0
            for direction in range(4):
                twins += other_end[start[arc], direction] == end[arc]
            if twins > 1:
                least[arc] = 3
    return least


@kernel
def _mark(
    cols: NDArray[np.int32],
    rows: NDArray[np.int32],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    occupied: NDArray[np.uint64],
) -> None:
    """Set the bits of all vertices of arcs."""
    for arc in range(first.size):
        for v in range(first[arc], first[arc] + size[arc]):
            occupied[rows[v], cols[v] >> 6] |= ONE_BIT << np.uint64(cols[v] & 63)


@kernel
def _tiles(
    cols: NDArray[np.int32],
    rows: NDArray[np.int32],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    todo: NDArray[np.bool_],
    shift: int,
    tiles_per_row: int,
) -> NDArray[np.int64]:
    """Return the tile that holds each arc of ``todo`` wholly, else -1."""
    result = np.full(first.size, -1, np.int64)
    for arc in range(first.size):
        if not todo[arc]:
            continue
        v = first[arc]
        tile_row = (rows[v] + shift) // TILE
        tile_col = (cols[v] + shift) // TILE
        inside = True
        for t in range(1, size[arc]):
            if (rows[v + t] + shift) // TILE != tile_row or (cols[v + t] + shift) // TILE != tile_col:
                inside = False
                break
        if inside:
            result[arc] = tile_row * tiles_per_row + tile_col
    return result


@kernel
def _is_free(ax: int, ay: int, bx: int, by: int, cx: int, cy: int, occupied: NDArray[np.uint64]) -> bool:
    """Return True if the closed triangle a, b, c holds no vertex but its own."""
    low = min(ax, bx, cx)
    high = max(ax, bx, cx)
    from_low = EVERY_BIT << np.uint64(low & 63)
    to_high = EVERY_BIT >> np.uint64(63 - (high & 63))
    for y in range(min(ay, by, cy), max(ay, by, cy) + 1):
        for w in range(low >> 6, (high >> 6) + 1):
            word = occupied[y, w]
            if w == low >> 6:
                word &= from_low
            if w == high >> 6:
                word &= to_high
            while word != NO_BIT:
                lowest = word & (~word + ONE_BIT)
                word ^= lowest
                x = w * 64 + bit_place(lowest)
                if (x == ax and y == ay) or (x == bx and y == by) or (x == cx and y == cy):
                    continue
                ab = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
                bc = (cx - bx) * (y - by) - (cy - by) * (x - bx)
                ca = (ax - cx) * (y - cy) - (ay - cy) * (x - cx)
                if not ((ab < 0 or bc < 0 or ca < 0) and (ab > 0 or bc > 0 or ca > 0)):
                    return False
    return True


@kernel
def _push(keys: NDArray[np.int64], items: NDArray[np.int32], n: int, key: int, item: int) -> int:
    """Add an entry to a heap ordered by key, then item; return its new size."""
    i = n
    while i > 0:
        up = (i - 1) >> 1
        if keys[up] < key or (keys[up] == key and items[up] <= item):
            break
        keys[i] = keys[up]
        items[i] = items[up]
        i = up
    keys[i] = key
    items[i] = item
    return n + 1


@kernel
def _pop(keys: NDArray[np.int64], items: NDArray[np.int32], n: int) -> int:
    """Remove the first entry of a heap, which the caller has read; return its new size."""
    n -= 1
    key = keys[n]
    item = items[n]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        right = child + 1
        if right < n and (keys[right] < keys[child] or (keys[right] == keys[child] and items[right] < items[child])):
            child = right
        if key < keys[child] or (key == keys[child] and item <= items[child]):
            break
        keys[i] = keys[child]
        items[i] = items[child]
        i = child
    keys[i] = key
    items[i] = item
    return n


@kernel
def _simplify(
    batch: NDArray[np.int64],
    cols: NDArray[np.int32],
    rows: NDArray[np.int32],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    closed: NDArray[np.bool_],
    least: NDArray[np.int8],
    limits: NDArray[np.float64],
    occupied: NDArray[np.uint64],
    keep: NDArray[np.bool_],
    pending: NDArray[np.bool_],
) -> None:
    """Simplify arcs one after the other.

    Args:
        batch: Arcs to simplify.
        cols: Columns of all vertices.
        rows: Rows of all vertices.
        first: First vertex of each arc.
        size: Vertices of each arc.
        closed: Arcs whose last vertex repeats the first.
        least: Vertices that each arc must keep.
        limits: Largest triangle to remove from each arc, in square pixels.
        occupied: Bitmap of the vertices that are there, changed in place.
        keep: Vertices that are kept, changed in place.
        pending: Set for arcs in which a bend was blocked.
    """
    longest = 0
    for arc in batch:
        longest = max(longest, size[arc])
    vertex = np.empty(longest, np.int64)
    before = np.empty(longest, np.int32)
    after = np.empty(longest, np.int32)
    double_area = np.empty(longest, np.int64)
    keys = np.empty(3 * longest + 4, np.int64)
    items = np.empty(3 * longest + 4, np.int32)
    for arc in batch:
        n = 0
        for v in range(first[arc], first[arc] + size[arc] - (1 if closed[arc] else 0)):
            if keep[v]:
                vertex[n] = v
                n += 1
        ring = closed[arc]
        most = 2 * limits[arc]
        heap = 0
        for i in range(n):
            before[i] = i - 1
            after[i] = i + 1
        before[0] = n - 1
        after[n - 1] = 0
        for i in range(0 if ring else 1, n if ring else n - 1):
            double_area[i] = _double_area(cols, rows, vertex[before[i]], vertex[i], vertex[after[i]])
            if double_area[i] <= most:
                heap = _push(keys, items, heap, double_area[i], i)
        left = n
        while heap > 0 and left > least[arc]:
            key = keys[0]
            i = items[0]
            heap = _pop(keys, items, heap)
            if double_area[i] != key:
                continue
            double_area[i] = -1
            p = before[i]
            q = after[i]
            a = vertex[p]
            b = vertex[i]
            c = vertex[q]
            if not _is_free(
                np.int64(cols[a]),
                np.int64(rows[a]),
                np.int64(cols[b]),
                np.int64(rows[b]),
                np.int64(cols[c]),
                np.int64(rows[c]),
                occupied,
            ):
                pending[arc] = True
                continue
            keep[b] = False
            occupied[rows[b], cols[b] >> 6] &= ~(ONE_BIT << np.uint64(cols[b] & 63))
            left -= 1
            after[p] = q
            before[q] = p
            for i in (p, q):
                if not ring and (i == 0 or i == n - 1):
                    continue
                double_area[i] = _double_area(cols, rows, vertex[before[i]], vertex[i], vertex[after[i]])
                if double_area[i] <= most:
                    heap = _push(keys, items, heap, double_area[i], i)


@kernel
def _double_area(cols: NDArray[np.int32], rows: NDArray[np.int32], a: int, b: int, c: int) -> int:
    """Return twice the area of the triangle of three vertices."""
    ux = np.int64(cols[b]) - cols[a]
    uy = np.int64(rows[b]) - rows[a]
    vx = np.int64(cols[c]) - cols[a]
    vy = np.int64(rows[c]) - rows[a]
    area: int = abs(ux * vy - uy * vx)
    return area


@kernel
def _compact(
    cols: NDArray[np.int32],
    rows: NDArray[np.int32],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    closed: NDArray[np.bool_],
    keep: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Return columns, rows, first and size of the vertices that are kept, arc by arc."""
    total = 0
    for arc in range(first.size):
        for v in range(first[arc], first[arc] + size[arc]):
            total += keep[v]
    new_cols = np.empty(total, np.int32)
    new_rows = np.empty(total, np.int32)
    new_first = np.empty(first.size, np.int64)
    new_size = np.empty(first.size, np.int32)
    n = 0
    for arc in range(first.size):
        new_first[arc] = n
        for v in range(first[arc], first[arc] + size[arc]):
            if keep[v]:
                new_cols[n] = cols[v]
                new_rows[n] = rows[v]
                n += 1
        if closed[arc]:
            new_cols[n - 1] = new_cols[new_first[arc]]
            new_rows[n - 1] = new_rows[new_first[arc]]
        new_size[arc] = n - new_first[arc]
    return new_cols, new_rows, new_first, new_size
