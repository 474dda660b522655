"""The area filter: small regions join the neighbour with which they share the longest border, smallest first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.measure import Ground, area_before
from geoasanet.raster.polygons.regions import Regions
from geoasanet.raster.polygons.runs import Runs, find_root

UNITS_PER_PIXEL = 1 << 20
"""Areas are summed in units of the largest pixel's area divided by this. Regions of as many pixels then have the same
area, and go by first pixel, wherever the projection makes no difference worth the name."""
UNITS_PER_EDGE = 1000
"""Border lengths are counted in units of a pixel's longer side divided by this; square pixels then have equal sides."""
AREA_SLACK = 2e-6
"""A region this much (relative) below the limit counts as large enough: areas are measured, limits are round."""


@dataclass(frozen=True)
class Borders:
    """Which components or regions touch, each unordered pair once, and along how many pixel edges."""

    low: NDArray[np.int32]
    """The lower id of each pair."""
    high: NDArray[np.int32]
    """The higher one."""
    upright: NDArray[np.int64]
    """Pixel edges between horizontal neighbours."""
    level: NDArray[np.int64]
    """Pixel edges between vertical neighbours."""

    def summed(self) -> Borders:
        """Return each pair once, in order."""
        if not len(self.low):
            return self
        order = np.lexsort((self.high, self.low))
        low, high = self.low[order], self.high[order]
        first = np.flatnonzero(np.r_[True, (low[1:] != low[:-1]) | (high[1:] != high[:-1])])
        upright = np.add.reduceat(self.upright[order], first)
        level = np.add.reduceat(self.level[order], first)
        return Borders(low[first], high[first], upright, level)

    def renamed(self, table: NDArray[np.int32]) -> Borders:
        """Return the borders of the regions that components belong to."""
        one, other = table[self.low], table[self.high]
        return Borders(np.minimum(one, other), np.maximum(one, other), self.upright, self.level)


def strip_borders(runs: Runs) -> Borders:
    """Return the borders between the components of a strip."""
    return Borders(*_strip_borders(runs.offsets, runs.starts, runs.components, runs.width)).summed()


def strip_areas(runs: Runs, ground: Ground, units_per_m2: float) -> NDArray[np.int64]:
    """Return the ground area of each component of a strip, in whole units so that sums depend on no order."""
    areas: NDArray[np.int64] = _strip_areas(
        runs.row,
        runs.offsets,
        runs.starts,
        runs.components,
        runs.width,
        runs.count,
        units_per_m2,
        ground.metric,
        ground.area_before,
        *ground.step,
    )
    return areas


def area_units(ground: Ground) -> float:
    """Return how many area units make a square metre."""
    return UNITS_PER_PIXEL / float(ground.metric[0].max())


def map_borders(strips: Sequence[Runs], per_strip: Sequence[Borders], regions: Regions) -> Borders:
    """Return the borders between the regions of the whole map."""
    parts = [b.renamed(t) for b, t in zip(per_strip, regions.of_component, strict=True)]
    for k in range(len(strips) - 1):
        above = regions.of_row(strips, k, -1)
        below = regions.of_row(strips, k + 1, 0)
        touch = (above != below) & (above != 0) & (below != 0)
        one, other = above[touch], below[touch]
        level = np.ones(len(one), np.int64)
        parts.append(Borders(np.minimum(one, other), np.maximum(one, other), np.zeros_like(level), level).summed())
    columns = zip(*((p.low, p.high, p.upright, p.level) for p in parts), strict=True)
    return Borders(*(np.concatenate(column) for column in columns)).summed()


def merge_small(
    regions: Regions,
    borders: Borders,
    areas: NDArray[np.int64],
    limit: float,
    pixel_size: tuple[float, float],
) -> Regions:
    """Return the regions after each below ``limit`` joined a neighbour, smallest first.

    The neighbour is the one with the longest common border, of equals the one whose first pixel comes first. Other
    neighbours of its class, which now touch it, join too. A region without neighbours stays as it is.

    Args:
        regions: The regions of the map.
        borders: Their borders, each pair once.
        areas: Area of each region, in the units of ``limit``.
        limit: Least area.
        pixel_size: Ground width and height of a pixel in metres, which weigh the two kinds of pixel edges.
    """
    ends = np.concatenate([borders.low, borders.high])
    order = np.argsort(ends, kind="stable")
    neighbors = np.concatenate([borders.high, borders.low])[order]
    upright = np.concatenate([borders.upright, borders.upright])[order]
    level = np.concatenate([borders.level, borders.level])[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=regions.count + 1))]).astype(np.int64)
    classes = regions.classes.copy()
    longer = max(pixel_size)
    width, height = (round(size / longer * UNITS_PER_EDGE) for size in pixel_size)
    limit *= 1 - AREA_SLACK
    root_of = _merge(offsets, neighbors, upright, level, areas.copy(), classes, limit, width, height)
    return regions.regroup(root_of, classes)


@kernel
def _strip_borders(
    offsets: NDArray[np.int64], starts: NDArray[np.int32], components: NDArray[np.int32], width: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return (low, high, upright, level) of touching components, pairs repeated."""
    most = 3 * starts.size
    low = np.empty(most, np.int32)
    high = np.empty(most, np.int32)
    upright = np.zeros(most, np.int64)
    level = np.zeros(most, np.int64)
    n = 0
    for i in range(offsets.size - 1):
        for k in range(offsets[i] + 1, offsets[i + 1]):
            a = components[k - 1]
            b = components[k]
            if a != 0 and b != 0:
                low[n] = min(a, b)
                high[n] = max(a, b)
                upright[n] = 1
                n += 1
        if i == 0:
            continue
        p = offsets[i - 1]
        q = offsets[i]
        while p < offsets[i] and q < offsets[i + 1]:
            p_end = starts[p + 1] if p + 1 < offsets[i] else width
            q_end = starts[q + 1] if q + 1 < offsets[i + 1] else width
            a = components[p]
            b = components[q]
            if min(a, b) != 0 and a != b:
                low[n] = min(a, b)
                high[n] = max(a, b)
                level[n] = min(p_end, q_end) - max(starts[p], starts[q])
                n += 1
            if p_end <= q_end:
                p += 1
            if q_end <= p_end:
                q += 1
    return low[:n], high[:n], upright[:n], level[:n]


@kernel
def _strip_areas(
    row: int,
    offsets: NDArray[np.int64],
    starts: NDArray[np.int32],
    components: NDArray[np.int32],
    width: int,
    count: int,
    units_per_m2: float,
    metric: NDArray[np.float64],
    before: NDArray[np.float64],
    step_row: float,
    step_col: float,
) -> NDArray[np.int64]:
    areas = np.zeros(count + 1, np.int64)
    for i in range(offsets.size - 1):
        y = row + i + 0.5
        for k in range(offsets[i], offsets[i + 1]):
            if components[k] == 0:
                continue
            end = starts[k + 1] if k + 1 < offsets[i + 1] else width
            area = area_before(float(end), y, metric, before, step_row, step_col)
            area -= area_before(float(starts[k]), y, metric, before, step_row, step_col)
            pixels = end - starts[k]
            areas[components[k]] += pixels * round(area / pixels * units_per_m2)
    return areas


@kernel
def _merge(
    offsets: NDArray[np.int64],
    neighbors: NDArray[np.int32],
    upright: NDArray[np.int64],
    level: NDArray[np.int64],
    areas: NDArray[np.int64],
    classes: NDArray[np.uint8],
    limit: float,
    pixel_width: int,
    pixel_height: int,
) -> NDArray[np.int32]:
    """Return the lowest region of each region's group; ``areas`` and ``classes`` hold the groups' values there.

    The members of a group are a linked list: ``following`` leads from its lowest region through all, ``last`` is
    its end.
    """
    n = areas.size
    parent = np.arange(n).astype(np.int32)
    following = np.full(n, -1, np.int32)
    last = np.arange(n).astype(np.int32)
    across = np.zeros(n, np.int64)
    along = np.zeros(n, np.int64)
    touched = np.empty(n, np.int32)
    queue = [(areas[r], r) for r in range(1, n) if areas[r] < limit]
    heapq.heapify(queue)
    while len(queue) > 0:
        area, region = heapq.heappop(queue)
        if parent[region] != region or areas[region] != area:
            continue
        found = 0
        member = region
        while member >= 0:
            for e in range(offsets[member], offsets[member + 1]):
                neighbor = find_root(parent, neighbors[e])
                if neighbor == region:
                    continue
                if across[neighbor] == 0 and along[neighbor] == 0:
                    touched[found] = neighbor
                    found += 1
                across[neighbor] += upright[e]
                along[neighbor] += level[e]
            member = following[member]
        if found == 0:
            continue
        best = -1
        longest = -1
        for t in range(found):
            neighbor = touched[t]
            length = across[neighbor] * pixel_height + along[neighbor] * pixel_width
            if length > longest or (length == longest and neighbor < best):
                best = neighbor
                longest = length
        chosen = classes[best]
        group = region
        for t in range(found):
            neighbor = touched[t]
            across[neighbor] = 0
            along[neighbor] = 0
            if classes[neighbor] != chosen:
                continue
            low = min(group, neighbor)
            high = max(group, neighbor)
            parent[high] = low
            following[last[low]] = high
            last[low] = last[high]
            areas[low] += areas[high]
            group = low
        classes[group] = chosen
        if areas[group] < limit:
            heapq.heappush(queue, (areas[group], group))
    for r in range(n):
        parent[r] = find_root(parent, r)
    return parent
