"""A pixel belongs to a polygon if its centre does."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoasanet.raster.burn import PolygonBurner


def burnt(polygons: list[shapely.Geometry], height: int, width: int, strip: int | None = None) -> np.ndarray:
    """Return the number of the polygon in each pixel, 255 without."""
    burner = PolygonBurner(np.array(polygons, object), np.arange(len(polygons), dtype=np.uint8))
    pixels = np.full((height, width), 255, np.uint8)
    for row in range(0, height, strip or height):
        burner.burn(row, pixels[row : row + (strip or height)])
    return pixels


def blob(seed: int, height: int, width: int) -> shapely.Geometry:
    """Return a ragged polygon with a hole, partly outside."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 23))
    reach = rng.uniform(4, 14, 23)
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    shell = shapely.Polygon(np.column_stack([x + reach * np.cos(angles), y + reach * np.sin(angles)]))
    return shapely.make_valid(shell).difference(shapely.Point(x + 1.3, y).buffer(2.1))


@given(st.integers(0, 10**6), st.integers(1, 31))
@settings(max_examples=40, deadline=None)
def test_centres_decide_and_strips_do_not(seed: int, strip: int) -> None:
    polygons = [blob(seed + k, 31, 43) for k in range(3)]
    rows, cols = np.mgrid[:31, :43] + 0.5
    wanted = np.full((31, 43), 255, np.uint8)
    for k, polygon in enumerate(polygons):
        wanted[shapely.contains_xy(polygon, cols, rows)] = k
    np.testing.assert_array_equal(burnt(polygons, 31, 43), wanted)
    np.testing.assert_array_equal(burnt(polygons, 31, 43, strip), wanted)


def test_triangles_that_share_borders_leave_no_gap_and_no_overlap() -> None:
    points = shapely.MultiPoint(np.random.default_rng(1).uniform(-20, 70, (400, 2)).round(1))  # many on centre lines
    total = np.zeros((50, 50), int)
    for triangle in shapely.get_parts(shapely.delaunay_triangles(points)):
        total += burnt([triangle], 50, 50) == 0
    assert (total == 1).all()


def test_parts_and_odd_collections() -> None:
    two = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 1, 4, 2)])
    odd = shapely.GeometryCollection([shapely.LineString([(0, 0), (9, 9)]), shapely.box(1, 0, 2, 1)])
    assert burnt([two, odd], 2, 4).tolist() == [[0, 1, 255, 255], [255, 255, 255, 0]]
