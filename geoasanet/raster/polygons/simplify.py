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

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs, sides_at_nodes
from geoasanet.raster.polygons.bends import LARGEST, remove_bends
from geoasanet.raster.polygons.scan import ONE_BIT
from geoasanet.raster.polygons.spool import Column, forget, keep
from geoasanet.raster.polygons.threads import ordered_map

TILE = 1024
"""Side of the tiles in pixels; half of it must be a multiple of 64, the bits in a word of the bitmap."""
ROUNDS = 3
"""How often arcs are taken up again that had a bend blocked by a neighbour which may have gone since."""

CHUNK = 65_536
"""Arcs that are gone through at a time."""
FORGET_EVERY = 64
"""Tiles after which the memory of their vertices is given back."""


def simplify_arcs(
    arcs: Arcs, limits: NDArray[np.float64], shape: tuple[int, int], workers: int, folder: Path | None = None
) -> Arcs:
    """Return the simplified arcs.

    Args:
        arcs: Arcs as traced, vertices on the lattice.
        limits: For each arc, the largest triangle to remove, in square pixels.
        shape: Rows and columns of the map.
        workers: Threads.
        folder: Where temporary files lie; None: the system's folder for them.
    """
    height, width = shape
    occupied = np.zeros((height + 1, width // 64 + 1), np.uint64)
    kept = np.ones(len(arcs.cols), np.bool_)
    pending = np.ones(len(arcs), np.bool_)
    most = np.minimum(2 * limits, LARGEST)
    least = _least_sizes(arcs.closed, arcs.start, arcs.end, sides_at_nodes(arcs))
    for part in _chunks(arcs):
        _mark(arcs.cols, arcs.rows, arcs.first[part], arcs.size[part], occupied)
        forget(arcs.cols, arcs.rows)

    def run(batch: NDArray[np.int64]) -> None:
        remove_bends(
            batch, arcs.cols, arcs.rows, arcs.first, arcs.size, arcs.closed, least, most, occupied, kept, pending
        )

    for _ in range(ROUNDS):
        todo = pending & (arcs.size > np.where(arcs.closed, least + 1, least))
        pending[:] = False
        for shift in (0, TILE // 2):
            tiles = np.empty(len(arcs), np.int64)
            for part in _chunks(arcs):
                tiles[part] = _tiles(
                    arcs.cols, arcs.rows, arcs.first[part], arcs.size[part], todo[part], shift, width // TILE + 2
                )
            for k, _ in enumerate(ordered_map(run, _grouped(tiles), workers)):
                if k % FORGET_EVERY == 0:
                    forget(arcs.cols, arcs.rows)
            todo &= tiles < 0
        run(np.flatnonzero(todo))
        if not pending.any():
            break
    forget(arcs.cols, arcs.rows)
    return _compacted(arcs, kept, folder)


def _chunks(arcs: Arcs) -> Iterator[slice]:
    """Yield ranges of arcs, which together hold a few megabytes of vertices."""
    for start in range(0, len(arcs), CHUNK):
        yield slice(start, start + CHUNK)


def _compacted(arcs: Arcs, kept: NDArray[np.bool_], folder: Path | None) -> Arcs:
    """Return the arcs with the vertices that are kept, in files."""
    cols, rows = Column(np.int32, folder), Column(np.int32, folder)
    first, size = np.empty(len(arcs), np.int64), np.empty(len(arcs), np.int32)
    for part in _chunks(arcs):
        x, y, first[part], size[part] = _compact(
            arcs.cols, arcs.rows, arcs.first[part], arcs.size[part], arcs.closed[part], kept
        )
        first[part] += len(cols)
        cols.append(x)
        rows.append(y)
        forget(arcs.cols, arcs.rows)
    return replace(arcs, cols=cols.array(), rows=rows.array(), first=keep(first, folder), size=keep(size, folder))


def _grouped(tiles: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the arcs of each tile, in order."""
    order = np.argsort(tiles, kind="stable")
    order = order[np.searchsorted(tiles[order], 0) :]
    return np.split(order, np.flatnonzero(np.diff(tiles[order])) + 1) if len(order) else []


@kernel
def _least_sizes(
    closed: NDArray[np.bool_], start: NDArray[np.int32], end: NDArray[np.int32], sides: NDArray[np.int32]
) -> NDArray[np.int8]:
    """Return how many vertices each arc must keep: 3 if closed, 4 round a node, 3 beside a twin, else 2."""
    least = np.full(closed.size, 2, np.int8)
    for arc in range(closed.size):
        if closed[arc]:
            least[arc] = 3
        elif start[arc] == end[arc]:
            least[arc] = 4
        else:
            twins = 0
            for direction in range(4):
                side = sides[start[arc], direction]
                if side >= 0:
                    twins += (end[side // 2] if side % 2 == 0 else start[side // 2]) == end[arc]
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
