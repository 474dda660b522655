"""Training a network on a dataset folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoasanet.config import TrainConfig, read_config
from geoasanet.device import Precision
from geoasanet.errors import (
    CheckpointError,
    ClassSchemaError,
    ConfigError,
    DeviceError,
    ModelError,
    NonFiniteError,
    said_of,
)
from geoasanet.tools.runfolder import CONFIG, check_recipe, check_writable, new_folder
from geoasanet.tools.trainjob import TrainJob, TrainResult, run_job
from geoasanet.training.processes import started_by_torchrun
from geoasanet.training.watch import Silent, Watch


def train(
    config: TrainConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    gpus: int | None = None,
    device: str = "auto",
    resume: str | os.PathLike[str] | None = None,
    precision: Precision | None = None,
    compile: bool | None = None,
    max_iters: int | None = None,
    settings: Sequence[str] = (),
    overwrite: bool = False,
    watch: Watch | None = None,
) -> TrainResult:
    """Train a network and return where its checkpoints are.

    Args:
        config: A configuration, its keys and values, a YAML file, or the name of a shipped one; None for ASANet with
            the paper's recipe.
        data: Dataset folder; None takes the configuration's.
        out: Folder of the run; None makes one under ``runs/``. ``runs/latest`` leads to the newest.
        gpus: Processes on this machine, each on a CUDA device of its own, or on CPU where ``device`` is "cpu" or there
            is no CUDA device. None for one. Under torchrun it is left out. A script that asks for several must guard
            its own top level with ``if __name__ == "__main__":``, because each process imports it.
        device: "auto", "cpu" or "cuda".
        resume: Folder of an interrupted run to go on with, with its own configuration.
        precision: Overrides the configuration.
        compile: Overrides the configuration.
        max_iters: Overrides ``iterations``; the learning rate then falls to its end by that iteration.
        settings: Further ``key=value`` overrides, values in YAML.
        overwrite: Replace an existing run in ``out``.
        watch: Told what happens; with ``gpus`` above 1 it is pickled into the first process.

    Returns:
        What was made.

    Raises:
        ConfigError: If the configuration or an argument is impossible.
        ManifestError: If the dataset is incomplete or contradicts itself.
        LabelError: If labels do not fit the classes, or show fewer than two.
        ModelError: If the network cannot be built.
        CheckpointError: If there is nothing to resume, or encoder weights are out of reach.
        DeviceError: If a device is absent.
        NonFiniteError: If training diverges.
        OutputExistsError: If ``out`` holds a run and neither ``resume`` nor ``overwrite`` is given.
        OutputError: If a file cannot be written.
    """
    watch = Silent() if watch is None else watch
    kinds = (CheckpointError, ClassSchemaError, ConfigError, DeviceError, ModelError, NonFiniteError)
    with said_of(_origin(config, resume), *kinds):
        restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        folder = None if resume is None else Path(resume)
        if folder is None and restarted and out is not None and (Path(out) / CONFIG).is_file():
            folder, config = Path(out), None  # torchrun started the same command again after a failure
        if folder is not None:
            chosen = _resumed_config(folder, config, out)
        else:
            chosen = config if isinstance(config, TrainConfig) else _read(config)
        changes = _changes(data, precision, compile, max_iters)
        changed = TrainConfig.from_mapping({**chosen.to_dict(), **changes}, "train").changed(settings)
        if folder is not None:
            check_recipe(chosen.to_dict(), changed, folder)
        world = _world(gpus, changed)
        if folder is not None:
            check_writable(folder)
            return _run(TrainJob(changed, folder, device, True, True, watch), world)
        name = Path(config).stem if isinstance(config, str | Path) else changed.model
        replace = overwrite or restarted
        with new_folder(name, None if out is None else Path(out), replace) as folder:
            return _run(TrainJob(changed, folder, device, False, replace, watch), world)


def _origin(config: Any, resume: str | os.PathLike[str] | None) -> str:
    """Return what errors in a configuration's values are said of: its file, if it has one."""
    if resume is not None:
        return f"Run {os.fspath(resume)}"
    if isinstance(config, str | Path) and Path(config).is_file():
        return f"Configuration {config}"
    return ""


def _run(job: TrainJob, world: int) -> TrainResult:
    if world == 1 or started_by_torchrun():
        return run_job(job)
    from geoasanet.tools.launch import launch

    return launch(job, world)


def _read(config: Mapping[str, Any] | str | Path | None) -> TrainConfig:
    return TrainConfig.from_mapping(config) if isinstance(config, Mapping) else read_config(config)


def _changes(
    data: str | os.PathLike[str] | None, precision: str | None, compile: bool | None, max_iters: int | None
) -> dict[str, Any]:
    given = {
        "data": None if data is None else os.fspath(data),
        "precision": precision,
        "compile": compile,
        "iterations": max_iters,
    }
    return {key: value for key, value in given.items() if value is not None}


def _resumed_config(folder: Path, config: Any, out: Any) -> TrainConfig:
    if config is not None:
        raise ConfigError(f"A resumed run has its own configuration, {folder / CONFIG}.", "Leave CONFIG out.")
    if out is not None and Path(out) != folder:
        raise ConfigError(f"A resumed run goes on in its own folder, {folder}.", "Leave --out out.")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} holds no {CONFIG}: nothing to resume.", "Give the folder of a run.")
    return read_config(folder / CONFIG)


def _world(gpus: int | None, config: TrainConfig) -> int:
    """Return how many processes train together, after checking that the batch can be shared."""
    if gpus is not None and gpus < 1:
        raise ConfigError(f"--gpus must be at least 1, found {gpus}.")
    if gpus is not None and started_by_torchrun():
        raise ConfigError(
            f"--gpus {gpus} was given under torchrun, which starts the processes itself.", "Leave --gpus out."
        )
    world = int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else gpus or 1
    if config.batch_size % (world * config.accumulate):
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared among {world} process(es) with accumulate "
            f"{config.accumulate}.",
            f"It must be a multiple of {world * config.accumulate}.",
        )
    return world
