"""Sums over regions: ground area, border length, mean confidence. None depends on the order of strips or threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs
from geoasanet.raster.polygons.measure import Ground, edge_measures
from geoasanet.raster.polygons.regions import Regions
from geoasanet.raster.polygons.runs import Runs
from geoasanet.raster.polygons.spool import forget
from geoasanet.raster.polygons.threads import ordered_map

CONFIDENCE_UNITS = 1 << 30
"""Confidences are summed as integers, in units of one divided by this."""
MEASURE_CHUNK = 65_536
"""Arcs that a thread measures at a time."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def arcs_bounds(arcs: Arcs, chosen: Ints, transform: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Return west, south, east, north of some arcs; ``transform`` is a GDAL geotransform."""
    box = (np.inf, np.inf, -np.inf, -np.inf)
    for start in range(0, len(chosen), MEASURE_CHUNK):
        part = chosen[start : start + MEASURE_CHUNK]
        west, south, east, north = _bounds(
            arcs.cols, arcs.rows, arcs.first, arcs.size, part, np.array(transform, np.float64)
        )
        box = (min(box[0], west), min(box[1], south), max(box[2], east), max(box[3], north))
        forget(arcs.cols, arcs.rows)
    return box


def measure_regions(arcs: Arcs, ground: Ground, regions: int, workers: int) -> tuple[Floats, Floats]:
    """Return ground area in m² and border length in m of each region, 0 for region 0."""
    areas, lengths = np.zeros(regions + 1), np.zeros(regions + 1)

    def run(part: slice) -> tuple[slice, Floats, Floats]:
        first = arcs.first[part]
        area, length = np.empty(len(first)), np.empty(len(first))
        _measure_arcs(
            arcs.cols,
            arcs.rows,
            first,
            arcs.size[part],
            ground.metric,
            ground.area_before,
            *ground.step,
            area,
            length,
        )
        return part, area, length

    parts = (slice(start, start + MEASURE_CHUNK) for start in range(0, len(arcs), MEASURE_CHUNK))
    for part, area, length in ordered_map(run, parts, workers):
        _add_by_region(arcs.left[part], arcs.right[part], area, length, areas, lengths)
        forget(arcs.cols, arcs.rows)
    areas[0] = lengths[0] = 0.0
    return areas, lengths


@kernel
def _measure_arcs(
    cols: Floats,
    rows: Floats,
    first: Ints,
    size: NDArray[np.int32],
    metric: Floats,
    before: Floats,
    step_row: float,
    step_col: float,
    area: Floats,
    length: Floats,
) -> None:
    """Write what each arc adds to the area on its left, in m², and its ground length in m."""
    for arc in range(first.size):
        area[arc] = 0.0
        length[arc] = 0.0
        for v in range(first[arc], first[arc] + size[arc] - 1):
            gain, run = edge_measures(
                float(cols[v]),
                float(rows[v]),
                float(cols[v + 1]),
                float(rows[v + 1]),
                metric,
                before,
                step_row,
                step_col,
            )
            area[arc] += gain
            length[arc] += run


@kernel
def _add_by_region(
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    area: Floats,
    length: Floats,
    areas: Floats,
    lengths: Floats,
) -> None:
    """Add what arcs contribute to the regions beside them."""
    for arc in range(left.size):
        areas[left[arc]] += area[arc]
        areas[right[arc]] -= area[arc]
        lengths[left[arc]] += length[arc]
        lengths[right[arc]] += length[arc]


def mean_confidence(regions: Regions, parts: list[tuple[Ints, Ints]]) -> tuple[Floats | None, Ints | None]:
    """Return the mean confidence of each region's pixels, NaN where none has one, and how many have one.

    Args:
        regions: The regions.
        parts: What :func:`strip_confidence` returned for each strip; none if there is no confidence.
    """
    if not parts:
        return None, None
    total, count = regions.sums([p[0] for p in parts]), regions.sums([p[1] for p in parts])
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / CONFIDENCE_UNITS / count, count


def strip_confidence(runs: Runs, confidence: NDArray[np.float32]) -> tuple[Ints, Ints]:
    """Return per component the sum of the confidences, in ``CONFIDENCE_UNITS``, and how many pixels have one."""
    sums: tuple[Ints, Ints] = _sum_confidence(runs.offsets, runs.starts, runs.components, runs.count, confidence)
    return sums


@kernel
def _sum_confidence(
    offsets: Ints,
    starts: NDArray[np.int32],
    components: NDArray[np.int32],
    count: int,
    confidence: NDArray[np.float32],
) -> tuple[Ints, Ints]:
    total = np.zeros(count + 1, np.int64)
    pixels = np.zeros(count + 1, np.int64)
    height, width = confidence.shape
    for i in range(height):
        for k in range(offsets[i], offsets[i + 1]):
            end = starts[k + 1] if k + 1 < offsets[i + 1] else width
            for j in range(starts[k], end):
                value = confidence[i, j]
                if np.isfinite(value):
                    total[components[k]] += round(np.float64(value) * CONFIDENCE_UNITS)
                    pixels[components[k]] += 1
    return total, pixels


@kernel
def _bounds(
    cols: Floats,
    rows: Floats,
    first: Ints,
    size: NDArray[np.int32],
    arcs: Ints,
    transform: Floats,
) -> tuple[float, float, float, float]:
    west = south = np.inf
    east = north = -np.inf
    for arc in arcs:
        for v in range(first[arc], first[arc] + size[arc]):
            x = transform[0] + cols[v] * transform[1] + rows[v] * transform[2]
            y = transform[3] + cols[v] * transform[4] + rows[v] * transform[5]
            west = min(west, x)
            east = max(east, x)
            south = min(south, y)
            north = max(north, y)
    return west, south, east, north
