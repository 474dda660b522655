"""From a map to polygons that cover it: the stages in order, and the result as batches of features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoasanet.progress import Progress, silent
from geoasanet.raster.grid import Grid
from geoasanet.raster.polygons.arcs import Arcs, Pieces, trace_strip
from geoasanet.raster.polygons.measure import ground_of
from geoasanet.raster.polygons.merging import (
    area_units,
    map_borders,
    merge_small,
    strip_areas,
)
from geoasanet.raster.polygons.regions import Regions, join_strips
from geoasanet.raster.polygons.rings import Sides, rings_of, sides_of
from geoasanet.raster.polygons.runs import RunFile, Runs
from geoasanet.raster.polygons.simplify import simplify_arcs
from geoasanet.raster.polygons.smooth import smooth_arcs
from geoasanet.raster.polygons.source import ConfidenceReader, MapReader, Part
from geoasanet.raster.polygons.spool import forget
from geoasanet.raster.polygons.stitch import stitch
from geoasanet.raster.polygons.strips import Scans, StripScan, scan_strip
from geoasanet.raster.polygons.threads import ordered_map
from geoasanet.raster.polygons.totals import arcs_bounds, mean_confidence, measure_regions
from geoasanet.raster.polygons.wkb import polygons_wkb

BATCH_POLYGONS = 16_384
BATCH_POINTS = 1 << 21
"""A batch of features has at most so many polygons, and few more vertices than this."""


@dataclass(frozen=True)
class Outline:
    """How borders are drawn.

    All zero: exactly along the pixels.
    """

    min_area_m2: float = 0.0
    """Regions with less ground area join a neighbour."""
    simplify_m: float = 0.0
    """Tolerance of the simplification on the ground, metres: bends go that span less than its square."""
    smooth: int = 0
    """Passes of corner cutting."""


class Batch(NamedTuple):
    """Some features, in order."""

    class_ids: NDArray[np.uint8]
    area_m2: NDArray[np.float64]
    perimeter_m: NDArray[np.float64]
    confidence: NDArray[np.float64] | None
    """NaN where no pixel had one."""
    offsets: NDArray[np.int64]
    """Geometry i is wkb[offsets[i] : offsets[i + 1]]."""
    wkb: NDArray[np.uint8]
    points: int
    """Vertices of all rings, each ring's first one counted twice."""


@dataclass(frozen=True)
class Coverage:
    """Polygons that cover a map's valid area without gaps or overlaps, one for each region, by first pixel."""

    grid: Grid
    """The map's grid."""
    classes: NDArray[np.uint8]
    """Class of each region; region 0 is where there is no data."""
    area_m2: NDArray[np.float64]
    """Ground area of each region as drawn."""
    perimeter_m: NDArray[np.float64]
    """Ground length of each region's border as drawn, holes included."""
    confidence: NDArray[np.float64] | None
    """Mean confidence of each region's pixels, NaN where there is none."""
    pixels_with_confidence: NDArray[np.int64] | None
    """How many pixels of each region have one."""
    arcs: Arcs
    """The borders."""
    sides: Sides
    """Which of them surround each region."""
    planar: bool
    """True if areas were measured in the CRS's plane, for lack of an ellipsoid."""

    def chosen(self, class_ids: Sequence[int]) -> NDArray[np.int64]:
        """Return the regions of some classes, in order."""
        wanted = np.zeros(256, bool)
        wanted[list(class_ids)] = True
        return np.flatnonzero(wanted[self.classes[1:]]) + 1

    def features(self, regions: NDArray[np.int64], workers: int) -> Iterator[Batch]:
        """Yield one polygon for each region, in order."""
        ends = np.cumsum(self.sides.points[regions])
        cuts = [0]
        while cuts[-1] < len(regions):
            before = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
            stop = int(np.searchsorted(ends, before + BATCH_POINTS, side="right"))
            cuts.append(max(cuts[-1] + 1, min(stop, cuts[-1] + BATCH_POLYGONS)))
        spans = [regions[a:b] for a, b in pairwise(cuts)]
        for batch in ordered_map(self._polygons, spans, workers):
            forget(*vars(self.arcs).values(), *vars(self.sides).values())
            yield batch

    def dissolved(self, regions: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield one multipolygon for each class."""
        for class_id in np.unique(self.classes[regions]):
            members = regions[self.classes[regions] == class_id]
            offsets, wkb, points = self._wkb(members, np.array([0, len(members)]), True)
            confidence = None
            if self.confidence is not None and self.pixels_with_confidence is not None:
                count = self.pixels_with_confidence[members]
                total = np.where(count > 0, self.confidence[members] * count, 0.0).sum()
                confidence = np.array([total / count.sum() if count.sum() else np.nan])
            yield Batch(
                np.array([class_id]),
                np.array([self.area_m2[members].sum()]),
                np.array([self.perimeter_m[members].sum()]),
                confidence,
                offsets,
                wkb,
                points,
            )

    def bounds(self, regions: NDArray[np.int64]) -> tuple[float, float, float, float] | None:
        """Return west, south, east, north of some regions in the CRS, or None if there are none."""
        wanted = np.zeros(len(self.classes), bool)
        wanted[regions] = True
        arcs = np.flatnonzero(wanted[self.arcs.left] | wanted[self.arcs.right])
        if not len(arcs):
            return None
        return arcs_bounds(self.arcs, arcs, self.grid.transform.to_gdal())

    def _polygons(self, regions: NDArray[np.int64]) -> Batch:
        wkb = self._wkb(regions, np.arange(len(regions) + 1), False)
        confidence = None if self.confidence is None else self.confidence[regions]
        return Batch(self.classes[regions], self.area_m2[regions], self.perimeter_m[regions], confidence, *wkb)

    def _wkb(
        self, regions: NDArray[np.int64], offsets: NDArray[np.int64], multi: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], int]:
        rings = rings_of(self.arcs, self.sides, regions)
        return *polygons_wkb(self.arcs, rings, offsets, multi, self.grid.transform.to_gdal()), int(rings.points[-1])


def cover(
    reader: MapReader | Part,
    outline: Outline,
    confidence: ConfidenceReader | Part | None = None,
    *,
    workers: int = 1,
    strip_rows: int | None = None,
    folder: Path | None = None,
    scans: Scans | None = None,
    progress: Progress = silent,
) -> Coverage:
    """Return the polygons of a map.

    Args:
        reader: The map.
        outline: How borders are drawn.
        confidence: Confidence to average over each region.
        workers: Threads; the result does not depend on it.
        strip_rows: Rows that are read at once, by default what suits the file; the result does not depend on it.
        folder: Where temporary files lie, which have no names; None: the system's folder for them.
        scans: Scans the strips elsewhere; with borders if there is a least area. If None, threads here do.
        progress: Told about rows read and borders traced.

    Raises:
        SceneError: If a block cannot be read.
        BandError: If a value is no class id or no confidence.
        OutputError: If there is no room for the temporary files.
    """
    grid = reader.grid
    ground = ground_of(grid)
    units = area_units(ground)
    filtering = outline.min_area_m2 > 0

    def with_areas(found: StripScan) -> tuple[StripScan, NDArray[np.int64] | None]:
        return found, strip_areas(found.runs, ground, units) if filtering else None

    def scan(rows: tuple[int, int]) -> tuple[StripScan, NDArray[np.int64] | None]:
        return with_areas(scan_strip(reader, confidence, rows, borders=filtering))

    areas_of, borders_of, confidence_of = [], [], []
    rows = reader.strips(strip_rows)
    read = RunFile(folder)
    cache_mb = reader.cache_mb + (confidence.cache_mb if confidence else 0)
    scanned = ordered_map(scan, rows, workers) if scans is None else (with_areas(found) for found in scans(rows))
    with rasterio.Env(GDAL_CACHEMAX=cache_mb), contextlib.closing(scanned):
        for (runs, strip_border, strip_sure), strip_area in scanned:
            read.append(runs)
            areas_of.append(strip_area)
            borders_of.append(strip_border)
            confidence_of.append(strip_sure)
            progress("reading map", runs.row + runs.height, grid.height, "rows")
        del runs
    del scanned
    strips = read.strips()
    regions = join_strips(strips)
    if filtering:
        borders = map_borders(strips, [b for b in borders_of if b is not None], regions)
        areas = regions.sums([a for a in areas_of if a is not None])
        pixel = ground.pixel_size(grid.width / 2, grid.height / 2)
        regions = merge_small(regions, borders, areas, outline.min_area_m2 * units, pixel)
        del borders, areas
    means, counts = mean_confidence(regions, [c for c in confidence_of if c is not None])
    del areas_of, borders_of, confidence_of

    arcs = stitch(_trace(strips, regions, workers, progress), grid.width, folder)
    del strips, read
    if outline.simplify_m > 0:
        progress("simplifying", 0, len(arcs), "borders")
        at = arcs.first
        pixel_areas = ground.pixel_area(arcs.cols[at].astype(np.float64), arcs.rows[at].astype(np.float64))
        arcs = simplify_arcs(arcs, outline.simplify_m**2 / pixel_areas, (grid.height, grid.width), workers, folder)
        progress("simplifying", len(arcs), len(arcs), "borders")
    if outline.smooth:
        arcs = smooth_arcs(arcs, outline.smooth, (grid.height, grid.width), workers, folder)
    area, perimeter = measure_regions(arcs, ground, regions.count, workers)
    sides = sides_of(arcs, regions.count, folder)
    forget(*vars(arcs).values())
    return Coverage(grid, regions.classes, area, perimeter, means, counts, arcs, sides, ground.planar)


def _trace(strips: tuple[Runs, ...], regions: Regions, workers: int, progress: Progress) -> Iterator[Pieces]:
    for k, pieces in enumerate(ordered_map(lambda i: trace_strip(strips, i, regions), range(len(strips)), workers)):
        forget(strips[k].starts, strips[k].components)
        yield pieces
        progress("tracing borders", strips[k].row + strips[k].height, strips[-1].row + strips[-1].height, "rows")
