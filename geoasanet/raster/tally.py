"""One pass over a map and its labels: how often which class meets which, true areas, and small pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.progress import Progress, silent
from geoasanet.raster.features import LabelFeatures
from geoasanet.raster.grid import Grid
from geoasanet.raster.polygons.measure import Ground, ground_of
from geoasanet.raster.polygons.source import MapReader
from geoasanet.raster.reference import Reference

_VALUES = NODATA + 1
_AREA_PIXELS = 1 << 18
"""Pixels whose ground area is held at once."""


@dataclass(frozen=True)
class Thumbnail:
    """Every so many pixels of the map and its labels, for a picture; the same places in both."""

    mapped: NDArray[np.uint8]
    """The map's classes, shape (height, width), 255 where there is none."""
    labels: NDArray[np.uint8]
    """The labels, of the same shape, 255 where there is none."""
    factor: tuple[float, float]
    """Rows and columns of the map per pixel of the picture."""


@dataclass(frozen=True)
class Tally:
    """What one pass over the map found."""

    joint: NDArray[np.int64]
    """Pixels by label (rows) and map class (columns), shape (256, 256); 255 is none."""
    area_m2: NDArray[np.float64]
    """Ground area of what is mapped as each class, in m², shape (256,); 255 is what is not mapped."""
    at_points: NDArray[np.uint8]
    """Map class at each point, 255 where there is none; shape (points,)."""
    inside: NDArray[np.bool_]
    """True where a point lies on the map's grid; shape (points,)."""
    thumbnail: Thumbnail
    """The picture."""
    planar: bool
    """True if areas are those of the CRS's own plane, as it has no ellipsoid."""


def tally(
    reader: MapReader,
    labels: Reference | None,
    points: LabelFeatures | None = None,
    *,
    max_side: int = 480,
    strip_rows: int | None = None,
    progress: Progress = silent,
) -> Tally:
    """Return counts and areas of a map, read once from top to bottom.

    Args:
        reader: The map.
        labels: Labels for each pixel; None to count no pixel against labels.
        points: Points at which the map is looked up.
        max_side: Longer side of the picture, pixels.
        strip_rows: Rows read at once; as suits the file if None. The result does not depend on it.
        progress: Told how many rows are done.

    Raises:
        SceneError: If a block cannot be read.
        BandError: If a map value is no class id.
        LabelError: If a label is no class of the map.
    """
    grid, ground = reader.grid, ground_of(reader.grid)
    cols, rows = _pixels(points)
    inside = (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)
    at_points = np.full(len(rows), NODATA, np.uint8)
    joint = np.zeros(_VALUES * _VALUES, np.int64)
    area = np.zeros(_VALUES)
    factor = max(1.0, max(grid.height, grid.width) / max_side)
    picked_rows, picked_cols = (_spread(side, factor) for side in (grid.height, grid.width))
    pictures = [np.full((len(picked_rows), len(picked_cols)), NODATA, np.uint8) for _ in range(2)]
    with rasterio.Env(GDAL_CACHEMAX=reader.cache_mb + 64):
        for row, stop in reader.strips(strip_rows):
            mapped = reader.read(row, stop)
            _add_area(area, mapped, row, ground)
            here = np.flatnonzero(inside & (rows >= row) & (rows < stop))
            at_points[here] = mapped[rows[here] - row, cols[here]]
            taken = np.flatnonzero((picked_rows >= row) & (picked_rows < stop))
            places = np.ix_(picked_rows[taken] - row, picked_cols)
            pictures[0][taken] = mapped[places]
            if labels is not None:
                truth = labels.read(row, stop)
                pairs = truth.astype(np.uint16) * np.uint16(_VALUES) + mapped
                joint += np.bincount(pairs.ravel(), minlength=_VALUES * _VALUES)
                pictures[1][taken] = truth[places]
            progress("comparing", stop, grid.height, "rows")
    return Tally(
        joint.reshape(_VALUES, _VALUES),
        area,
        at_points,
        inside,
        Thumbnail(pictures[0], pictures[1], (grid.height / len(picked_rows), grid.width / len(picked_cols))),
        ground.planar,
    )


def pixel_size_m(grid: Grid) -> tuple[float, float]:
    """Return the ground width and height, in metres, of the pixel in the middle of a grid."""
    return ground_of(grid).pixel_size(grid.width / 2, grid.height / 2)


def _pixels(points: LabelFeatures | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the columns and rows of the pixels in which points lie."""
    import shapely

    if points is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    places: NDArray[Any] = np.floor(shapely.get_coordinates(points.geometry))
    limits = np.clip(places, -1, 2**40).astype(np.int64)
    return limits[:, 0], limits[:, 1]


def _spread(side: int, factor: float) -> NDArray[np.int64]:
    """Return evenly spread pixels, one in about ``factor``."""
    count = max(1, round(side / factor))
    return ((np.arange(count) + 0.5) * side / count).astype(np.int64)


def _add_area(area: NDArray[np.float64], mapped: NDArray[np.uint8], first: int, ground: Ground) -> None:
    """Add the ground area of each class in some rows, which begin at ``first``, to ``area``."""
    width = mapped.shape[1]
    step = max(1, _AREA_PIXELS // width)
    columns = np.arange(width) + 0.5
    for row in range(0, len(mapped), step):
        part = mapped[row : row + step]
        rows = np.repeat(np.arange(len(part)) + first + row + 0.5, width)
        sizes = ground.pixel_area(np.tile(columns, len(part)), rows)
        area += np.bincount(part.ravel(), sizes, minlength=_VALUES)
