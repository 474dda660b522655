"""The published data sets, from small folders in the form they are distributed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio

from geoasanet.errors import ConfigError, LabelError, ManifestError
from geoasanet.raster.dataset import open_dataset_folder
from geoasanet.tools.tile import tile
from tests.conftest import write_raster
from tests.tile.test_dataset import write_image


def whu(
    root: Path, folder: str = "", names: tuple[str, ...] = ("N1", "N2", "N3", "N4", "N5"), crs: bool = False
) -> None:
    """Scenes of 70 x 110 pixels: four optical bands, the last marked as alpha, one SAR band, labels 0, 10, … 70."""
    rng = np.random.default_rng(len(folder))
    for name in names:
        files = {
            "optical": rng.integers(0, 256, (4, 70, 110), np.uint8),
            "sar": rng.integers(0, 256, (1, 70, 110), np.uint8),
            "lbl": rng.integers(0, 8, (1, 70, 110)).astype(np.uint8) * 10,
        }
        for kind, pixels in files.items():
            options = {"photometric": "RGB", "alpha": "unspecified"} if kind == "optical" else {}
            path = root / folder / kind / f"{name}.tif"
            if crs:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_raster(path, pixels, **options)
            else:
                write_image(path, pixels, **options)


def read_raw(path: Path) -> np.ndarray:
    from geoasanet.raster.quiet import quiet_georeference

    with quiet_georeference(), rasterio.open(path) as file:
        return file.read()


@pytest.mark.parametrize("crs", [True, False])
def test_whu_scenes_are_cut_and_labels_reduced(tmp_path: Path, crs: bool) -> None:
    root = tmp_path / "WHU"
    whu(root, crs=crs)
    (root / "train.txt").write_text("N1.tif\nN2.tif\nN3.tif\nN4.tif\n")
    (root / "test.txt").write_text("N5.tif\n")
    result = tile(root, layout="whu-opt-sar", out=tmp_path / "out", size=32)
    dataset = open_dataset_folder(result.path)
    assert dataset.classes is not None and dataset.classes.names[0] == "farmland" and len(dataset.classes) == 7
    assert result.tiles == {"train": 4 * 12, "val": 12, "test": 0}
    assert not result.warnings and dataset.tile_size == 32
    assert (result.path / "tiles.gpkg").exists() == crs
    covered = np.zeros((70, 110), int)
    optical, sar, label = (read_raw(root / kind / "N5.tif") for kind in ("optical", "sar", "lbl"))
    for name in dataset.names("val"):
        row, col = (int(v) for v in name.split("_")[1:])
        part = np.s_[row : row + 32, col : col + 32]
        covered[part] += 1
        found = dataset.read(name)
        np.testing.assert_array_equal(found.rgb, optical[:3, part[0], part[1]])
        np.testing.assert_array_equal(found.sar, sar[:, part[0], part[1]])
        expected = np.where(label[0][part] == 0, 255, label[0][part].astype(int) // 10 - 1)
        assert found.label is not None and found.valid.all()
        np.testing.assert_array_equal(found.label, expected)
    assert (covered >= 1).all() and covered[:32, :32].max() == 1
    if crs:
        frame = pyogrio.read_dataframe(result.path / "tiles.gpkg")
        assert len(frame) == 60 and set(frame["split"]) == {"train", "val"}


def test_whu_is_cut_at_512_as_the_original_does(tmp_path: Path) -> None:
    from geoasanet.tools.tilearchive import _starts

    assert len(_starts(3704, 512)) * len(_starts(5556, 512)) == 88
    assert _starts(3704, 512)[-1] == 3704 - 512 and _starts(512, 512) == [0] and _starts(100, 512) == [0]


def test_train_and_test_folders(tmp_path: Path) -> None:
    root = tmp_path / "WHU"
    whu(root, "train", ("A", "B"))
    whu(root, "test", ("C",))
    result = tile(root, layout="whu-opt-sar", out=tmp_path / "out", size=64)
    dataset = open_dataset_folder(result.path)
    assert {n[0] for n in dataset.names("train")} == {"A", "B"} and {n[0] for n in dataset.names("val")} == {"C"}


def test_without_lists_a_split_is_drawn_and_said(tmp_path: Path) -> None:
    root = tmp_path / "WHU"
    whu(root)
    first = tile(root, layout="whu-opt-sar", out=tmp_path / "a", size=64, workers=1)
    second = tile(root, layout="whu-opt-sar", out=tmp_path / "b", size=64, workers=2)
    assert first.tiles == {"train": 16, "val": 4, "test": 0}
    assert any("4 of 5 files were drawn for train (seed 0)" in w for w in first.warnings)
    files = {p.relative_to(first.path): p.read_bytes() for p in first.path.rglob("*") if p.is_file()}
    assert files == {p.relative_to(second.path): p.read_bytes() for p in second.path.rglob("*") if p.is_file()}


def test_pie(tmp_path: Path) -> None:
    root = tmp_path / "PIE"
    rng = np.random.default_rng(0)
    for name in ("0", "1", "2", "3"):
        write_image(root / f"rgb/{name}.tif", rng.integers(0, 256, (3, 48, 48), np.uint8))
        write_image(root / f"sar/{name}.tif", rng.integers(0, 256, (1, 48, 48), np.uint8))
        write_image(root / f"label/{name}.tif", rng.integers(0, 6, (1, 48, 48), np.uint8))
    (root / "train.txt").write_text("0\n2\n3\n")
    (root / "val.txt").write_text("1\n")
    result = tile(root, layout="pie-rgb-sar", out=tmp_path / "out")
    dataset = open_dataset_folder(result.path)
    assert dataset.names("train") == ("0", "2", "3") and dataset.names("val") == ("1",)
    label = dataset.read("1").label
    np.testing.assert_array_equal(label, read_raw(root / "label/1.tif")[0])
    assert dataset.bands is not None and len(dataset.bands.sar) == 1
    pixels = np.concatenate([read_raw(root / f"rgb/{n}.tif").reshape(3, -1) for n in "023"], axis=1)
    np.testing.assert_allclose(dataset.bands.rgb.mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(dataset.bands.rgb.std, pixels.std(axis=1), rtol=1e-12)


def test_ddhr(tmp_path: Path) -> None:
    root = tmp_path / "DDHR"
    rng = np.random.default_rng(0)
    for name in range(1, 5):
        write_image(root / f"rgb/{name}.jpg", rng.integers(0, 256, (3, 32, 32), np.uint8))
        write_image(root / f"sar/{name}.jpg", np.repeat(rng.integers(0, 256, (1, 32, 32), np.uint8), 3, 0))
        write_image(root / f"label/{name}.png", rng.integers(0, 5, (1, 32, 32), np.uint8))
    result = tile(root, layout="ddhr-sk", out=tmp_path / "out")
    dataset = open_dataset_folder(result.path)
    assert sum(result.tiles.values()) == 4 and result.warnings
    for name in dataset.names("train"):
        read = dataset.read(name)
        np.testing.assert_array_equal(read.rgb, read_raw(root / f"rgb/{name}.jpg"))
        np.testing.assert_array_equal(read.label, read_raw(root / f"label/{name}.png")[0])
        assert read.sar.shape[0] in (1, 3)


class TestBadArchives:
    """Each failure names the file, and nothing is left."""

    def refused(self, root: Path, error: type[Exception], message: str, layout: str = "whu-opt-sar") -> None:
        with pytest.raises(error, match=message):
            tile(root, layout=layout, out=root.parent / "out", size=64)
        assert [p.name for p in root.parent.iterdir() if "out" in p.name] == []

    def test_everything_that_can_be_wrong(self, tmp_path: Path) -> None:
        root = tmp_path / "WHU"
        self.refused(root, ManifestError, "does not exist")
        root.mkdir()
        self.refused(root, ManifestError, "has no rgb folder")
        whu(root)
        self.refused(root, ConfigError, "--layout 'whu' is unknown", layout="whu")
        self.refused(root, LabelError, r"lbl/N\d\.tif holds \d+; pie-rgb-sar has only", layout="pie-rgb-sar")
        (root / "train.txt").write_text("N9\n")
        self.refused(root, ManifestError, "train.txt line 1: there is no image 'N9'")
        (root / "train.txt").write_text("N1\n")
        (root / "test.txt").write_text("N1\n")
        self.refused(root, ManifestError, "test.txt line 1: 'N1' is in another list")
        (root / "train.txt").unlink(), (root / "test.txt").unlink()
        write_image(root / "sar/N2.tif", np.zeros((1, 70, 111), np.uint8))
        self.refused(root, ManifestError, r"sar/N2\.tif has 70 x 111 pixels")
        (root / "sar/N2.tif").write_bytes(b"II*\0")
        self.refused(root, ManifestError, r"sar/N2\.tif cannot be read")
        (root / "sar/N2.tif").unlink()
        self.refused(root, ManifestError, r"N2\.tif has no sar file")

    def test_one_folder_only(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="takes one folder"):
            tile(tmp_path, tmp_path, layout="ddhr-sk", out=tmp_path / "out")
