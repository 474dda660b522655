"""Blocks of the inputs that cannot be read: named, or left out of the tiles and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoasanet.errors import ConfigError, SceneError
from geoasanet.raster.dataset import open_dataset_folder
from geoasanet.tools.tile import tile
from geoasanet.windows import Window
from tests.conftest import write_raster
from tests.test_faults import BLOCK, spoil
from tests.tile.conftest import NAMES
from tests.tile.killing import contents
from tests.tile.test_resume import interrupted, pieces_cut

SIDE = 1024 + 5 * BLOCK
BAD = {"rgb": Window(64, 96, 32, 32), "sar": Window(256, 0, 32, 32), "labels": Window(1088, 1056, 32, 32)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A scene of four pieces, each of whose three files has one block that cannot be read."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "scene"
    folder.mkdir()
    arrays = {
        "rgb": rng.integers(1, 256, (3, SIDE, SIDE), np.uint8),
        "sar": rng.integers(1, 256, (1, SIDE, SIDE), np.uint8),
        "labels": rng.integers(0, 3, (1, SIDE, SIDE), np.uint8),
    }
    for name, pixels in arrays.items():
        path = write_raster(
            folder / f"{name}.tif", pixels, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate"
        )
        spoil(path, BAD[name])
    return {**{name: str(folder / f"{name}.tif") for name in arrays}, "size": 128, "classes": NAMES, "min_valid": 0}


def test_the_run_ends_naming_file_and_block(files: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"(rgb|sar|labels)\.tif is unreadable in rows \d+\.\.\d+, columns") as caught:
        tile(**files, out=tmp_path / "out", sar_scale="none")
    assert "--on-error nodata" in caught.value.hint and not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="--on-error 'skip' is unknown"):
        tile(**files, out=tmp_path / "out", on_error="skip")  # type: ignore[arg-type]


def test_left_out_blocks_are_told_and_have_no_data(files: dict[str, Any], tmp_path: Path) -> None:
    results = [tile(**files, out=tmp_path / f"w{n}", on_error="nodata", workers=n) for n in (1, 2)]
    assert contents(tmp_path / "w1") == contents(tmp_path / "w2")
    for result in results:
        told = [w for w in result.warnings if "could not be read" in w]
        assert len(told) == 3
        for name, block in BAD.items():
            assert any(f"{name}.tif: 1 block could not be read" in w and str(block) in w for w in told)
    dataset = open_dataset_folder(tmp_path / "w1")
    for name, (tile_name, part) in {
        "rgb": ("rgb_00000_00000", np.s_[64:96, 96:]),
        "sar": ("rgb_00256_00000", np.s_[:32, :32]),
        "labels": ("rgb_01024_01024", np.s_[64:96, 32:64]),
    }.items():
        found = dataset.read(tile_name)
        assert found.label is not None
        valid = {"rgb": found.rgb_valid, "sar": found.sar_valid, "labels": found.label != 255}[name]
        expected = np.ones((128, 128), bool)
        expected[part] = False
        np.testing.assert_array_equal(valid, expected)


def test_what_was_left_out_is_still_told_after_an_interruption(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile(**files, out=tmp_path / "whole", on_error="nodata")
    interrupted({**files, "on_error": "nodata", "workers": 1}, tmp_path / "out", monkeypatch, pieces=1)
    with pytest.raises(SceneError, match="unreadable in rows"):
        tile(**files, out=tmp_path / "out", sar_scale="auto")  # those pieces are not taken as done
    interrupted({**files, "on_error": "nodata", "workers": 1}, tmp_path / "out", monkeypatch, pieces=1)
    cut = pieces_cut(monkeypatch)
    result = tile(**files, out=tmp_path / "out", on_error="nodata")
    assert len(cut) == 3 and sum("could not be read" in w for w in result.warnings) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
