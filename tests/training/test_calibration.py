"""Temperature scaling: the temperature is the best one, it reaches every map, and its effect is measured rightly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.cli.main import main
from geoasanet.errors import CheckpointError, ConfigError, OutputExistsError
from geoasanet.inference.predictor import Predictor
from geoasanet.models.network import Network
from geoasanet.sample import Sample
from geoasanet.tools.evaluate_reliability import BINS, CalibrationSums, ReliabilitySums
from geoasanet.training.calibration import COLDEST, HOTTEST, TemperatureSums
from geoasanet.windows import Window
from tests.evaluate.folders import known, random_folder
from tests.models.tester import build
from tests.training.conftest import TINY

Tiles = Callable[..., Path]
SMALL = {"encoder": {"depths": [2, 2, 3, 3, 3], "dims": [8, 8, 12, 16, 16]}}
BANDS = InputBands(SensorBands((120, 120, 120), (60, 60, 60)), SensorBands((-8.0,), (3.0,), "db"))


def save(path: Path, model: Network, *, bands: InputBands = BANDS, window: int = 64, **options: Any) -> Path:
    classes = ClassSchema.from_names(("water", "field", "town"))
    ga.save_checkpoint(path, model, classes=classes, bands=bands, window_size=window, **options)
    return path


def drawn(classes: int, seed: int, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw logits (2, K, H, W) and labels that follow from their probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((2, classes, size, size), generator=generator)
    chances = torch.softmax(logits, 1).permute(0, 2, 3, 1).reshape(-1, classes)
    labels = torch.multinomial(chances, 1, generator=generator).reshape(2, size, size)
    return logits, labels.to(torch.uint8)


class TestFit:
    """The temperature of least cross entropy."""

    @settings(max_examples=15, deadline=None)
    @given(classes=st.integers(2, 7), scale=st.floats(0.4, 5), seed=st.integers(0, 99))
    def test_it_is_that_of_a_minimiser(self, classes: int, scale: float, seed: int) -> None:
        logits, labels = drawn(classes, seed)
        sums = TemperatureSums()
        sums.add(logits * scale, labels)
        found = sums.fit()
        flat = (logits * scale).permute(0, 2, 3, 1).reshape(-1, classes).double()

        def cross_entropy(inverse: float) -> float:
            return float(torch.nn.functional.cross_entropy(flat * inverse, labels.reshape(-1).long()))

        best = minimize_scalar(
            cross_entropy, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded", options={"xatol": 1e-9}
        )
        assert found.temperature == pytest.approx(1 / best.x, rel=1e-4)
        assert found.calibrated_cross_entropy == pytest.approx(best.fun, rel=1e-5)
        assert found.cross_entropy == pytest.approx(cross_entropy(1.0), rel=1e-5)
        assert found.pixels == labels.numel()

    @pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
    def test_the_scale_of_overconfident_logits_is_recovered(self, scale: float) -> None:
        logits, labels = drawn(6, seed=1, size=200)
        sums = TemperatureSums()
        sums.add(logits * scale, labels)
        assert sums.fit().temperature == pytest.approx(scale, rel=0.02)

    def test_parts_add_and_unlabelled_pixels_and_constants_do_not_matter(self) -> None:
        logits, labels = drawn(4, seed=2)
        whole, parts = TemperatureSums(), TemperatureSums()
        whole.add(logits, labels)
        hidden = labels.clone()
        hidden[:, 20:] = 255
        rest = torch.where(hidden == 255, labels, torch.tensor(255, dtype=torch.uint8))
        parts.add(logits + torch.randn(2, 1, 48, 48), hidden)
        parts.add(logits, rest)
        assert parts.fit().pixels == whole.fit().pixels
        assert parts.fit().temperature == pytest.approx(whole.fit().temperature, rel=1e-5)

    def test_few_pixels_of_an_image_do(self) -> None:
        logits, labels = drawn(5, seed=3, size=128)
        sums = TemperatureSums()
        sums.add(2 * logits, labels, enough=4000)
        assert sums.fit().pixels == 8000
        assert sums.fit().temperature == pytest.approx(2, rel=0.1)

    def test_it_stays_within_bounds(self) -> None:
        logits, _ = drawn(3, seed=4)
        right, wrong = TemperatureSums(), TemperatureSums()
        right.add(logits, logits.argmax(1))
        wrong.add(logits, logits.argmin(1))
        assert right.fit().temperature == pytest.approx(COLDEST)
        assert wrong.fit().temperature == pytest.approx(HOTTEST)
        assert TemperatureSums().fit().temperature == 1


class TestReliability:
    """ECE, cross entropy, Brier score."""

    def test_by_hand(self) -> None:
        sums = ReliabilitySums()
        # Confident and right, confident and wrong; then unsure and right.
        sums.add(torch.tensor([[0.95, 0.95], [0.05, 0.05]]), torch.tensor([0, 1]))
        sums.add(torch.tensor([[0.45], [0.55]]), torch.tensor([1]))
        found = sums.result()
        assert found.pixels.tolist() == [0] * 8 + [1] + [0] * 5 + [2]
        assert found.accuracy[[8, 14]].tolist() == [1, 0.5]
        np.testing.assert_allclose(found.confidence[[8, 14]], [0.55, 0.95], rtol=1e-6)
        assert found.ece == pytest.approx((1 * 0.45 + 2 * 0.45) / 3)
        assert found.cross_entropy == pytest.approx(-np.log([0.95, 0.05, 0.55]).mean(), rel=1e-6)
        assert found.brier == pytest.approx((2 * 0.05**2 + 2 * 0.95**2 + 2 * 0.45**2) / 3, rel=1e-6)

    def test_against_numpy(self) -> None:
        logits, labels = drawn(5, seed=5)
        p = torch.softmax(logits, 1).permute(1, 0, 2, 3).reshape(5, -1)
        sums = ReliabilitySums()
        for part in range(3):
            sums.add(p[:, part::3], labels.reshape(-1)[part::3].long())
        found, probabilities, truth = sums.result(), p.numpy().astype(float), labels.numpy().ravel()
        sure, right = probabilities.max(0), probabilities.argmax(0) == truth
        ece = 0.0
        for i in range(BINS):
            inside = (sure > i / BINS) & (sure <= (i + 1) / BINS)
            if inside.any():
                ece += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
        assert found.ece == pytest.approx(ece, rel=1e-9)
        assert found.brier == pytest.approx(((probabilities - np.eye(5)[truth].T) ** 2).sum(0).mean(), rel=1e-6)

    def test_the_temperature_can_be_taken_out(self) -> None:
        logits, labels = drawn(4, seed=6)
        both, plain = CalibrationSums(1.6, tta=False), CalibrationSums(1.0, tta=False)
        for image, label in zip(logits, labels.numpy(), strict=True):
            both.add(torch.softmax(image / 1.6, 0), label, label < 4)
            plain.add(torch.softmax(image, 0), label, label < 4)
        without, expected = both.result().without, plain.result().found
        assert without is not None and plain.result().without is None
        assert without.cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-5)
        assert without.ece == pytest.approx(expected.ece, abs=1e-4)
        assert CalibrationSums(1.6, tta=True).result().without is None

    def test_nothing_is_not_a_number(self) -> None:
        found = ReliabilitySums().result().to_dict()
        assert found["ece"] is None and found["brier"] is None and found["bins"][0]["accuracy"] is None


class TestCheckpoint:
    """The temperature travels in the checkpoint."""

    @torch.no_grad()
    def test_calibrated_logits_are_divided_by_it(self, tmp_path: Path) -> None:
        model = build("fusenet", **SMALL).eval()
        found = ga.load_checkpoint(save(tmp_path / "net.safetensors", model, temperature=2.5))
        pair = torch.randn(2, 3, 64, 64), torch.randn(2, 1, 64, 64)
        logits = model(*pair)
        assert found.temperature == 2.5
        assert torch.equal(found.model(*pair), logits)
        torch.testing.assert_close(found.calibrated(*pair), logits / 2.5)
        assert found.calibrated.state_dict().keys() == model.state_dict().keys()
        assert ga.info(found.path).facts["temperature"] == 2.5

    def test_it_reaches_the_accelerated_network(self, tmp_path: Path) -> None:
        model = build("fusenet", **SMALL).eval()
        found = ga.load_checkpoint(save(tmp_path / "net.safetensors", model, temperature=0.5))
        rng = np.random.default_rng(0)
        rgb, sar = rng.integers(0, 256, (3, 64, 64)), rng.normal(-8, 3, (1, 64, 64))
        valid = np.ones((64, 64), bool)
        sample = Sample(Window(0, 0, 64, 64), rgb.astype(np.uint8), sar.astype(np.float32), valid, valid)
        hot, cold = (
            next(Predictor(network, BANDS, 3, device=torch.device("cpu")).run([sample]))
            for network in (found.model, found.calibrated)
        )
        torch.testing.assert_close(cold, torch.softmax(2 * hot.log(), 0), atol=1e-5, rtol=1e-4)

    def test_old_checkpoints_have_none_and_map_as_before(
        self, tmp_path: Path, scene_files: Callable[..., tuple[Path, Path]]
    ) -> None:
        new = save(tmp_path / "new.safetensors", build("fusenet", **SMALL))
        with safe_open(new, framework="pt") as file:
            description = json.loads(file.metadata()["geoasanet"])
        assert description.pop("temperature") == 1
        save_file(load_file(new), tmp_path / "old.safetensors", {"geoasanet": json.dumps(description)})
        old = ga.load_checkpoint(tmp_path / "old.safetensors")
        assert old.temperature == 1 and old.calibrated is old.model
        scene = scene_files(100, 90)
        one, two = (mapped(scene, path, tmp_path) for path in (old.path, new))
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))

    def test_probabilities_of_a_map_are_those_of_divided_logits(
        self, tmp_path: Path, scene_files: Callable[..., tuple[Path, Path]]
    ) -> None:
        scene = scene_files(64, 64)  # one window
        model = build("fusenet", **SMALL)
        found = []
        for temperature in (1.0, 3.0):
            path = save(tmp_path / f"{temperature}.safetensors", model, temperature=temperature)
            mapped(scene, path, tmp_path, probabilities=tmp_path / "probabilities.tif")
            with rasterio.open(tmp_path / "probabilities.tif") as raster:
                found.append(torch.from_numpy(raster.read()))
        torch.testing.assert_close(found[1], torch.softmax(found[0].log() / 3, 0), atol=1e-5, rtol=1e-4)

    @pytest.mark.slow
    def test_workers_know_it(self, tmp_path: Path, scene_files: Callable[..., tuple[Path, Path]]) -> None:
        scene = scene_files(100, 64)
        path = save(tmp_path / "net.safetensors", build("fusenet", **SMALL), temperature=3.0)
        one, two = (mapped(scene, path, tmp_path, gpus=gpus) for gpus in (1, 2))
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))

    @pytest.mark.parametrize("temperature", [0, -1, float("nan"), 1000, True, "1"])
    def test_impossible_ones_are_refused(self, tmp_path: Path, temperature: Any) -> None:
        with pytest.raises(CheckpointError, match=r"a number from 0\.01 to 100 is needed"):
            save(tmp_path / "net.safetensors", build("fusenet", **SMALL), temperature=temperature)


def mapped(scene: tuple[Path, Path], checkpoint: Path, folder: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    out, confidence = folder / "map.tif", folder / "confidence.tif"
    ga.predict(*scene, checkpoint=checkpoint, out=out, confidence=confidence, device="cpu", overwrite=True, **options)
    with rasterio.open(out) as classes, rasterio.open(confidence) as sure:
        return classes.read(), sure.read()


class TestTrain:
    """Training fits it on val."""

    def test_checkpoints_have_the_best_temperature(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("geoasanet.training.log.draw_curves", lambda *_, **__: None)
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        data = tiles()
        result = ga.train(TINY, data=data, out=tmp_path / "run", device="cpu")
        made = ga.load_checkpoint(result.last)
        assert made.temperature != 1
        origin = made.training["calibration"]
        assert origin["split"] == "val" and origin["cross_entropy"] <= origin["cross_entropy_before"]
        again = tmp_path / "again.safetensors"
        found = ga.evaluate(checkpoint=result.last, data=data, calibrate=again, device="cpu")
        assert ga.load_checkpoint(again).temperature == pytest.approx(made.temperature, rel=1e-3)
        assert origin["pixels"] == found.counts.compared
        assert found.calibration.found.cross_entropy == pytest.approx(origin["cross_entropy"], rel=1e-3)


class TestEval:
    """What ``eval`` says about confidence."""

    def test_a_network_that_is_always_90_percent_sure(self, tmp_path: Path) -> None:
        matrix = random_folder(tmp_path, [(40, 50), (33, 40)])
        found = ga.evaluate(checkpoint=known(), data=tmp_path, device="cpu").calibration
        accuracy = np.trace(matrix) / matrix.sum()
        assert found.found.ece == pytest.approx(0.9 - accuracy, abs=1e-6)
        assert found.found.pixels.tolist() == [0] * 13 + [matrix.sum()] + [0]
        entropy = -accuracy * np.log(0.9) - (1 - accuracy) * np.log(0.05)
        assert found.found.cross_entropy == pytest.approx(entropy, rel=1e-5)
        assert (found.temperature, found.without) == (1, None)

    def test_calibrating_a_checkpoint(self, tmp_path: Path) -> None:
        random_folder(tmp_path, [(64, 64)] * 3)
        bands = InputBands(SensorBands((1, 1, 1), (1, 1, 1)), SensorBands((7,), (1,)))
        model = build("fusenet", **SMALL)
        old = save(tmp_path / "old.safetensors", model, bands=bands, temperature=0.6, dtype="fp16", training={"a": 1})
        out, report = tmp_path / "new.safetensors", tmp_path / "report.html"
        arguments = ["-c", str(old), "--data", str(tmp_path), "--device", "cpu", "--calibrate", str(out)]
        done = CliRunner().invoke(main, ["eval", *arguments, "--report", str(report)])
        assert done.exit_code == 0, done.output
        before, after = (ga.load_checkpoint(path) for path in (old, out))
        assert before.temperature == 0.6 and after.temperature > 1  # labels are random: nothing can be known
        assert after.training["a"] == 1 and after.training["calibration"]["split"] == "val"
        assert all(torch.equal(t, before.model.state_dict()[n]) for n, t in after.model.state_dict().items())
        assert f"confidence, temperature {after.temperature:.4g}: ECE" in done.stdout
        assert "confidence, temperature 1: ECE" in done.stdout and str(out) in done.stdout
        page = report.read_text()
        assert page.count('aria-label="Reliability, temperature') == 2 and "Guo et al. 2017" in page
        found = ga.evaluate(checkpoint=out, data=tmp_path, device="cpu").calibration
        assert found.without is not None and found.found.cross_entropy < found.without.cross_entropy
        assert found.found.ece < found.without.ece
        with pytest.raises(OutputExistsError):
            ga.evaluate(checkpoint=old, data=tmp_path, calibrate=out)

    def test_what_cannot_be_calibrated(self, tmp_path: Path) -> None:
        random_folder(tmp_path, [(64, 64)])
        checkpoint = save(tmp_path / "old.safetensors", build("fusenet", **SMALL))
        for options, said in (
            ({"tta": True, "calibrate": tmp_path / "n.safetensors"}, "Leave --tta out"),
            ({"calibrate": tmp_path / "new.pt"}, "suffix .safetensors"),
            ({"calibrate": checkpoint, "overwrite": True}, "also an input"),
        ):
            with pytest.raises(ConfigError, match=said):
                ga.evaluate(checkpoint=checkpoint, data=tmp_path, device="cpu", **options)
        with pytest.raises(ConfigError, match="--calibrate to that of a checkpoint"):
            ga.evaluate(map="m.tif", labels="l.tif", calibrate="c.safetensors")
