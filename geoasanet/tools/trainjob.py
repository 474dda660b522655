"""One training, checked and ready to run in this process or in several."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from geoasanet.classes import ClassSchema
from geoasanet.config import TrainConfig
from geoasanet.device import choose_precision, device_name, keep_freed_memory
from geoasanet.errors import ConfigError
from geoasanet.metrics import Metrics
from geoasanet.raster.dataset import TileDataset, open_dataset_folder
from geoasanet.tools.runfolder import check_recipe, prepare_folder
from geoasanet.tools.trainnet import (
    build_network,
    check_tile_size,
    given_bands,
    probe_network,
    size_notes,
    weights_of_classes,
)
from geoasanet.training.failures import check_batch, plain_failures
from geoasanet.training.learner import Learner
from geoasanet.training.log import RunLog
from geoasanet.training.loop import BEST, LAST, Run, fit
from geoasanet.training.processes import Processes, joined
from geoasanet.training.state import Loaded, has_state, load_state
from geoasanet.training.survey import Survey, survey
from geoasanet.training.watch import Beginning, Silent, Watch


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
    """Go on from the state in the folder."""
    replace: bool
    """Otherwise, a run in the folder may be replaced."""
    watch: Watch


def run_job(job: TrainJob) -> TrainResult:
    """Run a checked training in this process, together with those that were started with it."""
    config = job.config
    with joined(job.device) as processes, plain_failures(config, processes.device):
        watch = job.watch if processes.first else Silent()
        arithmetic = choose_precision(config.precision, processes.device)
        if processes.device.type == "cpu":
            keep_freed_memory()
        saved, notes = _saved(job)
        dataset = _dataset(config)
        recipe = config if saved is None else replace(config, encoder_weights=None)  # the state has all weights
        network = probe_network(recipe, dataset)
        found = survey(
            dataset, given_bands(config), cache=config.cache, processes=processes.here, progress=watch.progress
        )
        network = build_network(recipe, found) if network is None else network
        check_tile_size(network, found, dataset)
        check_batch(config, found.bands, processes.world // processes.here)
        learner = Learner(network, config, weights_of_classes(config, found, dataset), processes, arithmetic)
        run = Run(job.out, config, found, learner, loader_workers(config, processes), _summary(config, found), watch)
        notes += [*found.warnings, *size_notes(network, processes)]
        resumed = saved is not None
        if saved is not None:
            notes += run.take_over(saved)
            saved = None  # it takes as much memory as the training itself
        log = None
        if processes.first:
            prepare_folder(job.out, config, resume=resumed, replace=job.replace)
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


def _saved(job: TrainJob) -> tuple[Loaded | None, list[str]]:
    """Return the state that a job goes on from, None where it begins, and what the user should know."""
    if not job.resume:
        return None, []
    if not has_state(job.out) and not any((job.out / name).exists() for name in (BEST, LAST)):
        return None, [f"The run in {job.out} was stopped before its first state was saved: it begins anew."]
    loaded = load_state(job.out)
    check_recipe(loaded.state.get("config", {}), job.config, job.out)
    return loaded, list(loaded.notes)


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
