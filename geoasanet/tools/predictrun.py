"""A prediction being done: windows to finished rows, in one process or several, and rows to outputs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import geoasanet
from geoasanet.device import keep_freed_memory
from geoasanet.errors import ConfigError, DeviceError, GeoASANetError, NonFiniteError, said_of
from geoasanet.inference.blocks import BlockNetwork, MapBlock, MappedBlock, blocks_of, map_block
from geoasanet.inference.lanes import LanePlan
from geoasanet.inference.lentrows import LentRows
from geoasanet.inference.mapping import map_into
from geoasanet.inference.predictor import KEPT_BYTES
from geoasanet.inference.workers import WorkerTask, run_workers, share_rows
from geoasanet.progress import Progress
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.rasterstyles import class_qml, confidence_qml, write_style
from geoasanet.raster.readback import written
from geoasanet.tools.cluster import Cluster, path_for_workers, worker_cores
from geoasanet.tools.dryrun import require_space
from geoasanet.tools.firstrun import announce_compilation
from geoasanet.tools.journal import held, open_journal
from geoasanet.tools.predictjob import PredictJob
from geoasanet.tools.published import Published

_GOES_ON = "The same command goes on where it stopped."
_LEAST_BLOCK, _MOST_BLOCK = 4, 16
"""Rows of windows that a worker of a cluster maps at a time."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What came out."""

    pixels: NDArray[np.int64]
    """Pixels of each value 0..255."""
    filled: int
    """Mapped pixels that had no SAR data."""
    notes: Sequence[str]
    """What the user should know."""


def run(job: PredictJob, *, resume: bool, progress: Progress) -> Mapped:
    """Map a scene and write its outputs.

    What is finished stays in a folder beside the map until the outputs are whole, so that a run that is interrupted,
    killed or out of disk space goes on where it stopped.

    Raises:
        GeoASANetError: If a file cannot be read or written, or the network fails.
    """
    with held(job.folder):
        earlier = open_journal(job.folder, job.describe(), resume=resume)
    with held(job.folder):
        return _run(job, earlier, progress)


def _run(job: PredictJob, earlier: bool, progress: Progress) -> Mapped:
    folder = job.folder
    spool = RowSpool(folder, job.layout.grid, job.layout.crop.row)
    if job.map_job.on_error == "fail" and (left_out := spool.faults().warnings()):
        raise ConfigError(
            f"{folder} holds an unfinished run that left out what it could not read. {left_out[0]}",
            "Add --on-error nodata to go on with it, or --no-resume to start anew.",
        )
    notes = []
    try:
        if earlier and (damaged := spool.drop_damaged()):
            notes.append(f"{damaged} damaged pieces of the unfinished run are mapped again.")
        require_space(job.spaces(sum(spool.done().values()) / job.layout.grid.height))
        with said_of(f"Checkpoint {job.network.label}" if job.network.checkpoint else "The model", NonFiniteError):
            notes += _map(job, spool, progress)
        pixels, filled = spool.counts()
        notes += _write(job, spool, pixels, progress)
        notes += spool.faults().warnings()
    except GeoASANetError:
        if not spool.done():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_GOES_ON[0].lower() + _GOES_ON[1:-1] if spool.done() else "") from None
    shutil.rmtree(folder, ignore_errors=True)
    if filled:
        notes.append(f"{filled} pixels had no SAR data and were mapped from the optical bands alone.")
    return Mapped(pixels, filled, notes)


def _map(job: PredictJob, spool: RowSpool, progress: Progress) -> list[str]:
    """Map what is not yet spooled, in this process or in others; return warnings."""
    columns, total = len(job.layout.plan.columns), len(job.layout.plan)
    notes: list[str] = []
    pending = job.layout.pending(spool)
    compiled = _announce_compilation(job, progress, notes) if pending else _nothing

    def advance_from(pending: Sequence[range]) -> Callable[[int], None]:
        done = columns * (len(job.layout.plan.rows) - sum(map(len, pending)))

        def advance(windows: int) -> None:
            nonlocal done
            done += windows
            if windows:
                compiled()
            progress("Mapping", done, total, "windows")

        advance(0)
        return advance

    advance = advance_from(pending)
    if not pending:
        return []
    if job.cluster is not None:
        return notes + _map_on(job.cluster, job, spool, pending, advance)
    if job.gpus == 1:
        predictor = job.predictor()
        map_into(spool, job.map_job, predictor, pending, advance)
        return notes + list(predictor.warnings)
    workers = job.gpus
    while pending:
        report = run_workers(_tasks(job, spool, pending, workers), advance_from(pending))
        notes += report.warnings
        left = job.layout.pending(spool)
        if left and (not report.died or left == pending):
            raise DeviceError(
                f"{'; '.join(report.died) or 'The workers stopped'} before anything more was mapped.",
                "Worker processes may have run out of memory: use fewer (--gpus) or a smaller --batch-size. The same "
                "command goes on where it stopped.",
            )
        notes += [f"{death}; what it had left was mapped by others." for death in report.died]
        workers, pending = max(1, workers - len(report.died)), left
    return notes


def _announce_compilation(job: PredictJob, progress: Progress, notes: list[str]) -> Callable[[], None]:
    if job.device.type != "cpu" or job.cluster is not None:
        return _nothing
    from geoasanet.inference.hostsums import add_window  # loads numba, which a device does not need

    return announce_compilation(add_window, progress, notes)


def _nothing() -> None:
    """Do nothing: no kernels are compiled in this process, or all are."""


def _map_on(
    cluster: Cluster, job: PredictJob, spool: RowSpool, pending: Sequence[range], advance: Callable[[int], None]
) -> list[str]:
    """Map what is pending on a cluster; return warnings."""
    assert job.network.checkpoint is not None
    network = BlockNetwork(
        checkpoint=str(job.network.checkpoint.absolute()),
        sha256=job.network.identity["sha256"],
        device=job.device.type,
        threads=LanePlan.of_machine().threads,
        precision=job.arithmetic.precision,
        batch_size=None if job.batch_size == "auto" else job.batch_size,
        tta=job.tta,
        compile=job.arithmetic.compile,
    )
    # Each block runs a row or two of windows more than it finishes; on the other hand no worker is to be idle.
    size = max(_LEAST_BLOCK, min(_MOST_BLOCK, sum(map(len, pending)) // (2 * cluster.workers)))
    blocks = blocks_of(pending, size)
    here, aoi = job.map_job, job.map_job.aoi
    elsewhere = replace(
        here,
        rgb=path_for_workers(here.rgb),
        sar=path_for_workers(here.sar),
        aoi=None if aoi is None else path_for_workers(aoi),
    )
    tasks = [(MapBlock(elsewhere, job.layout.grid, job.layout.crop.row, rows, network),) for rows in blocks]
    notes: list[str] = []
    with contextlib.closing(cluster.run(map_on_worker, tasks, gpu=job.device.type == "cuda")) as results:
        for number, mapped in results:
            spool.keep(mapped.files)
            notes += [warning for warning in mapped.warnings if warning not in notes]
            advance(len(blocks[number]) * len(job.layout.plan.columns))
    return notes


def map_on_worker(block: MapBlock) -> MappedBlock:
    """Map a block with the cores of this worker."""
    return map_block(block, worker_cores())


def _tasks(job: PredictJob, spool: RowSpool, pending: Sequence[range], workers: int) -> list[WorkerTask]:
    plan = job.layout.plan
    last = plan.rows[-1:]
    lead, on_cpu = len(plan.leading_to(last).rows) - 1, job.device.type == "cpu"
    shares = share_rows(pending, workers, lead, plan.rows[0], lent=on_cpu)
    lanes = LanePlan.of_machine(len(shares)) if on_cpu else None
    lent = None
    if on_cpu:  # a GPU runs a row of windows again in less time than its predictions take to and from a disk
        lent = LentRows.between(shares, plan, spool.folder / "lent")
    assert job.network.checkpoint is not None
    return [
        WorkerTask(
            job=job.map_job,
            spool=spool.folder,
            grid=job.layout.grid,
            first_row=job.layout.crop.row,
            rows=share,
            lent=lent,
            checkpoint=job.network.checkpoint,
            device=f"cuda:{index}" if job.device.type == "cuda" else job.device.type,
            lanes=lanes,
            precision=job.arithmetic.precision,
            batch_size=None if job.batch_size == "auto" else job.batch_size,
            tta=job.tta,
            compile=job.arithmetic.compile,
        )
        for index, share in enumerate(shares)
    ]


def _write(job: PredictJob, spool: RowSpool, pixels: NDArray[np.int64], progress: Progress) -> list[str]:
    """Write from finished rows the outputs that an earlier run has not; return warnings."""
    keep_freed_memory(KEPT_BYTES)  # where workers ran the network, nothing has said so in this process
    published = Published(job.folder)
    writers: dict[str, Callable[[Path], object]] = {
        "confidence": lambda path: spool.write_confidence(path, job.tags()),
        "probabilities": lambda path: spool.write_probabilities(path, job.network.classes, job.tags()),
        "map": lambda path: spool.write_map(path, job.network.classes, job.tags(), pixels),
        "polygons": lambda path: _vectorize(job, path, progress),
        "quicklook": lambda path: _draw(job, spool, pixels, path),
        "stac": lambda path: notes.extend(_describe(job, pixels, path)),
    }
    styles = {"map": class_qml(job.network.classes), "confidence": confidence_qml()}
    outputs = {"map": job.out, **job.extras}
    notes: list[str] = []
    progress("Writing", 0, len(outputs), "")
    for done, name in enumerate((name for name in writers if name in outputs), 1):
        if not published.holds(outputs[name]):
            with written(outputs[name], _GOES_ON), published.output(outputs[name]) as temporary:
                writers[name](temporary)
                if name in styles:
                    notes += write_style(temporary, outputs[name], styles[name], overwrite=job.overwrite)
        progress("Writing", done, len(outputs), "")
    return notes


def _vectorize(job: PredictJob, out: Path, progress: Progress) -> None:
    from geoasanet.tools.vectorize import vectorize

    vectorize(job.out, out=out, progress=progress)


def _describe(job: PredictJob, pixels: NDArray[np.int64], out: Path) -> list[str]:
    from geoasanet.tools.stac import write_item
    from geoasanet.tools.stacmap import MapFacts, map_item

    facts = MapFacts(
        grid=job.layout.grid,
        classes=job.network.classes,
        pixels={value: int(count) for value, count in enumerate(pixels)},
        outputs={"map": job.out, **{name: path for name, path in job.extras.items() if name != "stac"}},
        rgb=job.map_job.rgb,
        sar=job.map_job.sar,
        checkpoint=job.network.checkpoint,
        tags=job.tags(),
    )
    made = datetime.fromtimestamp(job.out.stat().st_mtime, UTC)
    item, notes = map_item(facts, job.extras["stac"].parent, made)
    write_item(out, item)
    return notes


def _draw(job: PredictJob, spool: RowSpool, pixels: NDArray[np.int64], out: Path) -> None:
    from geoasanet.tools.quicklook import quicklook

    confidence = spool.folder / "confidence.tif"
    spool.write_confidence(confidence, {})
    quicklook(
        out,
        rgb=job.map_job.rgb,
        sar=job.map_job.sar,
        map_path=job.out,
        confidence=confidence,
        classes=job.network.classes,
        class_pixels={name: int(pixels[i]) for i, name in enumerate(job.network.classes.names)},
        rgb_bands=job.map_job.rgb_bands,
        sar_band=job.map_job.sar_bands[0],
        note=f"Mapped by {Path(job.network.label).name} with geoasanet {geoasanet.__version__}",
    )
