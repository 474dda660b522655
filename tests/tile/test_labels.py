"""Labels: any grid, any CRS, ids or names, and refusals that name value and file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import Affine, from_origin

from geoasanet.classes import ClassSchema
from geoasanet.errors import GeoASANetError, LabelError, VectorError
from geoasanet.raster.dataset import open_dataset_folder
from geoasanet.raster.grid import Grid
from geoasanet.raster.labels import open_labels
from geoasanet.tools.tile import tile
from geoasanet.windows import Window
from tests.conftest import UTM, write_raster
from tests.tile.conftest import HEIGHT, NAMES, SIZE, WIDTH, label_array, label_polygons

Maker = Callable[..., dict[str, Any]]
GRID = Grid(rasterio.crs.CRS.from_epsg(32650), UTM, HEIGHT, WIDTH)


def read_all(path: Path, **options: Any) -> np.ndarray:
    labels = open_labels(path, GRID, **options)
    whole = labels.read(Window(-3, -4, HEIGHT + 8, WIDTH + 9))
    for window in (Window(0, 0, 30, 41), Window(17, 33, 64, 64), Window(-3, 120, 50, 35)):
        part = whole[window.row + 3 : window.row_stop + 3, window.col + 4 : window.col_stop + 4]
        np.testing.assert_array_equal(labels.read(window), part)
    labels.close()
    return whole[3 : HEIGHT + 3, 4 : WIDTH + 4]


class TestRaster:
    """Raster labels."""

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
    def test_any_type(self, tmp_path: Path, dtype: str) -> None:
        write_raster(tmp_path / "l.tif", label_array().astype(dtype), nodata=255)
        np.testing.assert_array_equal(read_all(tmp_path / "l.tif"), label_array())

    @pytest.mark.parametrize(
        ("crs", "transform", "shape"),
        [
            ("EPSG:32650", from_origin(499_990, 3_000_010, 3, 4), (300, 560)),
            ("EPSG:32650", Affine(10, 0, 500_003, 0, 10, 2_999_000), (101, 151)),
            (
                "EPSG:32650",
                Affine.translation(499_600, 2_999_900) @ Affine.rotation(-33) @ Affine.scale(13, -13),
                (99, 99),
            ),
            ("EPSG:4326", from_origin(116.999, 27.1235, 0.0001, 0.0001), (140, 180)),
        ],
    )
    def test_the_nearest_pixel_of_any_grid(
        self, tmp_path: Path, crs: str, transform: Affine, shape: tuple[int, int]
    ) -> None:
        """Each pixel holds its own address, so that the one that was taken is known."""
        values = (np.arange(shape[0])[:, None] * 31 + np.arange(shape[1])[None] * 7) % 251
        write_raster(tmp_path / "l.tif", values.astype(np.uint8), crs=crs, transform=transform)
        found = read_all(tmp_path / "l.tif")
        rows, cols = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
        xs, ys = UTM.a * cols + UTM.c, UTM.e * rows + UTM.f
        xs, ys = pyproj.Transformer.from_crs("EPSG:32650", crs, always_xy=True).transform(xs, ys)
        i = ~transform
        at_cols, at_rows = i.a * xs + i.b * ys + i.c, i.d * xs + i.e * ys + i.f
        inside = (at_rows >= 0.02) & (at_cols >= 0.02) & (at_rows < shape[0] - 0.02) & (at_cols < shape[1] - 0.02)
        sure = inside & (np.abs(at_rows % 1 - 0.5) < 0.48) & (np.abs(at_cols % 1 - 0.5) < 0.48)
        assert sure.mean() > 0.1
        expected = values[at_rows[sure].astype(int), at_cols[sure].astype(int)]
        np.testing.assert_array_equal(found[sure], expected)
        beyond = (at_rows < -0.02) | (at_cols < -0.02) | (at_rows > shape[0] + 0.02) | (at_cols > shape[1] + 0.02)
        assert (found[beyond] == 255).all()

    @pytest.mark.parametrize(("dtype", "value"), [("uint8", 9), ("int16", -1), ("float32", 1.5), ("uint16", 300)])
    def test_a_value_that_is_no_class(self, scene: Maker, tmp_path: Path, dtype: str, value: float) -> None:
        files = scene()
        labels = label_array().astype(dtype)
        labels[50, 60] = value
        write_raster(files["labels"], labels, nodata=255)
        message = rf"labels\.tif hold {value}.* at row 50, column 60 .*Known are 0 water, 1 field"
        with pytest.raises(LabelError, match=message):
            tile(**files, out=tmp_path / "out", size=SIZE, classes=NAMES)
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))

    def test_a_picture_is_refused(self, scene: Maker, tmp_path: Path) -> None:
        files = scene()
        write_raster(files["labels"], np.zeros((3, HEIGHT, WIDTH), np.uint8))
        with pytest.raises(LabelError, match="has 3 bands, one of class ids is needed"):
            tile(**files, out=tmp_path / "out")

    def test_labels_elsewhere(self, scene: Maker, tmp_path: Path) -> None:
        files = scene()
        write_raster(files["labels"], label_array(), transform=from_origin(900_000, 3_000_000, 10, 10))
        with pytest.raises(LabelError, match="do not reach the RGB raster"):
            tile(**files, out=tmp_path / "out")


class TestVector:
    """Polygons."""

    @pytest.mark.parametrize("name", ["l.gpkg", "l.shp", "l.fgb", "l.geojson", "l.parquet"])
    def test_burning_gives_the_map_back(self, tmp_path: Path, name: str) -> None:
        frame = label_polygons(label_array())
        if name == "l.parquet":
            frame.to_parquet(tmp_path / name)
        else:
            frame.to_file(tmp_path / name)
        np.testing.assert_array_equal(read_all(tmp_path / name, field="class_id"), label_array())

    @pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32649"])
    def test_in_any_crs(self, tmp_path: Path, crs: str) -> None:
        label_polygons(label_array(), crs).to_file(tmp_path / "l.gpkg")
        found = read_all(tmp_path / "l.gpkg")
        assert (found == label_array()).mean() > 0.995

    def test_ids_and_names_give_the_same(self, tmp_path: Path) -> None:
        label_polygons(label_array()).to_file(tmp_path / "l.gpkg")
        schema = ClassSchema.from_names(list(NAMES))
        by_id = read_all(tmp_path / "l.gpkg", classes=schema)
        by_name = read_all(tmp_path / "l.gpkg", classes=schema, field="CLASS_NAME")
        np.testing.assert_array_equal(by_id, by_name)

    def test_invalid_null_and_ignored_features(self, tmp_path: Path) -> None:
        box = shapely.box(500_000, 2_999_000, 501_500, 3_000_000)
        bow = shapely.Polygon([(500_000, 3_000_000), (500_200, 2_999_800), (500_200, 3_000_000), (500_000, 2_999_800)])
        frame = geopandas.GeoDataFrame(
            {"class": [1.0, 0.0, None, 255.0, 2.0]},
            geometry=[box, bow, box, box, shapely.Polygon()],
            crs="EPSG:32650",
        )
        frame.to_file(tmp_path / "l.gpkg")
        found = read_all(tmp_path / "l.gpkg", classes=ClassSchema.from_names(list(NAMES)))
        assert set(np.unique(found)) == {0, 1} and 190 <= np.count_nonzero(found == 0) <= 220

    @pytest.mark.parametrize(
        ("columns", "field", "message"),
        [
            ({"class_id": 7}, None, r"hold 7 in the attribute 'class_id', which is no class.*0 water"),
            ({"class_name": "lava"}, None, "hold 'lava' in the attribute 'class_name'"),
            ({"a": 1, "b": 2}, None, "not clear which attribute .* there are: a, b. Name it with --class-field"),
            ({"a": 1, "b": 2}, "c", "have no attribute 'c'. There are: a, b"),
        ],
    )
    def test_refusals(
        self, scene: Maker, tmp_path: Path, columns: dict[str, Any], field: str | None, message: str
    ) -> None:
        files = scene()
        box = shapely.box(500_000, 2_999_000, 501_500, 3_000_000)
        path = tmp_path / "l.gpkg"
        geopandas.GeoDataFrame({k: [v] for k, v in columns.items()}, geometry=[box], crs="EPSG:32650").to_file(path)
        files["labels"] = path
        with pytest.raises(LabelError, match=message) as caught:
            tile(**files, out=tmp_path / "out", classes=NAMES, class_field=field)
        assert str(path) in str(caught.value)

    def test_points_missing_files_and_no_crs(self, tmp_path: Path) -> None:
        point = geopandas.GeoDataFrame({"class": [1]}, geometry=[shapely.Point(500_100, 2_999_900)], crs="EPSG:32650")
        point.to_file(tmp_path / "p.gpkg")
        with pytest.raises(VectorError, match="hold no polygon, only Point"):
            open_labels(tmp_path / "p.gpkg", GRID)
        with pytest.raises(VectorError, match="does not exist"):
            open_labels(tmp_path / "none.gpkg", GRID)
        (tmp_path / "bad.gpkg").write_text("x")
        with pytest.raises(VectorError, match="cannot be read"):
            open_labels(tmp_path / "bad.gpkg", GRID)
        with pytest.raises(GeoASANetError, match="are a raster"):
            write_raster(tmp_path / "l.tif", label_array())
            open_labels(tmp_path / "l.tif", GRID, field="class")


class TestClasses:
    """Where the class schema comes from, and that it is said."""

    def classes_of(self, files: dict[str, Any], out: Path, **options: Any) -> tuple[tuple[str, ...], str]:
        result = tile(**files, out=out, size=SIZE, overwrite=True, **options)
        assert result.classes is not None
        dataset = open_dataset_folder(out)
        assert dataset.classes == result.classes
        return result.classes.names, " ".join(result.notes)

    def test_from_many_places(self, scene: Maker, tmp_path: Path) -> None:
        files, out = scene(), tmp_path / "out"
        names, note = self.classes_of(files, out)
        assert names == ("class 0", "class 1", "class 2") and "by their values" in note
        vector = {**files, "labels": files["rgb"].parent / "l.gpkg"}
        label_polygons(label_array()).to_file(vector["labels"])
        names, note = self.classes_of(vector, out)
        assert names == NAMES and "by their values" in note
        names, note = self.classes_of(vector, out, class_field="class_name")
        assert names == tuple(sorted(NAMES)) and "attribute class_name" in note
        schema = ClassSchema.from_names(["w", "f", "t"])
        (files["rgb"].parent / "classes.yaml").write_text("classes: [A, B, C]\n")
        names, note = self.classes_of(files, out)
        assert names == ("A", "B", "C") and "classes.yaml" in note
        assert self.classes_of(files, out, classes=schema)[0] == ("w", "f", "t")
        (tmp_path / "s.yaml").write_text(
            "classes: [{name: x, color: '#ff0000'}, {name: y}, {name: z}]\nignore_index: 1\n"
        )
        assert self.classes_of(files, out, classes=tmp_path / "s.yaml")[0] == ("x", "y", "z")
        dataset = open_dataset_folder(out)
        assert dataset.classes is not None and dataset.classes.ignore_index == 255
        label = dataset.read(dataset.names("train")[0]).label
        assert label is not None and 1 not in label

    def test_from_a_map_of_ours(self, scene: Maker, tmp_path: Path) -> None:
        import json

        files = scene()
        with rasterio.open(files["labels"], "r+") as file:
            file.update_tags(GEOASANET_CLASSES=json.dumps(ClassSchema.from_names(["a", "b", "c"]).to_dict()))
        names, note = self.classes_of(files, tmp_path / "out")
        assert names == ("a", "b", "c") and "labels.tif" in note
