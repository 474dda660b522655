"""Area filter, simplification and smoothing: the coverage stays one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoasanet.raster.polygons.coverage import Coverage, Outline
from tests.vectorize.conftest import METRES, assert_covers, landscape, polygons_of, random_maps

Maker = Callable[..., Coverage]
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def burnt(coverage: Coverage, shape: tuple[int, int]) -> np.ndarray:
    result = np.full(shape, 255, np.uint8)
    shapes = list(zip(polygons_of(coverage), coverage.classes[1:].tolist(), strict=True))
    return rasterio.features.rasterize(shapes, out=result, transform=METRES) if shapes else result


def merged_slowly(classes: np.ndarray, pixels: int) -> np.ndarray:
    """The area filter by its definition: relabel after every merge. Square pixels."""
    classes = classes.astype(int)
    while True:
        labels = np.zeros(classes.shape, int)
        for region, (i, j) in enumerate(np.ndindex(*classes.shape), 1):
            if classes[i, j] == 255 or labels[i, j]:
                continue
            stack = [(i, j)]
            while stack:
                a, b = stack.pop()
                if labels[a, b]:
                    continue
                labels[a, b] = region
                for c, d in ((a + 1, b), (a - 1, b), (a, b + 1), (a, b - 1)):
                    if 0 <= c < classes.shape[0] and 0 <= d < classes.shape[1] and classes[c, d] == classes[a, b]:
                        stack.append((c, d))
        sizes = {int(r): int((labels == r).sum()) for r in np.unique(labels) if r}
        for region in sorted(sizes, key=lambda r: (sizes[r], r)):
            if sizes[region] >= pixels:
                return classes.astype(np.uint8)
            borders: dict[int, int] = {}
            for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
                for x, y in ((one, other), (other, one)):
                    for neighbor in y[(x == region) & (y != region) & (y != 0)]:
                        borders[int(neighbor)] = borders.get(int(neighbor), 0) + 1
            if borders:
                best = max(borders, key=lambda r: (borders[r], -r))
                classes[labels == region] = classes[labels == best][0]
                break
        else:
            return classes.astype(np.uint8)


@few
@given(classes=random_maps(8), pixels=st.integers(2, 9))
def test_area_filter_is_its_definition(cover_array: Maker, classes: np.ndarray, pixels: int) -> None:
    coverage = cover_array(classes, Outline(min_area_m2=(pixels - 0.5) * 100))
    assert_covers(coverage)
    np.testing.assert_array_equal(burnt(coverage, classes.shape), merged_slowly(classes, pixels))


def test_area_filter_leaves_no_small_region_that_has_a_neighbour(cover_array: Maker) -> None:
    classes = landscape(120, 150, 2, salt=0.05)
    coverage = cover_array(classes, Outline(min_area_m2=2000))
    assert_covers(coverage)
    assert (coverage.area_m2[1:] > 1999).all()
    filtered = burnt(coverage, classes.shape)
    np.testing.assert_array_equal(filtered == 255, classes == 255)
    assert (filtered != classes).mean() < 0.12


def test_area_filter_joins_neighbours_that_come_to_touch(cover_array: Maker) -> None:
    classes = np.array([[0, 0, 0, 1, 0, 0, 0]], np.uint8)
    (polygon,) = polygons_of(cover_array(classes, Outline(min_area_m2=150)))
    assert polygon.bounds == (500_000, 2_999_990, 500_070, 3_000_000)


def test_area_limit_is_met_by_a_region_of_just_that_area(cover_array: Maker) -> None:
    classes = np.zeros((8, 8), np.uint8)
    classes[2:4, 2:5] = 1
    for crs in ("EPSG:3035", "EPSG:5070"):  # equal-area
        coverage = cover_array(classes, Outline(min_area_m2=600), crs=crs)
        assert coverage.classes[1:].tolist() == [0, 1]
        assert cover_array(classes, Outline(min_area_m2=601), crs=crs).classes[1:].tolist() == [0]


@pytest.mark.parametrize("pixels", [0.5, 1, 2, 5, 12, 50])
@pytest.mark.parametrize("smooth", [0, 2])
def test_simplified_landscape_is_a_coverage(cover_array: Maker, pixels: float, smooth: int) -> None:
    classes = landscape(140, 181, 1, salt=0.02)
    exact = polygons_of(cover_array(classes))
    coverage = cover_array(classes, Outline(simplify_m=10 * pixels, smooth=smooth))
    polygons = assert_covers(coverage)
    assert len(polygons) == len(exact)
    assert shapely.union_all(polygons).area == pytest.approx(shapely.area(polygons).sum(), rel=1e-9)
    if smooth == 0 and pixels >= 1:
        assert shapely.get_num_coordinates(polygons).sum() < 0.75 * shapely.get_num_coordinates(exact).sum()


@few
@given(classes=random_maps(16), tolerance=st.sampled_from([5, 11, 25, 70, 500]), smooth=st.integers(0, 3))
def test_simplified_noise_is_a_coverage(cover_array: Maker, classes: np.ndarray, tolerance: float, smooth: int) -> None:
    coverage = cover_array(classes, Outline(simplify_m=tolerance, smooth=smooth))
    polygons = assert_covers(coverage)
    assert len(polygons) == len(coverage.classes) - 1
    if len(polygons):
        assert shapely.union_all(polygons).area == pytest.approx(shapely.area(polygons).sum(), rel=1e-9)


def test_borders_across_tiles_are_a_coverage(cover_array: Maker) -> None:
    """Arcs are simplified in tiles of 1024 pixels, then in shifted ones, then those across both."""
    classes = landscape(70, 1700, 2, salt=0.02)
    classes[30:40, 100:1600] = 1  # some borders are longer than a tile
    classes[34:36, 90:1650] = 2
    coverage = cover_array(classes, Outline(simplify_m=40), workers=2)
    assert coverage.arcs.size.sum() < 0.7 * cover_array(classes).arcs.size.sum()
    assert_covers(coverage)


def test_frame_of_the_map_stays_exact(cover_array: Maker) -> None:
    classes = landscape(60, 80, 4)
    classes[classes == 255] = 0
    polygons = assert_covers(cover_array(classes, Outline(300, 80, 3)))
    assert shapely.union_all(polygons).equals(shapely.box(500_000, 2_999_400, 500_800, 3_000_000))


def test_neighbours_stay_neighbours(cover_array: Maker) -> None:
    classes = landscape(60, 80, 6)

    def touching(polygons: np.ndarray) -> set[tuple[int, int]]:
        left, right = shapely.STRtree(polygons).query(polygons, predicate="intersects")
        shared = shapely.length(shapely.intersection(polygons[left], polygons[right])) > 1e-6
        return {(int(a), int(b)) for a, b in zip(left[shared], right[shared], strict=True) if a < b}

    exact, drawn = (polygons_of(cover_array(classes, o)) for o in (Outline(), Outline(simplify_m=60)))
    assert touching(exact) == touching(drawn)


def test_staircase_becomes_straight(cover_array: Maker) -> None:
    classes = np.tri(40, 40, dtype=np.uint8)
    coverage = cover_array(classes, Outline(simplify_m=15))
    assert len(polygons_of(coverage)) == 2
    assert (
        shapely.get_num_coordinates(polygons_of(coverage)).tolist() == [4, 6]
        or shapely.get_num_coordinates(polygons_of(coverage)).sum() < 14
    )


def test_twin_borders_do_not_become_one(cover_array: Maker) -> None:
    """A lens between two regions, its ends on the nodes, keeps an area at any tolerance."""
    classes = np.zeros((9, 30), np.uint8)
    classes[5:] = 1
    classes[3:6, 5:25] = 2
    areas = shapely.area(assert_covers(cover_array(classes, Outline(simplify_m=1e4))))
    assert (areas > 0).all() and len(areas) == 3


def test_smoothing_cuts_corners_and_keeps_nodes(cover_array: Maker) -> None:
    classes = np.zeros((6, 6), np.uint8)
    classes[2:4, 2:4] = 1
    outer, inner = assert_covers(cover_array(classes, Outline(smooth=1)))
    assert len(shapely.get_coordinates(inner)) == 9
    assert inner.area == pytest.approx(400 - 4 * 0.5 * 25)
    assert outer.interiors[0].equals(inner.exterior)
