"""The demo's picture, and the demo from one end to the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine, from_origin

from geoasanet.classes import ClassSchema
from geoasanet.errors import CheckpointError, ConfigError, OutputError, OutputExistsError
from geoasanet.metrics import Metrics, confusion
from geoasanet.raster import figure, preview
from geoasanet.raster.figure import Panel, render_panels
from geoasanet.synthetic import CLASSES
from geoasanet.tools import demo as demo_module
from geoasanet.tools.checkpoints import find_checkpoint, packaged_checkpoints
from tests.conftest import write_raster

SCHEMA = ClassSchema(("water", "land"), ((10, 20, 200), (30, 160, 40)))
CROP = Affine.translation(3, 5)


def test_figure_holds_its_panels_pixel_for_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 200, (90, 130, 3), dtype=np.uint8) for _ in range(3)]
    out = tmp_path / "figure.png"
    panels = [Panel(f"Panel {i}", picture) for i, picture in enumerate(pictures)]
    height, width = render_panels(panels, SCHEMA, out, title="Title", footer="mIoU 50 %", shares={"water": 0.25})
    with Image.open(out) as image:
        assert image.size == (width, height)
        pixels = np.asarray(image.convert("RGB"))
    for picture in pictures:
        rows, cols = np.nonzero((pixels[:-89, :-129] == picture[0, 0]).all(axis=2))
        assert any((pixels[r : r + 90, c : c + 130] == picture).all() for r, c in zip(rows, cols, strict=True))
    for color in SCHEMA.colors:
        assert (pixels == color).all(axis=2).sum() > 50  # its swatch in the legend
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(("shape", "count", "columns"), [((80, 100), 4, 4), ((60, 200), 4, 2), ((80, 100), 3, 3)])
def test_figure_arranges_panels(tmp_path: Path, shape: tuple[int, int], count: int, columns: int) -> None:
    panel = Panel("One", np.zeros((*shape, 3), np.uint8), box=(5, 5, 20, 20), pixel_m=30.0)
    height, width = render_panels([panel] * count, SCHEMA, tmp_path / "f.png", title="T")
    assert width >= columns * shape[1]
    assert width < (columns + 1) * shape[1] or width < 600
    assert height >= -(-count // columns) * shape[0]


def test_figure_wraps_what_is_too_long(tmp_path: Path) -> None:
    many = ClassSchema.from_names([f"a class with a long name {i}" for i in range(12)])
    panel = Panel("One", np.zeros((50, 60, 3), np.uint8))
    short = render_panels([panel], SCHEMA, tmp_path / "a.png", title="T", footer="word")
    long = render_panels([panel], many, tmp_path / "b.png", title="T", footer="word " * 200)
    assert long[1] == short[1]
    assert long[0] > short[0] + 200


def test_figure_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    panel = Panel("One", np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(OutputError, match="cannot be written"):
        render_panels([panel], SCHEMA, tmp_path / "missing" / "f.png", title="T")


def test_colors_of_classes_and_of_nothing() -> None:
    shown = figure.colorize(np.array([[0, 1, 255]], np.uint8), SCHEMA)
    assert shown.tolist() == [[list(SCHEMA.colors[0]), list(SCHEMA.colors[1]), list(figure.BLANK)]]
    ramp = figure.ramp(np.array([[0.0, 1.0, np.nan]]))
    assert ramp[0, 2].tolist() == list(figure.BLANK)
    assert ramp[0, 0].sum() < ramp[0, 1].sum()


def test_preview_keeps_ground_and_means(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 80, 120), dtype=np.uint8)
    path = write_raster(tmp_path / "rgb.tif", pixels)
    grid = preview.preview_grid(path, 30)
    assert (grid.height, grid.width) == (20, 30)
    assert grid.bounds == pytest.approx((500_000, 2_999_200, 501_200, 3_000_000))
    means = pixels.reshape(3, 20, 4, 30, 4).mean(axis=(2, 4)).transpose(1, 2, 0)
    assert np.abs(preview.read_rgb(path, grid) - means).max() <= 1
    full = preview.preview_grid(path, 500)
    np.testing.assert_array_equal(preview.read_rgb(path, full), pixels.transpose(1, 2, 0))


def test_preview_shows_another_grid_in_its_place(tmp_path: Path) -> None:
    write_raster(tmp_path / "rgb.tif", np.zeros((3, 80, 120), np.uint8))
    power = np.full((1, 50, 50), 0.01, np.float32)
    power[:, 20:30, 10:40] = 1.0
    power[:, :, 45:] = np.nan
    place = from_origin(500_100, 2_999_900, 15, 15)
    write_raster(tmp_path / "sar.tif", power, transform=place, nodata=np.nan)
    grid = preview.preview_grid(tmp_path / "rgb.tif", 120)
    shown = preview.read_gray(tmp_path / "sar.tif", grid)
    assert shown.shape == (80, 120, 3)
    assert (shown[:, 80:] == figure.BLANK).all()  # east of 500 775 m
    assert (shown[:8] == figure.BLANK).all()
    bright = shown[44:52, 28:66, 0]
    assert bright.min() == 255
    assert shown[15:35, 15:70, 0].max() == 0


def test_preview_reads_part_of_a_class_map(tmp_path: Path) -> None:
    ids = np.random.default_rng(2).integers(0, 6, (40, 60)).astype(np.uint8)
    ids[10:14, 20] = 255
    path = write_raster(tmp_path / "map.tif", ids, nodata=255)
    full = preview.preview_grid(path, 60)
    part = type(full)(full.crs, full.transform @ Affine.translation(12, 7), 20, 30)
    np.testing.assert_array_equal(preview.read_classes(path, part), ids[7:27, 12:42])


def test_stretch_of_nothing_is_black() -> None:
    nothing = preview.stretch(np.full((1, 3, 4), np.nan, np.float32), np.zeros((3, 4), bool), 1, 99)
    assert nothing.shape == (1, 3, 4)
    assert not nothing.any()


def test_compare_leaves_out_what_is_not_mapped(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 6, (700, 30)).astype(np.uint8)
    found = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 6, truth.shape), truth).astype(np.uint8)
    found[:, :5] = 255
    paths = [write_raster(tmp_path / n, a, nodata=255) for n, a in (("truth.tif", truth), ("map.tif", found))]
    metrics = demo_module.compare(*paths)
    np.testing.assert_array_equal(metrics.matrix, confusion(truth[:, 5:], found[:, 5:], 6))


def test_bad_requests_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--size"):
        demo_module.demo(tmp_path / "new", size=100)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        demo_module.demo(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be made"):
        demo_module.demo(tmp_path / "no" / "where")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "demo.png").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"demo\.png"):
        demo_module.demo(tmp_path / "full")
    assert (tmp_path / "full" / "demo.png").read_text() == "mine"


def test_missing_checkpoint_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "packaged_checkpoints", dict)
    with pytest.raises(CheckpointError, match="train_demo"):
        demo_module.demo(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_predict_never_takes_the_demo_checkpoint_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("demo") == packaged_checkpoints()["demo"]
    try:
        assert find_checkpoint(None).stem != "demo"
    except CheckpointError as error:
        assert "-c" in str(error)


@pytest.mark.slow
def test_demo_from_one_end_to_the_other(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "error::RuntimeWarning"}
    command = [sys.executable, "-m", "geoasanet", "demo", "--size", "384", "--json", "--device", "cpu"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    folder = tmp_path / "geoasanet-demo"
    for name in ("rgb", "sar", "labels", "map", "confidence", "polygons", "picture"):
        assert (tmp_path / report[name]).parent == folder
        assert (tmp_path / report[name]).stat().st_size > 1000
    assert "synthetic" in report["note"]
    assert report["polygon_count"] > 10
    with rasterio.open(tmp_path / report["labels"]) as labels, rasterio.open(tmp_path / report["map"]) as found:
        truth, mapped = labels.read(1), found.read(1)
        assert found.transform == labels.transform
    again = Metrics.from_matrix(confusion(truth, mapped, len(CLASSES), unmapped=255))
    assert report["metrics"]["miou"] == pytest.approx(again.mean_iou)
    assert again.accuracy > 0.7
    assert report["cloud_accuracy"] > 0.5  # seen by radar only
    with Image.open(tmp_path / report["picture"]) as picture:
        assert picture.width > 1400
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "--overwrite" in second.stderr
