"""A sample of points: plain counts, the design that is assumed, areas on the ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyproj import Geod
from rasterio.transform import from_origin

from geoasanet.errors import LabelError
from geoasanet.metrics import confusion
from geoasanet.raster.polygons.source import MapReader
from geoasanet.raster.tally import tally
from geoasanet.tools.evaluate import evaluate
from geoasanet.tools.sample import BY_CLASS, BY_STRATA
from tests.evaluate.conftest import NAMES, MakeVector, centres, landscape
from tests.vectorize.conftest import write_map

MakeMap = Callable[..., Path]


def drawn(mapped: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and truth of random places, the truth wrong at a fifth of them."""
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(0, mapped.shape[0], count), rng.integers(0, mapped.shape[1], count)
    truth = mapped[rows, cols].astype(int)
    odd = (rng.random(count) < 0.2) | (truth == 255)
    truth[odd] = rng.integers(0, 3, odd.sum())
    return rows, cols, truth


def test_points_are_looked_up_where_they_lie(make_map: MakeMap, make_vector: MakeVector) -> None:
    mapped = landscape(60, 50)
    rows, cols, truth = drawn(mapped, 150)
    names = [NAMES[k].upper() for k in truth]
    path = make_vector(centres([*rows, -5], [*cols, 3]), class_name=[*names, "water"])
    found = evaluate(map=make_map(mapped), labels=path)
    at = mapped[rows, cols]
    np.testing.assert_array_equal(found.metrics.matrix, confusion(truth, at, 3, unmapped=255))
    assert found.kind == "points" and found.sample is not None
    assert (found.counts.outside, found.counts.unmapped) == (1, (at == 255).sum())
    assert found.counts.compared == found.sample.points == (at != 255).sum()
    for k, name in enumerate(NAMES):
        area = 100 * (mapped == k).sum() * (1 / 0.9996) ** 2  # UTM's scale on its central meridian
        assert found.class_area_m2[name] == pytest.approx(area, rel=1e-5)
        if (at == k).sum() > 1:
            assert found.sample.estimates.users[k].value == pytest.approx((truth[at == k] == k).mean())
    areas = [found.sample.area_m2(k)[0] for k in range(3)]
    assert math.fsum(areas) == pytest.approx(sum(found.class_area_m2.values()))
    assert found.sample.design == BY_CLASS


def test_areas_are_true_in_degrees(make_map: MakeMap) -> None:
    mapped = np.repeat(np.array([[0], [1]], np.uint8), 30, axis=0).repeat(20, axis=1)
    path = make_map(mapped, crs="EPSG:4326", transform=from_origin(10, 60, 1 / 60, 1 / 60))
    area = evaluate(map=path, labels=path).class_area_m2
    # Ellipsoidal quadrangle, 20' wide, from 59.5 to 60 and from 59 to 59.5 degrees north (WGS 84).
    for top, name in ((60.0, "water"), (59.5, "forest")):
        steps = np.linspace(0, 1 / 3, 3001)
        lon = [*(10 + steps), *([10 + 1 / 3] * 2), *(10 + steps[::-1])]
        lat = [*([top - 0.5] * 3001), top - 0.5, top, *([top] * 3001)]
        exact, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
        assert area[name] == pytest.approx(abs(exact), rel=1e-5)


def test_strips_change_nothing(make_map: MakeMap) -> None:
    path = str(make_map(landscape(61, 50)))
    found = []
    for rows in (None, 7):
        reader = MapReader(path, 1)
        found.append(tally(reader, None, strip_rows=rows, max_side=20))
        reader.close()
    np.testing.assert_allclose(found[0].area_m2, found[1].area_m2)
    np.testing.assert_array_equal(found[0].thumbnail.mapped, found[1].thumbnail.mapped)


class TestDesign:
    """Which strata the points were drawn from, and that it is said."""

    @pytest.fixture
    def mapped(self) -> np.ndarray:
        """A map of halves: water above, forest below."""
        return np.repeat(np.array([0, 1], np.uint8), 20)[:, None].repeat(30, axis=1)

    def test_strata_that_are_the_classes_need_no_warning(
        self, mapped: np.ndarray, make_map: MakeMap, make_vector: MakeVector
    ) -> None:
        rows = [1, 2, 3, 21, 22, 23]
        path = make_vector(centres(rows, rows), class_id=[0, 0, 1, 1, 1, 0], Stratum=["Water"] * 3 + ["1"] * 3)
        found = evaluate(map=make_map(mapped), labels=path)
        assert found.warnings == () and found.sample is not None
        assert found.sample.estimates.overall.value == pytest.approx(2 / 3)

    def test_other_strata_without_sizes_are_warned_about(
        self, mapped: np.ndarray, make_map: MakeMap, make_vector: MakeVector
    ) -> None:
        rows = [1, 2, 21, 22]
        path = make_vector(centres(rows, rows), class_id=[0, 0, 1, 0], stratum=["a", "b", "a", "b"])
        found = evaluate(map=make_map(mapped), labels=path)
        assert "strata of their own (a, b), whose sizes are not given" in found.warnings[0]
        assert "All points on water (2) are of one class" in found.warnings[1]

    def test_other_strata_with_sizes(
        self, mapped: np.ndarray, make_map: MakeMap, make_vector: MakeVector, tmp_path: Path
    ) -> None:
        rows = [1, 2, 21, 22, 3]
        path = make_vector(centres(rows, rows), class_id=[0, 1, 1, 1, 0], stratum=["a", "a", "b", "b", "b"])
        sizes = tmp_path / "sizes.csv"
        sizes.write_text("stratum,size\na,30\nb,10\n")
        found = evaluate(map=make_map(mapped), labels=path, strata=sizes)
        assert found.sample is not None and found.sample.design == BY_STRATA
        assert found.sample.estimates.overall.value == pytest.approx(0.75 * 0.5 + 0.25)
        assert [(s.name, s.share, s.points) for s in found.sample.strata] == [("a", 0.75, 2), ("b", 0.25, 3)]

    def test_too_few_points_are_said(self, mapped: np.ndarray, make_map: MakeMap, make_vector: MakeVector) -> None:
        source = make_map(mapped)
        found = evaluate(map=source, labels=make_vector(centres([1, 2], [1, 2]), class_id=[0, 1]))
        assert found.sample is not None and math.isnan(found.sample.estimates.users[1].value)
        assert "No point was drawn from forest (50 %)" in " ".join(found.warnings)
        assert found.sample.total_m2 == pytest.approx(found.class_area_m2["water"])
        found = evaluate(map=source, labels=make_vector(centres([1, 2, 21], [1, 2, 3]), "l.gpkg", class_id=[0, 1, 1]))
        assert found.sample is not None and math.isnan(found.sample.estimates.overall.margin)
        assert "Only one point was drawn from forest" in " ".join(found.warnings)


def test_points_over_los_angeles(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "los_angeles"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/los_angeles, which is not here")
    found = evaluate(map=folder / "la_labels.tif", labels=folder / "la_points.gpkg")
    # The table in that folder's README.
    assert found.metrics.matrix.tolist() == [
        [41, 0, 0, 0, 0],
        [0, 60, 7, 0, 0],
        [0, 5, 58, 0, 4],
        [0, 5, 0, 22, 0],
        [0, 1, 1, 1, 13],
    ]
    assert (found.counts.compared, found.counts.unmapped) == (218, 24)
    assert found.classes.names[2] == "industrial_commercial_transport"
    assert found.sample is not None
    assert found.sample.estimates.overall.value == pytest.approx(0.864, abs=1e-3)
    against = evaluate(map=folder / "la_labels.tif", labels=folder / "la_labels.gpkg")
    assert against.metrics.accuracy > 0.998
    (tmp_path / "sizes.csv").write_text("stratum,size\nwater,1\n")
    with pytest.raises(LabelError, match="no size is given for 'bare'"):
        evaluate(map=folder / "la_labels.tif", labels=folder / "la_points.gpkg", strata=tmp_path / "sizes.csv")


def test_many_classes_beyond_a_byte_of_names(tmp_path: Path, make_vector: MakeVector) -> None:
    mapped = np.arange(255, dtype=np.uint8).reshape(15, 17)
    source = write_map(tmp_path / "many.tif", mapped, schema=None)
    path = make_vector(centres([0, 14], [0, 16]), class_id=[0, 254])
    found = evaluate(map=source, labels=path)
    assert len(found.classes) == 255 and found.metrics.accuracy == 1
