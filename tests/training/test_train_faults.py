"""What goes wrong around a training: folders, interrupted runs, odd tiles, impossible recipes."""

from __future__ import annotations

import os
import shutil
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
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.utils.data import Dataset

import geoasanet as ga
from geoasanet.config import TrainConfig
from geoasanet.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    ManifestError,
    ModelError,
    OutputError,
    OutputExistsError,
)
from geoasanet.models.upernet import UPerNet
from geoasanet.raster.dataset import open_dataset_folder
from geoasanet.tools.launch import death_of
from geoasanet.training.augment import TrainingSample
from geoasanet.training.failures import plain_failures
from geoasanet.training.learner import Learner
from geoasanet.training.loop import augmentation_of
from geoasanet.training.processes import Processes
from geoasanet.training.samples import load
from geoasanet.training.tiles import fits_memory
from geoasanet.training.watch import Silent
from tests.conftest import ROOT, write_raster
from tests.training.conftest import TINY

Tiles = Callable[..., Path]
SHORT: dict[str, Any] = {**TINY, "model": "upernet", "iterations": 2, "validate_every": 2, "save_every": 1}
"""A run of two steps."""


@pytest.fixture(autouse=True)
def light_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out pictures and TensorBoard, which take longer than the training."""
    monkeypatch.setattr("geoasanet.training.log.draw_curves", lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def train(data: Path, out: Path | None, **changes: Any) -> Any:
    arguments = {key: changes.pop(key) for key in ("gpus", "watch", "overwrite") if key in changes}
    return ga.train({**SHORT, **changes}, data=data, out=out, device="cpu", **arguments)


@pytest.fixture
def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a tile is read: what is wrong with a command is said before."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("tiles were read")

    monkeypatch.setattr("geoasanet.tools.trainjob.survey", fail)


class TestFolder:
    def test_a_folder_with_a_configuration_of_something_else_is_no_run(
        self, tiles: Tiles, tmp_path: Path, refuse_to_read: None
    ) -> None:
        project = tmp_path / "project"
        (project / "notes").mkdir(parents=True)
        (project / "config.yaml").write_text("lr: 0.1\n")
        with pytest.raises(OutputExistsError, match="something else than a run"):
            train(tiles(), project, overwrite=True)
        assert (project / "notes").is_dir()

    def test_replacing_a_run_leaves_other_files_in_its_folder(self, tiles: Tiles, tmp_path: Path) -> None:
        data, out = tiles(), tmp_path / "run"
        train(data, out)
        (out / "report.html").write_text("mine")
        (out / ".state.pt.abc.tmp").mkdir()  # what a kill while saving leaves
        (out / "state.previous.pt").write_bytes(b"old")
        train(data, out, overwrite=True, save_every=2)
        assert (out / "report.html").read_text() == "mine"
        assert not list(out.glob(".*.tmp"))
        assert not (out / "state.previous.pt").exists()

    def test_torchrun_does_not_replace_a_run_unasked(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse_to_read: None
    ) -> None:
        out = tmp_path / "run"
        out.mkdir()
        (out / "config.yaml").write_text("# geoasanet 1\nlr: 0.1\n")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(OutputExistsError, match="holds a run"):
            train(tiles(), out)

    def test_latest_can_be_resumed(self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        run = train(tiles(), None).out
        assert ga.train(resume="runs/latest", max_iters=3, device="cpu").iterations == 3
        assert Path("runs/latest").readlink() == Path(run.name)
        run.rename(tmp_path / "runs" / "other")  # the link leads nowhere now
        train(tmp_path / "tiles", Path("runs/new"))
        assert Path("runs/latest").readlink() == Path("new")

    def test_runs_begun_in_the_same_second_have_folders_of_their_own(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from geoasanet.tools import train as tool

        monkeypatch.chdir(tmp_path)
        folders: list[Path] = []

        def begin_another(job: Any) -> Any:
            folders.append(job.out)
            if len(folders) < 3:
                train(tmp_path / "tiles", None)

        monkeypatch.setattr(tool, "run_job", begin_another)
        train(tmp_path / "tiles", None)
        assert len(set(folders)) == 3
        assert not Path("runs").exists()  # nothing came into them

    def test_a_folder_that_another_run_took_meanwhile_is_left_alone(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from geoasanet.tools import trainjob

        data, out, survey = tiles(), tmp_path / "run", trainjob.survey

        def slow_survey(*arguments: Any, **options: Any) -> Any:
            (out / "config.yaml").write_text("# geoasanet 1\nlr: 0.1\n")
            return survey(*arguments, **options)

        monkeypatch.setattr(trainjob, "survey", slow_survey)
        with pytest.raises(OutputExistsError, match="holds a run"):
            train(data, out)
        assert "lr: 0.1" in (out / "config.yaml").read_text()

    @pytest.mark.parametrize("resume", [False, True])
    def test_a_folder_that_cannot_be_written_is_found_before_reading(
        self,
        tiles: Tiles,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        request: pytest.FixtureRequest,
        resume: bool,
    ) -> None:
        import tempfile

        data, out = tiles(), tmp_path / "run"
        if resume:
            train(data, out)
        request.getfixturevalue("refuse_to_read")

        def fail(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
        with pytest.raises(OutputError, match="not writable"):
            if resume:
                ga.train(resume=out, device="cpu")
            else:
                train(data, out)

    def test_a_file_where_the_runs_go(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse_to_read: None
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("runs").write_text("mine")
        with pytest.raises(OutputError, match="cannot be made"):
            train(tiles(), None)
        assert Path("runs").read_text() == "mine"


class TestResume:
    def test_encoder_weights_are_not_needed_again(self, tiles: Tiles, tmp_path: Path) -> None:
        network = ga.create_model("upernet", 3, (3, 1), TINY["encoder"], **TINY["model_args"])
        encoder = {k.removeprefix("encoder."): v for k, v in network.state_dict().items() if k.startswith("encoder.")}
        torch.save({"model": {k: v[:, :3] if k == "stem.0.weight" else v for k, v in encoder.items()}}, tmp_path / "w")
        out = tmp_path / "run"
        train(tiles(), out, encoder_weights=str(tmp_path / "w"))
        (tmp_path / "w").unlink()
        assert ga.train(resume=out, max_iters=3, device="cpu").iterations == 3

    def test_a_run_killed_before_its_first_state_begins_anew(self, tiles: Tiles, tmp_path: Path) -> None:
        data, out = tiles(), tmp_path / "run"
        train(data, out)
        for path in out.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "config.yaml":
                path.unlink()
        result = ga.train(resume=out, device="cpu")
        assert result.iterations == 2
        assert any("begins anew" in warning for warning in result.warnings)

    def test_checkpoints_without_a_state_are_kept(self, tiles: Tiles, tmp_path: Path, request: Any) -> None:
        out = tmp_path / "run"
        train(tiles(), out)
        for path in out.glob("state*"):
            path.unlink()
        request.getfixturevalue("refuse_to_read")
        with pytest.raises(CheckpointError, match=r"no state\.pt"):
            ga.train(resume=out, device="cpu")
        assert (out / "best.safetensors").is_file()

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda text: "", "began with model = 'upernet', it cannot go on with 'asanet'"),
            (lambda text: text.replace("lr: 0.003", "lr: 0.1"), r"began with lr = 0\.003, it cannot go on with 0\.1"),
        ],
    )
    def test_a_damaged_configuration_is_found_before_reading(
        self, tiles: Tiles, tmp_path: Path, spoil: Callable[[str], str], message: str, request: Any
    ) -> None:
        out = tmp_path / "run"
        train(tiles(), out)
        request.getfixturevalue("refuse_to_read")
        path = out / "config.yaml"
        path.write_text(spoil(path.read_text()))
        with pytest.raises(ConfigError, match=message):
            ga.train(resume=out, device="cpu")

    def test_other_classes_are_refused(self, tiles: Tiles, tmp_path: Path) -> None:
        data, out = tiles(), tmp_path / "run"
        train(data, out)
        (data / "dataset.yaml").write_text("classes: [town, field, water]\n")
        with pytest.raises(CheckpointError, match=r"classes water, field, town, but .* town, field, water"):
            ga.train(resume=out, max_iters=3, device="cpu")

    @pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"junk")])
    def test_a_lost_best_checkpoint_is_made_anew(
        self, tiles: Tiles, tmp_path: Path, spoil: Callable[[Path], Any]
    ) -> None:
        out = tmp_path / "run"
        best = train(tiles(), out).best
        spoil(best)
        result = ga.train(resume=out, max_iters=3, device="cpu")
        assert any("best.safetensors" in warning for warning in result.warnings)
        assert result.best_iteration == 3
        assert ga.load_checkpoint(best).training["iterations"] == 3

    def test_a_command_that_torchrun_starts_again_goes_on(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data, out = tiles(), tmp_path / "run"
        train(data, out, iterations=3, validate_every=3)
        (out / "state.pt").rename(out / "state.previous.pt")  # killed between two renames
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        seen: list[Any] = []

        class Watch(Silent):
            def begin(self, beginning: Any) -> None:
                seen.append(beginning.start)

        assert train(data, out, iterations=3, validate_every=3, watch=Watch()).iterations == 3
        assert seen == [3]

    def test_a_complete_run_says_so(self, tiles: Tiles, tmp_path: Path) -> None:
        out = tmp_path / "run"
        train(tiles(), out)
        assert any("--max-iters" in warning for warning in ga.train(resume=out, device="cpu").warnings)
        with pytest.raises(ConfigError, match="has done 2 iterations, more than the 1"):
            ga.train(resume=out, max_iters=1, device="cpu")
        assert "iterations: 2" in (out / "config.yaml").read_text()

    def test_a_state_without_loss_scaling_fits_where_it_is_needed(self) -> None:
        """With precision auto, a run can go on where the arithmetic is fp16."""
        network = ga.create_model("upernet", 3, (3, 1), TINY["encoder"], **TINY["model_args"])
        config = TrainConfig.from_mapping(TINY)
        plain, scaled = (
            Learner(network, config, None, Processes(torch.device("cpu")), precision) for precision in ("fp32", "fp16")
        )
        scaled.load_state_dict(plain.state_dict())
        assert scaled.scaler.get_scale() > 1


class TestTiles:
    @pytest.mark.parametrize("cache", [True, False])
    def test_tiles_of_another_type_are_refused(self, tiles: Tiles, tmp_path: Path, cache: bool) -> None:
        """Kept beside 8-bit tiles, larger values would wrap around."""
        data = tiles()
        write_raster(data / "rgb" / "t05.tif", np.full((3, 32, 32), 700, np.uint16))
        with pytest.raises(ManifestError, match=r"'t05' .* of uint16 .* 't00' .* of uint8"):
            train(data, tmp_path / "run", cache=cache)

    def test_complex_sar_is_refused(self, tiles: Tiles, tmp_path: Path) -> None:
        data = tiles()
        write_raster(data / "sar" / "t00.tif", np.ones((1, 32, 32), np.complex64))
        with pytest.raises(ManifestError, match=r"sar/t00\.tif holds complex64"):
            train(data, tmp_path / "run")

    @pytest.mark.parametrize("model", ["upernet", "cmfnet"])
    def test_tiles_too_small_for_the_network_are_found_before_training(
        self, tiles: Tiles, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Evaluation would find them thousands of iterations later."""
        size = 24 if model == "upernet" else 40
        monkeypatch.setattr(UPerNet, "size_multiple", 1 if model == "upernet" else 32)
        with pytest.raises(ManifestError, match=rf"{size} x {size} pixels.* at least 32"):
            train(tiles(size=size), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_crop_that_does_not_fit_the_network_is_found_before_training(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(UPerNet, "size_multiple", 32)
        with pytest.raises(ConfigError, match=r"crop_size 48 .* multiples of 32 .* 64"):
            train(tiles(), tmp_path / "run", crop_size=48)

    @pytest.mark.parametrize(("sar", "scale"), [(np.uint8, "uint8"), (np.float32, "db")])
    def test_given_statistics_are_in_the_scale_of_the_tiles(
        self, tiles: Tiles, tmp_path: Path, sar: type[np.generic], scale: str
    ) -> None:
        data = tiles()
        for path in (data / "sar").iterdir():
            values = np.arange(1024).reshape(1, 32, 32) % 20
            write_raster(path, (values + 60 if scale == "uint8" else values - 20).astype(sar))
        given = {"rgb_mean": [90.0] * 3, "rgb_std": [40.0] * 3, "sar_mean": [-10.0], "sar_std": [6.0]}
        best = train(data, tmp_path / "run", **given).best
        assert ga.load_checkpoint(best).bands.sar.scale == scale
        assert ga.evaluate(checkpoint=best, data=data, device="cpu").counts.compared > 0


class TestRecipe:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"contrast": 1.0}, "contrast"),
            ({"color": 2}, "color"),
            ({"sar_contrast": 1.5}, "sar_contrast"),
            ({"min_lr": 0.1}, r"min_lr must be at most lr, 0\.003, found 0\.1"),
            ({"class_weights": [1, -1, 1]}, "class_weights"),
            ({"class_weights": [0, 0, 0]}, "class_weights"),
            ({"lr": 10**400}, "lr must be a number"),
            ({"batch_size": 10**9}, "batch_size"),
            ({"model_args": {"num_classes": 4}}, "model_args .*num_classes"),
            ({"model_args": {"encoder_weights": "x"}}, "model_args .*encoder_weights"),
            ({"model_args": {1: 2}}, "model_args .*found 1"),
        ],
    )
    def test_impossible_values_are_refused_by_name(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            TrainConfig.from_mapping({**TINY, **changes})

    def test_every_value_that_a_configuration_takes_is_one_that_augmentation_takes(self) -> None:
        for name in ("contrast", "color", "sar_contrast"):
            augmentation_of(TrainConfig.from_mapping({name: 0.999}))

    def test_layer_decay_without_layers_is_found_before_reading(
        self, tiles: Tiles, tmp_path: Path, refuse_to_read: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = tiles(
            classes="classes: [water, field, town]\nbands:\n  rgb: {mean: [9, 9, 9], std: [9, 9, 9]}\n"
            "  sar: {mean: [9], std: [9]}\n"
        )
        with pytest.raises(ModelError, match="layer_decay"):
            train(data, tmp_path / "run", model="fusenet", encoder=None, model_args={}, layer_decay=0.9)

    def test_several_processes_are_not_asked_for_under_torchrun(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ConfigError, match="--gpus"):
            train(tiles(), tmp_path / "run", gpus=2)

    def test_processes_that_do_not_find_each_other(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(DeviceError, match="RANK"):
            train(tiles(), tmp_path / "run")


class Deadly(Dataset[Any]):
    """Kills whoever reads it, as the system does when memory runs out."""

    def __getitem__(self, position: int) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class TestMemory:
    @pytest.mark.parametrize(
        "error",
        [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    )
    def test_too_little_memory_is_said_in_words(
        self, tiles: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def step(*_: object) -> None:
            raise error

        monkeypatch.setattr(Learner, "step", step)
        with pytest.raises(DeviceError, match=r"memory.*batch_size 4"):
            train(tiles(), tmp_path / "run")

    def test_shared_memory_counts(self, tiles: Tiles, monkeypatch: pytest.MonkeyPatch) -> None:
        """Containers have little of it: what does not fit ends in a bus error."""
        tile = open_dataset_folder(tiles()).read("t00")
        assert fits_memory(tile, 10, 0.25)
        full = os.statvfs_result((4096, 4096, 10, 1, 1, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda path: full)
        assert not fits_memory(tile, 10, 0.25)

    def test_a_dead_worker_is_said_in_words(self) -> None:
        with pytest.raises(DeviceError, match="workers"), plain_failures(TrainConfig(), torch.device("cpu")):
            next(load(Deadly(), [[0]], workers=1, pin_memory=False))


class Interrupted(Dataset[Any]):
    """Is told to stop while it reads, as every process of a terminal or a cluster's job is."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __getitem__(self, position: int) -> Any:
        os.kill(os.getpid(), self._number)
        time.sleep(0.05)
        return "tile", TrainingSample(*(np.zeros((1, 2, 2), np.float32),) * 2, np.zeros((2, 2), np.uint8))


class Slow(Interrupted):
    """Takes longer to read than to wait for; says in a file who reads."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getitem__(self, position: int) -> Any:
        Path(self._path).write_text(str(os.getpid()))
        time.sleep(5)
        return "tile", TrainingSample(*(np.zeros((1, 2, 2), np.float32),) * 2, np.zeros((2, 2), np.uint8))


class KillAtTwo(Silent):
    """Ends its process after the second step."""

    def stepped(self, step: Any) -> None:
        """Kill the process."""
        if step.iteration == 2:
            os.kill(os.getpid(), signal.SIGKILL)


class Buggy(Silent):
    """Fails as nothing should."""

    def stepped(self, step: Any) -> None:
        """Divide by zero."""
        _ = 1 / 0


class TestProcesses:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_workers_leave_stopping_to_the_training(self, number: int) -> None:
        """Else the training would find them dead before it has saved its state."""
        batches = load(Interrupted(number), [[0], [1]], workers=1, pin_memory=False)
        assert [batch.names for batch in batches] == [("tile",)] * 2

    @pytest.mark.slow
    def test_workers_end_with_a_training_that_is_killed(self, tmp_path: Path) -> None:
        code = (
            "import sys\nfrom tests.training.test_train_faults import Slow\n"
            "from geoasanet.training.samples import load\n"
            "if __name__ == '__main__':\n"
            "    for _ in load(Slow(sys.argv[1]), [[k] for k in range(1000)], workers=1, pin_memory=False): pass\n"
        )
        (tmp_path / "main.py").write_text(code)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "pid")]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while not (tmp_path / "pid").exists() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
        process.wait()
        worker = Path("/proc") / (tmp_path / "pid").read_text()
        end = time.monotonic() + 10
        while worker.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not worker.exists()

    @pytest.mark.parametrize(("saved", "hint"), [(True, "--resume"), (False, "Nothing was saved")])
    def test_a_killed_process_is_said_in_words(self, tmp_path: Path, saved: bool, hint: str) -> None:
        if saved:
            (tmp_path / "state.pt").write_bytes(b"")
        killed = ProcessFailure(local_rank=1, pid=7, exitcode=-9, error_file="")
        found = death_of(killed, tmp_path)
        assert isinstance(found, DeviceError)
        assert "process 1 was killed" in str(found)
        assert "memory" in str(found)
        assert hint in str(found)
        assert "exit code 3" in str(death_of(ProcessFailure(local_rank=0, pid=7, exitcode=3, error_file=""), tmp_path))

    @pytest.mark.slow
    def test_a_process_that_is_killed_ends_the_others(self, tiles: Tiles, tmp_path: Path) -> None:
        """The other one waits for it in the middle of a step; the run goes on from its last state."""
        out = tmp_path / "run"
        with pytest.raises(DeviceError, match=r"process 0 was killed.*--resume"):
            train(tiles(), out, gpus=2, watch=KillAtTwo())
        assert ga.train(resume=out, device="cpu").iterations == 2

    @pytest.mark.slow
    def test_a_bug_in_one_of_them_keeps_its_traceback(self, tiles: Tiles, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="ZeroDivisionError") as caught:
            train(tiles(), tmp_path / "run", gpus=2, watch=Buggy())
        assert "in stepped" in "".join(caught.value.__notes__)
