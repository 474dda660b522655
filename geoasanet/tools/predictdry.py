"""``predict --dry-run``: a prediction thought through and timed on a few windows."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import rasterio

from geoasanet.inference.rows import read_rows
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.remote import READ_OPTIONS
from geoasanet.sample import Sample
from geoasanet.tools.dryrun import DryRun, InputFile, OutputFile, Work, peak_memory_bytes, shortages, time_left
from geoasanet.tools.journal import find_journal
from geoasanet.tools.predictjob import PredictJob
from geoasanet.windows import RowPlan

_TIMED = 8
_ROWS_TRIED = 3
_WRITING_NS = 120
"""Nanoseconds that a pixel of the map takes besides the network, on a slow processor."""


@dataclass(frozen=True, slots=True)
class _Timing:
    """How long windows took."""

    windows: int
    """Windows that were timed; 0 where no valid pixel was met."""
    seconds: float
    start_seconds: float
    """What the first one took beyond that."""


def rehearse(job: PredictJob, *, resume: bool) -> DryRun:
    """Return what a prediction would do.

    Raises:
        ConfigError: If an unfinished run of other options is in its way.
        GeoASANetError: If a file cannot be read, or the network fails.
    """
    done = 0
    if find_journal(job.folder, job.describe(), resume=resume):
        pending = job.layout.pending(RowSpool(job.folder, job.layout.grid, job.layout.crop.row))
        done = len(job.layout.plan) - len(job.layout.plan.columns) * sum(map(len, pending))
    grid, total = job.layout.grid, len(job.layout.plan)
    timing = _time(job)
    devices = job.gpus if job.device.type == "cuda" else 1
    left = time_left(timing.seconds, timed=timing.windows, remaining=total - done)
    spaces = job.spaces(done / total)
    where = f"{job.gpus} {job.device.type} processes" if job.gpus > 1 else str(job.device)
    return DryRun(
        command="predict",
        inputs=_inputs(job),
        outputs=tuple(OutputFile.of(path, job.sizes().get(path)) for path in (job.out, *job.extras.values())),
        work=(Work("windows", total, done), Work("pixels", grid.width * grid.height)),
        memory_bytes=_memory(job),
        temporary_bytes=job.spool_bytes() + job.lent_bytes(),
        spaces=spaces,
        seconds=None
        if left is None
        else timing.start_seconds + left / devices + grid.width * grid.height * _WRITING_NS * 1e-9,
        basis=f"{timing.windows} windows timed" if timing.windows else "no window with valid pixels was met",
        notes=(f"Runs in {job.arithmetic.precision} on {where}, windows of {job.map_job.window} px.",),
        warnings=(*job.notes, *shortages(spaces)),
    )


def _inputs(job: PredictJob) -> tuple[InputFile, ...]:
    files = [InputFile.raster(job.map_job.rgb, "RGB"), InputFile.raster(job.map_job.sar, "SAR")]
    if job.network.checkpoint is not None:
        files.append(InputFile.other(job.network.checkpoint, "Checkpoint"))
    if job.map_job.aoi is not None:
        files.append(InputFile.other(job.map_job.aoi, "Area"))
    return tuple(files)


def _time(job: PredictJob) -> _Timing:
    """Run the network over a few windows from the middle of the map."""
    samples = _samples(job)
    if not samples:
        return _Timing(0, 0.0, 0.0)
    predictor = job.predictor()
    begun = time.perf_counter()
    for _ in predictor.run(samples[:1]):
        pass
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in predictor.run(samples):
        pass
    seconds = time.perf_counter() - begun
    return _Timing(len(samples), seconds, max(0.0, first - seconds / len(samples)))


def _samples(job: PredictJob) -> Sequence[Sample]:
    """Return some windows with valid pixels, from one row of windows."""
    plan, middle = job.layout.plan, len(job.layout.plan.rows) // 2
    rows = sorted(plan.rows, key=lambda row: abs(row - plan.rows[middle]))[:: max(1, len(plan.rows) // _ROWS_TRIED)]
    first = max(0, (len(plan.columns) - _TIMED) // 2)
    columns = plan.columns[first : first + _TIMED]
    with job.map_job.open_scene(None) as scene, rasterio.Env(**READ_OPTIONS):
        area = job.map_job.open_area(scene.grid)
        for row in rows:
            few = RowPlan(plan.tiling, range(row, row + 1), columns)
            options = {"scaling": job.map_job.scaling, "missing_sar": job.map_job.missing_sar}
            rows_read = read_rows(scene, few, area=area.mask if area is not None else None, **options)  # type: ignore[arg-type]
            with contextlib.closing(rows_read) as read:
                found = [s for s in itertools.chain.from_iterable(r.samples() for r in read) if s is not None]
            if found:
                return found
    return []


def _memory(job: PredictJob) -> int | None:
    """Return the peak so far and, for each process, what rows of the scene's whole width take."""
    peak = peak_memory_bytes()
    if peak is None:
        return None
    plan, classes = job.layout.plan, len(job.network.classes)
    size = plan.tiling.size
    kept = 4 * job.map_job.keep_confidence + 4 * classes * job.map_job.keep_probabilities
    pixel_bytes = (
        size * (3 + 4 * len(job.map_job.sar_bands) + 1) + job.map_job.overlap * 4 * classes + size * (1 + kept)
    )
    return job.gpus * (peak + 2 * plan.width * pixel_bytes)
