"""One map on several devices: a process for each, every one mapping its own run of rows."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing.connection
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoasanet.device import Precision
from geoasanet.errors import DeviceError, GeoASANetError
from geoasanet.inference.lanes import LanePlan
from geoasanet.inference.lentrows import LentRows
from geoasanet.inference.mapping import MapJob, map_into, runs
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.starting import worker_context
from geoasanet.interrupt import unheard
from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.orphans import end_with_parent
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.grid import Grid

_PATIENCE_SECONDS = 5.0
"""How long a worker has to end when it is asked to, before it is killed."""


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """All that one worker process needs."""

    job: MapJob
    spool: Path
    grid: Grid
    first_row: int
    rows: tuple[range, ...]
    """Runs of rows of windows to map."""
    lent: LentRows | None
    """Predictions that are shared with the other workers; None where running the network again takes less time."""
    checkpoint: Path
    device: str
    lanes: LanePlan | None
    """How windows share this worker's part of the CPU; None on other devices."""
    precision: Precision
    batch_size: int | None
    tta: bool
    compile: bool


def share_rows(
    rows: Sequence[range], workers: int, lead: int = 0, top: int = 0, *, lent: bool = False
) -> list[tuple[range, ...]]:
    """Return ``rows`` (runs of rows of windows) in at most ``workers`` shares of nearly equal work, in order.

    Args:
        rows: Ascending.
        workers: How many shares.
        lead: Rows above its first one that a worker computes too, unless it begins with ``top``.
        top: The first row that there is.
        lent: Whether those rows above are then known to the worker above, whose last ones they are.
    """
    flat = [index for run in rows for index in run]
    if not flat:
        return []
    workers = min(workers, len(flat))
    bounds = [0]
    for number in range(1, workers):
        # What the shares up to this one compute besides their own, and what all do.
        above, besides = (lead * (count - (flat[0] == top)) for count in (number, workers))
        if lent:
            above, besides = above - lead * number, besides - lead * (workers - 1)
        work = len(flat) + besides
        bound = round(work * number / workers) - above
        bounds.append(min(max(bound, bounds[-1] + 1), len(flat) - workers + number))  # none is empty
    return [tuple(runs(flat[start:stop])) for start, stop in itertools.pairwise([*bounds, len(flat)])]


@dataclass(frozen=True, slots=True)
class WorkersReport:
    """What became of the workers."""

    warnings: tuple[str, ...]
    """Theirs, of those that finished."""
    died: tuple[str, ...]
    """For each that did not, its number and what ended it. What they spooled stays."""


def run_workers(tasks: Sequence[WorkerTask], advance: Callable[[int], None]) -> WorkersReport:
    """Run every task in a process of its own; where one dies the others go on.

    Args:
        tasks: One per worker.
        advance: Called with the number of windows that were done, in this process.

    Raises:
        GeoASANetError: The first error that a worker reports; the others are stopped. What is spooled stays.
    """
    context: Any = worker_context(tasks[0].device) if tasks else None
    workers: dict[Any, Any] = {}  # by the end of the pipe that a worker talks into
    warnings: list[str] = []
    died: list[str] = []
    try:
        for number, task in enumerate(tasks):
            # A pipe for each: a common queue has a lock, which a worker that is killed may take along.
            listening, talking = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(task, talking), name=f"geoasanet-{number}", daemon=True)
            with unheard():
                process.start()
            talking.close()
            workers[listening] = process
        while workers:
            for talker in multiprocessing.connection.wait(list(workers)):
                try:
                    kind, value = _heard(talker)
                except (EOFError, OSError):
                    died.append(_end_of(workers.pop(talker)))
                    continue
                if kind == "advance":
                    advance(value)
                elif kind == "error":
                    raise value
                else:
                    warnings.extend(value)
                    workers.pop(talker).join()
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join(_PATIENCE_SECONDS)
            process.kill()
            process.join()
    return WorkersReport(tuple(warnings), tuple(died))


def _heard(pipe: Any) -> tuple[str, Any]:
    kind, value = pipe.recv()
    return kind, value


def _end_of(process: Any) -> str:
    """Return in words which worker has ended and how; it has said nothing about it."""
    process.join()
    code = process.exitcode
    how = f"exit code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-code).name
    number = int(process.name.rpartition("-")[2]) + 1
    return f"Worker {number} died ({how})"


def _work(task: WorkerTask, messages: Any) -> None:
    """Map one share of rows; everything is told through the pipe ``messages``."""
    end_with_parent()
    if task.lanes is not None:  # more threads than this worker's share of the cores would wait for each other
        torch.set_num_threads(task.lanes.lanes * task.lanes.threads)
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
        map_into(spool, task.job, predictor, task.rows, lambda count: messages.send(("advance", count)), task.lent)
        messages.send(("done", predictor.warnings))
    except GeoASANetError as error:
        _tell(messages, type(error)(str(error.args[0]), error.hint))
    except MemoryError:
        _tell(messages, DeviceError("A worker process ran out of memory.", "Use fewer workers (--gpus)."))
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more
    except Exception as error:
        text = f"A worker process failed with an unexpected {type(error).__name__}: {error}."
        _tell(messages, GeoASANetError(text, "This is a bug in geoasanet; without --gpus, --debug shows where it is."))


def _tell(messages: Any, error: GeoASANetError) -> None:
    with contextlib.suppress(OSError):
        messages.send(("error", error))
