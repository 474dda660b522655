"""Tiles: the scene's own pixels, no pixel in two splits, statistics of the train split, the same for any workers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoasanet.bands import InputBands
from geoasanet.raster.dataset import SPLITS, open_dataset_folder
from geoasanet.raster.scene import Scene
from geoasanet.tools.tile import tile
from geoasanet.windows import Window
from tests.conftest import write_raster
from tests.tile.conftest import HEIGHT, NAMES, SIZE, WIDTH, label_array

Maker = Callable[..., dict[str, Any]]


def window_of(name: str) -> Window:
    row, col = name.rsplit("_", 2)[1:]
    return Window(int(row), int(col), SIZE, SIZE)


def all_names(root: Path) -> dict[str, str]:
    dataset = open_dataset_folder(root)
    return {name: split for split in dataset.splits for name in dataset.splits[split]}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("format", ["tif", "png"])
def test_tiles_are_slices_of_the_scene(scene: Maker, tmp_path: Path, format: str) -> None:
    files = scene(masked=True)
    result = tile(**files, out=tmp_path / "out", size=SIZE, format=format, min_valid=0.3, classes=NAMES)
    dataset = open_dataset_folder(result.path)
    labels = label_array()
    assert dataset.tile_size == SIZE and dataset.classes is not None and dataset.classes.names == NAMES
    with Scene.open(files["rgb"], files["sar"]) as opened:
        for name in all_names(result.path):
            window = window_of(name)
            expected, found = opened.read(window), dataset.read(name)
            np.testing.assert_array_equal(found.rgb, expected.rgb)
            np.testing.assert_array_equal(found.sar, expected.sar)
            np.testing.assert_array_equal(found.rgb_valid, expected.rgb_valid)
            np.testing.assert_array_equal(found.sar_valid, expected.sar_valid)
            assert found.valid.mean() >= 0.3
            truth = np.full((SIZE, SIZE), 255, np.uint8)
            inside = window.intersection(Window(0, 0, HEIGHT, WIDTH))
            assert inside is not None and found.label is not None
            truth[: inside.height, : inside.width] = labels[inside.slices]
            truth[~found.valid] = 255
            np.testing.assert_array_equal(found.label, truth)


def test_the_result_does_not_depend_on_workers(scene: Maker, tmp_path: Path) -> None:
    files = scene(masked=True)
    trees = []
    for workers in (1, 3):
        out = tmp_path / f"w{workers}" / "tiles"
        out.parent.mkdir()
        tile(**files, out=out, size=SIZE, overlap=5, classes=NAMES, workers=workers)
        trees.append(contents(out))
    assert trees[0].keys() == trees[1].keys() and len(trees[0]) > 100
    assert [k for k in trees[0] if trees[0][k] != trees[1][k]] == []


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overlap=st.integers(0, SIZE - 5), block=st.integers(1, 3), seed=st.integers(0, 9))
def test_no_pixel_is_in_two_splits_and_every_class_is_in_train(
    scene: Maker, tmp_path: Path, overlap: int, block: int, seed: int
) -> None:
    files = scene()
    result = tile(**files, out=tmp_path / "out", size=SIZE, overlap=overlap, block=block, seed=seed, overwrite=True)
    owner = np.full((HEIGHT + SIZE, WIDTH + SIZE), "", object)
    for name, split in all_names(result.path).items():
        part = owner[window_of(name).slices]
        assert np.isin(part, ("", split)).all()
        part[:] = split
    assert all(result.class_pixels["train"].values())
    assert all(result.tiles.values())


def test_statistics_are_those_of_the_train_split(scene: Maker, tmp_path: Path) -> None:
    result = tile(**scene(masked=True), out=tmp_path / "out", size=SIZE, classes=NAMES)
    dataset = open_dataset_folder(result.path)
    tiles = [dataset.read(name) for name in dataset.names("train")]
    assert isinstance(dataset.bands, InputBands)
    for sensor, bands in (("rgb", dataset.bands.rgb), ("sar", dataset.bands.sar)):
        pixels = np.concatenate([getattr(t, sensor)[:, getattr(t, f"{sensor}_valid")] for t in tiles], axis=1)
        np.testing.assert_allclose(bands.mean, pixels.mean(axis=1, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(bands.std, pixels.std(axis=1, dtype=np.float64), rtol=1e-12)
    counts = np.bincount(np.concatenate([t.label.ravel() for t in tiles if t.label is not None]), minlength=256)[:3]
    assert list(result.class_pixels["train"].values()) == counts.tolist()
    assert dataset.manifest.class_pixels == tuple(counts.tolist())
    weights = np.array(dataset.class_weights)
    np.testing.assert_allclose((weights * counts).sum() / counts.sum(), 1, atol=1e-5)
    np.testing.assert_allclose(weights * np.sqrt(counts), weights[0] * np.sqrt(counts[0]), rtol=1e-5)


def test_tiles_gpkg_says_what_the_tiles_are(scene: Maker, tmp_path: Path) -> None:
    result = tile(**scene(masked=True), out=tmp_path / "out", size=SIZE, classes=NAMES)
    frame = pyogrio.read_dataframe(result.path / "tiles.gpkg", layer="tiles")
    assert dict(zip(frame["name"], frame["split"], strict=True)) == all_names(result.path)
    dataset = open_dataset_folder(result.path)
    for row in frame.itertuples():
        read = dataset.read(row.name)
        with rasterio.open(dataset.paths(row.name).rgb) as file:
            assert tuple(file.bounds) == pytest.approx(row.geometry.bounds)
            assert file.crs == frame.crs.to_wkt()
        assert read.label is not None
        labelled = np.count_nonzero(read.label != 255)
        assert row.valid == pytest.approx(read.valid.mean(), abs=1e-6)
        assert row.labelled == pytest.approx(labelled / SIZE**2, abs=1e-6)
        assert row.share_town == pytest.approx(np.count_nonzero(read.label == 2) / labelled, abs=1e-6)
    with sqlite3.connect(result.path / "tiles.gpkg") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_other_programs_see_neutral_pixels_where_there_is_no_data(scene: Maker, tmp_path: Path) -> None:
    result = tile(**scene(masked=True), out=tmp_path / "out", size=SIZE, min_valid=0.2)
    dataset = open_dataset_folder(result.path)
    some = 0
    for name in all_names(result.path):
        read = dataset.read(name)
        with rasterio.open(dataset.paths(name).rgb) as file:
            raw = file.read()
        if not read.rgb_valid.all():
            some += 1
            mean = read.rgb[:, read.rgb_valid].mean(axis=1)
            assert np.abs(raw[:, ~read.rgb_valid] - mean[:, None]).max() <= 0.5
    assert some


def test_windows_without_data_or_labels_are_left_out(scene: Maker, tmp_path: Path) -> None:
    files = scene(masked=True)
    labels = label_array()
    labels[:, 64:] = 255
    write_raster(files["labels"], labels, nodata=255)
    strict = tile(**files, out=tmp_path / "strict", size=SIZE, min_valid=0.95)
    loose = tile(**files, out=tmp_path / "loose", size=SIZE, min_valid=0)
    for result in (strict, loose):
        total = sum(result.tiles.values()) + sum(result.left_out.values())
        assert total == -(-HEIGHT // SIZE) * -(-WIDTH // SIZE)
        assert result.left_out["no label"] > 0
    assert strict.left_out["too little data"] > loose.left_out["too little data"]


def test_linear_power_is_written_as_decibel(scene: Maker, tmp_path: Path) -> None:
    files = scene()
    power = np.random.default_rng(0).gamma(4, 0.05, (2, HEIGHT, WIDTH)).astype(np.float32)
    power[:, 3, 4] = 0
    write_raster(files["sar"], power)
    result = tile(**files, out=tmp_path / "out", size=SIZE)
    dataset = open_dataset_folder(result.path)
    assert dataset.bands is not None and dataset.bands.sar.scale == "db" and len(dataset.bands.sar) == 2
    for name in all_names(result.path):
        read, window = dataset.read(name), window_of(name)
        inside = power[:, *window.slices]
        valid = read.sar_valid[: inside.shape[1], : inside.shape[2]]
        np.testing.assert_allclose(
            read.sar[:, : inside.shape[1], : inside.shape[2]][:, valid], 10 * np.log10(inside[:, valid]), rtol=1e-5
        )
        assert name.endswith("_00000_00000") == (not read.sar_valid[3, 4] and window.row == window.col == 0)
    raw = tile(**files, out=tmp_path / "raw", size=SIZE, sar_scale="none", sar_bands=[2])
    bands = open_dataset_folder(raw.path).bands
    assert bands is not None and bands.sar.scale == "raw" and bands.sar.mean[0] == pytest.approx(0.2, abs=0.01)


def test_a_sar_raster_on_another_grid_stays_eight_bit(scene: Maker, tmp_path: Path) -> None:
    files = scene()
    ramp = np.tile(np.arange(10, 210, dtype=np.uint8), (160, 1))
    transform = rasterio.transform.from_origin(499_900, 3_000_100, 9, 9)
    write_raster(files["sar"], ramp, transform=transform)
    result = tile(**files, out=tmp_path / "out", size=SIZE)
    dataset = open_dataset_folder(result.path)
    for name in all_names(result.path):
        read, window = dataset.read(name), window_of(name)
        x = 500_000 + 10 * (window.col + np.arange(SIZE) + 0.5)
        expected = 10 + (x - 499_900) / 9 - 0.5
        assert read.sar.dtype == np.uint8
        difference = np.abs(read.sar[0].astype(float) - expected)[read.sar_valid]
        assert difference.max() <= 0.51


def test_without_labels(scene: Maker, tmp_path: Path) -> None:
    files = scene()
    files["labels"] = None
    result = tile(**files, out=tmp_path / "out", size=SIZE)
    dataset = open_dataset_folder(result.path)
    assert not (result.path / "label").exists() and not dataset.labelled and result.classes is None
    assert dataset.read(dataset.names("train")[0]).label is None


def test_a_small_scene_gets_smaller_blocks(scene: Maker, tmp_path: Path) -> None:
    result = tile(**scene(), out=tmp_path / "out", size=32, block=4)
    assert any("Blocks of 1 x 1" in w for w in result.warnings)
    assert all(result.tiles[split] for split in SPLITS)


def test_a_scene_smaller_than_a_tile(scene: Maker, tmp_path: Path) -> None:
    result = tile(**scene(), out=tmp_path / "out", size=160)
    assert result.tiles == {"train": 1, "val": 0, "test": 0}
    assert any("val.txt is empty" in w for w in result.warnings)


def test_two_shares_leave_no_test_list(scene: Maker, tmp_path: Path) -> None:
    result = tile(**scene(), out=tmp_path / "out", size=SIZE, split=(0.8, 0.2))
    assert result.tiles["test"] == 0 and not (result.path / "test.txt").exists()
