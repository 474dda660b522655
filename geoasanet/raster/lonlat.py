"""Where a raster lies on the globe, as GeoJSON wants it: longitude and latitude on WGS 84, cut at the antimeridian."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyproj
import rasterio.warp
import shapely
from numpy.typing import NDArray

from geoasanet.errors import GridError
from geoasanet.raster.grid import Grid, apply
from geoasanet.raster.opening import GDAL_ERRORS

_POINTS = 24
"""Points on each side of a footprint: straight lines of a projection are curves in longitude and latitude."""
_STRAIGHT = 1e-4
"""Points go that lie this close to a straight side, as a part of the footprint's size."""
_DECIMALS = 7
"""About a centimetre."""


def footprint(grid: Grid) -> tuple[dict[str, Any], list[float]]:
    """Return the outline of a grid as a GeoJSON geometry, and its bounding box.

    A footprint across the antimeridian is cut there (RFC 7946, 3.1.9), and its box then has a west that is larger than
    its east (5.2); one around a pole reaches it.

    Returns:
        A Polygon or MultiPolygon whose outer rings run counter-clockwise; west, south, east, north in degrees.

    Raises:
        GridError: If the grid reaches where its CRS knows no longitude and latitude.
    """
    lon, lat = _ring(grid)
    unrolled = np.unwrap(lon, period=360)
    if abs(unrolled[-1] - unrolled[0]) > 180:
        pole = math.copysign(90, float(lat.mean()))
        edge = float(lat.min() if pole > 0 else lat.max())
        whole = shapely.box(-180, min(edge, pole), 180, max(edge, pole))
        return _geojson(whole), [round(v, _DECIMALS) for v in whole.bounds]
    unrolled -= 360 * math.floor((float(unrolled.min()) + 180) / 360)
    ring = shapely.make_valid(shapely.Polygon(np.column_stack([unrolled, lat])))
    ring = ring.simplify(_STRAIGHT * math.sqrt(ring.area))
    west, south, east, north = ring.bounds
    if east <= 180:
        return _geojson(ring), [round(v, _DECIMALS) for v in (west, south, east, north)]
    first = ring.intersection(shapely.box(-180, -90, 180, 90))
    second = shapely.affinity.translate(ring.intersection(shapely.box(180, -90, 540, 90)), -360)
    parts = [part for piece in (first, second) for part in _polygons(piece)]
    return _geojson(shapely.MultiPolygon(parts)), [round(v, _DECIMALS) for v in (west, south, east - 360, north)]


def pixel_side(grid: Grid) -> float:
    """Return the mean side of the middle pixel on the ground, metres.

    Raises:
        GridError: If the CRS knows no longitude and latitude there.
    """
    row, col = grid.height / 2, grid.width / 2
    corners = [apply(grid.transform, col + dc, row + dr) for dc, dr in ((0, 0), (1, 0), (1, 1), (0, 1))]
    lon, lat = _lonlat(grid, np.array(corners).T)
    area, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    return math.sqrt(abs(area))


def _ring(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitudes and latitudes along the grid's edges, closed."""
    steps = np.linspace(0, 1, _POINTS, endpoint=False)
    zero, one = np.zeros(_POINTS), np.ones(_POINTS)
    cols = np.concatenate([steps, one, 1 - steps, zero, [0]]) * grid.width
    rows = np.concatenate([zero, steps, one, 1 - steps, [0]]) * grid.height
    t = grid.transform
    return _lonlat(grid, np.stack([t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f]))


def _lonlat(grid: Grid, xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    try:
        lon, lat = rasterio.warp.transform(grid.crs, "EPSG:4326", xy[0], xy[1])[:2]
    except (*GDAL_ERRORS, ValueError):
        lon, lat = [math.nan], [math.nan]
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise GridError("The grid reaches where its CRS knows no longitude and latitude.", "Cut it with --bbox.")
    return np.array(lon), np.clip(np.array(lat), -90, 90)


def _polygons(geometry: Any) -> list[Any]:
    return [
        part for part in getattr(geometry, "geoms", [geometry]) if part.geom_type == "Polygon" and not part.is_empty
    ]


def _geojson(geometry: Any) -> dict[str, Any]:
    parts = [shapely.orient_polygons(part) for part in _polygons(geometry)]
    rings = [[[[round(x, _DECIMALS), round(y, _DECIMALS)] for x, y in part.exterior.coords]] for part in parts]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}
