"""One map on several devices: a process for each, every one mapping its own run of rows."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoasanet.device import Precision
from geoasanet.errors import DeviceError, GeoASANetError
from geoasanet.inference.lanes import LanePlan
from geoasanet.inference.mapping import MapJob, map_into, runs
from geoasanet.inference.predictor import Predictor
from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.orphans import end_with_parent
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.grid import Grid


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """All that one worker process needs."""

    job: MapJob
    spool: Path
    grid: Grid
    first_row: int
    rows: tuple[range, ...]
    """Runs of rows of windows to map."""
    checkpoint: Path
    device: str
    lanes: LanePlan | None
    """How windows share this worker's part of the CPU; None on other devices."""
    precision: Precision
    batch_size: int | None
    tta: bool
    compile: bool


def share_rows(rows: Sequence[range], workers: int) -> list[tuple[range, ...]]:
    """Return ``rows`` (runs of rows of windows) in at most ``workers`` shares of nearly equal size, in order."""
    flat = [index for run in rows for index in run]
    workers = min(workers, len(flat))
    bounds = [len(flat) * i // workers for i in range(workers + 1)] if workers else [0]
    return [tuple(runs(flat[start:stop])) for start, stop in itertools.pairwise(bounds)]


def run_workers(tasks: Sequence[WorkerTask], advance: Callable[[int], None]) -> list[str]:
    """Run every task in a process of its own and return their warnings.

    Args:
        tasks: One per worker.
        advance: Called with the number of windows that were done, in this process.

    Raises:
        GeoASANetError: The first error of a worker; the others are stopped. What is spooled stays.
        DeviceError: If a worker dies.
    """
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    processes = [
        context.Process(target=_work, args=(task, messages), name=f"geoasanet-{i}", daemon=True)
        for i, task in enumerate(tasks)
    ]
    warnings: list[str] = []
    finished = 0
    try:
        for process in processes:
            process.start()
        while finished < len(processes):
            try:
                kind, value = messages.get(timeout=0.5)
            except queue.Empty:
                _check_alive(processes)
                continue
            if kind == "advance":
                advance(value)
            elif kind == "error":
                raise value
            else:
                finished += 1
                warnings.extend(value)
    finally:
        for process in processes:
            if process.is_alive() and finished < len(processes):
                process.terminate()
        for process in processes:
            if process.pid is not None:
                process.join()
    return warnings


def _check_alive(processes: Sequence[Any]) -> None:
    for process in processes:
        if process.exitcode not in (None, 0):
            raise DeviceError(
                f"Worker process {process.name} died (exit code {process.exitcode}).",
                "It may have run out of memory: use fewer workers (--gpus) or a smaller --batch-size. "
                "The same command goes on where it stopped.",
            )


def _work(task: WorkerTask, messages: Any) -> None:
    """Map one share of rows; everything is told through ``messages``."""
    end_with_parent()
    try:
        checkpoint = load_checkpoint(task.checkpoint)
        predictor = Predictor(
            checkpoint.calibrated,
            checkpoint.bands,
            len(checkpoint.classes),
            device=torch.device(task.device),
            precision=task.precision,
            batch_size="auto" if task.batch_size is None else task.batch_size,
            tta=task.tta,
            compile=task.compile,
            leave_softmax=True,
            lanes=task.lanes,
        )
        spool = RowSpool(task.spool, task.grid, task.first_row)
        map_into(spool, task.job, predictor, task.rows, lambda count: messages.put(("advance", count)))
        messages.put(("done", predictor.warnings))
    except GeoASANetError as error:
        with contextlib.suppress(OSError):
            messages.put(("error", type(error)(str(error.args[0]), error.hint)))
    except KeyboardInterrupt:
        os._exit(130)
