"""Blocks that cannot be read: named, or left out and told; the same pixels whatever windows are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoasanet.errors import ConfigError, SceneError
from geoasanet.raster.faults import ReadFaults, faults_for
from geoasanet.raster.scene import Scene
from geoasanet.raster.source import RasterSource
from geoasanet.windows import Window
from tests.conftest import UTM, write_raster

BLOCK = 32
BAD = Window(32, 64, 32, 32)


def spoil(path: Path, block: Window = BAD, band: int = 1) -> None:
    """Overwrite the compressed bytes of one block, so that decoding it fails."""
    with rasterio.open(path) as dataset:
        name = f"BLOCK_OFFSET_{block.col // BLOCK}_{block.row // BLOCK}"
        offset = int(dataset.get_tag_item(name, "TIFF", bidx=band))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 24)


@pytest.fixture
def spoilt(make_raster: Callable[..., Path]) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 100, 130), np.uint8)
    path = make_raster("rgb.tif", pixels, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate")
    spoil(path)
    return path, pixels


def test_a_block_that_cannot_be_read_is_named(spoilt: tuple[Path, np.ndarray]) -> None:
    source = RasterSource(spoilt[0], (1, 2, 3), "RGB")
    with pytest.raises(
        SceneError, match=r"RGB raster .*rgb\.tif is unreadable in rows 32\.\.63, columns 64\.\.95"
    ) as e:
        source.read(Window(0, 0, 100, 130))
    assert "--on-error nodata" in e.value.hint
    source.read(Window(0, 0, 32, 130))
    source.close()


@pytest.mark.parametrize("window", [Window(0, 0, 100, 130), Window(40, 70, 5, 9), Window(-3, 60, 50, 80)], ids=str)
def test_nodata_leaves_out_that_block_and_no_other(spoilt: tuple[Path, np.ndarray], window: Window) -> None:
    path, pixels = spoilt
    faults = ReadFaults()
    source = RasterSource(path, (1, 2, 3), "RGB", faults)
    found, valid = source.read(window)
    source.close()
    expected = np.zeros((3, 300, 300), np.uint8)
    whole = np.zeros((300, 300), bool)
    expected[:, 50:150, 50:180], whole[50:150, 50:180] = pixels, True
    whole[50 + 32 : 50 + 64, 50 + 64 : 50 + 96] = False
    expected[:, ~whole] = 0
    place = Window(window.row + 50, window.col + 50, window.height, window.width).slices
    np.testing.assert_array_equal(valid, whole[place])
    np.testing.assert_array_equal(found, expected[:, *place])
    (fault,) = faults.found()
    assert fault.window == BAD and fault.path == str(path)


def test_a_scene_collects_the_faults_of_both_rasters(spoilt: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = spoilt
    sar = write_raster(
        tmp_path / "sar.tif", np.full((90, 100), 0.2, np.float32), transform=UTM @ UTM.scale(1.3),
        tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate",
    )  # fmt: skip
    spoil(sar, Window(0, 0, 32, 32))
    faults = faults_for("nodata")
    with Scene.open(path, sar, faults=faults) as scene:
        sample = scene.read(scene.grid.window)
    assert faults is not None and [f.role for f in faults.found()] == ["RGB", "SAR"]
    assert not sample.rgb_valid[40, 70] and sample.rgb_valid[40, 60]
    assert not sample.sar_valid[:30, :30].any() and sample.sar_valid[60:, 60:].all()
    first, second = faults.warnings()
    assert "rgb.tif: 1 block could not be read" in first and "rows 32..63, columns 64..95" in first
    assert "sar.tif" in second


def test_faults_travel_as_json_and_are_told_once() -> None:
    faults, other = ReadFaults(), ReadFaults()
    for col in (64, 0, 0, 32, 96):
        faults.add("rgb.tif", "RGB", Window(0, col, 32, 32), "read error")
    other.add_dicts(json.loads(json.dumps(faults.to_dicts())))
    other.add_dicts(faults.to_dicts())
    assert other.found() == faults.found() and len(other.found()) == 4
    (text,) = other.warnings()
    assert "4 blocks" in text and "columns 64..95; and 1 more down to row 31: read error" in text
    assert [f.col for f in other.take()] == [0, 32, 64, 96] and not other.found()


def test_the_option_is_checked() -> None:
    assert faults_for("fail") is None
    with pytest.raises(ConfigError, match="--on-error 'skip'"):
        faults_for("skip")
