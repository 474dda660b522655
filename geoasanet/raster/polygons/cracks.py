"""Cracks: the edges between pixels of different regions, as four bits at each corner of a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.scan import set_positions

EAST, SOUTH, WEST, NORTH = 0, 1, 2, 3
"""Directions along cracks; direction d has bit 1 << d in a vertex's byte."""
NODE, SEAM = 16, 32
"""Bits that mark a vertex as a node, or as the end of what this strip owns."""
LEVEL, UPRIGHT, TOP_LEFT = 5, 10, 3
"""Bytes of a vertex that is passed east–west, north–south, or is the upper left corner of a region."""


@kernel
def mark_cracks(classes: NDArray[np.uint8], vertices: NDArray[np.uint8]) -> None:
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
def mark_vertices(
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
def direction_of(col0: int, row0: int, col1: int, row1: int) -> int:
    """Return the direction of the edge between two vertices of a row or column."""
    if row0 == row1:
        return EAST if col1 > col0 else WEST
    return SOUTH if row1 > row0 else NORTH
