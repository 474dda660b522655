"""``predict``: the map equals what the network says, whatever the windows, the area, the workers or an interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.errors import (
    BandError,
    CheckpointError,
    ConfigError,
    DeviceError,
    GeoASANetError,
    ModelError,
    NonFiniteError,
    NoOverlapError,
    OutputError,
    OutputExistsError,
    SceneError,
    VectorError,
)
from geoasanet.inference import mapping
from geoasanet.inference.hostsums import add_window
from geoasanet.tools.firstrun import COMPILING
from geoasanet.tools.predict import predict
from tests.conftest import PixelNet, PlaceNet, small_asanet, write_raster

Files = Callable[..., tuple[Path, Path]]
CLASSES = ["water", "forest", "field", "town", "bare"]
SCHEMA = ClassSchema.from_names(CLASSES)
BANDS = InputBands(
    rgb=SensorBands((120.0, 125.0, 130.0), (70.0, 72.0, 74.0)),
    sar=SensorBands((-8.0,), (3.0,), "db"),
)


def direct(rgb: Path, sar: Path, network: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and validity of the whole scene, seen by ``network`` at once."""
    with rasterio.open(rgb) as a, rasterio.open(sar) as b:
        optical, radar = a.read().astype(np.float32), b.read().astype(np.float32)
        valid = (a.dataset_mask() > 0) & (b.dataset_mask() > 0)
    with torch.inference_mode():
        logits = network(torch.from_numpy(optical)[None], torch.from_numpy(radar)[None])
    return torch.softmax(logits, 1)[0].numpy(), valid


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        found: np.ndarray = dataset.read()
    return found


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained ASANet for one SAR band in dB."""
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    ga.save_checkpoint(path, small_asanet(), classes=SCHEMA, bands=BANDS, window_size=64)
    return path


class TestMap:
    """What the pixels are."""

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        height=st.integers(20, 150),
        width=st.integers(20, 150),
        window=st.integers(32, 64),
        share=st.floats(0, 0.9),
        blend=st.sampled_from(["hann", "gaussian", "flat"]),
    )
    def test_it_equals_the_direct_one_for_a_position_independent_network(
        self, scene_files: Files, tmp_path: Path, height: int, width: int, window: int, share: float, blend: str
    ) -> None:
        rgb, sar = scene_files(height, width)
        network = PixelNet()
        out, probabilities = tmp_path / "map.tif", tmp_path / "p.tif"
        predict(
            rgb,
            sar,
            model=network,
            classes=CLASSES,
            out=out,
            probabilities=probabilities,
            window=window,
            overlap=int(share * window),
            blend=blend,
            overwrite=True,
        )
        expected, _ = direct(rgb, sar, network)
        np.testing.assert_array_equal(pixels(out)[0], expected.argmax(axis=0))
        np.testing.assert_allclose(pixels(probabilities), expected, atol=1e-5)

    def test_invalid_pixels_are_nodata_and_spoil_nothing(
        self, make_raster: Callable[..., Path], tmp_path: Path
    ) -> None:
        rng = np.random.default_rng(0)
        rgb_pixels = rng.integers(0, 256, (3, 140, 120), dtype=np.uint8)
        sar_pixels = rng.gamma(4, 0.05, (1, 140, 120)).astype(np.float32)
        mask = np.full((140, 120), 255, np.uint8)
        mask[60:, 50:] = 0
        sar_pixels[0, :20, :30] = np.nan
        rgb, sar = make_raster("rgb.tif", rgb_pixels, mask=mask), make_raster("sar.tif", sar_pixels)
        network = PixelNet()
        options: ClassVar[dict[str, Any]] = {"model": network, "classes": CLASSES, "window": 32, "overlap": 12}
        masked = predict(rgb, sar, out=tmp_path / "masked.tif", confidence=tmp_path / "c.tif", **options)
        filled = predict(rgb, sar, out=tmp_path / "filled.tif", missing_sar="fill", **options)
        clean = np.nan_to_num(sar_pixels)
        with torch.inference_mode():
            logits = network(torch.from_numpy(rgb_pixels.astype(np.float32))[None], torch.from_numpy(clean)[None])
        expected = logits[0].argmax(0).numpy().astype(np.uint8)
        optical, both = mask > 0, (mask > 0) & np.isfinite(sar_pixels[0])
        np.testing.assert_array_equal(pixels(masked.map)[0], np.where(both, expected, 255))
        np.testing.assert_array_equal(pixels(filled.map)[0], np.where(optical, expected, 255))
        assert np.array_equal(np.isfinite(pixels(tmp_path / "c.tif")[0]), both)
        assert masked.nodata_pixels == (~both).sum() and masked.filled_pixels == 0
        assert filled.filled_pixels == 600 and "600 pixels had no SAR data" in " ".join(filled.warnings)
        assert sum(masked.class_pixels.values()) == both.sum()

    def test_windows_without_a_valid_pixel_are_not_run(self, make_raster: Callable[..., Path], tmp_path: Path) -> None:
        seen = []

        class Counting(PixelNet):
            def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
                seen.append(len(rgb))
                return super().forward(rgb, sar)

        mask = np.zeros((200, 200), np.uint8)
        mask[:40, :40] = 255
        rgb = make_raster("rgb.tif", np.full((3, 200, 200), 9, np.uint8), mask=mask)
        sar = make_raster("sar.tif", np.ones((1, 200, 200), np.float32))
        predict(rgb, sar, model=Counting(), classes=CLASSES, out=tmp_path / "m.tif", window=50, overlap=0)
        assert sum(seen) == 1

    def test_batches_and_tta_change_no_position_independent_answer(self, scene_files: Files, tmp_path: Path) -> None:
        rgb, sar = scene_files()
        maps = []
        for i, options in enumerate(({}, {"batch_size": 1}, {"batch_size": 7}, {"tta": True})):
            out = tmp_path / f"{i}.tif"
            predict(rgb, sar, model=PixelNet(), classes=CLASSES, out=out, window=40, **options)
            maps.append(pixels(out))
        assert all(np.array_equal(maps[0], other) for other in maps[1:])

    def test_tta_makes_a_network_indifferent_to_turning(self, scene_files: Files, tmp_path: Path) -> None:
        """With all eight symmetries, mapping a turned scene gives the turned probabilities."""
        rgb, sar = scene_files(64, 64)
        turned = [
            write_raster(tmp_path / f"turned_{p.name}", np.ascontiguousarray(np.rot90(pixels(p), axes=(1, 2))))
            for p in (rgb, sar)
        ]
        found = []
        for i, pair in enumerate(((rgb, sar), turned)):
            out = tmp_path / f"p{i}.tif"
            predict(
                *pair, model=PlaceNet(), classes=CLASSES[:4], out=tmp_path / f"{i}.tif", probabilities=out, window=64,
                tta=True,
            )  # fmt: skip
            found.append(pixels(out))
        np.testing.assert_allclose(np.rot90(found[0], axes=(1, 2)), found[1], atol=1e-5)

    @pytest.mark.parametrize("shape", [(40, 70), (33, 33)])
    def test_a_scene_smaller_than_a_window_is_mapped(
        self, shape: tuple[int, int], scene_files: Files, tmp_path: Path
    ) -> None:
        rgb, sar = scene_files(*shape)
        result = predict(rgb, sar, model=PixelNet(), classes=CLASSES, out=tmp_path / "m.tif")
        expected, _ = direct(rgb, sar, PixelNet())
        np.testing.assert_array_equal(pixels(result.map)[0], expected.argmax(0))
        assert result.nodata_pixels == 0


class TestArea:
    """Maps of a part of the scene equal the part of the whole map."""

    options: ClassVar[dict[str, Any]] = {"model": PlaceNet(), "classes": CLASSES[:4], "window": 40, "overlap": 15}

    def test_a_box_gives_the_pixels_of_the_whole_map(self, scene_files: Files, tmp_path: Path) -> None:
        rgb, sar = scene_files()
        whole = predict(rgb, sar, out=tmp_path / "whole.tif", **self.options)
        part = predict(
            rgb, sar, out=tmp_path / "part.tif", bbox=(500_405, 2_998_700, 500_890, 2_999_402), **self.options
        )
        with rasterio.open(whole.map) as a, rasterio.open(part.map) as b:
            assert b.bounds == (500_400, 2_998_700, 500_890, 2_999_410)
            window = a.window(*b.bounds)
            found, expected = b.read(1), a.read(1, window=window)
        inside = found != 255
        np.testing.assert_array_equal(found[inside], expected[inside])
        # Pixels whose centre lies in the box: all but the first row and the first column's half.
        assert inside[1:, 1:].all()

    def test_polygons_in_another_crs(self, scene_files: Files, tmp_path: Path) -> None:
        import geopandas

        rgb, sar = scene_files()
        whole = predict(rgb, sar, out=tmp_path / "whole.tif", **self.options)
        shape = shapely.Point(500_600, 2_999_300).buffer(260).union(shapely.box(500_900, 2_998_800, 501_100, 2_999_000))
        geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32650").to_crs("EPSG:4326").to_file(tmp_path / "aoi.gpkg")
        part = predict(rgb, sar, out=tmp_path / "part.tif", aoi=tmp_path / "aoi.gpkg", **self.options)
        with rasterio.open(whole.map) as a, rasterio.open(part.map) as b:
            found, expected = b.read(1), a.read(1, window=a.window(*b.bounds))
            burned = rasterio.features.rasterize([shape], b.shape, transform=b.transform).astype(bool)
        np.testing.assert_array_equal(np.where(burned, expected, 255), found)

    def test_an_area_elsewhere_is_refused(self, scene_files: Files, tmp_path: Path) -> None:
        rgb, sar = scene_files()
        with pytest.raises(NoOverlapError, match="does not touch"):
            predict(rgb, sar, out=tmp_path / "m.tif", bbox=(0, 0, 1, 1), bbox_crs="EPSG:4326", **self.options)

    def test_a_box_in_degrees(self, scene_files: Files, tmp_path: Path) -> None:
        rgb, sar = scene_files()
        bounds = rasterio.warp.transform_bounds("EPSG:32650", "EPSG:4326", 500_400, 2_998_700, 500_890, 2_999_400)
        part = predict(rgb, sar, out=tmp_path / "m.tif", bbox=bounds, bbox_crs="EPSG:4326", **self.options)
        with rasterio.open(part.map) as dataset:
            np.testing.assert_allclose(dataset.bounds, (500_400, 2_998_700, 500_890, 2_999_400), atol=10)


class TestFile:
    """What the map's file tells other programs."""

    @pytest.fixture
    def result(self, scene_files: Files, checkpoint: Path, tmp_path: Path) -> Any:
        rgb, sar = scene_files(700, 620)
        extras = {name: tmp_path / f"{name}.tif" for name in ("confidence", "probabilities")}
        return predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif", **extras)

    def test_it_is_a_valid_cog_on_the_grid_of_the_rgb_raster(self, result: Any, tmp_path: Path) -> None:
        for path in (result.map, result.confidence, result.probabilities):
            valid, errors, _ = cog_validate(path, strict=True, quiet=True)
            assert valid, errors
            with rasterio.open(path) as dataset, rasterio.open(tmp_path / "rgb.tif") as reference:
                assert dataset.transform == reference.transform and dataset.crs == reference.crs
                assert dataset.shape == reference.shape and dataset.overviews(1) == [2]

    def test_classes_colours_and_tags(self, result: Any, checkpoint: Path) -> None:
        with rasterio.open(result.map) as dataset:
            assert dataset.dtypes == ("uint8",) and dataset.nodata == 255
            colors = dataset.colormap(1)
            assert [colors[i][:3] for i in range(5)] == list(SCHEMA.colors)
            tags = dataset.tags()
        assert json.loads(tags["GEOASANET_CLASSES"]) == SCHEMA.to_dict()
        assert tags["GEOASANET_CHECKPOINT"] == ga.load_checkpoint(checkpoint).sha256
        assert tags["GEOASANET_VERSION"] == ga.__version__
        assert json.loads(tags["GEOASANET_OPTIONS"])["window"] == 64

    def test_gdal_reports_the_class_names(self, result: Any) -> None:
        gdalinfo = shutil.which("gdalinfo")
        if gdalinfo is None:
            names = Path(f"{result.map}.aux.xml").read_text()
            assert all(f"<Category>{name}</Category>" in names for name in CLASSES)
            pytest.skip("gdalinfo is not installed; only the sidecar was checked")
        import subprocess

        report = json.loads(
            subprocess.run([gdalinfo, "-json", str(result.map)], capture_output=True, check=True).stdout
        )
        band = report["bands"][0]
        assert band["category"] == CLASSES if "category" in band else True
        text = subprocess.run([gdalinfo, str(result.map)], capture_output=True, check=True, text=True).stdout
        assert all(f"{i}: {name}" in text for i, name in enumerate(CLASSES))
        assert "GDALRasterAttributeTable" in text and "Overviews: 310x350" in text

    def test_probabilities_and_confidence_agree_with_the_map(self, result: Any) -> None:
        found, classes = pixels(result.probabilities), pixels(result.map)[0]
        np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(found.argmax(axis=0), classes)
        np.testing.assert_array_equal(found.max(axis=0), pixels(result.confidence)[0])
        with rasterio.open(result.probabilities) as dataset:
            assert dataset.descriptions == tuple(CLASSES)

    def test_nothing_but_the_outputs_is_left(self, result: Any, tmp_path: Path) -> None:
        names = {p.name for p in tmp_path.iterdir()}
        outputs = {"map.tif", "map.tif.aux.xml", "confidence.tif", "probabilities.tif", "rgb.tif", "sar.tif"}
        styles = {"map.qml", "confidence.qml"}
        assert styles < names <= outputs | styles | {"confidence.tif.aux.xml", "probabilities.tif.aux.xml"}

    def test_quicklook(self, scene_files: Files, checkpoint: Path, tmp_path: Path) -> None:
        from PIL import Image

        rgb, sar = scene_files(90, 120)
        result = predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "m.tif", quicklook=tmp_path / "q.png")
        assert result.quicklook is not None and result.confidence is None
        with Image.open(result.quicklook) as image:
            colors = {c for _, c in image.convert("RGB").getcolors(1 << 24) or []}
        mapped = [i for i, name in enumerate(CLASSES) if result.class_pixels[name] > 50]
        assert mapped and all(SCHEMA.colors[i] in colors for i in mapped)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "rgb", "sar"),
    [("los_angeles", "la_rgb.tif", "la_sar.tif"), ("spacenet6", "rgb_unmasked.tif", "sar_masked.tif")],
)
def test_real_scenes_are_mapped_pixel_for_pixel(shared: Path, tmp_path: Path, folder: str, rgb: str, sar: str) -> None:
    """Two real scenes whose SAR lies on another grid and leaves part of the RGB out; the network is a toy."""
    paths = shared / "data" / folder / rgb, shared / "data" / folder / sar
    result = predict(*paths, model=PixelNet(), classes=CLASSES, out=tmp_path / "map.tif")
    with rasterio.open(result.map) as found, rasterio.open(paths[0]) as reference:
        assert (found.crs, found.transform, found.shape) == (reference.crs, reference.transform, reference.shape)
        mapped, optical = found.read(1) != 255, reference.dataset_mask() != 0
        assert set(found.colormap(1)) >= set(range(5))
        assert found.overviews(1) == ([2, 4, 8] if folder == "los_angeles" else [])
    assert not mapped[~optical].any()
    assert 0.5 * optical.sum() < mapped.sum() < optical.sum()
    valid, errors, _ = cog_validate(result.map, strict=True, quiet=True)
    assert valid, errors


class TestRepeat:
    """The same bytes whatever happens on the way."""

    @pytest.mark.slow
    def test_workers_give_the_same_bytes(self, scene_files: Files, checkpoint: Path, tmp_path: Path) -> None:
        rgb, sar = scene_files(300, 140)
        found = []
        for gpus in (1, 2):
            out = tmp_path / f"{gpus}.tif"
            predict(rgb, sar, checkpoint=checkpoint, out=out, device="cpu", gpus=gpus, precision="fp32")
            found.append(out.read_bytes())
        assert found[0] == found[1]

    @pytest.mark.parametrize("after", [1, 3])
    def test_an_interrupted_run_goes_on_and_ends_the_same(
        self, scene_files: Files, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
    ) -> None:
        rgb, sar = scene_files(300, 140)
        whole = predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "whole.tif")
        out = tmp_path / "map.tif"
        genuine = mapping.map_rows

        def failing(*arguments: Any) -> Any:
            for count, band in enumerate(genuine(*arguments)):
                if count == after:
                    raise KeyboardInterrupt
                yield band

        monkeypatch.setattr(mapping, "map_rows", failing)
        with pytest.raises(KeyboardInterrupt):
            predict(rgb, sar, checkpoint=checkpoint, out=out)
        assert not out.exists()
        ran = []

        def counting(*arguments: Any) -> Any:
            ran.append(arguments[5])  # the rows of windows
            return genuine(*arguments)

        monkeypatch.setattr(mapping, "map_rows", counting)
        resumed = predict(rgb, sar, checkpoint=checkpoint, out=out)
        assert ran[0].start >= after - 1 > -1
        assert out.read_bytes() == whole.map.read_bytes()
        assert resumed.class_pixels == whole.class_pixels
        assert not list(tmp_path.glob(".*"))

    def test_an_unfinished_run_of_other_options_is_refused(
        self, scene_files: Files, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rgb, sar = scene_files(300, 140)
        genuine = mapping.map_rows

        def failing(*arguments: Any) -> Any:
            yield next(genuine(*arguments))
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(mapping, "map_rows", failing)
            with pytest.raises(KeyboardInterrupt):
                predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif")
        with pytest.raises(ConfigError, match=r"differs in options.*--no-resume"):
            predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif", overlap=20)
        predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif", overlap=20, resume=False)


class TestErrors:
    """One clear message, and nothing left behind."""

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"overlap": 300}, GeoASANetError, "found 300"),
            ({"blend": "linear"}, ConfigError, "hann, gaussian, flat"),
            ({"device": "tpu9"}, DeviceError, "tpu9"),
            ({"precision": "fp8"}, ConfigError, "fp8"),
            ({"precision": "fp16", "device": "cpu"}, ConfigError, "not available on CPU"),
            ({"missing_sar": "guess"}, ConfigError, "guess"),
            ({"sar_scale": "amplitude"}, ConfigError, "amplitude"),
            ({"sar_bands": (1, 1)}, CheckpointError, "takes 1 SAR band, 2 were chosen"),
            ({"rgb_bands": (1, 2)}, BandError, "2 optical bands were chosen"),
            ({"aoi": "missing.gpkg"}, VectorError, "missing.gpkg does not exist"),
            ({"bbox": (5, 5, 1, 1)}, ConfigError, "is empty"),
            ({"bbox": (1, 1, 5, 5), "aoi": "a.gpkg"}, ConfigError, "exclude each other"),
            ({"bbox": (1, 1, 5, 5), "bbox_crs": "EPSG:1"}, ConfigError, "EPSG:1"),
            ({"gpus": 0}, ConfigError, "--gpus"),
            ({"batch_size": 0}, ConfigError, "found 0"),
            ({"checkpoint": "none.safetensors"}, CheckpointError, "none.safetensors does not exist"),
            ({"out": "missing/folder/map.tif"}, OutputError, "does not exist"),
            ({"confidence": "map.tif"}, ConfigError, "same name"),
        ],
    )
    def test_options(
        self,
        options: dict[str, Any],
        error: type[Exception],
        message: str,
        scene_files: Files,
        checkpoint: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        rgb, sar = scene_files(80, 80)
        before = sorted(p.name for p in tmp_path.iterdir())
        with pytest.raises(error, match=message):
            predict(rgb, sar, **{"checkpoint": checkpoint, "out": "map.tif", **options})
        assert sorted(p.name for p in tmp_path.iterdir()) == before

    def test_an_existing_output_is_kept(self, scene_files: Files, checkpoint: Path, tmp_path: Path) -> None:
        rgb, sar = scene_files(80, 80)
        (tmp_path / "map.tif").write_text("precious")
        with pytest.raises(OutputExistsError, match="--overwrite"):
            predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif")
        assert (tmp_path / "map.tif").read_text() == "precious"
        predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif", overwrite=True)
        assert pixels(tmp_path / "map.tif").shape == (1, 80, 80)

    def test_an_input_is_never_an_output(self, scene_files: Files, checkpoint: Path) -> None:
        rgb, sar = scene_files(80, 80)
        with pytest.raises(ConfigError, match="also an input"):
            predict(rgb, sar, checkpoint=checkpoint, out=rgb, overwrite=True)

    def test_a_truncated_raster(self, make_raster: Callable[..., Path], checkpoint: Path, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (4, 400, 400), dtype=np.uint8)
        rgb, sar = make_raster("rgb.tif", noise[:3]), make_raster("sar.tif", noise[3:])
        rgb.write_bytes(rgb.read_bytes()[:200_000])
        with pytest.raises(SceneError, match=r"rgb\.tif.*(unreadable|cannot be opened)"):
            predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif", sar_scale="none")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["rgb.tif", "sar.tif"]

    def test_a_network_of_other_classes(self, scene_files: Files, tmp_path: Path) -> None:
        rgb, sar = scene_files(80, 80)
        with pytest.raises(ModelError, match=r"returned \(1, 5, 256, 256\).*\(1, 3, 256, 256\)"):
            predict(rgb, sar, model=PixelNet(5), classes=CLASSES[:3], out=tmp_path / "map.tif")

    def test_a_network_that_gives_nan(self, scene_files: Files, tmp_path: Path) -> None:
        class Broken(PixelNet):
            def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
                logits = super().forward(rgb, sar)
                logits[..., 3, 3] = torch.nan
                return logits

        rgb, sar = scene_files(80, 80)
        with pytest.raises(NonFiniteError, match=r"rows 0\.\.255"):
            predict(rgb, sar, model=Broken(), classes=CLASSES, out=tmp_path / "map.tif")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["rgb.tif", "sar.tif"]

    def test_without_a_checkpoint(self, scene_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from geoasanet.tools import checkpoints

        rgb, sar = scene_files(80, 80)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(checkpoints, "DEFAULT_NAME", "absent")
        with pytest.raises(CheckpointError, match=r"No checkpoint was given and runs/latest"):
            predict(rgb, sar)


def test_the_latest_run_is_found(
    scene_files: Files, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, sar = scene_files(80, 80)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/latest").mkdir(parents=True)
    shutil.copy(checkpoint, tmp_path / "runs/latest/best.safetensors")
    result = predict(rgb, sar)
    assert result.map == Path("rgb_landcover.tif") and result.map.exists()
    assert result.checkpoint == "runs/latest/best.safetensors"


def test_without_a_run_the_packaged_checkpoint_is_used_and_says_what_it_is(
    make_raster: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geoasanet.models.header import read_checkpoint_header
    from geoasanet.tools.checkpoints import packaged_checkpoints

    packaged = packaged_checkpoints()["s1s2-10m"]
    assert packaged.stat().st_size <= 12_000_000
    assert "Los Angeles" in packaged.with_suffix(".md").read_text()
    header = read_checkpoint_header(packaged)
    rng = np.random.default_rng(0)
    mean = np.array([*header.bands.rgb.mean, *header.bands.sar.mean])[:, None, None]
    pixels = rng.normal(mean, 20, (4, 64, 80)).clip(1, 255).astype(np.uint8)
    monkeypatch.chdir(tmp_path)
    result = predict(make_raster("rgb.tif", pixels[:3]), make_raster("sar.tif", pixels[3:]))
    assert result.checkpoint == "s1s2-10m"
    (note,) = result.warnings
    assert note.startswith("The packaged checkpoint s1s2-10m was trained on western Los Angeles")
    with rasterio.open(result.map) as dataset:
        assert set(np.unique(dataset.read(1))) <= set(range(5))


def test_another_window_is_said_to_be_another_network(scene_files: Files, checkpoint: Path, tmp_path: Path) -> None:
    rgb, sar = scene_files(80, 80)
    result = predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "m.tif", window=96)
    assert any("--window 96 differs from the 64 px" in warning for warning in result.warnings)


def test_linear_power_is_turned_into_the_decibels_of_the_checkpoint(
    scene_files: Files, make_raster: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> None:
    rgb, sar = scene_files(80, 80)
    decibel = make_raster("db.tif", (10 * np.log10(pixels(sar))).astype(np.float32))
    maps = [
        predict(rgb, raster, checkpoint=checkpoint, out=tmp_path / f"map{i}.tif", **options)
        for i, (raster, options) in enumerate(((sar, {}), (decibel, {}), (sar, {"sar_scale": "linear"})))
    ]
    assert np.array_equal(pixels(maps[0].map), pixels(maps[1].map))
    assert np.array_equal(pixels(maps[0].map), pixels(maps[2].map))


def test_values_far_from_the_statistics_are_warned_about(
    make_raster: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rgb = make_raster("reflectance.tif", (rng.random((3, 80, 80)) * 4000).astype(np.uint16))
    sar = make_raster("sar.tif", rng.normal(-8, 3, (1, 80, 80)).astype(np.float32))
    result = predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "m.tif")
    assert any("RGB band 1" in w and "trained on 120 and 70" in w for w in result.warnings)
    assert not any("SAR band" in w for w in result.warnings)


def test_the_first_run_says_that_it_compiles(
    scene_files: Files, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[tuple[str, float]] = []
    rgb, sar = scene_files(300, 280)

    def note(task: str, done: float, total: float, unit: str = "") -> None:
        tasks.append((task, done))

    def run() -> str:
        tasks.clear()
        result = predict(
            rgb, sar, checkpoint=checkpoint, out=tmp_path / "a.tif", device="cpu", overwrite=True, progress=note
        )
        return " ".join(result.warnings)

    monkeypatch.setattr("geoasanet.tools.firstrun.cache_folder", lambda kernel: tmp_path)
    run()
    assert [done for task, done in tasks if task == COMPILING] == [0, 1]
    line = add_window.py_func.__code__.co_firstlineno
    (tmp_path / f"hostsums.add_window-{line}.py311.nbi").touch()
    assert "NUMBA_CACHE_DIR" not in run()
    assert COMPILING not in dict(tasks)
    monkeypatch.setattr("geoasanet.tools.firstrun.cache_folder", lambda kernel: None)
    assert "NUMBA_CACHE_DIR" in run()
    assert COMPILING not in dict(tasks)


def test_polygons_along_with_the_map(scene_files: Files, checkpoint: Path, tmp_path: Path) -> None:
    rgb, sar = scene_files(80, 80)
    result = predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "m.tif", vectorize=tmp_path / "p.gpkg")
    frame = pyogrio.read_dataframe(tmp_path / "p.gpkg", layer="landcover")
    assert result.polygons == tmp_path / "p.gpkg"
    assert set(frame["class_name"]) == {name for name, count in result.class_pixels.items() if count}


@pytest.mark.gpu
def test_the_map_on_a_gpu_agrees_with_the_cpu(
    gpu: torch.device, scene_files: Files, checkpoint: Path, tmp_path: Path
) -> None:
    rgb, sar = scene_files(300, 300)
    maps = {}
    for name, options in {
        "cpu": {"device": "cpu"},
        "fp32": {"device": "cuda", "precision": "fp32"},
        "bf16": {"device": "cuda", "precision": "bf16"},
        "compiled": {"device": "cuda", "precision": "fp32", "compile": True},
        "graph": {"device": "cuda", "precision": "fp32", "compile": True, "batch_size": 1},
    }.items():
        predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / f"{name}.tif", **options)
        maps[name] = pixels(tmp_path / f"{name}.tif")
    for name in ("fp32", "compiled", "graph"):
        assert (maps[name] == maps["cpu"]).mean() > 0.999
    assert (maps["bf16"] == maps["cpu"]).mean() > 0.97
