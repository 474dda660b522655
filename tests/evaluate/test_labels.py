"""Labels on a map's grid: rasters on any grid, polygons in any CRS, classes by name or id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import Affine, from_origin

from geoasanet.classes import ClassSchema
from geoasanet.errors import LabelError
from geoasanet.metrics import confusion
from geoasanet.raster.crosswalk import MapClasses, plain
from geoasanet.raster.grid import Grid, apply
from geoasanet.raster.reference import RasterLabels
from geoasanet.tools.evaluate import evaluate
from geoasanet.tools.vectorize import vectorize
from tests.evaluate.conftest import MakeVector, landscape, pixel_boxes
from tests.vectorize.conftest import METRES, SCHEMA, write_map

MakeMap = Callable[..., Path]
CLASSES = MapClasses("map.tif", SCHEMA, named=True)
GRID = Grid(rasterio.crs.CRS.from_epsg(32650), METRES, 70, 90)


def nearest(truth: np.ndarray, grid: Grid) -> np.ndarray:
    """Return labels under the centres of ``GRID``, each centre transformed on its own."""
    rows, cols = np.mgrid[: GRID.height, : GRID.width] + 0.5
    to = pyproj.Transformer.from_crs(32650, grid.crs.to_wkt(), always_xy=True)
    x, y = to.transform(*apply(GRID.transform, cols.ravel(), rows.ravel()))
    at_cols, at_rows = apply(~grid.transform, x, y)
    i, j = np.floor(at_rows).astype(int), np.floor(at_cols).astype(int)
    inside = (i >= 0) & (i < grid.height) & (j >= 0) & (j < grid.width)
    result = np.full(i.shape, 255, np.uint8)
    result[inside] = truth[i[inside], j[inside]]
    return result.reshape(GRID.height, GRID.width)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32650", METRES @ Affine.translation(-7, 12)),
        ("EPSG:32650", METRES @ Affine.translation(3.3, 4.4) @ Affine.scale(0.7, 1.3)),
        ("EPSG:32650", METRES @ Affine.rotation(20) @ Affine.scale(1.1)),
        ("EPSG:4326", from_origin(116.9995, 27.1225, 0.00009, 0.00008)),
        ("EPSG:3857", from_origin(13_024_300, 3_138_400, 9, 11)),
    ],
)
def test_each_pixel_takes_the_label_under_its_centre(tmp_path: Path, crs: str, transform: Affine) -> None:
    truth = landscape(80, 100, seed=4)
    grid = Grid(rasterio.crs.CRS.from_string(crs), transform, 80, 100)
    path = write_map(tmp_path / "labels.tif", truth, crs=crs, transform=transform)
    labels = RasterLabels(str(path), GRID, CLASSES)
    whole = labels.read(0, GRID.height)
    parts = [labels.read(row, min(row + 13, GRID.height)) for row in range(0, GRID.height, 13)]
    labels.close()
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    wanted = nearest(truth, grid)
    assert (wanted != 255).mean() > 0.3
    assert (whole != wanted).mean() < 0.002  # centres within 0.01 pixel of a border between labels


def test_finer_labels_fall_to_one_side(tmp_path: Path) -> None:
    fine = landscape(140, 180, seed=2)
    path = write_map(tmp_path / "labels.tif", fine, transform=METRES @ Affine.scale(0.5))
    labels = RasterLabels(str(path), GRID, CLASSES)
    np.testing.assert_array_equal(labels.read(0, 70), fine[1::2, 1::2])
    labels.close()


def test_a_matrix_of_pixels_equals_the_one_of_arrays(make_map: MakeMap) -> None:
    mapped, truth = landscape(60, 50, 1), landscape(60, 50, 2)
    found = evaluate(map=make_map(mapped), labels=make_map(truth, "labels.tif"))
    np.testing.assert_array_equal(found.metrics.matrix, confusion(truth, mapped, 3, unmapped=255))
    both = (mapped != 255) & (truth != 255)
    assert found.counts.compared == both.sum()
    assert found.counts.unlabelled == ((mapped != 255) & (truth == 255)).sum()
    assert found.counts.unmapped == ((mapped == 255) & (truth != 255)).sum()
    assert (found.kind, found.sample, found.classes.names) == ("raster", None, SCHEMA.names)


def test_metrics_equal_the_official_code_on_rasters(shared: Path, make_map: MakeMap) -> None:
    folder = shared / "golden" / "training"
    wanted = json.loads((folder / "metric.json").read_text())["pie"]
    with np.load(folder / "metric.npz") as stored:
        truth, mapped = stored["pie/label"], stored["pie/pred"]
    width = truth.shape[-1]
    schema = ClassSchema.from_names(wanted["classes"])
    pixels = [a.reshape(-1, width).astype(np.uint8) for a in (truth, mapped)]
    names = [make_map(a, n, schema=schema) for a, n in zip(pixels, ("t.tif", "m.tif"), strict=True)]
    found = evaluate(map=names[1], labels=names[0]).metrics
    exact = wanted["unrounded"]
    np.testing.assert_allclose(found.iou, np.array(exact["IoU"], float), atol=1e-6)
    assert found.accuracy == pytest.approx(exact["aAcc"], abs=1e-6)
    assert found.kappa == pytest.approx(exact["Kappa"], abs=1e-6)


class TestClasses:
    """By name where both sides have names, else by id."""

    def test_other_ids_with_the_same_names(self, make_map: MakeMap) -> None:
        mapped = landscape(40, 50)
        turned = ClassSchema.from_names(["Field & <meadow>", "WATER", "forest"])
        other = np.array([1, 2, 0], np.uint8)[np.minimum(mapped, 2)]
        other[mapped == 255] = 255
        found = evaluate(map=make_map(mapped), labels=make_map(other, "labels.tif", schema=turned))
        assert found.metrics.accuracy == 1

    def test_labels_without_names_go_by_id(self, make_map: MakeMap) -> None:
        mapped = landscape(40, 50)
        found = evaluate(map=make_map(mapped), labels=make_map(mapped.astype(np.int32), "l.tif", schema=None))
        assert found.metrics.accuracy == 1

    def test_maps_without_names_take_those_of_the_labels(self, make_map: MakeMap, make_vector: MakeVector) -> None:
        source = make_map(landscape(40, 50), schema=None)
        path = make_vector(pixel_boxes([20, 30], [20, 30], 3), class_id=[0, 2], class_name=["sea", "sand"])
        assert evaluate(map=source, labels=path).classes.names == ("sea", "class 1", "sand")

    def test_unknown_classes_are_listed_on_both_sides(self, make_map: MakeMap, make_vector: MakeVector) -> None:
        source = make_map(landscape(40, 50))
        boxes = pixel_boxes([20, 30], [20, 30])
        with pytest.raises(LabelError, match=r"'snow' is no class.*have 'snow', 'water'.*0 water, 1 forest"):
            evaluate(map=source, labels=make_vector(boxes, class_name=["snow", "water"]))
        with pytest.raises(LabelError, match=r"7 is no class of the map.*have 1, 7;"):
            evaluate(map=source, labels=make_vector(boxes, "i.gpkg", class_id=[7, 1]))
        with pytest.raises(LabelError, match=r"9 is no class of the map"):
            evaluate(map=source, labels=make_map(np.full((40, 50), 9, np.uint8), "l.tif", schema=None))

    def test_attributes(self) -> None:
        assert [plain(v) for v in (3, 3.0, np.int64(3), " a ", "", None, float("nan"))] == [
            3,
            3,
            3,
            "a",
            None,
            None,
            None,
        ]
        for value in (2.5, float("inf")):
            with pytest.raises(LabelError, match=f"{value} is no class id"):
                plain(value)
        assert CLASSES.ids_of(["Water ", "2", 1, None, 255], "x") == {"Water ": 0, "2": 2, 1: 1, None: 255, 255: 255}


class TestPolygons:
    """Rasterised on the map's grid."""

    @pytest.mark.parametrize("name", ["labels.gpkg", "labels.fgb", "labels.geojson", "labels.shp"])
    def test_polygons_in_another_crs(self, make_map: MakeMap, make_vector: MakeVector, name: str) -> None:
        mapped = np.tile(np.arange(3, dtype=np.uint8), (40, 20))
        path = make_vector([shapely.box(3.1, 2.2, 33.4, 12.3)], name, class_id=[1])
        found = evaluate(map=make_map(mapped), labels=path)
        assert found.kind == "polygons"
        assert found.metrics.matrix.tolist() == [[0, 0, 0], [100, 100, 100], [0, 0, 0]]
        assert found.counts.unlabelled == 40 * 60 - 300

    def test_parquet_and_fields_of_choice(self, make_map: MakeMap, tmp_path: Path) -> None:
        ground = shapely.box(500_000, 2_999_900, 500_100, 3_000_000)
        frame = geopandas.GeoDataFrame({"class_id": [1], "Cover": ["water"]}, geometry=[ground], crs=32650)
        frame.to_parquet(tmp_path / "l.parquet")
        source = make_map(np.zeros((20, 30), np.uint8))
        assert evaluate(map=source, labels=tmp_path / "l.parquet").metrics.accuracy == 0
        assert evaluate(map=source, labels=tmp_path / "l.parquet", class_field="cover").metrics.accuracy == 1

    def test_features_without_a_class_do_not_count(self, make_map: MakeMap, make_vector: MakeVector) -> None:
        path = make_vector(pixel_boxes([0, 3], [0, 3], 2), class_name=["water", None])
        found = evaluate(map=make_map(np.zeros((20, 30), np.uint8)), labels=path)
        assert found.counts.compared == 4

    def test_the_first_of_several_layers_is_taken_and_said(
        self, make_map: MakeMap, make_vector: MakeVector, tmp_path: Path
    ) -> None:
        path = make_vector([shapely.box(0, 0, 4, 4)], class_id=[0])
        geopandas.read_file(path).to_file(path, layer="second")
        found = evaluate(map=make_map(np.zeros((20, 30), np.uint8)), labels=path)
        assert found.counts.compared == 16
        assert "Took layer 'labels'" in found.warnings[0] and "the first of 2" in found.warnings[0]

    def test_what_vectorize_writes_is_a_single_layer(self, make_map: MakeMap, tmp_path: Path) -> None:
        source = make_map(landscape(40, 50))
        vectorize(source, out=tmp_path / "v.gpkg")
        found = evaluate(map=source, labels=tmp_path / "v.gpkg")
        assert found.metrics.accuracy == 1 and found.counts.unlabelled == 0 and found.warnings == ()
