"""Borders between regions as arcs, each traced once.

The lattice of pixel corners has (height + 1) × (width + 1) vertices. A *crack* is the edge between two pixels of
different regions. A *node* is a vertex where three or four cracks meet, or a bend on the map's outer frame. An *arc*
is a chain of cracks from node to node, or a closed one without nodes; it has one region on its left and one on its
right all along, seen on a screen where rows count downwards. Region 0, on the far side of the frame and of nodata, is a
region like others here.

Strips are traced on their own. A strip owns the cracks of its pixel rows and of its upper edge; where a border crosses
into the next strip, the piece ends at a *seam* and :mod:`geoasanet.raster.polygons.stitch` joins it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.kernels import kernel
from geoasanet.raster.polygons.cracks import (
    EAST,
    LEVEL,
    NODE,
    SEAM,
    UPRIGHT,
    WEST,
    direction_of,
    mark_cracks,
    mark_vertices,
)
from geoasanet.raster.polygons.regions import Regions
from geoasanet.raster.polygons.runs import Runs, fill_rows


@dataclass(frozen=True)
class Pieces:
    """Arcs of a strip, whole or cut at its seams."""

    nodes: NDArray[np.int64]
    """Nodes of the strip in row-major order, as row * (width + 1) + column in the map's lattice."""
    cols: NDArray[np.int32]
    """Columns of the vertices: ends and bends only."""
    rows: NDArray[np.int32]
    """Rows of the vertices, in the map's lattice."""
    offsets: NDArray[np.int64]
    """Vertices of piece i are offsets[i] … offsets[i + 1] - 1. A closed arc repeats its first vertex."""
    left: NDArray[np.int32]
    """Region on the left of each piece."""
    right: NDArray[np.int32]
    """Region on the right."""
    seam_start: NDArray[np.bool_]
    """True where a piece starts at a seam."""
    seam_end: NDArray[np.bool_]
    """True where a piece ends at a seam."""
    closed: NDArray[np.bool_]
    """True for closed arcs without nodes."""

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True)
class Arcs:
    """The borders of the map in canonical order: by first vertex in row-major order, then by direction."""

    cols: NDArray[Any]
    """Columns of the vertices, int32 as traced, float64 once smoothed."""
    rows: NDArray[Any]
    """Rows of the vertices."""
    first: NDArray[np.int64]
    """Position of each arc's first vertex."""
    size: NDArray[np.int32]
    """Number of its vertices, which follow one another. A closed arc repeats its first vertex."""
    left: NDArray[np.int32]
    """Region on the left."""
    right: NDArray[np.int32]
    """Region on the right."""
    closed: NDArray[np.bool_]
    """True for arcs that touch no node."""
    start: NDArray[np.int32]
    """Node at the first vertex, -1 if closed. Nodes are numbered in row-major order."""
    end: NDArray[np.int32]
    """Node at the last vertex, -1 if closed."""
    leaving: NDArray[np.uint8]
    """Direction of the first crack, before any simplification."""
    arriving: NDArray[np.uint8]
    """Direction of the last crack."""
    nodes: int
    """Number of nodes."""

    def __len__(self) -> int:
        return len(self.left)


def trace_strip(strips: tuple[Runs, ...], k: int, regions: Regions) -> Pieces:
    """Return the arcs of strip ``k`` of a map."""
    runs = strips[k]
    height, width = runs.height, runs.width
    first, last = k == 0, k == len(strips) - 1
    region_of = regions.of_component[k]
    above = np.zeros(width, np.int32) if first else regions.of_row(strips, k - 1, -1)
    classes = np.full((height + 2, width + 2), NODATA, np.uint8)
    classes[0, 1:-1] = regions.classes[above]
    fill_rows(runs, regions.classes[region_of], classes[1:-1, 1:-1])
    if not last:
        classes[-1, 1:-1] = regions.classes[regions.of_row(strips, k + 1, 0)]
    vertices = np.zeros((height + 1, width + 1), np.uint8)
    mark_cracks(classes, vertices)
    starts, loops, bends, ends = mark_vertices(vertices, first, last)
    most_pieces = ends + len(loops)
    flat = vertices.ravel()
    own = starts if last else starts[starts < height * (width + 1)]
    nodes = own[flat[own] & NODE != 0] + np.int64(runs.row) * (width + 1)
    cols, rows, offsets, *marks = _trace(flat, width + 1, runs.row, starts, loops, bends + 2 * most_pieces, most_pieces)
    sides = _regions_beside(cols, rows, offsets, runs.row, runs.offsets, runs.starts, region_of[runs.components], above)
    return Pieces(nodes, cols, rows, offsets, *sides, *marks)


def sides_at_nodes(arcs: Arcs) -> NDArray[np.int32]:
    """Return the side that leaves each node in each direction, shape (nodes, 4), -1 where none does.

    A *side* is an arc walked in one direction: side 2 · arc forwards, 2 · arc + 1 backwards.
    """
    sides: NDArray[np.int32]
    sides = _sides_at_nodes(arcs.closed, arcs.start, arcs.end, arcs.leaving, arcs.arriving, arcs.nodes)
    return sides


@kernel
def _sides_at_nodes(
    closed: NDArray[np.bool_],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    leaving: NDArray[np.uint8],
    arriving: NDArray[np.uint8],
    nodes: int,
) -> NDArray[np.int32]:
    sides = np.full((nodes, 4), -1, np.int32)
    for arc in range(closed.size):
        if not closed[arc]:
            sides[start[arc], leaving[arc]] = 2 * arc
            sides[end[arc], (arriving[arc] + 2) & 3] = 2 * arc + 1
    return sides


@kernel
def _trace(
    vertices: NDArray[np.uint8],
    stride: int,
    row: int,
    starts: NDArray[np.int32],
    loops: NDArray[np.int32],
    most_vertices: int,
    most_pieces: int,
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.bool_],
    NDArray[np.bool_],
    NDArray[np.bool_],
]:
    """Walk along all cracks of a strip, first from nodes and seams, then round what is closed.

    Args:
        vertices: Flat bytes from ``mark_vertices``; cracks are cleared as they are walked from their ends.
        stride: Vertices in a row.
        row: First pixel row of the strip.
        starts: Flat indices of nodes and seams.
        loops: Flat indices of upper left corners.
        most_vertices: Room for vertices.
        most_pieces: Room for pieces.

    Returns:
        Columns, rows, offsets, seam_start, seam_end and closed of :class:`Pieces`.
    """
    step = np.array([1, stride, -1, -stride])
    right_by = np.array([1, 0, -1, 0])
    down_by = np.array([0, 1, 0, -1])
    cols = np.empty(most_vertices, np.int32)
    rows = np.empty(most_vertices, np.int32)
    offsets = np.empty(most_pieces + 1, np.int64)
    seam_start = np.zeros(most_pieces, np.bool_)
    seam_end = np.zeros(most_pieces, np.bool_)
    closed = np.zeros(most_pieces, np.bool_)
    n = 0
    pieces = 0
    offsets[0] = 0
    for phase in range(2):
        for start in starts if phase == 0 else loops:
            for direction in range(4 if phase == 0 else 1):
                if not (vertices[start] >> direction) & 1:
                    continue
                i = start // stride
                j = start - i * stride
                cols[n] = j
                rows[n] = row + i
                n += 1
                if phase == 0:
                    seam_start[pieces] = vertices[start] & SEAM != 0
                    vertices[start] &= ~np.uint8(1 << direction)
                d = direction
                v = start
                while True:
                    passing = LEVEL if d in (EAST, WEST) else UPRIGHT
                    steps = 1
                    v += step[d]
                    while vertices[v] == passing:
                        v += step[d]
                        steps += 1
                    j += steps * right_by[d]
                    i += steps * down_by[d]
                    cols[n] = j
                    rows[n] = row + i
                    n += 1
                    byte = vertices[v]
                    back = np.uint8(1 << ((d + 2) & 3))
                    if byte & (NODE | SEAM):
                        seam_end[pieces] = byte & SEAM != 0
                        vertices[v] &= ~back
                        break
                    vertices[v] = 0
                    if v == start:
                        break
                    turn = byte & ~back
                    d = 0
                    while not (turn >> d) & 1:
                        d += 1
                closed[pieces] = phase == 1
                pieces += 1
                offsets[pieces] = n
    return (
        cols[:n].copy(),
        rows[:n].copy(),
        offsets[: pieces + 1].copy(),
        seam_start[:pieces].copy(),
        seam_end[:pieces].copy(),
        closed[:pieces].copy(),
    )


@kernel
def _regions_beside(
    cols: NDArray[np.int32],
    rows: NDArray[np.int32],
    offsets: NDArray[np.int64],
    row: int,
    run_offsets: NDArray[np.int64],
    run_starts: NDArray[np.int32],
    run_regions: NDArray[np.int32],
    above: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the regions on the left and on the right of each piece of a strip.

    Args:
        cols: Columns of the pieces' vertices.
        rows: Rows of the vertices.
        offsets: Vertices of each piece. Where pieces start in row-major order, each row's runs are passed once.
        row: First pixel row of the strip.
        run_offsets: Runs of each of its rows.
        run_starts: First column of each run.
        run_regions: Region of each run.
        above: Regions of the row above the strip, shape (width,).
    """
    height, width = run_offsets.size - 1, above.size
    # Pixels round a vertex: 0 up left, 1 up right, 2 down left, 3 down right; beside the crack in each direction:
    beside = np.array([[1, 3, 2, 0], [3, 2, 0, 1]])
    result = np.zeros((2, offsets.size - 1), np.int32)
    runs = np.zeros(2, np.int64)  # those that hold the column, in the rows above and below the vertex
    passed_row = -1
    passed_col = 0
    for piece in range(offsets.size - 1):
        v = offsets[piece]
        i = rows[v] - row
        j = cols[v]
        if i != passed_row or j < passed_col:
            runs[0] = run_offsets[max(i - 1, 0)]
            runs[1] = run_offsets[min(i, height - 1)]
        passed_row = i
        passed_col = j
        for below in range(2):
            stop = run_offsets[min(max(i - 1 + below, 0), height - 1) + 1]
            while runs[below] + 1 < stop and run_starts[runs[below] + 1] <= j:
                runs[below] += 1
        direction = direction_of(cols[v], rows[v], cols[v + 1], rows[v + 1])
        for side in range(2):
            pixel = beside[side, direction]
            below = pixel >> 1
            col = j - 1 + (pixel & 1)
            if col < 0 or col >= width or i + below > height:
                continue
            if i + below == 0:
                result[side, piece] = above[col]
            else:
                run = runs[below]
                result[side, piece] = run_regions[run - 1 if run_starts[run] > col else run]
    return result[0], result[1]
