"""What goes wrong around a training: folders, interrupted runs, odd tiles, impossible recipes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import geoasanet as ga
from geoasanet.errors import OutputError, OutputExistsError
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
