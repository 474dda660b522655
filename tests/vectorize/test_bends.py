"""Removal of bends: the result is that of the definition, without heap, bitmap or tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoasanet.progress import silent
from geoasanet.raster.polygons.arcs import Arcs, sides_at_nodes
from geoasanet.raster.polygons.coverage import _trace
from geoasanet.raster.polygons.regions import join_strips
from geoasanet.raster.polygons.runs import runs_of
from geoasanet.raster.polygons.simplify import ROUNDS, _least_sizes, simplify_arcs
from geoasanet.raster.polygons.stitch import stitch
from tests.vectorize.conftest import landscape, random_maps

Point = tuple[int, int]


def arcs_of(classes: np.ndarray) -> Arcs:
    strips = (runs_of(classes, 0),)
    return stitch(_trace(strips, join_strips(strips), 1, silent), classes.shape[1])


def points_of(arcs: Arcs) -> list[list[Point]]:
    """Return the vertices of each arc, of closed ones the first but once."""
    spans = zip(arcs.first.tolist(), arcs.size.tolist(), arcs.closed.tolist(), strict=True)
    return [
        [(int(x), int(y)) for x, y in zip(arcs.cols[f : f + n - c], arcs.rows[f : f + n - c], strict=True)]
        for f, n, c in spans
    ]


def turn(a: Point, b: Point, c: Point) -> int:
    """Return twice the signed area of a triangle."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def holds(a: Point, b: Point, c: Point, p: Point) -> bool:
    """Return True if ``p`` lies in a closed triangle, also in one without area."""
    signs = [turn(a, b, p), turn(b, c, p), turn(c, a, p)]
    within = all(min(a[k], b[k], c[k]) <= p[k] <= max(a[k], b[k], c[k]) for k in (0, 1))
    return within and (min(signs) >= 0 or max(signs) <= 0)


def simplified_slowly(arcs: Arcs, limit: float) -> list[list[Point]]:
    """The smallest bend goes first, of equals the one that comes first, if its triangle holds no other vertex."""
    lines = points_of(arcs)
    least = _least_sizes(arcs.closed, arcs.start, arcs.end, sides_at_nodes(arcs))
    pending = set(range(len(lines)))
    for _ in range(ROUNDS):
        todo, pending = sorted(pending), set()
        for k in todo:
            line, closed, blocked = lines[k], bool(arcs.closed[k]), set()
            while len(line) > least[k]:
                places = range(0 if closed else 1, len(line) if closed else len(line) - 1)
                triangles = {i: (line[i - 1], line[i], line[(i + 1) % len(line)]) for i in places}
                bends = [(abs(turn(*t)), i) for i, t in triangles.items() if line[i] not in blocked]
                bends = [bend for bend in bends if bend[0] <= 2 * limit]
                if not bends:
                    break
                i = min(bends)[1]
                triangle = triangles[i]
                if any(p not in triangle and holds(*triangle, p) for other in lines for p in other):
                    pending.add(k)
                    blocked.add(line[i])
                else:
                    del line[i]
                    blocked -= {triangle[0], triangle[2]}  # their triangles are others now
    return lines


@settings(max_examples=60, deadline=None)
@given(classes=random_maps(9), limit=st.sampled_from([0.5, 1, 2.5, 4, 30, 1e4]))
def test_result_is_that_of_the_definition(classes: np.ndarray, limit: float) -> None:
    arcs = arcs_of(classes)
    simplified = simplify_arcs(arcs, np.full(len(arcs), limit), classes.shape, 1)
    assert points_of(simplified) == simplified_slowly(arcs, limit)


@pytest.mark.parametrize(("salt", "limit"), [(0.02, 6), (0.1, 6), (0.2, 20), (0.05, 60)])
def test_landscape_is_simplified_by_the_definition(salt: float, limit: float) -> None:
    arcs = arcs_of(landscape(40, 50, 3, salt))
    simplified = simplify_arcs(arcs, np.full(len(arcs), limit), (40, 50), 1)
    assert points_of(simplified) == simplified_slowly(arcs, limit)


def test_tolerance_beyond_measure_is_no_error() -> None:
    arcs = arcs_of(landscape(40, 50, 3))
    most = simplify_arcs(arcs, np.full(len(arcs), np.inf), (40, 50), 1)
    large = simplify_arcs(arcs, np.full(len(arcs), 2.0 * 40 * 50), (40, 50), 1)
    assert points_of(most) == points_of(large)
