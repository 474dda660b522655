"""``export``: other programs get the network's numbers, and ``predict`` takes what was exported like a checkpoint."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.cli.main import main
from geoasanet.errors import CheckpointError, ConfigError, ModelError, OutputExistsError
from geoasanet.models import pt2file
from geoasanet.models.cards import CARDS
from geoasanet.models.exportable import Export
from geoasanet.models.header import METADATA_KEY
from geoasanet.models.network import Network
from geoasanet.models.onnxfile import write_onnx
from geoasanet.raster.synthetic_scene import write_scene
from geoasanet.synthetic import generate_landscape
from geoasanet.tools.export import describe, trace
from tests.conftest import ROOT
from tests.models.tester import NetworkTester, build

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NAMES = ("water", "forest", "town")
BANDS = InputBands(SensorBands((100, 120, 140), (40, 30, 20)), SensorBands((-11.5,), (4.25,), "db"))
WINDOW = 64
TEMPERATURE = 1.75
DEMO_WINDOW = 128
SMALLER: dict[str, dict[str, Any]] = {
    "asanet": {"encoder": {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}},
    "cmfnet": {"encoder": {"depths": [1, 1, 1, 1, 1], "dims": [8, 8, 16, 16, 16]}, "layers": 1},
    "ftransunet": {"layers": 2},
    "fusenet": {"encoder": {"depths": [1, 1, 1, 1, 1], "dims": [8, 8, 12, 16, 16]}},
}
"""Fewer layers than the networks' own tests have: each takes its time to be traced."""


def save(path: Path, model: Network, temperature: float = 1.0) -> Path:
    ga.save_checkpoint(
        path,
        model,
        classes=ClassSchema.from_names(NAMES),
        bands=BANDS,
        window_size=WINDOW,
        training={"data": "nothing"},
        temperature=temperature,
    )
    return path


def pixel_values(batch: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw 8-bit grey values and decibels."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (batch, 3, WINDOW, WINDOW)).astype(np.float32)
    sar = rng.normal(-11, 5, (batch, 1, WINDOW, WINDOW)).astype(np.float32)
    return torch.from_numpy(rgb), torch.from_numpy(sar)


def normalised(rgb: torch.Tensor, sar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply the statistics as their definition says, in double precision."""
    results = []
    for image, band in ((rgb, BANDS.rgb), (sar, BANDS.sar)):
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (band.mean, band.std))
        results.append(((image.double() - mean) / std).float())
    return results[0], results[1]


@torch.no_grad()
def expected_logits(model: torch.nn.Module, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
    return model.eval()(*normalised(rgb, sar))


def session_of(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run_onnx(path: Path, **images: torch.Tensor) -> torch.Tensor:
    (output,) = session_of(path).run(None, {name: image.numpy() for name, image in images.items()})
    return torch.from_numpy(output)


def check_parity(model: Network, onnx_file: Path, pt2_file: Path) -> None:
    """Both files give the network's logits from pixel values, for one and for three windows."""
    program = torch.export.load(pt2_file).module()
    for batch in (1, 3):
        rgb, sar = pixel_values(batch, seed=batch)
        logits = expected_logits(model, rgb, sar)
        assert logits.std() > 1e-3
        for found in (run_onnx(onnx_file, rgb=rgb, sar=sar), program(rgb, sar)):
            assert found.shape == (batch, 3, WINDOW, WINDOW)
            assert (found - logits).abs().max() <= 1e-4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small FuseNet with a temperature as checkpoint, and in the forms that it is exported to."""
    folder = tmp_path_factory.mktemp("exported")
    small = small_network("fusenet").arguments
    made = {"checkpoint": save(folder / "net.safetensors", build("fusenet", **small), TEMPERATURE)}
    for name, options in (
        ("stacked.onnx", {"resolution": 10}),
        ("separate.onnx", {"form": "separate", "batch": 2}),
        ("separate.pt2", {"to": "pt2"}),
    ):
        made[name] = ga.export(made["checkpoint"], out=folder / name, **options).path
    return made


def small_network(name: str) -> type[NetworkTester]:
    """Return the class that tests a network, which knows a small size of it."""
    module = importlib.import_module(f"tests.models.test_{name}")
    found = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, NetworkTester)]
    return next(c for c in found if getattr(c, "name", None) == name)


class TestParity:
    """Exported files give the network's numbers."""

    def test_pt2_gives_the_networks_logits_for_any_batch(self, files: dict[str, Path]) -> None:
        model = ga.load_checkpoint(files["checkpoint"]).model
        program = torch.export.load(files["separate.pt2"]).module()
        for batch in (1, 3):
            pair = pixel_values(batch, seed=batch)
            assert (program(*pair) - expected_logits(model, *pair)).abs().max() <= 1e-4

    def test_separate_onnx_gives_the_networks_logits(self, files: dict[str, Path]) -> None:
        rgb, sar = pixel_values(2)
        logits = expected_logits(ga.load_checkpoint(files["checkpoint"]).model, rgb, sar)
        assert (run_onnx(files["separate.onnx"], rgb=rgb, sar=sar) - logits).abs().max() <= 1e-4

    @pytest.mark.parametrize("batch", [1, 3])
    def test_stacked_onnx_gives_calibrated_probabilities(self, files: dict[str, Path], batch: int) -> None:
        rgb, sar = pixel_values(batch, seed=batch)
        logits = expected_logits(ga.load_checkpoint(files["checkpoint"]).model, rgb, sar)
        found = run_onnx(files["stacked.onnx"], image=torch.cat([rgb, sar], 1))
        assert (found.log() - torch.log_softmax(logits / TEMPERATURE, 1)).abs().max() <= 1e-4

    def test_nan_stands_for_the_mean(self, files: dict[str, Path]) -> None:
        rgb, sar = pixel_values(1)
        holes = torch.rand(rgb.shape[2:], generator=torch.Generator().manual_seed(0)) < 0.3
        filled, empty = sar.clone(), sar.clone()
        filled[..., holes], empty[..., holes] = BANDS.sar.mean[0], torch.nan
        found = [run_onnx(files["stacked.onnx"], image=torch.cat([rgb, image], 1)) for image in (empty, filled)]
        assert torch.equal(*found) and found[0].isfinite().all()

    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(CARDS))
    def test_every_network(self, tmp_path: Path, name: str) -> None:
        model = build(name, **{**small_network(name).arguments, **SMALLER.get(name, {})}).eval()
        checkpoint = ga.load_checkpoint(save(tmp_path / "net.safetensors", model))
        plan = Export("separate", WINDOW, None, checkpoint.sha256, 0)
        program = trace(checkpoint, plan)  # once for both formats: it takes longest
        text = json.dumps(describe(checkpoint, plan))
        made = tmp_path / "net.onnx", tmp_path / "net.pt2"
        write_onnx(made[0], program, plan, {METADATA_KEY: text})
        pt2file.write_pt2(made[1], program, text)
        check_parity(model, *made)
        twin = ga.load_checkpoint(made[1]).model
        pair = normalised(*pixel_values(1))
        with torch.no_grad():
            assert torch.equal(twin(*pair), model(*pair))


class TestLoading:
    """An exported file is a checkpoint to everything that takes one."""

    @pytest.mark.parametrize("name", ["stacked.onnx", "separate.onnx", "separate.pt2"])
    @torch.no_grad()
    def test_it_gives_the_checkpoints_probabilities(self, files: dict[str, Path], name: str) -> None:
        checkpoint, exported = ga.load_checkpoint(files["checkpoint"]), ga.load_checkpoint(files[name])
        for field in ("classes", "bands", "window_size", "name", "arguments", "training", "temperature"):
            assert getattr(exported, field) == getattr(checkpoint, field), field
        pair = normalised(*pixel_values(3))  # also of a file for two at a time
        expected = torch.log_softmax(checkpoint.calibrated(*pair), 1)
        assert (torch.log_softmax(exported.calibrated(*pair), 1) - expected).abs().max() <= 1e-4

    def test_no_program_is_loaded_from_pt2(self, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError

        for target in ("torch.export.load", "torch.load", "pickle.load", "pickle.loads"):
            monkeypatch.setattr(target, refuse)
        model = ga.load_checkpoint(files["separate.pt2"]).model
        expected = ga.load_checkpoint(files["checkpoint"]).model.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())

    def test_another_window_is_refused(self, files: dict[str, Path]) -> None:
        exported = ga.load_checkpoint(files["stacked.onnx"])
        with pytest.raises(ModelError, match="for windows of 64 x 64 px, found 32 x 32"):
            exported.model(torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))

    def test_info_describes_it(self, files: dict[str, Path]) -> None:
        for name in ("stacked.onnx", "separate.pt2"):
            result = CliRunner().invoke(main, ["info", str(files[name]), "--json"])
            facts = json.loads(result.stdout)
            assert result.exit_code == 0 and facts["kind"] == "exported network" and facts["fit"]
            assert [c["name"] for c in facts["classes"]["classes"]] == list(NAMES)
            assert facts["export"]["window"] == WINDOW
            assert facts["export"]["checkpoint_sha256"] == ga.load_checkpoint(files["checkpoint"]).sha256
            assert facts["parameters"] == ga.info(files["checkpoint"]).facts["parameters"]


class TestDeepness:
    """What the QGIS plugin does with a model, step by step, gives the map of the network."""

    def test_the_plugins_steps_give_the_networks_classes(self, files: dict[str, Path]) -> None:
        session = session_of(files["stacked.onnx"])
        keys = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
        rgb, sar = pixel_values(2)
        tiles_NHWC = torch.cat([rgb, sar], 1).permute(0, 2, 3, 1).numpy()
        tiles = np.float32(tiles_NHWC / 255.0)
        tiles = (tiles - np.array(keys["standardization_mean"])) / np.array(keys["standardization_std"])
        (image,) = session.get_inputs()  # it takes models with one input only
        output = session.run(None, {image.name: tiles.transpose(0, 3, 1, 2).astype(np.float32)})[0]
        output[output < keys["seg_thresh"]] = 0
        logits = expected_logits(ga.load_checkpoint(files["checkpoint"]).model, rgb, sar)
        best = logits.sort(1, descending=True).values
        sure = ((best[:, 0] - best[:, 1]) > 1e-3).numpy()
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(output.argmax(1)[sure], logits.argmax(1).numpy()[sure])

    def test_the_keys_it_reads(self, files: dict[str, Path]) -> None:
        session = session_of(files["stacked.onnx"])
        keys = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
        assert keys["model_type"] == "Segmentor"
        assert [keys["class_names"][str(i)] for i in range(3)] == list(NAMES)
        assert (keys["resolution"], keys["tile_size"], keys["tiles_overlap"]) == (1000, WINDOW, 25)
        assert [v.shape for v in (*session.get_inputs(), *session.get_outputs())] == [
            ["batch", 4, WINDOW, WINDOW],
            ["batch", 3, WINDOW, WINDOW],
        ]


class TestMap:
    """``predict`` makes the same map."""

    @pytest.mark.slow
    def test_onnx_on_a_synthetic_scene(self, tmp_path: Path) -> None:
        scene = write_scene(generate_landscape(5, 300, 340), tmp_path)
        exported = ga.export("demo", out=tmp_path / "demo.onnx", window=DEMO_WINDOW).path
        (ours, sure), (theirs, as_sure) = (
            mapped(scene.rgb, scene.sar, checkpoint, tmp_path, window=DEMO_WINDOW) for checkpoint in ("demo", exported)
        )
        assert len(np.unique(ours)) >= 4
        assert (ours == theirs).mean() >= 0.9999
        np.testing.assert_allclose(as_sure, sure, atol=1e-4)

    @pytest.mark.parametrize(
        ("name", "least"), [("stacked.onnx", 0.9999), ("separate.onnx", 0.9999), ("separate.pt2", 1)]
    )
    def test_of_any_form(
        self, files: dict[str, Path], scene_files: Callable[..., Any], tmp_path: Path, name: str, least: float
    ) -> None:
        scene = scene_files(100, 130)
        (ours, sure), (theirs, as_sure) = (mapped(*scene, files[key], tmp_path) for key in ("checkpoint", name))
        assert len(np.unique(ours)) > 1
        assert (ours == theirs).mean() >= least
        np.testing.assert_allclose(as_sure, sure, atol=1e-4)


def mapped(rgb: Path, sar: Path, checkpoint: Any, folder: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the map and the confidence that a checkpoint gives."""
    out, confidence = folder / "map.tif", folder / "confidence.tif"
    ga.predict(rgb, sar, checkpoint=checkpoint, out=out, confidence=confidence, device="cpu", overwrite=True, **options)
    with rasterio.open(out) as found, rasterio.open(confidence) as sure:
        return found.read(), sure.read()


class TestRefusals:
    """What is wrong is said, and nothing is run."""

    def test_without_onnxruntime(self, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(CheckpointError, match=r"needs onnxruntime. Install it: pip install geoasanet\[onnx\]"):
            ga.load_checkpoint(files["stacked.onnx"])

    def test_without_onnx(self, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        monkeypatch.setattr("geoasanet.tools.export.trace", lambda *_: torch.export.ExportedProgram)
        monkeypatch.setattr("torch.export.ExportedProgram.state_dict", {})
        with pytest.raises(ConfigError, match=r"needs onnxscript.* pip install geoasanet\[onnx\]"):
            ga.export(files["checkpoint"], out=tmp_path / "net.onnx")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
    def test_damaged_files(self, files: dict[str, Path], tmp_path: Path, suffix: str) -> None:
        whole = files[f"separate{suffix}"].read_bytes()
        path = tmp_path / f"bad{suffix}"
        for content in (b"", b"not a network at all", whole[: len(whole) // 2]):
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match=f"{path.name}.*(is no|without)"):
                ga.load_checkpoint(path)
        with pytest.raises(CheckpointError, match="cannot be read"):
            ga.load_checkpoint(tmp_path / f"absent{suffix}")

    def test_an_onnx_file_from_elsewhere(self, files: dict[str, Path], tmp_path: Path) -> None:
        model = onnx.load(files["separate.onnx"])
        onnx.helper.set_model_props(model, {"geoasanet_": "{}"})
        onnx.save(model, tmp_path / "other.onnx")
        with pytest.raises(CheckpointError, match="without a geoasanet description"):
            ga.load_checkpoint(tmp_path / "other.onnx")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"window_size": 7}, "window size is 7"),
            ({"export": {"form": "sideways", "window": 64, "batch": None}}, "sideways"),
            ({"export": {"form": "separate", "window": 96, "batch": None}}, "its description says"),
            ({"temperature": 0}, "temperature is 0"),
        ],
    )
    def test_a_description_that_does_not_fit(
        self, files: dict[str, Path], tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        model = onnx.load(files["separate.onnx"])
        text = json.loads(next(p.value for p in model.metadata_props if p.key == "geoasanet"))
        onnx.helper.set_model_props(model, {"geoasanet": json.dumps(text | change)})
        onnx.save(model, tmp_path / "other.onnx")
        with pytest.raises(CheckpointError, match=said):
            ga.load_checkpoint(tmp_path / "other.onnx")

    def test_a_pickle_in_pt2_is_not_opened(self, files: dict[str, Path], tmp_path: Path) -> None:
        trace = tmp_path / "executed"

        class Evil:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
                return (Path.touch, (trace,))

        def pickled(config: dict[str, Any]) -> None:
            for entry in config["config"].values():
                entry["use_pickle"] = True

        path = rewritten(files["separate.pt2"], tmp_path / "evil.pt2", pickled, pickle.dumps(Evil()))
        with pytest.raises(CheckpointError, match="a pickled tensor"):
            ga.load_checkpoint(path)
        assert not trace.exists()

    def test_sizes_in_pt2_that_lie(self, files: dict[str, Path], tmp_path: Path) -> None:
        def repeated(config: dict[str, Any]) -> None:
            entry = next(e for e in config["config"].values() if len(e["tensor_meta"]["sizes"]) == 4)
            entry["tensor_meta"]["strides"] = [{"as_int": 10**9}] * 4

        with pytest.raises(CheckpointError, match="is damaged"):
            ga.load_checkpoint(rewritten(files["separate.pt2"], tmp_path / "far.pt2", repeated))

        def other_shape(config: dict[str, Any]) -> None:
            entry = next(e for e in config["config"].values() if len(e["tensor_meta"]["sizes"]) == 4)
            entry["tensor_meta"]["sizes"][0]["as_int"] += 1

        with pytest.raises(CheckpointError, match="are not those of its network"):
            ga.load_checkpoint(rewritten(files["separate.pt2"], tmp_path / "more.pt2", other_shape))

    def test_options(self, files: dict[str, Path], tmp_path: Path) -> None:
        source = files["checkpoint"]
        for options, said in (
            ({"to": "tflite"}, "onnx, pt2"),
            ({"form": "round"}, "stacked, separate"),
            ({"window": 16}, "at least 32"),
            ({"batch": 0}, "at least 1"),
            ({"resolution": -1}, "positive metres"),
            ({"resolution": 10, "form": "separate"}, "--form stacked only"),
            ({"out": tmp_path / "net.bin"}, "another suffix than .onnx"),
            ({"out": source, "overwrite": True}, "also an input"),
        ):
            with pytest.raises(ConfigError, match=said):
                ga.export(source, **{"out": tmp_path / "net.onnx", **options})
        with pytest.raises(OutputExistsError):
            ga.export(source, out=files["stacked.onnx"])
        with pytest.raises(CheckpointError, match="Export the checkpoint"):
            ga.export(files["stacked.onnx"], out=tmp_path / "again.onnx")
        assert not list(tmp_path.iterdir())

    def test_files_name_no_place_on_this_machine(self, files: dict[str, Path]) -> None:
        assert str(ROOT).encode() not in files["stacked.onnx"].read_bytes()
        with zipfile.ZipFile(files["separate.pt2"]) as archive:
            assert all(str(ROOT).encode() not in archive.read(name) for name in archive.namelist())


def rewritten(
    source: Path, target: Path, change: Callable[[dict[str, Any]], None], weight: bytes | None = None
) -> Path:
    """Copy a ``.pt2`` file with another list of weights, and another content of each where one is given."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("weights_config.json"):
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            elif "/weights/" in name and weight is not None:
                content = weight
            new.writestr(name, content)
    return target


def test_the_command(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(files["checkpoint"], "net.safetensors")
    arguments = ["export", "-c", "net.safetensors", "--to", "pt2", "--batch", "1", "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["path"] == "net.pt2" and Path("net.pt2").stat().st_size == report["file_size"]
    assert report["inputs"] == {"rgb": [1, 3, WINDOW, WINDOW], "sar": [1, 1, WINDOW, WINDOW]}
    assert report["difference"] <= 1e-4
    assert CliRunner().invoke(main, [*arguments[:-1], "--batch", "none"]).exit_code == 2
    again = CliRunner().invoke(main, arguments)
    assert isinstance(again.exception, SystemExit) and again.exit_code == 1


def test_numbers_of_types_are_those_of_torch() -> None:
    from torch._export.serde.schema import ScalarType

    usual = {"BYTE": torch.uint8, "INT": torch.int32, "LONG": torch.int64, "HALF": torch.float16}
    usual |= {"FLOAT": torch.float32, "DOUBLE": torch.float64, "BOOL": torch.bool, "BFLOAT16": torch.bfloat16}
    assert {int(ScalarType[name]): dtype for name, dtype in usual.items()} == pt2file.DTYPES
