"""Polygons from arcs: which arcs follow one another round each region.

A *side* is an arc walked in one direction: side 2 · arc forwards, 2 · arc + 1 backwards. A region lies to the left of
its sides. Rings are valid in the OGC sense because at a node where a region touches itself diagonally, the walk
turns right, across to the other pixel: shells and holes then touch in points but never run through one twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs, sides_at_nodes
from geoasanet.raster.polygons.spool import keep


@dataclass(frozen=True)
class Sides:
    """Which sides surround each region."""

    order: NDArray[np.int32]
    """Sides sorted by the region on their left; those of region 0 are left out."""
    first: NDArray[np.int64]
    """Sides of region r are order[first[r]] … order[first[r + 1] - 1]."""
    at_node: NDArray[np.int32]
    """Side that leaves each node in each direction, shape (nodes, 4), -1 where none does."""
    points: NDArray[np.int64]
    """Vertices of each region's rings, the repeated first ones not counted."""


@dataclass(frozen=True)
class Rings:
    """The rings of some regions, of each the shell first, then the holes."""

    sides: NDArray[np.int32]
    """Sides in the order in which rings walk them."""
    offsets: NDArray[np.int64]
    """Sides of ring i are sides[offsets[i]] … sides[offsets[i + 1] - 1]."""
    of_region: NDArray[np.int64]
    """Rings of the k-th region are of_region[k] … of_region[k + 1] - 1."""
    points: NDArray[np.int64]
    """Vertices before each ring, rings closed by repeating the first; length len(offsets)."""


def sides_of(arcs: Arcs, regions: int, folder: Path | None = None) -> Sides:
    """Return the sides of ``regions`` regions, in temporary files in ``folder``."""
    order, first = _sides_by_region(arcs.left, arcs.right, regions)
    points = _points_by_region(order, first, arcs.size)
    return Sides(keep(order, folder), first, keep(sides_at_nodes(arcs), folder), points)


def rings_of(arcs: Arcs, sides: Sides, regions: NDArray[np.int64]) -> Rings:
    """Return the rings of some regions."""
    count = int((sides.first[regions + 1] - sides.first[regions]).sum())
    ordered, offsets, of_region = _walk(
        regions,
        sides.order,
        sides.first,
        sides.at_node,
        arcs.cols,
        arcs.rows,
        arcs.first,
        arcs.size,
        arcs.left,
        arcs.right,
        arcs.closed,
        arcs.start,
        arcs.end,
        arcs.leaving,
        arcs.arriving,
        count,
    )
    points = np.concatenate([[0], np.cumsum(_ring_points(ordered, offsets, arcs.size))])
    return Rings(ordered, offsets, of_region, points)


@kernel
def _sides_by_region(
    left: NDArray[np.int32], right: NDArray[np.int32], regions: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the sides sorted by region (0 left out), and where each region's begin (length regions + 2)."""
    first = np.zeros(regions + 2, np.int64)
    for arc in range(left.size):
        if left[arc] > 0:
            first[left[arc] + 1] += 1
        if right[arc] > 0:
            first[right[arc] + 1] += 1
    for region in range(regions + 1):
        first[region + 1] += first[region]
    place = first[:-1].copy()
    sides = np.empty(first[regions + 1], np.int32)
    for side in range(2 * left.size):
        region = left[side // 2] if side % 2 == 0 else right[side // 2]
        if region > 0:
            sides[place[region]] = side
            place[region] += 1
    return sides, first


@kernel
def _points_by_region(order: NDArray[np.int32], first: NDArray[np.int64], size: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the vertices of each region's sides, the last one of each side not counted."""
    points = np.zeros(first.size - 1, np.int64)
    for region in range(first.size - 1):
        for k in range(first[region], first[region + 1]):
            points[region] += size[order[k] // 2] - 1
    return points


@kernel
def _next_side(
    side: int,
    at_node: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    closed: NDArray[np.bool_],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    leaving: NDArray[np.uint8],
    arriving: NDArray[np.uint8],
) -> int:
    """Return the side that comes after ``side`` round the region on its left."""
    arc = side // 2
    if closed[arc]:
        return side
    forward = side % 2 == 0
    node = end[arc] if forward else start[arc]
    heading = arriving[arc] if forward else (leaving[arc] + 2) & 3
    region = left[arc] if forward else right[arc]
    for turn in (1, 0, 3):  # right, straight on, left
        candidate = at_node[node, (heading + turn) & 3]
        if candidate >= 0:
            other = candidate // 2
            if (left[other] if candidate % 2 == 0 else right[other]) == region:
                return int(candidate)
    return side


@kernel
def _ring_area(
    sides: NDArray[np.int32],
    cols: NDArray[Any],
    rows: NDArray[Any],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
) -> float:
    """Return the area to the left of a ring, in square pixels: positive for a shell."""
    total = 0.0
    for side in sides:
        arc = side // 2
        part = 0.0
        for v in range(first[arc], first[arc] + size[arc] - 1):
            part -= 0.5 * (float(cols[v]) + float(cols[v + 1])) * (float(rows[v + 1]) - float(rows[v]))
        total += part if side % 2 == 0 else -part
    return total


@kernel
def _walk(
    regions: NDArray[np.int64],
    order: NDArray[np.int32],
    first_side: NDArray[np.int64],
    at_node: NDArray[np.int32],
    cols: NDArray[Any],
    rows: NDArray[Any],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    closed: NDArray[np.bool_],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    leaving: NDArray[np.uint8],
    arriving: NDArray[np.uint8],
    count: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return (sides in ring order, ring offsets, ring range of each region); the shell comes first."""
    ordered = np.empty(count, np.int32)
    offsets = np.zeros(count + 1, np.int64)
    of_region = np.zeros(regions.size + 1, np.int64)
    n = 0
    ring = 0
    for k in range(regions.size):
        first_ring = ring
        own = order[first_side[regions[k]] : first_side[regions[k] + 1]]  # ascending
        done = np.zeros(own.size, np.bool_)
        for s in range(own.size):
            if done[s]:
                continue
            place = s
            while not done[place]:
                done[place] = True
                ordered[n] = own[place]
                n += 1
                side = _next_side(own[place], at_node, left, right, closed, start, end, leaving, arriving)
                place = np.searchsorted(own, side)
            ring += 1
            offsets[ring] = n
        of_region[k + 1] = ring
        if ring - first_ring > 1:
            _shell_first(ordered, offsets, first_ring, ring, cols, rows, first, size)
    return ordered, offsets[: ring + 1].copy(), of_region


@kernel
def _shell_first(
    ordered: NDArray[np.int32],
    offsets: NDArray[np.int64],
    first_ring: int,
    stop: int,
    cols: NDArray[Any],
    rows: NDArray[Any],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
) -> None:
    """Move the shell among rings first_ring … stop - 1 before the holes."""
    for ring in range(first_ring, stop):
        begin = offsets[ring]
        if _ring_area(ordered[begin : offsets[ring + 1]], cols, rows, first, size) > 0:
            shell = ordered[begin : offsets[ring + 1]].copy()
            base = offsets[first_ring]
            for k in range(begin - 1, base - 1, -1):
                ordered[k + shell.size] = ordered[k]
            ordered[base : base + shell.size] = shell
            for r in range(ring, first_ring, -1):
                offsets[r] = offsets[r - 1] + shell.size
            break


@kernel
def _ring_points(sides: NDArray[np.int32], offsets: NDArray[np.int64], size: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the vertices of each ring, the first one counted twice."""
    result = np.ones(offsets.size - 1, np.int64)
    for ring in range(offsets.size - 1):
        for k in range(offsets[ring], offsets[ring + 1]):
            result[ring] += size[sides[k] // 2] - 1
    return result
