"""Laws of the polygons: they are the map, and nothing about how they were made shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from shapely.geometry import shape

from geoasanet.raster.polygons.coverage import Coverage, Outline
from tests.vectorize.conftest import METRES, assert_covers, landscape, polygons_of, random_maps, wkb_list

Maker = Callable[..., Coverage]
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def bare(polygon: shapely.Polygon) -> bytes:
    """Return a polygon's normal form without vertices on straight edges."""

    def ring(coordinates: np.ndarray) -> np.ndarray:
        points = coordinates[:-1]
        before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
        straight = (before[:, 0] == points[:, 0]) & (points[:, 0] == after[:, 0])
        straight |= (before[:, 1] == points[:, 1]) & (points[:, 1] == after[:, 1])
        return points[~straight]

    holes = [ring(shapely.get_coordinates(hole)) for hole in polygon.interiors]
    return shapely.to_wkb(shapely.normalize(shapely.Polygon(ring(shapely.get_coordinates(polygon.exterior)), holes)))


def gdal_polygons(classes: np.ndarray, transform: Affine = METRES) -> list[bytes]:
    shapes = rasterio.features.shapes(classes, mask=classes != 255, connectivity=4, transform=transform)
    return sorted(bare(shape(geometry)) for geometry, _ in shapes)


@few
@given(classes=random_maps())
def test_polygons_are_gdals(cover_array: Maker, classes: np.ndarray) -> None:
    polygons = assert_covers(cover_array(classes))
    assert sorted(map(bare, polygons)) == gdal_polygons(classes)


@pytest.mark.parametrize("seed", [0, 1])
def test_polygons_of_a_landscape_are_gdals(cover_array: Maker, seed: int) -> None:
    classes = landscape(131, 173, seed)
    assert sorted(map(bare, assert_covers(cover_array(classes)))) == gdal_polygons(classes)


@few
@given(classes=random_maps())
def test_burning_the_polygons_gives_the_map(cover_array: Maker, classes: np.ndarray) -> None:
    coverage = cover_array(classes)
    shapes = list(zip(polygons_of(coverage), coverage.classes[1:].tolist(), strict=True))
    burnt = np.full(classes.shape, 255, np.uint8)
    if shapes:
        rasterio.features.rasterize(shapes, out=burnt, transform=METRES)
    np.testing.assert_array_equal(burnt, classes)


@few
@given(
    classes=random_maps(),
    min_area=st.sampled_from([0, 250, 1000]),
    simplify=st.sampled_from([0, 12, 60]),
    smooth=st.sampled_from([0, 2]),
)
def test_result_does_not_depend_on_strips_or_workers(
    cover_array: Maker, classes: np.ndarray, min_area: float, simplify: float, smooth: int
) -> None:
    outline = Outline(min_area, simplify, smooth)
    whole = cover_array(classes, outline, strip_rows=len(classes))
    for strip_rows, workers in ((1, 1), (2, 2), (3, 1), (7, 2)):
        parts = cover_array(classes, outline, strip_rows=strip_rows, workers=workers)
        assert wkb_list(parts, workers) == wkb_list(whole)
        for name in ("classes", "area_m2", "perimeter_m"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_landscape_does_not_depend_on_strips_or_workers(cover_array: Maker) -> None:
    classes = landscape(301, 1100, 5)
    outline = Outline(600, 15, 1)
    whole = cover_array(classes, outline, strip_rows=301)
    parts = cover_array(classes, outline, strip_rows=37, workers=2)
    assert wkb_list(parts) == wkb_list(whole)


def test_features_are_in_order_of_first_pixel(cover_array: Maker) -> None:
    classes = np.array([[1, 0, 1], [1, 0, 0], [2, 2, 0]], np.uint8)
    coverage = cover_array(classes, transform=Affine(1, 0, 0, 0, -1, 3))
    assert coverage.classes[1:].tolist() == [1, 0, 1, 2]
    assert shapely.area(polygons_of(coverage)).tolist() == [2, 4, 1, 2]


def test_region_pinched_at_a_point_has_a_hole_there(cover_array: Maker) -> None:
    classes = np.zeros((4, 4), np.uint8)
    classes[1, 1] = classes[2, 2] = 1
    polygons = assert_covers(cover_array(classes))
    assert [len(p.interiors) for p in polygons] == [2, 0, 0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_one_class_is_one_rectangle(cover_array: Maker, shape: tuple[int, int]) -> None:
    for outline in (Outline(), Outline(1e9, 500, 3)):
        (polygon,) = assert_covers(cover_array(np.zeros(shape, np.uint8), outline))
        assert polygon.equals(shapely.box(500_000, 3_000_000 - 10 * shape[0], 500_000 + 10 * shape[1], 3_000_000))


def test_nothing_valid_gives_no_polygon(cover_array: Maker) -> None:
    coverage = cover_array(np.full((3, 5), 255, np.uint8), Outline(100, 10, 1))
    assert wkb_list(coverage) == []
    assert coverage.bounds(coverage.chosen(range(255))) is None


@pytest.mark.parametrize("transform", [Affine(3, 1, 50, 1, -3, 90), Affine(2, 0, 0, 0, 2, 0), Affine(0, 2, 7, 2, 0, 9)])
def test_shells_are_counterclockwise_on_any_grid(cover_array: Maker, transform: Affine) -> None:
    classes = landscape(30, 40, 3)
    polygons = assert_covers(cover_array(classes, transform=transform))
    assert shapely.is_ccw(shapely.get_exterior_ring(polygons)).all()
    assert sorted(map(shapely.to_wkb, shapely.normalize(polygons))) == sorted(
        map(shapely.to_wkb, shapely.normalize(polygons_with_nodes(classes, transform, polygons)))
    )


def polygons_with_nodes(classes: np.ndarray, transform: Affine, polygons: np.ndarray) -> list[shapely.Polygon]:
    """Return ``polygons``, each found to equal one of GDAL's on the pixel grid, moved by the transform."""
    matrix = [transform.a, transform.b, transform.d, transform.e, transform.c, transform.f]
    from shapely.affinity import affine_transform

    shapes = rasterio.features.shapes(classes, mask=classes != 255, connectivity=4)
    expected = [affine_transform(shape(geometry), matrix) for geometry, _ in shapes]
    result = []
    for polygon in polygons:
        (same,) = [e for e in expected if shapely.equals(e, polygon)]
        assert same.area == pytest.approx(polygon.area)
        result.append(polygon)
    return result
