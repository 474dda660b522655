"""Polygons for the page: the largest ones, simplified together, as whole numbers on the shown picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.errors import NoOverlapError, VectorError
from geoasanet.raster.crosswalk import MapClasses
from geoasanet.raster.features import read_features
from geoasanet.raster.grid import Grid
from geoasanet.raster.polygons.measure import Ground

MOST_POLYGONS = 4000
"""Polygons on the page at most, the largest."""
MOST_VERTICES = 300_000
"""Their vertices at most; about 2 MB of page."""
UNITS = 4
"""Coordinates are whole numbers of this part of a shown pixel."""
_COARSER = 5
"""Times that the tolerance is doubled at most to come below :data:`MOST_VERTICES`."""


@dataclass(frozen=True)
class Outlines:
    """The polygons of the page."""

    entries: list[dict[str, Any]]
    """``c``: class id, ``a``: ground area in m², ``p``: polygons of rings of x0, y0, dx1, dy1, … in 1/:data:`UNITS` of
    a shown pixel; largest first."""
    total: int
    """Polygons with a class in the file, on the map."""
    simplified: bool
    """True if borders were simplified."""
    remarks: tuple[str, ...]
    """What the user should know."""


def outlines(
    path: str, grid: Grid, ground: Ground, classes: MapClasses, factor: tuple[float, float], class_field: str | None
) -> Outlines:
    """Return the polygons of a vector file for a picture of a map.

    Args:
        path: The vector file, in any CRS.
        grid: The map's grid.
        ground: How large its pixels are.
        classes: Its classes.
        factor: Rows and columns of the map per shown pixel.
        class_field: Field with the class; the usual ones if None.

    Raises:
        VectorError: If it cannot be read or holds no polygons.
        LabelError: If it has no field of classes, or a class is none of the map's.
        NoOverlapError: If none lies on the map.
    """
    found = read_features(path, grid, classes, class_field)
    if found.points:
        raise VectorError(f"{path} holds points; polygons are needed.", "Give what geoasanet vectorize wrote.")
    on_map = shapely.intersects(found.geometry, shapely.box(0, 0, grid.width, grid.height))
    kept = np.flatnonzero((found.ids != NODATA) & on_map)
    if not len(kept):
        raise NoOverlapError(
            f"No polygon of {path} with a class lies on the map {classes.path}.", "Were they made from another map?"
        )
    geometry, ids = found.geometry[kept], found.ids[kept]
    area = _ground_area(geometry, ground)
    largest = np.argsort(-area, kind="stable")[:MOST_POLYGONS]
    drawn, simplified = _simplified(geometry[largest], max(factor))
    fits = np.cumsum(shapely.get_num_coordinates(drawn)) <= MOST_VERTICES
    scale = np.array([UNITS / factor[1], UNITS / factor[0]])
    entries = [
        {"c": int(ids[i]), "a": round(float(area[i])), "p": parts}
        for i, shape, fit in zip(largest, drawn, fits, strict=True)
        if fit and (parts := _parts(shape, scale))
    ]
    return Outlines(entries, len(kept), simplified, found.remarks)


def _ground_area(geometry: NDArray[Any], ground: Ground) -> NDArray[np.float64]:
    """Return the ground area in m² of each geometry in pixel coordinates.

    Each part counts with the size of a pixel at its centroid, which is exact where that changes linearly; a part that
    spans a degree of latitude errs by less than 1e-4.
    """
    parts, owner = shapely.get_parts(geometry, return_index=True)
    centres = shapely.get_coordinates(shapely.centroid(parts))
    sizes = shapely.area(parts)
    solid = sizes > 0
    measured = sizes[solid] * ground.pixel_area(*np.ascontiguousarray(centres[solid].T))
    return np.bincount(owner[solid], measured, minlength=len(geometry)).astype(np.float64)


def _simplified(geometry: NDArray[Any], factor: float) -> tuple[NDArray[Any], bool]:
    """Return geometries with borders, shared ones together, as fine as they can be seen, and whether that took any."""
    areal = np.array([shapely.multipolygons(_polygons(shape)) for shape in geometry], object)
    drawn = areal if factor <= 1 else shapely.coverage_simplify(areal, factor / 2)
    for step in range(_COARSER):
        if shapely.get_num_coordinates(drawn).sum() <= MOST_VERTICES:
            break
        drawn = shapely.coverage_simplify(areal, max(factor, 1.0) * 2**step)
    return drawn, bool(shapely.get_num_coordinates(drawn).sum() < shapely.get_num_coordinates(areal).sum())


def _polygons(shape: Any) -> NDArray[Any]:
    parts = shapely.get_parts(shapely.get_parts(shape))  # twice: repaired geometries are collections of collections
    return np.asarray(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


def _parts(shape: Any, scale: NDArray[np.float64]) -> list[list[list[int]]]:
    """Return a multipolygon as lists of rings, each the first point and the steps to the next ones."""
    return [
        rings
        for part in shapely.get_parts(shape)
        if (rings := [ring for line in shapely.get_rings(part) if len(ring := _ring(line, scale)) >= 6])
    ]


def _ring(line: Any, scale: NDArray[np.float64]) -> list[int]:
    points = np.round(shapely.get_coordinates(line)[:-1] * scale).astype(np.int64)
    steps = np.diff(points, axis=0, prepend=np.zeros((1, 2), np.int64))
    moved = (steps != 0).any(axis=1)
    moved[0] = True
    flat: list[int] = steps[moved].ravel().tolist()
    return flat
