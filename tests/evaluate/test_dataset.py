"""A checkpoint on the tiles of a dataset: what is counted, what the network sees, what is refused."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.errors import (
    BandError,
    CheckpointError,
    ConfigError,
    DeviceError,
    GeoASANetError,
    LabelError,
    ManifestError,
    ModelError,
    NonFiniteError,
)
from geoasanet.metrics import Metrics, confusion
from geoasanet.raster.quiet import quiet_georeference
from geoasanet.tools.evaluate import DatasetEvaluation, evaluate
from tests.evaluate.conftest import refused
from tests.evaluate.folders import GRAY, RedNet, known, known_tile, random_folder, write_lists, write_tile

SIZES = st.sampled_from([(32, 32), (32, 40), (40, 32)])


class TestCounting:
    """Every labelled pixel once, whatever the order of the work."""

    @settings(max_examples=12, deadline=None)
    @given(st.lists(SIZES, min_size=1, max_size=6), st.integers(1, 4), st.booleans(), st.integers(0, 99))
    def test_the_matrix_is_that_counted_by_hand(
        self, sizes: list[tuple[int, int]], batch_size: int, tta: bool, seed: int
    ) -> None:
        with tempfile.TemporaryDirectory() as place:
            matrix = random_folder(Path(place), sizes, seed)
            found = evaluate(checkpoint=known(), data=place, batch_size=batch_size, tta=tta)
        np.testing.assert_array_equal(found.metrics.matrix, matrix)
        assert found.counts.compared == matrix.sum()
        assert found.counts.compared + found.counts.unlabelled == sum(h * w for h, w in sizes)
        assert found.tiles == len(sizes) and found.metrics.mean_iou == Metrics.from_matrix(matrix).mean_iou

    def test_pixels_without_data_do_not_count(self, tmp_path: Path) -> None:
        label = np.zeros((40, 40), np.uint8)
        label[:, :4] = 255
        mask = np.ones((40, 40), bool)
        mask[:10] = False
        known_tile(tmp_path, "a", np.where(mask, 1, 0), label, mask=mask)
        write_lists(tmp_path, {"val": ["a"]})
        found = evaluate(checkpoint=known(), data=tmp_path)
        assert (found.counts.compared, found.counts.unlabelled, found.counts.without_data) == (30 * 36, 30 * 4, 400)
        assert found.metrics.matrix[0, 1] == 30 * 36 == found.metrics.matrix.sum()

    @pytest.mark.parametrize("split", ["val", "test", "train"])
    def test_only_the_split_counts(self, split: str, tmp_path: Path) -> None:
        matrix = random_folder(tmp_path, [(32, 32)] * 2, split=split)
        known_tile(tmp_path, "other", np.zeros((32, 32)), np.zeros((32, 32)))
        for other in {"val", "test", "train"} - {split}:
            (tmp_path / f"{other}.txt").write_text("other\n")
        found = evaluate(checkpoint=known(), data=tmp_path, split=split)
        np.testing.assert_array_equal(found.metrics.matrix, matrix)


class TestInput:
    """The network sees whole tiles, normalised as it was trained."""

    def test_normalised_with_the_checkpoints_statistics(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        rgb, sar = rng.integers(1, 256, (3, 32, 48), np.uint8), rng.integers(1, 256, (1, 32, 48), np.uint8)
        mask = np.ones((32, 48), bool)
        mask[5:9, 3:20] = False
        write_tile(tmp_path, "a", rgb, sar, np.zeros((32, 48), np.uint8), mask=mask)
        other = {"rgb": {"mean": [1, 2, 3], "std": [9, 9, 9]}, "sar": {"mean": [5], "std": [3]}}
        write_lists(tmp_path, {"val": ["a"]}, bands=other)
        network = RedNet()
        evaluate(checkpoint=known(network, GRAY), data=tmp_path)
        ((seen_rgb, seen_sar),) = network.seen
        expected = (rgb - np.array(GRAY.rgb.mean)[:, None, None]) / np.array(GRAY.rgb.std)[:, None, None]
        expected[:, ~mask] = 0
        np.testing.assert_allclose(seen_rgb[0].numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(seen_sar[0].numpy(), (sar - 80.0) / 50, atol=1e-5)  # has data everywhere

    def test_augmentation_shows_every_tile_eight_times(self, tmp_path: Path) -> None:
        random_folder(tmp_path, [(40, 32)] * 2)
        network = RedNet()
        found = evaluate(checkpoint=known(network), data=tmp_path, batch_size=1, tta=True)
        assert found.tta and [tuple(rgb.shape[2:]) for rgb, _ in network.seen] == [(40, 32), (32, 40)] * 8

    def test_another_size_than_the_windows_is_said(self, tmp_path: Path) -> None:
        random_folder(tmp_path, [(40, 40), (32, 40), (40, 40)])
        found = evaluate(checkpoint=known(window=40), data=tmp_path)
        (note,) = found.warnings
        assert "1 of 3 tiles are 32 x 40 px" in note and "trained on 40 x 40" in note

    def test_values_far_from_the_statistics_are_warned_about(self, tmp_path: Path) -> None:
        random_folder(tmp_path, [(40, 40)])
        notes = evaluate(checkpoint=known(bands=GRAY), data=tmp_path).warnings
        assert [n for n in notes if "RGB band 2 of" in n and "trained on 120" in n]

    def test_a_network_that_gives_nan_is_named_with_the_tile(self, tmp_path: Path) -> None:
        class Broken(RedNet):
            def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
                return super().forward(rgb, sar) * (float("nan") if len(self.seen) == 3 else 1)

        random_folder(tmp_path, [(40, 40)] * 4)
        broken: dict[str, Any] = {"checkpoint": known(Broken()), "data": tmp_path}
        refused(NonFiniteError, r"NaN or infinity .*\(tile 't2'\)\. Try --precision", tmp_path, **broken, batch_size=1)
        refused(ModelError, r"\(among tiles 't0', 't1'", tmp_path, **_with(broken, RedNet(2)), batch_size=2)


def _with(arguments: dict[str, Any], model: torch.nn.Module) -> dict[str, Any]:
    return {**arguments, "checkpoint": known(model)}


class TestClasses:
    """Matched by name; or refused with both lists."""

    def test_another_order_is_remapped_and_said(self, tmp_path: Path) -> None:
        matrix = random_folder(tmp_path, [(40, 40)])
        write_lists(tmp_path, {}, ["Town", " water", "FIELD"])  # labels 0, 1, 2 on disk mean these
        found = evaluate(checkpoint=known(), data=tmp_path)
        np.testing.assert_array_equal(found.metrics.matrix, matrix[[1, 2, 0]])  # rows water, field, town
        assert found.classes.names == ("water", "field", "town")
        assert "another order" in found.warnings[0] and "matched by name" in found.warnings[0]

    def test_a_folder_without_names_takes_the_checkpoints(self, tmp_path: Path) -> None:
        matrix = random_folder(tmp_path, [(40, 40)])
        (tmp_path / "dataset.yaml").unlink()
        found = evaluate(checkpoint=known(), data=tmp_path)
        np.testing.assert_array_equal(found.metrics.matrix, matrix)
        assert "0 water, 1 field, 2 town" in found.warnings[0]
        refused(LabelError, "holds class 2", tmp_path, checkpoint=known(names=["a", "b"]), data=tmp_path)

    def test_other_classes_are_refused(self, tmp_path: Path) -> None:
        random_folder(tmp_path, [(40, 40)])
        other = known(names=("water", "field", "snow"))
        message = "classes water, field, snow, but the dataset .* has water, field, town.*--classes"
        refused(CheckpointError, message, tmp_path, checkpoint=other, data=tmp_path)
        fewer = known(names=("water", "field"))
        refused(CheckpointError, "knows the classes water, field, but", tmp_path, checkpoint=fewer, data=tmp_path)

    def test_a_class_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        known_tile(tmp_path, "a", np.zeros((40, 40)), np.zeros((40, 40)))
        found = evaluate(checkpoint=known(), data=write_lists(tmp_path, {"val": ["a"]}))
        assert "labelled field, town" in found.warnings[0]
        document = json.dumps(found.to_dict(), allow_nan=False)
        assert json.loads(document)["metrics"]["classes"]["town"]["iou"] is None


class TestRefusals:
    """Each names what is wrong and where, and writes nothing."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A good dataset of twenty tiles."""
        random_folder(tmp_path / "set", [(32, 32)] * 20)
        return tmp_path / "set"

    def refuse(self, error: type[GeoASANetError], message: str, folder: Path, **options: Any) -> None:
        refused(error, message, folder.parent, **{"checkpoint": known(), "data": folder, **options})

    def test_splits(self, folder: Path) -> None:
        self.refuse(ManifestError, "has no list test.txt", folder, split="test")
        self.refuse(ConfigError, "'dev' is unknown. One of train, val, test", folder, split="dev")
        (folder / "test.txt").write_text("\n")
        self.refuse(ManifestError, "the test split is empty", folder, split="test")
        self.refuse(ManifestError, "nowhere does not exist", folder, data=folder / "nowhere")

    def test_files(self, folder: Path) -> None:
        report = folder.parent / "r.html"
        (folder / "sar/t13.tif").unlink()
        self.refuse(ManifestError, r"'t13' .* lacks .*sar/t13\.tif", folder, report=report)
        write_tile(folder, "t13", *(np.zeros((n, 32, 32), np.uint8) for n in (3, 1)), np.full((32, 32), 9, np.uint8))
        self.refuse(LabelError, r"label/t13\.tif holds class 9", folder, report=report)

    def test_labels(self, folder: Path) -> None:
        for tile in folder.glob("label/*.tif"):
            shutil.copy(_unlabelled(folder), tile)
        self.refuse(LabelError, "No pixel of the 20 val tiles", folder)
        shutil.rmtree(folder / "label")
        (folder / "dataset.yaml").unlink()
        self.refuse(ManifestError, "has no labels.*--labels", folder)

    def test_bands(self, folder: Path) -> None:
        two = InputBands(GRAY.rgb, SensorBands((1, 2), (3, 4)))
        self.refuse(CheckpointError, "takes 2 SAR bands, but .*has 1", folder, checkpoint=known(bands=two))
        zeros = np.zeros((32, 32), np.uint8)
        write_tile(folder, "t4", np.zeros((3, 32, 32), np.uint8), np.zeros((2, 32, 32), np.uint8), zeros)
        self.refuse(CheckpointError, r"takes 1 SAR band, but .*t4\.tif has 2", folder)

    def test_scales(self, folder: Path) -> None:
        db = known(bands=InputBands(GRAY.rgb, SensorBands((-12,), (3,), "db")))
        self.refuse(BandError, r"SAR tiles in .*sar/ hold 8-bit grey values \(uint8\).*decibel", folder, checkpoint=db)
        wide = np.full((3, 32, 32), 3000, np.uint16)
        for i in range(20):
            write_tile(folder, f"t{i}", wide, np.full((1, 32, 32), -9.5, np.float32), np.zeros((32, 32), np.uint8))
        message = r"RGB tiles in .*rgb/ hold values up to 3000 \(uint16\)"
        self.refuse(BandError, message, folder, checkpoint=known(bands=GRAY))
        raw = known(bands=InputBands(SensorBands((0, 0, 0), (1, 1, 1), "raw"), GRAY.sar))
        self.refuse(BandError, r"SAR tiles in .* hold decibel values \(float32\)", folder, checkpoint=raw)

    def test_devices(self, folder: Path) -> None:
        self.refuse(DeviceError, "'tpu' is unknown", folder, device="tpu")
        self.refuse(ConfigError, "fp16 is not available on CPU", folder, device="cpu", precision="fp16")
        self.refuse(ConfigError, "Batch size must be at least 1", folder, batch_size=0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"map": "m.tif", "labels": "l.tif", "data": "tiles"}, "--map and --labels belong .* --data to that of a"),
            ({"labels": "l.tif", "split": "test"}, "--labels belongs .*--split"),
            ({"map": "m.tif", "tta": True}, "--map belongs .*--tta"),
            ({"strata": "s.csv", "batch_size": 4}, "--strata belongs .*--batch-size"),
            ({"map": "m.tif"}, "--labels is needed"),
            ({"confidence_level": 0.9}, "--map and --labels are needed"),
        ],
    )
    def test_arguments_of_both_kinds(self, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
        refused(ConfigError, message, tmp_path, **arguments)


def _unlabelled(folder: Path) -> Path:
    with quiet_georeference(), rasterio.open(folder / "label/t0.tif", "r+") as file:
        file.write(np.full((1, *file.shape), 255, np.uint8))
    empty = folder / "empty.tif"
    return Path(shutil.copy(folder / "label/t0.tif", empty))


@pytest.mark.slow
def test_the_originals_metrics(shared: Path, tmp_path: Path) -> None:
    """The original pipeline and test loop with the same weights gave the stored predictions and metrics."""
    golden = shared / "golden/asanet_tiny"
    ga.convert(golden / "mmengine_runner.pth", tmp_path / "c.safetensors")
    folder = tmp_path / "tiles"
    for kind in ("rgb", "sar", "label"):
        shutil.copytree(golden / "e2e" / kind, folder / kind)
    shutil.copy(golden / "e2e/val.txt", folder)
    found = evaluate(checkpoint=tmp_path / "c.safetensors", data=folder, device="cpu", precision="fp32")
    expected = np.zeros((6, 6), np.int64)
    for path in sorted(folder.glob("label/*.tif")):
        official = golden / f"e2e/pred/{path.stem}.png"
        with quiet_georeference(), rasterio.open(path) as label, rasterio.open(official) as predicted:
            expected += confusion(label.read(1), predicted.read(1), 6)
    np.testing.assert_array_equal(found.metrics.matrix, expected)
    metrics, stored = found.metrics, json.loads((golden / "e2e/metric.json").read_text())
    ours = {
        "aAcc": metrics.accuracy,
        "mIoU": metrics.mean_iou,
        "mAcc": metrics.mean_accuracy,
        "mFscore": metrics.mean_f1,
        "mPrecision": metrics.mean_precision,
        "mRecall": metrics.mean_accuracy,
        "Kappa": metrics.kappa,
    }
    assert {name: round(100 * value, 2) for name, value in ours.items()} == stored
    assert isinstance(found, DatasetEvaluation) and found.tiles == 4
