"""What goes wrong around a training: folders, interrupted runs, odd tiles, impossible recipes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import geoasanet as ga
from geoasanet.config import TrainConfig
from geoasanet.errors import CheckpointError, ConfigError, OutputError, OutputExistsError
from geoasanet.training.learner import Learner
from geoasanet.training.processes import Processes
from geoasanet.training.watch import Silent
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
            if path.name != "config.yaml":
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
