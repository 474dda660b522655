"""Training a network on a dataset folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import geoasanet
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.config import TrainConfig, read_config
from geoasanet.device import Precision, choose_precision, device_name, keep_freed_memory
from geoasanet.errors import CheckpointError, ConfigError, OutputError, OutputExistsError
from geoasanet.files import atomic_output
from geoasanet.metrics import Metrics
from geoasanet.models.network import Network
from geoasanet.models.registry import create_model
from geoasanet.raster.dataset import TileDataset, open_dataset_folder
from geoasanet.raster.moments import class_weights
from geoasanet.training.learner import Learner, stir_biases
from geoasanet.training.log import RunLog
from geoasanet.training.loop import BEST, LAST, Run, fit
from geoasanet.training.processes import Processes, joined, started_by_torchrun
from geoasanet.training.state import NAME, load_state
from geoasanet.training.survey import Survey, survey
from geoasanet.training.watch import Beginning, Silent, Watch

RUNS = Path("runs")
_CONFIG = "config.yaml"
_MANY_PARAMETERS = 20_000_000
_MAY_CHANGE = ("data", "iterations", "workers", "cache", "log_every", "validate_every", "save_every", "compile")
"""Keys that a resumed run may have otherwise than it began with."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What :func:`train` made."""

    out: Path
    """Folder of the run."""
    best: Path | None
    """Checkpoint with the best val mIoU."""
    last: Path
    """Checkpoint of the last evaluation."""
    iterations: int
    """Optimiser steps done."""
    metrics: Metrics | None
    """Accuracy of ``best`` on the val split."""
    best_iteration: int | None
    """Step after which ``best`` was saved."""
    classes: ClassSchema
    seconds: float
    """Time of training, that before a resume included."""
    warnings: tuple[str, ...]
    first: bool = True
    """False in all but one of the processes that torchrun started."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON."""
        return {
            "out": str(self.out),
            "best": None if self.best is None else str(self.best),
            "last": str(self.last),
            "iterations": self.iterations,
            "best_iteration": self.best_iteration,
            "metrics": None if self.metrics is None else self.metrics.to_dict(self.classes.names),
            "class_schema": self.classes.to_dict(),
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class TrainJob:
    """A checked training, ready to run in one or several processes."""

    config: TrainConfig
    out: Path
    device: str
    resume: bool
    watch: Watch


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
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    folder = None if resume is None else Path(resume)
    if folder is None and restarted and out is not None and (Path(out) / NAME).exists():
        folder = Path(out)  # torchrun started the same command again after a failure
    if folder is not None:
        chosen = _resumed_config(folder, config, out)
    else:
        chosen = config if isinstance(config, TrainConfig) else _read(config)
    changes = _changes(data, precision, compile, max_iters)
    changed = TrainConfig.from_mapping({**chosen.to_dict(), **changes}, "train").changed(settings)
    if folder is not None:
        _check_changes(chosen, changed, folder)
    world = _world(gpus, changed)
    if folder is None:
        folder = _new_folder(config, changed, None if out is None else Path(out), overwrite)
    job = TrainJob(changed, folder, device, ((folder / _CONFIG).exists() and resume is not None) or restarted, watch)
    if world > 1 and not started_by_torchrun():
        from geoasanet.tools.launch import launch

        return launch(job, world)
    return run_job(job)


def run_job(job: TrainJob) -> TrainResult:
    """Run a checked training in this process, together with those that were started with it."""
    config = job.config
    with joined(job.device) as processes:
        watch = job.watch if processes.first else Silent()
        arithmetic = choose_precision(config.precision, processes.device)
        if processes.device.type == "cpu":
            keep_freed_memory()
        dataset = _dataset(config)
        network = _probe_network(config, dataset)
        found = survey(
            dataset, _given_bands(config), cache=config.cache, processes=processes.here, progress=watch.progress
        )
        network = _network(config, found) if network is None else network
        learner = Learner(network, config, _class_weights(config, found, dataset), processes, arithmetic)
        run = Run(job.out, config, found, learner, loader_workers(config, processes), _summary(config, found), watch)
        notes = list(found.warnings) + _size_notes(network, processes)
        if job.resume:
            loaded = load_state(job.out)
            notes += loaded.notes
            run.take_over(loaded)
        log = None
        if processes.first:
            _prepare_folder(job)
            log = RunLog(job.out, found.classes.names, config.log_every, run.iteration, colors=found.classes.colors)
        processes.wait()
        watch.begin(_beginning(job, run, processes, arithmetic))
        for note in notes:
            watch.note(note)
        began = time.monotonic() - run.seconds
        try:
            fit(run, log)
        finally:
            if log is not None:
                log.close()
        seconds = run.seconds or time.monotonic() - began
        for note in [] if log is None else log.notes:
            watch.note(note)
            notes.append(note)
    return TrainResult(
        job.out,
        job.out / BEST if run.best else None,
        job.out / LAST,
        run.iteration,
        run.best.metrics if run.best else None,
        run.best.iteration if run.best else None,
        found.classes,
        seconds,
        tuple(notes),
        processes.first,
    )


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
        raise ConfigError(f"A resumed run has its own configuration, {folder / _CONFIG}.", "Leave CONFIG out.")
    if out is not None and Path(out) != folder:
        raise ConfigError(f"A resumed run goes on in its own folder, {folder}.", "Leave --out out.")
    if not (folder / _CONFIG).is_file():
        raise CheckpointError(f"{folder} holds no {_CONFIG}: nothing to resume.", "Give the folder of a run.")
    return read_config(folder / _CONFIG)


def _check_changes(before: TrainConfig, after: TrainConfig, folder: Path) -> None:
    old, new = before.to_dict(), after.to_dict()
    for key, value in old.items():
        if value != new[key] and key not in _MAY_CHANGE:
            raise ConfigError(
                f"The run in {folder} began with {key} = {value!r}, it cannot go on with {new[key]!r}.",
                f"What may change are {', '.join(_MAY_CHANGE)}. Begin a new run for others.",
            )


def _world(gpus: int | None, config: TrainConfig) -> int:
    """Return how many processes train together, after checking that the batch can be shared."""
    if gpus is not None and gpus < 1:
        raise ConfigError(f"--gpus must be at least 1, found {gpus}.")
    world = int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else gpus or 1
    if config.batch_size % (world * config.accumulate):
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared among {world} process(es) with accumulate "
            f"{config.accumulate}.",
            f"It must be a multiple of {world * config.accumulate}.",
        )
    return world


def _new_folder(config: Any, chosen: TrainConfig, out: Path | None, overwrite: bool) -> Path:
    if out is None:
        name = Path(config).stem if isinstance(config, str | Path) else chosen.model
        if started_by_torchrun():
            raise ConfigError("Under torchrun every process must know the folder of the run.", "Give --out runs/NAME.")
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return _free(RUNS / f"{name}_{stamp}")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputExistsError(f"{out} exists and is no folder of a run.", "Choose another name for --out.")
    occupied = out.is_dir() and any(out.iterdir())
    if not occupied or started_by_torchrun():
        return out
    if not (out / _CONFIG).is_file():
        raise OutputExistsError(f"Folder {out} holds something else than a run.", "Choose another name for --out.")
    if not overwrite:
        raise OutputExistsError(
            f"Folder {out} holds a run.", f"Go on with it (--resume {out}), choose another --out, or add --overwrite."
        )
    return out


def _free(path: Path) -> Path:
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _prepare_folder(job: TrainJob) -> None:
    """Make the run's folder with its configuration, and let ``runs/latest`` lead to it."""
    import yaml

    try:
        if not job.resume and (job.out / _CONFIG).is_file():
            shutil.rmtree(job.out)  # overwrite was asked for and everything else has been checked
        job.out.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(job.config.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None)
        with atomic_output(job.out / _CONFIG) as temporary:
            temporary.write_text(f"# geoasanet {geoasanet.__version__}\n{text}", encoding="utf-8")
        _point_latest(job.out)
    except OSError as error:
        raise OutputError(f"Run folder {job.out} cannot be written ({error.strerror or error}).") from None


def _point_latest(out: Path) -> None:
    """Let ``runs/latest`` of the folder that holds the run lead to it."""
    link = RUNS / "latest"
    if RUNS.resolve() != out.resolve().parent or (link.exists() and not link.is_symlink()):
        return
    temporary = RUNS / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(out.name, target_is_directory=True)
    temporary.replace(link)


def _dataset(config: TrainConfig) -> TileDataset:
    dataset = open_dataset_folder(config.data)
    classes = None if config.classes is None else ClassSchema.from_dict({"classes": config.classes})
    if classes is not None and dataset.classes is not None and classes.names != dataset.classes.names:
        raise ConfigError(
            f"The configuration has classes {', '.join(classes.names)}, but {dataset.root} has "
            f"{', '.join(dataset.classes.names)}.",
            "Leave classes out of the configuration.",
        )
    return dataset.assuming(classes, reduce_zero_label=config.reduce_zero_label)


def _given_bands(config: TrainConfig) -> InputBands | None:
    if config.rgb_mean is None or config.rgb_std is None or config.sar_mean is None or config.sar_std is None:
        return None
    names = ("red", "green", "blue")
    rgb = SensorBands(config.rgb_mean, config.rgb_std, "uint8", names if len(config.rgb_mean) == 3 else ())
    return InputBands(rgb, SensorBands(config.sar_mean, config.sar_std, "uint8"))


def _probe_network(config: TrainConfig, dataset: TileDataset) -> Network | None:
    """Build the network before reading the tiles, where the folder says enough: a wrong argument then fails at once."""
    bands = _given_bands(config) or dataset.bands
    if bands is None or dataset.classes is None:
        return None
    return _build(config, len(dataset.classes), len(bands.sar))


def _network(config: TrainConfig, found: Survey) -> Network:
    return _build(config, len(found.classes), len(found.bands.sar))


def _build(config: TrainConfig, num_classes: int, sar_bands: int) -> Network:
    import torch

    torch.manual_seed(config.seed)
    network = create_model(
        config.model,
        num_classes,
        (3, sar_bands),
        config.encoder,
        encoder_weights=config.encoder_weights,
        **config.model_args,
    )
    if config.missing_rgb or config.missing_sar:
        stir_biases(network)
    return network


def _class_weights(config: TrainConfig, found: Survey, dataset: TileDataset) -> Sequence[float] | None:
    if config.class_weights == "none":
        return None
    if config.class_weights == "auto":
        return dataset.class_weights or class_weights(found.class_pixels)
    if len(config.class_weights) != len(found.classes):
        raise ConfigError(
            f"class_weights has {len(config.class_weights)} values, but there are {len(found.classes)} classes: "
            f"{', '.join(found.classes.names)}."
        )
    return config.class_weights


def _size_notes(network: Network, processes: Processes) -> list[str]:
    """Say so if the network is more than a CPU can train."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if processes.device.type != "cpu" or parameters < _MANY_PARAMETERS:
        return []
    return [
        f"A network of {parameters / 1e6:.0f} million parameters takes very long on a CPU. For a small one, which an "
        "hour is enough for: geoasanet train asanet_small."
    ]


def loader_workers(config: TrainConfig, processes: Processes) -> int:
    """Return how many processes prepare samples for this one."""
    if config.workers != "auto":
        return config.workers
    if processes.device.type != "cuda":
        return 0  # the network takes every core; preparing a sample costs a few percent of its step
    return max(1, min(16, (os.cpu_count() or 1) // processes.here))


def _summary(config: TrainConfig, found: Survey) -> dict[str, Any]:
    return {
        "data": Path(config.data).name,
        "train_tiles": len(found.train.names),
        "val_tiles": len(found.val.names),
        "class_pixels": list(found.class_pixels),
        "seed": config.seed,
    }


def _beginning(job: TrainJob, run: Run, processes: Processes, arithmetic: Literal["fp32", "bf16", "fp16"]) -> Beginning:
    config, network = job.config, run.learner.network
    encoder = network.architecture.arguments.get("encoder")
    where = device_name(processes.device)
    return Beginning(
        job.out,
        f"{config.model}, {encoder}" if isinstance(encoder, str) else config.model,
        sum(p.numel() for p in network.parameters()),
        f"{where}, {arithmetic}",
        processes.world,
        len(run.survey.train.names),
        len(run.survey.val.names),
        run.survey.classes.names,
        run.iteration,
        config.iterations,
    )
