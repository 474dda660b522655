"""STAC Items of maps and checkpoints: valid by pystac's own schemas, and true."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.warp
import shapely
import shapely.geometry
import torch
from affine import Affine
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict
from rasterio.crs import CRS

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.errors import ConfigError, GridError, OutputError, OutputExistsError
from geoasanet.raster.acquired import parse_time
from geoasanet.raster.grid import Grid
from geoasanet.raster.lonlat import footprint, pixel_side
from geoasanet.tools.export import export
from geoasanet.tools.predict import predict
from geoasanet.tools.stac import classification, href, slug, write_item
from tests.conftest import PixelNet

Files = Callable[..., tuple[Path, Path]]
SCHEMA = ClassSchema(
    ("open water", "水体", "town & road", "town  road", "bare"),
    ((1, 2, 3), (0, 255, 0), (255, 0, 0), (9, 9, 9), (171, 205, 239)),
)
BANDS = InputBands(
    rgb=SensorBands((120.0, 125.0, 130.0), (70.0, 72.0, 74.0), names=("red", "green", "blue")),
    sar=SensorBands((-8.0,), (3.0,), "db"),
)


def check(document: dict[str, Any]) -> pystac.Item:
    """Validate an Item by the core schemas that pystac ships, without the network, and read it."""
    validate_dict(document, extensions=[])
    return pystac.Item.from_dict(document, migrate=False)


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def set_time(path: Path, **tags: str) -> None:
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**tags)


def mapped(files: tuple[Path, Path], out: Path, **options: Any) -> Any:
    return predict(*files, model=PixelNet(), classes=SCHEMA, out=out, window=64, stac=True, **options)


class TestMap:
    """The Item of a map."""

    @pytest.fixture
    def item(self, scene_files: Files, tmp_path: Path) -> dict[str, Any]:
        files = scene_files(90, 100)
        set_time(files[0], TIFFTAG_DATETIME="2024:05:01 10:20:30")
        set_time(files[1], ACQUISITION_START_TIME="2024-05-03T17:00:00.5Z")
        (tmp_path / "out").mkdir()
        result = mapped(
            files,
            tmp_path / "out" / "map.tif",
            confidence=tmp_path / "out" / "sure.tif",
            probabilities=tmp_path / "all.tif",
            vectorize=tmp_path / "out" / "map.gpkg",
            quicklook=tmp_path / "out" / "look.png",
        )
        assert result.stac == tmp_path / "out" / "map.stac.json" and not result.warnings
        return read(result.stac)

    def test_it_is_valid_and_tells_of_every_output(self, item: dict[str, Any], tmp_path: Path) -> None:
        found = check(item)
        assert {name: asset.href for name, asset in found.assets.items()} == {
            "map": "./map.tif",
            "confidence": "./sure.tif",
            "probabilities": "../all.tif",
            "polygons": "./map.gpkg",
            "quicklook": "./look.png",
        }
        assert found.assets["map"].media_type == pystac.MediaType.COG
        assert found.assets["polygons"].media_type == pystac.MediaType.GEOPACKAGE
        assert found.assets["quicklook"].roles == ["overview"]
        for asset in found.assets.values():
            path = tmp_path / "out" / asset.href
            facts = FileExtension.ext(asset)
            assert facts.size == path.stat().st_size
            assert facts.checksum == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()

    def test_where_and_when(self, item: dict[str, Any], tmp_path: Path) -> None:
        found = check(item)
        assert found.datetime == datetime(2024, 5, 1, 10, 20, 30, tzinfo=UTC)
        assert found.common_metadata.end_datetime == datetime(2024, 5, 3, 17, tzinfo=UTC)
        place = ProjectionExtension.ext(found)
        with rasterio.open(tmp_path / "out" / "map.tif") as dataset:
            assert place.code == dataset.crs.to_string() == "EPSG:32650"
            assert place.shape == list(dataset.shape) and place.transform == list(dataset.transform)[:6]
            expected = rasterio.warp.transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
        assert found.bbox == pytest.approx(expected, abs=1e-6)
        outline = shapely.geometry.shape(found.geometry)
        assert outline.is_valid and outline.exterior.is_ccw and len(outline.exterior.coords) == 5
        assert outline.bounds == pytest.approx(expected, abs=1e-6)

    def test_classes(self, item: dict[str, Any], tmp_path: Path) -> None:
        listed = ClassificationExtension.ext(check(item).assets["map"]).classes
        assert listed is not None
        with rasterio.open(tmp_path / "out" / "map.tif") as dataset:
            values, counts = np.unique(dataset.read(1), return_counts=True)
        count = dict(zip(values.tolist(), counts.tolist(), strict=True))
        found = item["assets"]["map"]["classification:classes"]
        assert [c.value for c in listed] == [0, 1, 2, 3, 4, 255]
        assert [c["title"] for c in found] == [*SCHEMA.names, "No data"]
        assert [c["name"] for c in found] == ["open-water", "class-1", "town-road", "town-road-3", "bare", "nodata"]
        assert all(re.fullmatch("[0-9A-Za-z_-]+", c["name"]) for c in found)
        assert [c["color_hint"] for c in found[:5]] == ["010203", "00FF00", "FF0000", "090909", "ABCDEF"]
        assert {c["value"]: c["count"] for c in found if c["count"]} == count
        assert sum(c["percentage"] for c in found) == pytest.approx(100, abs=0.01)
        assert found[-1]["nodata"] is True

    def test_rasters(self, item: dict[str, Any]) -> None:
        assets = item["assets"]
        assert (assets["map"]["data_type"], assets["map"]["nodata"]) == ("uint8", 255)
        assert (assets["confidence"]["data_type"], assets["confidence"]["nodata"]) == ("float32", "nan")
        assert [band["name"] for band in assets["probabilities"]["bands"]] == list(SCHEMA.names)
        assert assets["map"]["raster:spatial_resolution"] == pytest.approx(10, rel=1e-3)
        used = {key.split(":")[0] for asset in assets.values() for key in asset if ":" in key}
        used |= {key.split(":")[0] for key in item["properties"] if ":" in key and not key.startswith("geoasanet:")}
        declared = {re.search(r"stac-extensions\.github\.io/(\w+)/", uri)[1] for uri in item["stac_extensions"]}  # type: ignore[index]
        assert {"projection" if prefix == "proj" else prefix for prefix in used} == declared

    def test_where_it_comes_from(self, item: dict[str, Any]) -> None:
        links = {link["title"]: link["href"] for link in item["links"] if link["rel"] == "derived_from"}
        assert links == {"Optical raster": "../rgb.tif", "SAR raster": "../sar.tif"}
        assert item["properties"]["processing:software"] == {"geoasanet": ga.__version__}
        assert json.loads(item["properties"]["geoasanet:options"])["window"] == 64

    def test_without_times_of_inputs_it_is_said(self, scene_files: Files, tmp_path: Path) -> None:
        result = mapped(scene_files(70, 70), tmp_path / "map.tif")
        assert any("Neither input says when it was taken" in w for w in result.warnings)
        made = check(read(result.stac)).datetime
        assert made is not None and abs((datetime.now(UTC) - made).total_seconds()) < 600

    def test_an_item_that_is_there_is_kept_unless_overwritten(self, scene_files: Files, tmp_path: Path) -> None:
        files = scene_files(70, 70)
        (tmp_path / "map.stac.json").write_text("old")
        with pytest.raises(OutputExistsError, match=r"map\.stac\.json"):
            mapped(files, tmp_path / "map.tif")
        assert (tmp_path / "map.stac.json").read_text() == "old" and not (tmp_path / "map.tif").exists()
        check(read(mapped(files, tmp_path / "map.tif", overwrite=True).stac))

    def test_a_local_grid_is_refused_before_the_work(self, scene_files: Files, tmp_path: Path) -> None:
        local = 'ENGCRS["site",EDATUM["here"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
        with pytest.raises(GridError, match="no longitude and latitude"):
            mapped(scene_files(70, 70, crs=local), tmp_path / "map.tif")
        assert not (tmp_path / "map.tif").exists()


class TestFootprint:
    """Outlines in longitude and latitude."""

    def test_curved_sides_have_points_between(self) -> None:
        grid = Grid(CRS.from_epsg(3035), Affine(1000, 0, 2_500_000, 0, -1000, 5_400_000), 4000, 4500)
        geometry, bbox = footprint(grid)
        outline = shapely.geometry.shape(geometry)
        inner = rasterio.warp.transform(grid.crs, "EPSG:4326", *np.random.default_rng(0).uniform(
            [[2_510_000], [1_410_000]], [[6_990_000], [5_390_000]], (2, 300)))  # fmt: skip
        assert shapely.contains_xy(outline, *inner).mean() > 0.98
        assert outline.bounds == pytest.approx(tuple(bbox))

    @pytest.mark.parametrize("code", [32601, 32660])
    def test_the_antimeridian_cuts(self, code: int) -> None:
        # Zone 1 begins at 180° W, zone 60 ends at 180° E.
        left = 100_000 if code == 32601 else 700_000
        grid = Grid(CRS.from_epsg(code), Affine(100, 0, left, 0, -100, 6_000_000), 1000, 2000)
        geometry, (west, south, east, north) = footprint(grid)
        assert geometry["type"] == "MultiPolygon"
        outline = shapely.geometry.shape(geometry)
        assert outline.is_valid and outline.bounds[0] == -180 and outline.bounds[2] == 180
        assert west > 0 > east and 52 < south < north < 55
        assert outline.area < 5
        assert all(part.exterior.is_ccw for part in outline.geoms)

    def test_a_pole_is_reached(self) -> None:
        grid = Grid(CRS.from_epsg(3031), Affine(1000, 0, -500_000, 0, -1000, 500_000), 1000, 1000)
        geometry, bbox = footprint(grid)
        assert (bbox[0], bbox[1], bbox[2]) == (-180, -90, 180) and -87 < bbox[3] < -83
        assert shapely.geometry.shape(geometry).is_valid

    def test_degrees_are_as_they_are(self) -> None:
        grid = Grid(CRS.from_epsg(4326), Affine(0.001, 0, 8, 0, -0.001, 50), 1000, 2000)
        geometry, bbox = footprint(grid)
        assert bbox == [8, 49, 10, 50]
        assert shapely.geometry.shape(geometry).equals(shapely.box(8, 49, 10, 50))
        expected = math.sqrt(111_229 * 71_897) / 1000  # metres of a degree of latitude and of longitude at 49.5° N
        assert pixel_side(grid) == pytest.approx(expected, rel=1e-2)


class TestCheckpoint:
    """The Item of a checkpoint."""

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        encoder = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
        model = ga.create_model("asanet", 5, (3, 1), encoder, decoder_channels=16, auxiliary_channels=8)
        path = tmp_path / "small one.safetensors"
        training = {"data": "somewhere", "val_miou": 0.5, "license": "CC-BY-4.0"}
        ga.save_checkpoint(path, model, classes=SCHEMA, bands=BANDS, window_size=64, training=training, temperature=1.5)
        return path

    def test_it_is_valid_and_true(self, checkpoint: Path, tmp_path: Path) -> None:
        result = export(checkpoint, to="stac", out=tmp_path / "model.json")
        document = read(result.path)
        found = check(document)
        model = MLMExtension.ext(found)
        loaded = ga.load_checkpoint(checkpoint)
        assert model.mlm_name == "small-one" and model.architecture == "ASANet" and model.framework == "PyTorch"
        assert model.tasks == ["semantic-segmentation"]
        assert model.total_parameters == sum(t.numel() for t in loaded.model.state_dict().values())
        assert document["properties"]["mlm:accelerator"] is None
        rgb, sar = model.input
        assert (rgb.input.shape, sar.input.shape) == ([-1, 3, 64, 64], [-1, 1, 64, 64])
        assert rgb.input.dim_order == ["batch", "channel", "height", "width"]
        assert (rgb.bands, sar.bands) == (["red", "green", "blue"], ["sar-1"])
        scaled = [entry["value_scaling"] for entry in document["properties"]["mlm:input"]]
        assert [s["mean"] for s in scaled[0]] == list(BANDS.rgb.mean)
        assert scaled[1] == [{"type": "z-score", "mean": -8.0, "stddev": 3.0}]
        (output,) = model.output
        assert output.result.shape == [-1, 5, 64, 64] and output.result.dim_order[1] == "class"
        assert document["properties"]["license"] == "CC-BY-4.0"
        assert "1.5" in document["properties"]["mlm:output"][0]["post_processing_function"]["expression"]
        listed = document["properties"]["mlm:output"][0]["classification:classes"]
        assert [c["title"] for c in listed] == list(SCHEMA.names)

    def test_the_asset_is_the_file(self, checkpoint: Path, tmp_path: Path) -> None:
        document = read(export(checkpoint, to="stac", out=tmp_path / "model.json").path)
        asset = document["assets"]["model"]
        assert asset["href"] == "./small one.safetensors"
        assert {"mlm:model", "mlm:weights"} <= set(asset["roles"]) and asset["mlm:artifact_type"] == "safetensors"
        assert asset["file:checksum"] == "1220" + hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        named = {band["name"] for band in asset["bands"]}
        assert named == {name for entry in document["properties"]["mlm:input"] for name in entry["bands"]}

    def test_the_words_are_those_of_the_extension(self, checkpoint: Path, tmp_path: Path) -> None:
        """What MLM 1.4's schema asks for, which pystac does not ship."""
        properties = read(export(checkpoint, to="stac", out=tmp_path / "model.json").path)["properties"]
        required = {"mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"}
        assert required <= properties.keys()
        assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", properties["mlm:name"])
        assert re.match(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", properties["mlm:framework_version"])
        assert all(re.fullmatch(r"[0-9a-zA-Z_.-]+", key) for key in properties["mlm:hyperparameters"])
        for entry in properties["mlm:input"]:
            assert {"name", "bands", "input"} <= entry.keys()
            assert len(entry["value_scaling"]) == entry["input"]["shape"][1]
        for entry in properties["mlm:output"]:
            assert {"name", "tasks", "result"} <= entry.keys()

    def test_names_and_options(self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert export(checkpoint, to="stac").path == Path("small one.stac.json")
        with pytest.raises(ConfigError, match="not with stac"):
            export(checkpoint, to="stac", out="a.json", window=128)
        with pytest.raises(ConfigError, match=r"another suffix than \.json"):
            export(checkpoint, to="stac", out="a.onnx")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024:05:01 10:20:30", "2024-05-01T10:20:30"),
        ("2024-05-01T10:20:30.123456Z", "2024-05-01T10:20:30"),
        ("01-MAY-2024 10:20:30.123456", "2024-05-01T10:20:30"),
        ("2024-05-01", "2024-05-01T00:00:00"),
        ("2024:13:01 10:20:30", None),
        ("0000:00:00 00:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times(text: str, expected: str | None) -> None:
    found = parse_time(text)
    assert (found and found.isoformat()) == (expected and f"{expected}+00:00")


def test_secrets_do_not_get_into_items(tmp_path: Path) -> None:
    assert href("https://me:pw@host/a/b.tif?sig=secret", tmp_path) == "https://host/a/b.tif"
    assert href("/vsicurl/https://host/b.tif?token=1", tmp_path) == "https://host/b.tif"
    assert href("s3://bucket/b.tif", tmp_path) == "s3://bucket/b.tif"
    assert href(tmp_path / "deep" / "b.tif", tmp_path) == "./deep/b.tif"


def test_names_for_machines() -> None:
    assert slug("Dry & bare soil!", "x") == "Dry-bare-soil"
    assert slug("草地", "class-4") == "class-4"
    assert [c["name"] for c in classification(ClassSchema.from_names(["a b", "a-b"]))] == ["a-b", "a-b-1"]


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_item(tmp_path / "a.json", {"value": math.nan})
