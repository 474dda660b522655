"""Dataset folders: the plain layout, dataset.yaml, and everything that can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geoasanet.classes import ClassSchema
from geoasanet.errors import LabelError, ManifestError
from geoasanet.raster.dataset import TileDataset, open_dataset_folder, reduce_zero
from geoasanet.raster.manifest import Manifest, read_manifest
from geoasanet.raster.quiet import quiet_georeference

Maker = Callable[..., Path]


def write_image(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """Write (bands, height, width) in the format of the suffix, without georeference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    size = dict(zip(("count", "height", "width"), pixels.shape, strict=True))
    with quiet_georeference(), rasterio.open(path, "w", driver=driver, dtype=pixels.dtype, **size, **options) as out:
        out.write(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain folder of three tiles of 40 x 56 pixels, with jpg, png and tif files."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        write_image(tmp_path / f"rgb/{name}.png", rng.integers(0, 256, (3, 40, 56), np.uint8))
        write_image(tmp_path / f"sar/{name}.tif", rng.normal(-12, 3, (2, 40, 56)).astype(np.float32))
        write_image(tmp_path / f"label/{name}.png", rng.integers(0, 3, (1, 40, 56), np.uint8))
    (tmp_path / "train.txt").write_text("a\nb\n\n")
    (tmp_path / "val.txt").write_text("c\n")
    return tmp_path


def test_the_plain_layout_loads(folder: Path) -> None:
    dataset = open_dataset_folder(folder)
    assert dataset.names("train") == ("a", "b") and dataset.names("val") == ("c",)
    assert dataset.classes is None and dataset.bands is None and dataset.labelled
    dataset.check("train")
    tile = dataset.read("b")
    assert tile.rgb.shape == (3, 40, 56) and tile.sar.shape == (2, 40, 56) and tile.sar.dtype == np.float32
    assert tile.label is not None and tile.label.dtype == np.uint8 and tile.valid.all()
    with quiet_georeference(), rasterio.open(folder / "label/b.png") as file:
        np.testing.assert_array_equal(tile.label, file.read(1))


def test_files_of_the_public_data(shared: Path) -> None:
    for root in (shared / "data/ombria", shared / "golden/asanet_tiny/e2e"):
        dataset = open_dataset_folder(root)
        for split in dataset.splits:
            dataset.check(split)
            tile = dataset.read(dataset.names(split)[0])
            assert tile.rgb.shape[0] == 3 and tile.sar.shape[0] == 1 and tile.label is not None


def test_masked_and_infinite_pixels_are_not_valid(folder: Path) -> None:
    sar = np.ones((1, 40, 56), np.float32)
    sar[0, 3, 4], sar[0, 7, 8] = np.nan, -999
    write_image(folder / "sar/a.tif", sar, nodata=-999)
    rgba = np.full((4, 40, 56), 9, np.uint8)
    rgba[3] = 255
    rgba[3, :5] = 0
    write_image(folder / "rgb/a.png", rgba)
    tile = open_dataset_folder(folder).read("a")
    assert tile.label is not None
    expected = np.ones((40, 56), bool)
    expected[3, 4] = expected[7, 8] = expected[:5] = False
    np.testing.assert_array_equal(tile.valid, expected)
    assert not tile.sar[0, 3, 4] and not tile.rgb[:, :5].any() and (tile.label[~expected] == 255).all()


class TestManifest:
    """dataset.yaml: round trip, freedom of names, refusals."""

    def test_round_trip(self, folder: Path) -> None:
        import yaml

        first = Manifest(
            label_suffix=".png",
            classes=ClassSchema.from_names(["water", "land"]),
            tile_size=256,
            class_pixels=(3, 4),
            class_weights=(0.5, 1.5),
            origin={"rgb": "x.tif"},
        )
        path = folder / "dataset.yaml"
        path.write_text(yaml.safe_dump(first.to_dict()))
        assert read_manifest(path, None) == first

    def test_folders_and_suffixes_are_free(self, folder: Path) -> None:
        (folder / "rgb").rename(folder / "optical")
        for name in ("a", "b", "c"):
            (folder / f"optical/{name}.png").rename(folder / f"optical/{name}_opt.png")
        (folder / "dataset.yaml").write_text("rgb_dir: optical\nrgb_suffix: _opt.png\nclasses: [x, y, z]\nnote: hi\n")
        dataset = open_dataset_folder(folder)
        assert dataset.read("a").rgb.shape == (3, 40, 56)
        assert dataset.classes is not None and dataset.classes.names == ("x", "y", "z")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("rgb_dir: ../elsewhere", "rgb_dir must be a folder inside"),
            ("sar_dir: /etc", "sar_dir must be a folder inside"),
            ("label_suffix: 3", "label_suffix must be the end"),
            ("reduce_zero_labels: true", "Did you mean 'reduce_zero_label'"),
            ("reduce_zero_label: 1", "must be true or false"),
            ("tile_size: -4", "tile_size must be a positive"),
            ("classes: [a, a]", "'a' appears twice"),
            ("bands: {rgb: 3}", "'bands' is malformed"),
            ("classes: [a, b]\nclass_weights: [1]", "class_weights has 1 values for 2"),
            ("class_weights: [.nan]", "class_weights must be 0 or more"),
            ("!!python/object/apply:os.system ['true']", "cannot be read"),
            ("[]", "must hold keys and values"),
            ("rgb_dir: none", "has no folder none/"),
        ],
    )
    def test_refusals_name_the_file(self, folder: Path, text: str, message: str) -> None:
        (folder / "dataset.yaml").write_text(text)
        with pytest.raises(ManifestError, match=message) as caught:
            open_dataset_folder(folder)
        assert str(folder) in str(caught.value)


class TestBadFolders:
    """Each failure names the file."""

    def refused(self, folder: Path, message: str, use: Callable[[TileDataset], Any] = lambda d: d) -> None:
        with pytest.raises((ManifestError, LabelError), match=message) as caught:
            use(open_dataset_folder(folder))
        assert str(folder) in str(caught.value)

    def test_no_folder(self, folder: Path) -> None:
        self.refused(folder / "none", "does not exist")

    def test_no_lists(self, folder: Path) -> None:
        (folder / "train.txt").unlink(), (folder / "val.txt").unlink()
        self.refused(folder, "has no train.txt")

    def test_empty_and_missing_splits(self, folder: Path) -> None:
        (folder / "train.txt").write_text("\n")
        self.refused(folder, "the train split is empty", lambda d: d.names("train"))
        self.refused(folder, "has no list test.txt", lambda d: d.names("test"))

    @pytest.mark.parametrize("name", ["../a", "/a", "x/../../a", "c:a", "x\\a"])
    def test_names_stay_inside(self, folder: Path, name: str) -> None:
        (folder / "train.txt").write_text(f"a\n{name}\n")
        self.refused(folder, "line 2: the name .* leads out")

    def test_repeated_name(self, folder: Path) -> None:
        (folder / "train.txt").write_text("a\nb\na\n")
        self.refused(folder, "line 3: 'a' is already on line 1")

    def test_missing_pair(self, folder: Path) -> None:
        (folder / "sar/b.tif").unlink()
        self.refused(folder, r"Tile 'b' .* lacks .*sar/b\.tif", lambda d: d.check("train"))
        self.refused(folder, r"sar/b\.tif does not exist", lambda d: d.read("b"))

    def test_sizes_differ(self, folder: Path) -> None:
        write_image(folder / "label/b.png", np.zeros((1, 40, 57), np.uint8))
        self.refused(folder, r"label/b\.png has 40 x 57 pixels .* 40 x 56", lambda d: d.read("b"))

    def test_damaged(self, folder: Path) -> None:
        (folder / "rgb/b.png").write_bytes(b"not a picture")
        self.refused(folder, r"rgb/b\.png cannot be read", lambda d: d.read("b"))

    def test_label_outside_the_schema(self, folder: Path) -> None:
        write_image(folder / "label/b.png", np.full((1, 40, 56), 7, np.uint8))
        schema = ClassSchema.from_names(["x", "y", "z"])
        self.refused(folder, r"label/b\.png holds class 7", lambda d: d.assuming(schema).read("b"))


def test_reduce_zero_label_is_the_originals(shared: Path) -> None:
    lut = np.load(shared / "golden/training/metric.npz")["reduce_zero_label_lut"]
    np.testing.assert_array_equal(reduce_zero(np.arange(256, dtype=np.uint8)), lut)


def test_reduce_zero_label_on_reading(folder: Path) -> None:
    plain, reduced = open_dataset_folder(folder), open_dataset_folder(folder).assuming(reduce_zero_label=True)
    before, after = plain.read("a").label, reduced.read("a").label
    assert before is not None and after is not None
    np.testing.assert_array_equal(after, np.where(before == 0, 255, before.astype(int) - 1))
