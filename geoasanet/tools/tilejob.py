"""What ``geoasanet tile`` is asked to do, once all inputs were opened; and doing it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geoasanet
from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import GeoASANetError, ManifestError, OutputError
from geoasanet.progress import Progress
from geoasanet.raster.faults import ReadFaults
from geoasanet.raster.schemas import schema_of_values
from geoasanet.raster.split import BlockLayout
from geoasanet.raster.tilefile import Save, save_bytes
from geoasanet.raster.tileplan import ScenePlan, TileSpec
from geoasanet.raster.tilerecord import PieceTiles
from geoasanet.raster.tiles import SceneCutter, open_plan_labels
from geoasanet.tools.cluster import Cluster
from geoasanet.tools.journal import file_stamp
from geoasanet.tools.tilecluster import cut_on
from geoasanet.tools.tilejournal import TileJournal
from geoasanet.tools.tilescene import TileScene, named
from geoasanet.tools.tileset import Finished, Tileset, finish


@dataclass(frozen=True, slots=True)
class TileJob:
    """Scenes that were looked into, and options that were checked."""

    plans: Sequence[ScenePlan]
    """At least one."""
    layouts: Sequence[BlockLayout]
    """Where each scene's tiles are."""
    spec: TileSpec
    shares: tuple[float, float, float]
    """Wanted shares of train, val and test."""
    seed: int
    workers: int
    """Threads."""
    on_error: str
    """What a block is that cannot be read: "fail" or "nodata"."""
    cluster: Cluster | None = None
    """Where tiles are cut, if not here."""

    @property
    def labelled(self) -> bool:
        """True if the scenes have labels."""
        return self.plans[0].files.labels is not None

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders for images."""
        return ("rgb", "sar", "label") if self.labelled else ("rgb", "sar")

    @property
    def windows(self) -> int:
        """Windows of all scenes, from which tiles are cut."""
        return sum(len(layout.rows) * len(layout.cols) for layout in self.layouts)

    def describe(self) -> dict[str, Any]:
        """Return all that decides the dataset's bytes; ``on_error`` does not decide those of a piece without errors."""
        spec = self.spec
        scenes = {}
        for number, plan in enumerate(self.plans, 1):
            files = plan.files
            stamps = {"rgb": file_stamp(files.rgb), "sar": file_stamp(files.sar)}
            if files.labels is not None:
                stamps["labels"] = file_stamp(files.labels)
            bands = {"rgb_bands": list(plan.rgb_bands), "sar_bands": list(plan.sar_bands)}
            scenes[f"scene_{number}"] = {**stamps, **bands, "sar_scale": plan.sar_scale, "split": files.split}
        return {
            **(scenes if len(scenes) > 1 else scenes["scene_1"]),
            "size": spec.size,
            "overlap": self.layouts[0].overlap,
            "block": self.layouts[0].block,
            "format": spec.suffix.removeprefix("."),
            "min_valid": spec.min_valid,
            "classes": None if spec.classes is None else spec.classes.to_dict(),
            "class_field": spec.class_field,
            "shares": list(self.shares),
            "seed": self.seed,
            "version": geoasanet.__version__,
        }

    def check_labels(self) -> None:
        """Open the labels of all scenes, so that those of the last one are not found unfit hours later.

        Raises:
            LabelError: If labels do not fit the classes, or do not reach their scene.
        """
        for plan in self.plans:
            with named(plan.files):
                labels = open_plan_labels(plan, self.spec)
                if labels is not None:
                    labels.close()

    def scene(self, number: int) -> TileScene:
        """Return a scene as it is cut."""
        return TileScene(self.plans[number], number, self.layouts[number], self.spec, self.on_error)

    def cutter(self, number: int) -> contextlib.AbstractContextManager[SceneCutter]:
        """Open a scene for cutting."""
        return self.scene(number).cutter(self.workers)


@dataclass(frozen=True, slots=True)
class Cut:
    """The tiles of all scenes, written but not yet split."""

    pieces: Sequence[PieceTiles]

    @property
    def left_out(self) -> dict[str, int]:
        """Windows that became no tile, by reason."""
        return {
            "too little data": sum(piece.without_data for piece in self.pieces),
            "no label": sum(piece.without_label for piece in self.pieces),
        }

    def warnings(self) -> list[str]:
        """Return which blocks of the inputs could not be read."""
        faults = ReadFaults()
        for piece in self.pieces:
            faults.add_all(piece.faults)
        return faults.warnings()


def cut_all(job: TileJob, journal: TileJournal, progress: Progress, save: Save = save_bytes) -> Cut:
    """Write the tiles of all scenes that an earlier run has not written.

    Args:
        job: What to do.
        journal: Knows what is done.
        progress: Told how many windows are done.
        save: Takes the files.

    Raises:
        GeoASANetError: If a file cannot be read or written.
    """
    # What was left out by an earlier run with --on-error nodata is read again where that is not asked for.
    earlier = journal.recover(job.workers, progress, lambda entry: job.on_error == "nodata" or not entry["faults"])
    pieces = [PieceTiles.from_dict(entry) for entry in earlier]
    done = {(piece.scene, piece.piece) for piece in pieces}
    windows, total = sum(piece.windows for piece in pieces), job.windows
    progress("Tiling", windows, total, "tiles")
    if job.cluster is None:
        cut = _cut_here(job, done, journal.data, save)
    else:
        cut = cut_on(job.cluster, [job.scene(n) for n in range(len(job.plans))], done, journal.data, save)
    with contextlib.closing(cut) as found:
        for piece in found:
            journal.add(piece.to_dict())
            pieces.append(piece)
            windows += piece.windows
            progress("Tiling", windows, total, "tiles")
    return Cut(pieces)


def _cut_here(job: TileJob, done: set[tuple[int, int]], folder: Path, save: Save) -> Generator[PieceTiles, None, None]:
    """Cut what is not done in threads of this process; yield what became of each piece."""
    for number in range(len(job.plans)):
        with job.cutter(number) as cutter:
            todo = [n for n in range(len(cutter.pieces)) if (number, n) not in done]
            with contextlib.closing(cutter.cut(todo, folder, save)) as found:
                yield from found


def finish_all(job: TileJob, cut: Cut, folder: Path) -> tuple[Finished, ClassSchema | None, list[str]]:
    """Split the tiles, write lists and statistics; return what was made, the classes, and notes.

    Raises:
        ManifestError: If there is no tile.
        OutputError: If a file cannot be written.
        VectorError: If ``tiles.gpkg`` cannot be written.
    """
    records = [record for piece in cut.pieces for record in piece.records]
    records.sort(key=lambda r: (r.scene, r.window.row, r.window.col))
    files = [plan.files for plan in job.plans]
    if not records:
        reasons = ", ".join(f"{count} windows have {reason}" for reason, count in cut.left_out.items() if count)
        raise ManifestError(f"No tile could be cut from {files[0].rgb}: {reasons}.", "Lower --min-valid.")
    schema, notes = job.spec.classes, []
    if job.labelled and schema is None:
        present = sorted({i for r in records for i in r.class_pixels})
        schema = schema_of_values([f.labels for f in files if f.labels], present, job.spec.class_field)
        notes.append(f"Classes by their values in the labels: {', '.join(schema.names)}.")
    if schema is not None:
        schema = replace(schema, ignore_index=NODATA)
    tiles = Tileset(folder, job.plans, job.layouts, job.spec, schema, records)
    try:
        return finish(tiles, job.shares, job.seed), schema, notes
    except GeoASANetError:
        raise
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder} cannot be written: {error.strerror or error}.",
            "Free space on that disk; the same command goes on where it stopped.",
        ) from error
