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
from geoasanet.raster.kernels import kernel
from geoasanet.raster.polygons.regions import Regions
from geoasanet.raster.polygons.runs import Runs, fill_rows
from geoasanet.raster.polygons.scan import set_positions

EAST, SOUTH, WEST, NORTH = 0, 1, 2, 3
"""Directions along cracks; direction d has bit 1 << d in a vertex's byte."""
NODE, SEAM = 16, 32
"""Bits that mark a vertex as a node, or as the end of what this strip owns."""
LEVEL, UPRIGHT, TOP_LEFT = 5, 10, 3
"""Bytes of a vertex that is passed east–west, north–south, or is the upper left corner of a region."""


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
    labels = np.zeros((height + 2, width + 2), np.int32)
    classes = np.full((height + 2, width + 2), NODATA, np.uint8)
    first, last = k == 0, k == len(strips) - 1
    rows = [(k, range(height), slice(1, height + 1))]
    if not first:
        above = strips[k - 1].height
        rows.append((k - 1, range(above - 1, above), slice(0, 1)))
    if not last:
        rows.append((k + 1, range(1), slice(height + 1, height + 2)))
    for strip, local, target in rows:
        table = regions.of_component[strip]
        fill_rows(strips[strip], local, table, regions.classes, labels[target], classes[target])
    vertices = np.zeros((height + 1, width + 1), np.uint8)
    _mark_cracks(classes, vertices)
    starts, loops, bends, ends = _mark_vertices(vertices, first, last)
    most_pieces = ends + len(loops)
    flat = vertices.ravel()
    own = starts if last else starts[starts < height * (width + 1)]
    nodes = own[flat[own] & NODE != 0] + np.int64(runs.row) * (width + 1)
    return Pieces(nodes, *_trace(flat, labels, runs.row, starts, loops, bends + 2 * most_pieces, most_pieces))


@kernel
def _mark_cracks(classes: NDArray[np.uint8], vertices: NDArray[np.uint8]) -> None:
    """Write for each vertex which of its four edges are cracks.

    Neighbouring pixels belong to different regions if and only if their classes differ.

    Args:
        classes: Classes with one row and column more on each side, shape (h + 2, w + 2).
        vertices: Output of shape (h + 1, w + 1); bit d is set if the edge in direction d is a crack.
    """
    for i in range(vertices.shape[0]):
        upper = classes[i]
        lower = classes[i + 1]
        out = vertices[i]
        for j in range(out.size):
            east = np.uint8(upper[j + 1] != lower[j + 1])
            south = np.uint8(lower[j] != lower[j + 1]) << np.uint8(1)
            west = np.uint8(upper[j] != lower[j]) << np.uint8(2)
            north = np.uint8(upper[j] != upper[j + 1]) << np.uint8(3)
            out[j] = np.uint8(east | south | west | north)


@kernel
def _mark_vertices(
    vertices: NDArray[np.uint8], first: bool, last: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], int, int]:
    """Mark nodes and seams, and clear the cracks that other strips own.

    Args:
        vertices: Crack bits of shape (h + 1, w + 1), changed in place.
        first: True for the map's first strip.
        last: True for its last.

    Returns:
        Flat indices of nodes and seams, and of upper left corners (where closed arcs may start), both in row-major
        order; number of bends; number of cracks at nodes and seams.
    """
    height, width = vertices.shape[0] - 1, vertices.shape[1] - 1
    bits = np.array([0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4], np.uint8)
    starts = np.empty(1024, np.int32)
    loops = np.empty(1024, np.int32)
    n_starts = n_loops = bends = ends = 0
    marks = np.zeros((width + 8) // 8 * 8, np.uint8)
    words = marks.view(np.uint64)
    candidates = np.empty(width + 1, np.int32)
    for i in range(height + 1):
        on_top = i == 0
        on_bottom = i == height
        frame_row = (on_top and first) or (on_bottom and last)
        on_seam = (on_top and not first) or (on_bottom and not last)
        row = vertices[i]
        for j in range(width + 1):
            # 1 unless there is nothing to do here: no crack, or a straight one that no seam cuts.
            v = row[j]
            marks[j] = np.uint8(v != 0) & (np.uint8(on_seam) | (np.uint8(v != LEVEL) & np.uint8(v != UPRIGHT)))
        found = set_positions(words, candidates)
        for k in range(found):
            j = candidates[k]
            v = row[j]
            straight = v in (LEVEL, UPRIGHT)
            on_frame = frame_row or j in (0, width)
            mark = 0
            if bits[v] >= 3 or (on_frame and not straight):
                mark = NODE
            elif v & 8 and on_seam:
                mark = SEAM
            if on_seam:
                v &= 7 if on_top else 8
            row[j] = v | mark
            if mark != 0:
                if v != 0:
                    if n_starts == starts.size:
                        starts = np.concatenate((starts, np.empty(n_starts, np.int32)))
                    starts[n_starts] = i * (width + 1) + j
                    n_starts += 1
                    ends += bits[v]
            elif v != 0 and not straight:
                bends += 1
                if v == TOP_LEFT:
                    if n_loops == loops.size:
                        loops = np.concatenate((loops, np.empty(n_loops, np.int32)))
                    loops[n_loops] = i * (width + 1) + j
                    n_loops += 1
    return starts[:n_starts], loops[:n_loops], bends, ends


@kernel
def _trace(
    vertices: NDArray[np.uint8],
    labels: NDArray[np.int32],
    row: int,
    starts: NDArray[np.int32],
    loops: NDArray[np.int32],
    most_vertices: int,
    most_pieces: int,
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.bool_],
    NDArray[np.bool_],
    NDArray[np.bool_],
]:
    """Walk along all cracks of a strip, first from nodes and seams, then round what is closed.

    Args:
        vertices: Flat bytes from ``_mark_vertices``; cracks are cleared as they are walked from their ends.
        labels: Regions with one row and column more on each side, shape (h + 2, w + 2).
        row: First pixel row of the strip.
        starts: Flat indices of nodes and seams.
        loops: Flat indices of upper left corners.
        most_vertices: Room for vertices.
        most_pieces: Room for pieces.

    Returns:
        The fields of :class:`Pieces`, without the nodes.
    """
    stride = labels.shape[1] - 1
    step = np.array([1, stride, -1, -stride])
    right_by = np.array([1, 0, -1, 0])
    down_by = np.array([0, 1, 0, -1])
    cols = np.empty(most_vertices, np.int32)
    rows = np.empty(most_vertices, np.int32)
    offsets = np.empty(most_pieces + 1, np.int64)
    left = np.empty(most_pieces, np.int32)
    right = np.empty(most_pieces, np.int32)
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
                # Pixels around vertex (i, j): labels[i, j] NW, [i, j + 1] NE, [i + 1, j] SW, [i + 1, j + 1] SE.
                south = 1 if direction in (EAST, SOUTH) else 0
                east = 1 if direction in (EAST, NORTH) else 0
                right[pieces] = labels[i + south, j + east]
                south = 1 if direction in (WEST, SOUTH) else 0
                east = 1 if direction in (EAST, SOUTH) else 0
                left[pieces] = labels[i + south, j + east]
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
        left[:pieces].copy(),
        right[:pieces].copy(),
        seam_start[:pieces].copy(),
        seam_end[:pieces].copy(),
        closed[:pieces].copy(),
    )
