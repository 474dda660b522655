"""Ground area and length against pyproj's geodesics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyproj
import pytest
import shapely
from rasterio.transform import Affine, from_origin

from geoasanet.raster.polygons.coverage import Coverage, Outline
from tests.vectorize.conftest import landscape, polygons_of

Maker = Callable[..., Coverage]

GRIDS = {
    "utm": ("EPSG:32633", from_origin(250_000, 6_000_000, 10, 10)),
    "geographic": ("EPSG:4326", from_origin(24, 66, 0.0002, 0.0001)),
    "world_mercator": ("EPSG:3395", from_origin(-13_190_782, 4_017_420, 10, 10)),
    "web_mercator": ("EPSG:3857", from_origin(1_000_000, 9_000_000, 30, 30)),
    "polar": ("EPSG:3413", from_origin(-500_000, -1_000_000, 40, 40)),
    "equal_area": ("EPSG:3035", from_origin(4_000_000, 3_000_000, 10, 10)),
    "feet": ("EPSG:2229", from_origin(6_480_000, 1_840_000, 30, 30)),
    "grads": ("EPSG:4807", from_origin(1, 54, 0.0002, 0.0002)),
    "rotated": ("EPSG:32633", Affine.translation(5e5, 5e6) @ Affine.rotation(33) @ Affine.scale(10, -15)),
    "across_180": ("EPSG:32660", from_origin(800_000, 7_000_000, 100, 100)),
    "coarse_globe": ("EPSG:4326", from_origin(-60, 75, 1, 1)),
}
LIMIT = 2e-7
"""Relative error of areas and lengths that we promise, against geodesics through many points of every edge."""
GEODESIC_M2 = 1e-4
"""What pyproj's own areas of small polygons are good for."""


def geodesic(crs: str, polygon: shapely.Polygon, step: float) -> tuple[float, float]:
    """Return area and perimeter on the ellipsoid, edges as straight in the CRS as on the map."""
    horizontal = pyproj.CRS(crs)
    to_degrees = pyproj.Transformer.from_crs(horizontal, horizontal.geodetic_crs, always_xy=True)
    unit = horizontal.geodetic_crs.axis_info[0].unit_conversion_factor * 180 / np.pi
    dense = shapely.segmentize(polygon, step)
    area = length = 0.0
    for k, ring in enumerate([dense.exterior, *dense.interiors]):
        x, y = to_degrees.transform(*np.array(ring.coords).T)
        size, around = horizontal.get_geod().polygon_area_perimeter(x * unit, y * unit)
        area += abs(size) if k == 0 else -abs(size)
        length += around
    return area, length


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("outline", [Outline(), Outline(simplify_m=60, smooth=1)], ids=["exact", "simplified"])
def test_areas_and_lengths_are_the_ellipsoids(cover_array: Maker, name: str, outline: Outline) -> None:
    crs, transform = GRIDS[name]
    classes = landscape(50, 70, 3) if name != "coarse_globe" else landscape(60, 90, 3)
    coverage = cover_array(classes, outline, crs=crs, transform=transform)
    assert not coverage.planar
    step = max(abs(transform.a), abs(transform.e)) * (0.02 if name == "coarse_globe" else 1)
    picked = np.argsort(coverage.area_m2[1:])[[0, len(coverage.area_m2) // 2, -2, -1]]
    polygons = polygons_of(coverage)
    for k in picked:
        area, length = geodesic(crs, polygons[k], step)
        limit = LIMIT if name != "coarse_globe" else 5e-6
        assert coverage.area_m2[k + 1] == pytest.approx(area, rel=limit, abs=GEODESIC_M2)
        assert coverage.perimeter_m[k + 1] == pytest.approx(length, rel=limit)


def test_areas_add_up_to_the_maps(cover_array: Maker) -> None:
    classes = landscape(50, 70, 3)
    for outline in (Outline(), Outline(simplify_m=40), Outline(min_area_m2=1000, smooth=2)):
        coverage = cover_array(np.where(classes == 255, 0, classes).astype(np.uint8), outline)
        rectangle = cover_array(np.zeros_like(classes))
        assert coverage.area_m2.sum() == pytest.approx(rectangle.area_m2.sum(), rel=1e-12)


def test_world_mercator_pixels_are_smaller_on_the_ground(cover_array: Maker) -> None:
    crs, transform = GRIDS["world_mercator"]
    coverage = cover_array(np.zeros((4, 4), np.uint8), crs=crs, transform=transform)
    middle = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(*(transform @ (2, 2)))
    factors = pyproj.Proj(crs).get_factors(*middle)
    assert factors.areal_scale > 1.4
    assert coverage.area_m2[1] == pytest.approx(1600 / factors.areal_scale, rel=1e-6)
    assert coverage.perimeter_m[1] == pytest.approx(160 / factors.meridional_scale, rel=1e-6)


def test_local_crs_is_measured_in_its_plane(cover_array: Maker) -> None:
    crs = 'LOCAL_CS["site",UNIT["metre",1]]'
    coverage = cover_array(np.zeros((3, 5), np.uint8), crs=crs, transform=Affine(2, 0, 0, 0, -2, 0))
    assert coverage.planar
    assert coverage.area_m2[1] == pytest.approx(60)
    assert coverage.perimeter_m[1] == pytest.approx(32)
