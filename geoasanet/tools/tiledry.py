"""``geoasanet tile --dry-run``, and whether the tiles will fit on the disk: from a few pieces cut in memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoasanet.progress import Progress, silent
from geoasanet.raster.faults import Fault, ReadFaults
from geoasanet.raster.labels import is_vector
from geoasanet.tools.dryrun import (
    DryRun,
    InputFile,
    OutputFile,
    Work,
    peak_memory_bytes,
    require_space,
    shortages,
    space_needed,
    time_left,
)
from geoasanet.tools.journal import find_journal
from geoasanet.tools.tilearchive import cut_items
from geoasanet.tools.tilearchivejob import ArchiveJob
from geoasanet.tools.tilefolder import Unfinished
from geoasanet.tools.tilejob import TileJob
from geoasanet.tools.tilejournal import Entry, TileJournal, read_entries

_PIECES = 12
_SCENES = 6
_SECONDS = 8.0
"""Pieces of a scene and scenes that are tried at most, and seconds that are spent on all of them."""
_ON_DISK = 4096
"""Bytes that a file system gives out at a time."""
_ROW_BYTES = 400
"""Bytes of a tile's row in ``tiles.gpkg``, about."""


class _Scale:
    """Weighs files instead of writing them; called by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bytes = 0

    def __call__(self, path: Path, data: bytes) -> None:
        with self._lock:
            self.bytes += on_disk(len(data))


@dataclass(frozen=True, slots=True)
class Trial:
    """What a few pieces took."""

    pieces: int
    """Pieces that were cut (of an archive: its files)."""
    bytes: int
    """What their files would take on the disk."""
    timed: int
    """Pieces whose time was taken; the first of a scene's may wait for its files to be opened."""
    seconds: float
    """Time of those."""
    more_memory: int = 0
    """Bytes of GDAL's block cache that a whole run fills beyond these pieces, at most."""
    faults: tuple[Fault, ...] = ()
    """Blocks of the inputs that could not be read."""


def dry_run_tiles(
    job: TileJob,
    unfinished: Unfinished,
    notes: Sequence[str],
    warnings: Sequence[str],
    *,
    resume: bool,
    progress: Progress,
) -> DryRun:
    """Return what cutting scenes into tiles would do.

    Args:
        job: What to do.
        unfinished: Where an interrupted run's work would be.
        notes: What was found so far.
        warnings: What must be said so far.
        resume: Whether the run would go on with an interrupted one's work.
        progress: Told how many pieces are tried.

    Raises:
        GeoASANetError: If an input is at fault, or there is unfinished work of another description.
    """
    trial = try_tiles(job, unfinished.data, progress)
    earlier = _earlier(unfinished, job.describe(), resume)
    done = sum(len(e["records"]) + e["without_data"] + e["without_label"] for e in earlier)
    size = trial.bytes * job.windows // max(1, trial.pieces)
    inputs = []
    for plan in job.plans:
        files = plan.files
        inputs += [InputFile.raster(files.rgb, "RGB"), InputFile.raster(files.sar, "SAR")]
        if files.labels is not None:
            vector = is_vector(files.labels)
            inputs.append((InputFile.other if vector else InputFile.raster)(files.labels, "Labels"))
    pixels = sum(plan.grid.height * plan.grid.width for plan in job.plans)
    work = (Work("tiles", job.windows, done), Work("pixels", pixels))
    faults = ReadFaults()
    faults.add_all(trial.faults)
    said = (*warnings, *faults.warnings())
    return _describe(trial, "tiles", unfinished, inputs, work, size, earlier, notes, said)


def dry_run_archive(job: ArchiveJob, unfinished: Unfinished, *, resume: bool, progress: Progress) -> DryRun:
    """Return what turning a published data set into a dataset would do; see :func:`dry_run_tiles`."""
    numbers = _spread(len(job.items), _PIECES)
    scale, started, tried = _Scale(), time.monotonic(), 0
    with contextlib.closing(cut_items(job, numbers, unfinished.data, scale)) as entries:
        for tried, _ in enumerate(entries, 1):  # how many were tried is all that is wanted
            progress("Trying", tried, len(numbers), "files")
            if time.monotonic() - started > _SECONDS:
                break
    trial = Trial(tried, scale.bytes, tried, time.monotonic() - started)
    earlier = _earlier(unfinished, job.describe(), resume)
    first = job.items[0]
    inputs = [
        InputFile.raster(path, f"{role} (first of {len(job.items)})")
        for role, path in (("RGB", first.rgb), ("SAR", first.sar), ("Labels", first.label))
    ]
    work = (Work("files", len(job.items), len(earlier)),)
    size = trial.bytes * len(job.items) // max(1, trial.pieces)
    return _describe(trial, "files", unfinished, inputs, work, size, earlier, (), ())


def require_room(job: TileJob, unfinished: Unfinished, journal: TileJournal) -> None:
    """Raise before the long work if the tiles will not fit; a few are tried only if that is in question.

    Raises:
        OutputError: Names what is needed and what is free.
    """
    written = _written(journal.earlier)
    most = job.windows * job.spec.most_bytes(len(job.folders)) - written
    if not shortages(space_needed([(unfinished.folder, most)])):
        return
    trial = try_tiles(job, unfinished.data, silent)
    size = trial.bytes * job.windows // max(1, trial.pieces)
    require_space(space_needed([(unfinished.folder, max(0, size - written))]))


def try_tiles(job: TileJob, folder: Path, progress: Progress) -> Trial:
    """Cut a few pieces of a few scenes without writing anything.

    Args:
        job: What to do.
        folder: The dataset's folder, which need not exist.
        progress: Told how many scenes are tried.

    Raises:
        GeoASANetError: If a file cannot be read, or holds what it must not.
    """
    scale, windows, timed, seconds, more = _Scale(), 0, 0, 0.0, 0
    faults: list[Fault] = []
    scenes = _spread(len(job.plans), _SCENES)
    for position, number in enumerate(scenes):
        progress("Trying", position, len(scenes), "scenes")
        plan, before = job.plans[number], windows
        with job.cutter(number) as cutter:
            numbers = _spread(len(cutter.pieces), _PIECES)
            rounds = [numbers[:1], numbers[1:]] if len(numbers) > 1 else [numbers]
            for some in rounds:
                started = time.monotonic()
                with contextlib.closing(cutter.cut(some, folder, scale)) as pieces:
                    for piece in pieces:
                        windows += piece.windows
                        faults += piece.faults
                        last = some is rounds[-1]
                        timed += piece.windows if last else 0
                        if time.monotonic() - started > _SECONDS / len(scenes):
                            break
                seconds += time.monotonic() - started if some is rounds[-1] else 0
            decoded = plan.row_bytes * plan.grid.height
            read = decoded * (windows - before) // max(1, sum(len(piece.tiles) for piece in cutter.pieces))
            more = max(more, min(cutter.cache_bytes, decoded) - read)
    progress("Trying", len(scenes), len(scenes), "scenes")
    return Trial(windows, scale.bytes, timed, seconds, more, tuple(faults))


def on_disk(size: int) -> int:
    """Return the bytes that a file of ``size`` takes."""
    return -(-size // _ON_DISK) * _ON_DISK


def _describe(
    trial: Trial,
    unit: str,
    unfinished: Unfinished,
    inputs: Sequence[InputFile],
    work: tuple[Work, ...],
    size: int,
    earlier: Sequence[Entry],
    notes: Sequence[str],
    warnings: Sequence[str],
) -> DryRun:
    size += _ROW_BYTES * work[0].total
    spaces = space_needed([(unfinished.folder, max(0, size - _written(earlier)))])
    return DryRun(
        command="tile",
        inputs=tuple(inputs),
        outputs=(OutputFile.of(unfinished.target, size),),
        work=work,
        memory_bytes=None if (peak := peak_memory_bytes()) is None else peak + trial.more_memory,
        temporary_bytes=0,
        spaces=spaces,
        seconds=time_left(trial.seconds, timed=trial.timed, remaining=work[0].remaining),
        basis=f"{trial.timed} {unit} timed, without the disk",
        notes=tuple(notes),
        warnings=(*warnings, *shortages(spaces)),
    )


def _earlier(unfinished: Unfinished, description: Mapping[str, Any], resume: bool) -> list[Entry]:
    """Return the finished pieces of an interrupted run of the same description."""
    return read_entries(unfinished.folder) if find_journal(unfinished.folder, description, resume=resume) else []


def _written(entries: Sequence[Entry]) -> int:
    return sum(on_disk(size) for entry in entries for size, _ in entry["files"].values())


def _spread(count: int, most: int) -> list[int]:
    """Return up to ``most`` of the numbers below ``count``, evenly spread."""
    chosen = min(count, most)
    return [i * count // chosen + count // (2 * chosen) for i in range(chosen)]
