"""Training as a whole: what it writes, that resuming equals not stopping, and that processes share one run."""

from __future__ import annotations

import csv
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import geoasanet as ga
from geoasanet.errors import (
    CheckpointError,
    ConfigError,
    LabelError,
    ManifestError,
    ModelError,
    NonFiniteError,
    OutputExistsError,
)
from geoasanet.training.samples import TrainingStream, stream_positions, whole_positions
from tests.conftest import ROOT, write_raster
from tests.training.conftest import NO_CHANCE, TINY

Tiles = Callable[..., Path]


@pytest.fixture(autouse=True)
def light_log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out pictures and TensorBoard, which take longer than the training, where the test is not about them."""
    if request.node.name.startswith("test_a_run_folder"):
        return
    monkeypatch.setattr("geoasanet.training.log.draw_curves", lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def train(data: Path, out: Path, **changes: Any) -> Any:
    arguments = {key: changes.pop(key) for key in ("gpus", "watch", "resume", "overwrite") if key in changes}
    return ga.train({**TINY, **changes}, data=data, out=out, device="cpu", **arguments)


def losses(out: Path) -> np.ndarray:
    with (out / "metrics.csv").open() as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def equal(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class TestWhatItWrites:
    def test_a_run_folder_and_a_checkpoint_that_predict_can_use(self, tiles: Tiles, tmp_path: Path) -> None:
        result = train(tiles(), tmp_path / "run")
        names = {path.name for path in result.out.iterdir()}
        wanted = {"best.safetensors", "last.safetensors", "state.pt", "config.yaml", "metrics.csv", "curves.png"}
        assert wanted | {"tensorboard"} <= names
        checkpoint = ga.load_checkpoint(result.best)
        assert checkpoint.classes.names == ("water", "field", "town")
        assert checkpoint.window_size == 32
        assert checkpoint.training["iterations"] == result.best_iteration
        assert checkpoint.training["val_miou"] == pytest.approx(result.metrics.mean_iou)
        assert checkpoint.training["config"]["lr"] == TINY["lr"]

    def test_it_learns(self, tiles: Tiles, tmp_path: Path) -> None:
        seldom = {"iterations": 60, "validate_every": 60, "save_every": 60, "log_every": 1}
        result = train(tiles(), tmp_path / "run", model="upernet", lr=0.01, batch_size=8, **seldom)
        assert result.metrics.mean_iou > 0.6
        assert losses(result.out)[-5:].mean() < 0.7 * losses(result.out)[:5].mean()

    def test_evaluating_the_checkpoint_gives_the_numbers_of_the_run(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        result = train(data, tmp_path / "run")
        found = ga.evaluate(checkpoint=result.best, data=data, split="val", device="cpu")
        np.testing.assert_array_equal(found.metrics.matrix, result.metrics.matrix)

    def test_latest_leads_to_the_newest_run(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        data = tiles()
        for _ in range(2):
            result = ga.train({**TINY, "iterations": 2}, data=data, device="cpu")
            assert Path("runs/latest").resolve() == result.out.resolve()
        assert len(list(Path("runs").iterdir())) == 3

    def test_an_existing_run_is_not_replaced_unless_asked(self, tiles: Tiles, tmp_path: Path) -> None:
        data, out = tiles(), tmp_path / "run"
        train(data, out, iterations=2)
        with pytest.raises(OutputExistsError, match="--overwrite"):
            train(data, out, iterations=2)
        train(data, out, iterations=3, overwrite=True)
        assert len(losses(out)) == 3

    def test_a_folder_of_something_else_is_never_replaced(self, tiles: Tiles, tmp_path: Path) -> None:
        out = tmp_path / "precious"
        out.mkdir()
        (out / "thesis.tex").write_text("…")
        with pytest.raises(OutputExistsError, match="something else"):
            train(tiles(), out, overwrite=True)
        assert (out / "thesis.tex").exists()


class TestOptions:
    @pytest.mark.parametrize(
        "changes",
        [
            {"ema": 0.9},
            {"accumulate": 2},
            {"class_weights": "auto", "label_smoothing": 0.1},
            {"dice": 0.5, "lovasz": 0.5},
            {"optimizer": "sgd", "lr": 0.01, "decay_all": True},
            {"precision": "bf16"},
            {"clip_norm": 0.1},
            {"layer_decay": 0.9},
            {"missing_sar": 0.5, "missing_rgb": 0.5, "turn": 1.0, "brightness": 0.3, "sar_noise": 0.1},
            {"cache": False},
            {"workers": 1},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_each_trains(self, tiles: Tiles, tmp_path: Path, changes: dict[str, Any]) -> None:
        result = train(tiles(), tmp_path / "run", iterations=3, **changes)
        assert np.isfinite(losses(result.out)).all()
        assert result.best is not None

    def test_parts_of_a_batch_add_up_to_it(self, tiles: Tiles, tmp_path: Path) -> None:
        """Batch norm aside, which sees each part alone: the network here is frozen in that respect by one class map."""
        data = tiles()
        whole = train(data, tmp_path / "whole", iterations=1, **NO_CHANCE)
        parts = train(data, tmp_path / "parts", iterations=1, accumulate=2, **NO_CHANCE)
        assert losses(parts.out) == pytest.approx(losses(whole.out), rel=0.05)

    def test_a_cache_changes_nothing(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        kept = train(data, tmp_path / "kept", cache=True)
        read = train(data, tmp_path / "read", cache=False, workers=2)
        assert equal(kept.last, read.last)

    def test_the_average_is_what_is_saved(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        plain = train(data, tmp_path / "plain")
        averaged = train(data, tmp_path / "averaged", ema=0.999)
        np.testing.assert_array_equal(losses(plain.out), losses(averaged.out))
        assert not equal(plain.last, averaged.last)

    @pytest.mark.slow
    def test_a_compiled_network_trains_the_same(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Traced and differentiated ahead of time as always, but run without C++, whose compilation takes minutes."""
        compile_module = torch.nn.Module.compile
        monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(compile_module, backend="aot_eager"))
        data, options = tiles(), {**NO_CHANCE, "model": "upernet", "iterations": 2}
        plain = train(data, tmp_path / "plain", **options)
        compiled = train(data, tmp_path / "compiled", compile=True, **options)
        assert losses(compiled.out) == pytest.approx(losses(plain.out), rel=1e-4)
        assert weights(compiled.last).keys() == weights(plain.last).keys()


class TestResume:
    @pytest.mark.parametrize("ema", [None, 0.9])
    @pytest.mark.parametrize("stop", [3, 4, 5])
    def test_stopping_and_going_on_equals_not_stopping(
        self, tiles: Tiles, tmp_path: Path, stop: int, ema: float | None
    ) -> None:
        data = tiles()
        whole = train(data, tmp_path / "whole", ema=ema)

        class Stop(Quiet):
            def stepped(self, step: Any) -> None:
                if step.iteration == stop:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "part", ema=ema, watch=Stop())
        result = ga.train(resume=tmp_path / "part", device="cpu")
        assert equal(result.last, whole.last)
        assert equal(result.best, whole.best)
        np.testing.assert_array_equal(losses(result.out), losses(whole.out))
        assert result.best_iteration == whole.best_iteration

    @pytest.mark.slow
    def test_killed_anywhere(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        whole = train(data, tmp_path / "whole", iterations=30)
        out = tmp_path / "killed"
        kills = 0
        for delay in (0.0, 0.3, 0.8):
            process = start(data, out, iterations=30)
            wait_for(out / ("state.pt" if delay else "config.yaml"), process)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        assert kills
        result = ga.train(resume=out, device="cpu") if (out / "state.pt").exists() else train(data, out, overwrite=True)
        assert equal(result.last, whole.last)
        np.testing.assert_array_equal(losses(result.out), losses(whole.out))

    def test_a_damaged_state_gives_way_to_the_one_before(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        whole = train(data, tmp_path / "whole")
        out = tmp_path / "run"
        train(data, out)
        state = out / "state.pt"
        state.write_bytes(state.read_bytes()[:-100])
        result = ga.train(resume=out, device="cpu")
        assert any("damaged or cut short" in warning for warning in result.warnings)
        assert equal(result.last, whole.last)

    def test_without_a_whole_state_it_says_so(self, tiles: Tiles, tmp_path: Path) -> None:
        out = tmp_path / "run"
        train(tiles(), out)
        for name in ("state.pt", "state.previous.pt"):
            (out / name).write_bytes(b"not a state")
        with pytest.raises(CheckpointError, match="is whole"):
            ga.train(resume=out, device="cpu")

    def test_code_in_a_state_is_not_executed(self, tiles: Tiles, tmp_path: Path) -> None:
        import hashlib
        import io
        import pickle

        class Evil:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {tmp_path / 'executed'}",)

        out = tmp_path / "run"
        train(tiles(), out, iterations=2)
        buffer = io.BytesIO()
        torch.save({"format": Evil()}, buffer)
        for body in (buffer.getvalue(), pickle.dumps(Evil())):
            for name in ("state.pt", "state.previous.pt"):
                (out / name).write_bytes(b"geoasanet state 1\n" + hashlib.sha256(body).digest() + body)
            with pytest.raises(CheckpointError, match="cannot be read"):
                ga.train(resume=out, device="cpu")
        assert not (tmp_path / "executed").exists()

    def test_other_tiles_are_refused(self, tiles: Tiles, tmp_path: Path) -> None:
        data, out = tiles(), tmp_path / "run"
        train(data, out, iterations=2)
        (data / "train.txt").write_text("t00\nt01\nt02\n")
        with pytest.raises(CheckpointError, match="other tiles"):
            ga.train(resume=out, device="cpu")

    def test_another_recipe_is_refused(self, tiles: Tiles, tmp_path: Path) -> None:
        out = tmp_path / "run"
        train(tiles(), out, iterations=2)
        with pytest.raises(ConfigError, match=r"began with lr = 0\.003"):
            ga.train(resume=out, settings=["lr=1"], device="cpu")

    def test_more_iterations_go_on(self, tiles: Tiles, tmp_path: Path) -> None:
        out = tmp_path / "run"
        train(tiles(), out, iterations=2)
        assert ga.train(resume=out, max_iters=4, device="cpu").iterations == 4


class Quiet:
    """Watches without a word."""

    def begin(self, beginning: Any) -> None: ...
    def stepped(self, step: Any) -> None: ...
    def validated(self, validation: Any) -> None: ...
    def progress(self, task: str, done: float, total: float, unit: str = "") -> None: ...
    def note(self, message: str) -> None: ...


def start(data: Path, out: Path, **changes: Any) -> subprocess.Popen[bytes]:
    """Start or resume a run in a process of its own."""
    code = (
        "import sys, torch, json, geoasanet as ga\n"
        "torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "config, data, out = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])\n"
        "if (out / 'state.pt').exists():\n    ga.train(resume=out, device='cpu')\n"
        "else:\n    ga.train(config, data=data, out=out, device='cpu', overwrite=True)\n"
    )
    import json

    arguments = [json.dumps({**TINY, **changes}), str(data), str(out)]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)


class TestProcesses:
    @pytest.mark.slow
    def test_two_train_like_one(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        one = train(data, tmp_path / "one", **NO_CHANCE)
        two = train(data, tmp_path / "two", gpus=2, **NO_CHANCE)
        assert losses(two.out) == pytest.approx(losses(one.out), rel=2e-4)
        assert two.metrics.matrix.sum() == one.metrics.matrix.sum()
        assert two.metrics.mean_iou == pytest.approx(one.metrics.mean_iou, abs=0.02)

    @pytest.mark.slow
    def test_an_error_in_one_of_them_is_one_readable_error(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        write_raster(data / "label" / "t03.tif", np.full((32, 32), 7, np.uint8))
        with pytest.raises(LabelError, match=r"t03\.tif holds class 7"):
            train(data, tmp_path / "run", gpus=2)

    @pytest.mark.slow
    def test_torchrun_joins(self, tiles: Tiles, tmp_path: Path) -> None:
        import yaml

        data = tiles()
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, **NO_CHANCE, "iterations": 2}))
        out = tmp_path / "run"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
        command += ["geoasanet", "train", str(tmp_path / "tiny.yaml"), "--data", str(data), "--out", str(out)]
        command += ["--device", "cpu", "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('"iterations": 2') == 1  # one process reports
        one = train(data, tmp_path / "one", **{**NO_CHANCE, "iterations": 2})
        assert losses(out) == pytest.approx(losses(one.out), rel=2e-4)

    def test_a_batch_that_cannot_be_shared_is_refused(self, tiles: Tiles, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="must be a multiple of 3"):
            train(tiles(), tmp_path / "run", gpus=3)


class TestOrder:
    @given(
        tiles=st.integers(1, 20),
        world=st.sampled_from([1, 2, 4]),
        accumulate=st.sampled_from([1, 2]),
        k=st.integers(1, 5),
    )
    def test_every_sample_comes_once_an_epoch_whoever_takes_it(
        self, tiles: int, world: int, accumulate: int, k: int
    ) -> None:
        batch = world * accumulate * k
        steps = tiles  # so that the steps make whole epochs
        taken = [
            position
            for rank in range(world)
            for part in stream_positions(0, steps, batch, accumulate, rank, world)
            for position in part
        ]
        assert sorted(taken) == list(range(steps * batch))

        class Named:
            names = tuple(map(str, range(tiles)))

        stream = TrainingStream(Named(), None, None, 3)  # type: ignore[arg-type]
        seen = [stream.tile_of(position) for position in range(2 * tiles)]
        assert sorted(seen[:tiles]) == sorted(seen[tiles:]) == list(range(tiles))

    @given(count=st.integers(0, 30), batch=st.integers(1, 7), world=st.integers(1, 4))
    def test_evaluation_takes_each_tile_once(self, count: int, batch: int, world: int) -> None:
        taken = [p for rank in range(world) for part in whole_positions(count, batch, rank, world) for p in part]
        assert sorted(taken) == list(range(count))


class TestMistakes:
    def test_a_diverging_loss_names_its_tiles(self, tiles: Tiles, tmp_path: Path) -> None:
        with pytest.raises(NonFiniteError, match=r"with the tiles t\d"):
            train(tiles(), tmp_path / "run", lr=100.0, min_lr=100.0, optimizer="sgd", iterations=40, warmup=0)

    @pytest.mark.parametrize(
        ("spoil", "kind", "message"),
        [
            (lambda d: (d / "val.txt").write_text(""), ManifestError, "val split is empty"),
            (lambda d: (d / "val.txt").unlink(), ManifestError, r"no list val\.txt"),
            (lambda d: (d / "sar" / "t04.tif").unlink(), ManifestError, r"'t04' .* lacks .*sar/t04\.tif"),
            (lambda d: label(d, "t05", 3), LabelError, r"label/t05\.tif holds class 3"),
            (lambda d: resize(d, "t06"), ManifestError, "'t06' .* 48 x 48 .*, but tile 't00' .* 32 x 32"),
            (lambda d: [label(d, f"t{i:02d}", 1) for i in range(9)], LabelError, "holds only 'field'"),
            (lambda d: [label(d, f"t{i:02d}", 255) for i in range(9)], LabelError, "no labelled pixel"),
            (
                lambda d: [label(d, f"t{i:02d}", 255) for i in range(9, 12)],
                LabelError,
                "val split .* no labelled pixel",
            ),
            (lambda d: (d / "dataset.yaml").write_text("classes: [land]\n"), LabelError, "one class only, 'land'"),
            (lambda d: (d / "dataset.yaml").unlink(), ManifestError, "does not say which classes"),
            (lambda d: (d / "rgb" / "t07.tif").write_bytes(b"II*\0"), ManifestError, r"rgb/t07\.tif cannot be read"),
        ],
    )
    def test_what_is_wrong_with_a_dataset_is_said_before_the_first_step(
        self, tiles: Tiles, tmp_path: Path, spoil: Callable[[Path], Any], kind: type[Exception], message: str
    ) -> None:
        data = tiles()
        spoil(data)
        with pytest.raises(kind, match=message):
            train(data, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_batch_too_small_for_batch_norm(self, tiles: Tiles, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="batch of one"):
            train(tiles(), tmp_path / "run", batch_size=1)

    def test_an_unknown_network_argument(self, tiles: Tiles, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="takes no depth"):
            train(tiles(), tmp_path / "run", model_args={"depth": 3})

    def test_encoder_weights_out_of_reach(self, tiles: Tiles, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no/such/file"):
            train(tiles(), tmp_path / "run", encoder_weights="no/such/file.pth")


def label(data: Path, name: str, value: int) -> None:
    write_raster(data / "label" / f"{name}.tif", np.full((32, 32), value, np.uint8))


def resize(data: Path, name: str) -> None:
    for folder, bands in (("rgb", 3), ("sar", 1), ("label", 1)):
        write_raster(data / folder / f"{name}.tif", np.ones((bands, 48, 48), np.uint8))


class TestGpu:
    @pytest.mark.gpu
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_it_learns_on_a_gpu(self, gpu: torch.device, tiles: Tiles, tmp_path: Path, precision: str) -> None:
        data = tiles()
        options = {**NO_CHANCE, "model": "upernet", "lr": 0.01, "iterations": 40, "validate_every": 40}
        result = ga.train({**TINY, **options, "precision": precision}, data=data, out=tmp_path / "run", device="cuda")
        assert result.metrics is not None and result.metrics.mean_iou > 0.6

    @pytest.mark.gpu
    def test_a_gpu_trains_as_a_cpu_does(self, gpu: torch.device, tiles: Tiles, tmp_path: Path) -> None:
        data, config = tiles(), {**TINY, **NO_CHANCE, "precision": "fp32"}
        for device in ("cpu", "cuda"):
            ga.train(config, data=data, out=tmp_path / device, device=device)
        assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-2)

    @pytest.mark.gpu
    def test_stopping_and_going_on_continues(self, gpu: torch.device, tiles: Tiles, tmp_path: Path) -> None:
        data, out = tiles(), tmp_path / "run"
        ga.train({**TINY, "iterations": 4, "ema": 0.9}, data=data, out=out, device="cuda")
        assert ga.train(resume=out, max_iters=6, device="cuda").iterations == 6
