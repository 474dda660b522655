"""``geoasanet train``: what its options mean, what it says; the training itself is a fake here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from geoasanet.classes import ClassSchema
from geoasanet.cli.main import main
from geoasanet.cli.train import command
from geoasanet.cli.trainview import TrainView
from geoasanet.config import TrainConfig, shipped_configs
from geoasanet.errors import ConfigError
from geoasanet.metrics import Metrics
from geoasanet.tools import train as tool
from geoasanet.tools.train import TrainResult
from geoasanet.training.state import NAME
from tests.training.moments import beginning

METRICS = Metrics.from_matrix(np.array([[6, 2, 0], [2, 10, 0], [0, 0, 0]]))
Call = Callable[..., tuple[Result, Mapping[str, Any]]]


def result(**changes: Any) -> TrainResult:
    out = Path("runs/a city")
    values: dict[str, Any] = {
        "out": out,
        "best": out / "best.safetensors",
        "last": out / "last.safetensors",
        "iterations": 80,
        "metrics": METRICS,
        "best_iteration": 64,
        "classes": ClassSchema.from_names(["water", "road", "trees"]),
        "seconds": 3725.0,
        "warnings": ("Only 3 tiles.",),
    }
    return TrainResult(**{**values, **changes})


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command with a fake training; returns what it printed and what the training was given."""

    def run(*arguments: str, **changes: Any) -> tuple[Result, Mapping[str, Any]]:
        given: dict[str, Any] = {}

        def fake(config: object = None, **options: Any) -> TrainResult:
            given.update(options, config=config)
            options["watch"].begin(beginning())
            return result(**changes)

        monkeypatch.setattr(tool, "train", fake)
        return CliRunner().invoke(main, ["train", *arguments]), given

    return run


def test_nothing_given_leaves_all_to_the_configuration(call: Call) -> None:
    done, given = call()
    assert done.exit_code == 0
    assert isinstance(given.pop("watch"), TrainView)
    assert given == {
        "config": None,
        "data": None,
        "out": None,
        "gpus": None,
        "device": "auto",
        "resume": None,
        "precision": None,
        "compile": None,
        "max_iters": None,
        "settings": (),
        "overwrite": False,
    }


def test_every_option_reaches_the_training(call: Call) -> None:
    done, given = call(
        *("asanet_pie-rgb-sar", "--data", "d", "--out", "o", "--gpus", "2", "--device", "cpu", "--precision", "bf16"),
        *("--compile", "--max-iters", "9", "--set", "lr=1e-3", "--set", "encoder={depths: [1], dims: [2]}"),
        *("--overwrite", "--resume", "r", "--quiet"),
    )
    assert done.exit_code == 0 and done.output == ""
    assert given.pop("watch")._console.quiet
    assert given == {
        "config": "asanet_pie-rgb-sar",
        "data": Path("d"),
        "out": Path("o"),
        "gpus": 2,
        "device": "cpu",
        "resume": Path("r"),
        "precision": "bf16",
        "compile": True,
        "max_iters": 9,
        "settings": ("lr=1e-3", "encoder={depths: [1], dims: [2]}"),
        "overwrite": True,
    }


@pytest.mark.parametrize(
    "arguments",
    [("--gpus", "0"), ("--device", "tpu"), ("--precision", "int8"), ("--max-iters", "0"), ("a", "b"), ("--sett", "x")],
)
def test_wrong_usage(call: Call, arguments: tuple[str, ...]) -> None:
    done, given = call(*arguments)
    assert done.exit_code == 2 and not given


def test_the_report_says_how_good_it_is_and_what_to_type_next(call: Call) -> None:
    done, _ = call()
    assert done.stdout.splitlines() == [
        "Run: runs/a city (80 iterations, 1 h 2 min)",
        "  best mIoU 0.6571 at iteration 64, on the val tiles",
        "  overall accuracy 0.8000   mean F1 0.7917   kappa 0.5833",
        "  class     IoU  precision  recall",
        "  water  0.6000     0.7500  0.7500",
        "  road   0.7143     0.8333  0.8333",
        "  trees       –          –       –",
        "Checkpoint: runs/a city/best.safetensors",
        "Next: geoasanet predict scene_rgb.tif scene_sar.tif -c 'runs/a city'",
    ]
    assert "82.12 M parameters" in done.stderr
    assert "Only 3 tiles." not in done.stderr  # the view has said so when it happened


def test_a_run_without_validation_leads_to_its_last_weights(call: Call) -> None:
    done, _ = call(best=None, metrics=None, best_iteration=None, out=Path("r"), last=Path("r/last.safetensors"))
    assert "mIoU" not in done.stdout
    assert done.stdout.splitlines()[-1].endswith("-c r/last.safetensors")


def test_json_is_one_document(call: Call) -> None:
    done, _ = call("--json")
    document = json.loads(done.stdout)
    assert document["best_iteration"] == 64 and document["metrics"]["classes"]["trees"]["iou"] is None


def test_the_other_processes_of_a_job_say_nothing(call: Call) -> None:
    done, _ = call("--no-progress", first=False)
    assert done.exit_code == 0 and done.stdout == "" and "Warning" not in done.stderr


@pytest.mark.parametrize("saved", [True, False])
def test_an_interrupted_run_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, saved: bool) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    if saved:
        (folder / NAME).touch()

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, "train", stopped)
    done = CliRunner().invoke(main, ["train", "--out", str(folder)])
    assert done.exit_code == 130 and done.stderr.endswith("Interrupted.\n")
    assert (f"geoasanet train --resume '{folder}'" in done.stderr) == saved


def test_an_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ConfigError("lr must be from 1 to 2, found 3.")

    monkeypatch.setattr(tool, "train", refused)
    done = CliRunner().invoke(main, ["train"])
    assert done.exit_code == 1 and done.stderr == "Error: lr must be from 1 to 2, found 3.\n"


class TestHelp:
    """The manual of a training."""

    def text(self) -> str:
        return CliRunner().invoke(command, ["--help"], terminal_width=100).output

    def test_it_names_every_shipped_configuration(self) -> None:
        assert shipped_configs()
        for name in shipped_configs():
            assert name in self.text()

    def test_it_explains_every_key_of_a_configuration(self) -> None:
        context = click.Context(command, terminal_width=100)
        keys = command.get_help(context).partition("Keys of a configuration")[2]
        lines = [line.split() for line in keys.splitlines()]
        explained = {words[0].partition("=")[0] for words in lines if words and "=" in words[0]}
        assert explained >= set(TrainConfig().to_dict())
        assert "lr=0.0001 " in keys and "Base learning rate." in keys and "ema=null " in keys

    def test_its_examples_are_valid(self) -> None:
        lines = [line.strip() for line in self.text().splitlines() if line.strip().startswith("geoasanet train")]
        assert len(lines) >= 5
        for line in lines:
            words = shlex.split(line)[2:]
            parameters = command.make_context("train", words).params
            TrainConfig().changed(parameters["settings"])
