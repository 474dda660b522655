"""Polygons from arcs: which arcs follow one another round each region, and the result as WKB.

A *side* is an arc walked in one direction: side 2 · arc forwards, 2 · arc + 1 backwards. A region lies to the left of
its sides. Rings are valid in the OGC sense because at a node where a region touches itself diagonally, the walk
turns right, across to the other pixel: shells and holes then touch in points but never run through one twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.raster.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs, sides_at_nodes

WKB_POLYGON, WKB_MULTIPOLYGON = 3, 6


@dataclass(frozen=True)
class Rings:
    """The rings of all regions, the shell first, then the holes."""

    sides: NDArray[np.int32]
    """Sides in the order in which rings walk them."""
    offsets: NDArray[np.int64]
    """Sides of ring i are offsets[i] … offsets[i + 1] - 1."""
    of_region: NDArray[np.int64]
    """Rings of region r are of_region[r] … of_region[r + 1] - 1; region 0 has none."""
    points: NDArray[np.int64]
    """Vertices before each ring, rings closed by repeating the first; length len(offsets)."""

    def points_of(self, regions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many vertices the rings of each region have."""
        result: NDArray[np.int64] = self.points[self.of_region[regions + 1]] - self.points[self.of_region[regions]]
        return result


def rings_of(arcs: Arcs, regions: int) -> Rings:
    """Return the rings of ``regions`` regions."""
    following = _following(
        arcs.left, arcs.right, arcs.closed, arcs.start, arcs.end, arcs.leaving, arcs.arriving, sides_at_nodes(arcs)
    )
    owner = np.empty(2 * len(arcs), np.int32)
    owner[0::2], owner[1::2] = arcs.left, arcs.right
    sides, first_side = _sides_by_region(owner, regions)
    turns = _shoelace(arcs.cols, arcs.rows, arcs.first, arcs.size)
    ordered, offsets, of_region = _walk(sides, first_side, following, turns)
    points = np.concatenate([[0], np.cumsum(_ring_points(ordered, offsets, arcs.size))])
    return Rings(ordered, offsets, of_region, points)


def polygons_wkb(
    arcs: Arcs,
    rings: Rings,
    groups: NDArray[np.int64],
    offsets: NDArray[np.int64],
    multi: bool,
    transform: tuple[float, ...],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return geometries as little-endian WKB.

    Args:
        arcs: The borders.
        rings: The rings made of them.
        groups: Regions, concatenated group by group.
        offsets: Regions of geometry i are groups[offsets[i]] … groups[offsets[i + 1] - 1], at least one.
        multi: Make multipolygons; else polygons, of one region each.
        transform: GDAL geotransform: x = [0] + col · [1] + row · [2], y = [3] + col · [4] + row · [5].

    Returns:
        Byte offsets of the geometries, and the bytes. Shells are counter-clockwise in the CRS.
    """
    polygons = 9 + 4 * (rings.of_region[groups + 1] - rings.of_region[groups]) + 16 * rings.points_of(groups)
    sizes = np.add.reduceat(polygons, offsets[:-1]) if len(groups) else np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes + (9 if multi else 0))]).astype(np.int64)
    data = np.empty(starts[-1], np.uint8)
    flip = transform[1] * transform[5] - transform[2] * transform[4] > 0
    _write_wkb(
        arcs.cols,
        arcs.rows,
        arcs.first,
        arcs.size,
        rings.sides,
        rings.offsets,
        rings.of_region,
        rings.points,
        groups,
        offsets,
        multi,
        np.array(transform, np.float64),
        flip,
        data,
    )
    return starts, data


@kernel
def _following(
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    closed: NDArray[np.bool_],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    leaving: NDArray[np.uint8],
    arriving: NDArray[np.uint8],
    sides: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Return, for each side, the side that comes after it round the region on its left."""
    count = left.size
    following = np.empty(2 * count, np.int32)
    for side in range(2 * count):
        arc = side // 2
        following[side] = side
        if closed[arc]:
            continue
        forward = side % 2 == 0
        node = end[arc] if forward else start[arc]
        heading = arriving[arc] if forward else (leaving[arc] + 2) & 3
        region = left[arc] if forward else right[arc]
        for turn in (1, 0, 3):  # right, straight on, left
            candidate = sides[node, (heading + turn) & 3]
            if candidate >= 0:
                other = candidate // 2
                if (left[other] if candidate % 2 == 0 else right[other]) == region:
                    following[side] = candidate
                    break
    return following


@kernel
def _sides_by_region(owner: NDArray[np.int32], regions: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the sides sorted by region (0 left out), and where each region's begin (length regions + 2)."""
    first = np.zeros(regions + 2, np.int64)
    for side in range(owner.size):
        if owner[side] > 0:
            first[owner[side] + 1] += 1
    for region in range(regions + 1):
        first[region + 1] += first[region]
    place = first[:-1].copy()
    sides = np.empty(first[regions + 1], np.int32)
    for side in range(owner.size):
        region = owner[side]
        if region > 0:
            sides[place[region]] = side
            place[region] += 1
    return sides, first


@kernel
def _shoelace(
    cols: NDArray[Any], rows: NDArray[Any], first: NDArray[np.int64], size: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return what each arc, walked forwards, adds to the area on its left, in square pixels."""
    result = np.empty(first.size)
    for arc in range(first.size):
        total = 0.0
        for v in range(first[arc], first[arc] + size[arc] - 1):
            total -= 0.5 * (float(cols[v]) + float(cols[v + 1])) * (float(rows[v + 1]) - float(rows[v]))
        result[arc] = total
    return result


@kernel
def _walk(
    sides: NDArray[np.int32],
    first_side: NDArray[np.int64],
    following: NDArray[np.int32],
    turns: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return (sides in ring order, ring offsets, ring range of each region); the shell comes first."""
    regions = first_side.size - 2
    ordered = np.empty(sides.size, np.int32)
    offsets = np.zeros(sides.size + 1, np.int64)
    of_region = np.zeros(regions + 2, np.int64)
    done = np.zeros(following.size, np.bool_)
    n = 0
    ring = 0
    for region in range(1, regions + 1):
        of_region[region] = ring
        first_ring = ring
        for s in range(first_side[region], first_side[region + 1]):
            if done[sides[s]]:
                continue
            begin = n
            area = 0.0
            side = sides[s]
            while not done[side]:
                done[side] = True
                ordered[n] = side
                n += 1
                area += turns[side // 2] if side % 2 == 0 else -turns[side // 2]
                side = following[side]
            ring += 1
            offsets[ring] = n
            if area > 0 and ring - 1 > first_ring:
                # The shell came after holes: move it before them.
                shell = ordered[begin:n].copy()
                base = offsets[first_ring]
                for k in range(begin - 1, base - 1, -1):
                    ordered[k + shell.size] = ordered[k]
                ordered[base : base + shell.size] = shell
                for r in range(ring - 1, first_ring, -1):
                    offsets[r] = offsets[r - 1] + shell.size
    of_region[regions + 1] = ring
    return ordered, offsets[: ring + 1].copy(), of_region


@kernel
def _ring_points(sides: NDArray[np.int32], offsets: NDArray[np.int64], size: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the vertices of each ring, the first one counted twice."""
    result = np.ones(offsets.size - 1, np.int64)
    for ring in range(offsets.size - 1):
        for k in range(offsets[ring], offsets[ring + 1]):
            result[ring] += size[sides[k] // 2] - 1
    return result


@kernel
def _put_uint32(data: NDArray[np.uint8], at: int, value: int) -> int:
    for k in range(4):
        data[at + k] = (value >> (8 * k)) & 255
    return at + 4


@kernel
def _put_double(data: NDArray[np.uint8], at: int, value: float) -> int:
    bits = np.float64(value).view(np.int64)
    for k in range(8):
        data[at + k] = (bits >> (8 * k)) & 255
    return at + 8


@kernel
def _write_wkb(
    cols: NDArray[Any],
    rows: NDArray[Any],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    sides: NDArray[np.int32],
    ring_offsets: NDArray[np.int64],
    of_region: NDArray[np.int64],
    points: NDArray[np.int64],
    groups: NDArray[np.int64],
    group_offsets: NDArray[np.int64],
    multi: bool,
    transform: NDArray[np.float64],
    flip: bool,
    data: NDArray[np.uint8],
) -> None:
    at = 0
    for group in range(group_offsets.size - 1):
        if multi:
            data[at] = 1
            at = _put_uint32(data, at + 1, WKB_MULTIPOLYGON)
            at = _put_uint32(data, at, group_offsets[group + 1] - group_offsets[group])
        for k in range(group_offsets[group], group_offsets[group + 1]):
            region = groups[k]
            data[at] = 1
            at = _put_uint32(data, at + 1, WKB_POLYGON)
            at = _put_uint32(data, at, of_region[region + 1] - of_region[region])
            for ring in range(of_region[region], of_region[region + 1]):
                count = points[ring + 1] - points[ring]
                at = _put_uint32(data, at, count)
                begin = at
                p = count - 1 if flip else 0
                for s in range(ring_offsets[ring], ring_offsets[ring + 1]):
                    arc = sides[s] // 2
                    forward = sides[s] % 2 == 0
                    for t in range(size[arc] - 1):
                        v = first[arc] + t if forward else first[arc] + size[arc] - 1 - t
                        x = transform[0] + cols[v] * transform[1] + rows[v] * transform[2]
                        y = transform[3] + cols[v] * transform[4] + rows[v] * transform[5]
                        _put_double(data, begin + 16 * p, x)
                        _put_double(data, begin + 16 * p + 8, y)
                        p += -1 if flip else 1
                at = begin + 16 * count
                repeat, source = (begin, at - 16) if flip else (at - 16, begin)
                for b in range(16):
                    data[repeat + b] = data[source + b]
