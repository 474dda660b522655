"""``geoasanet tile``: from scenes and labels to a dataset folder that can be trained on."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack, overload

from geoasanet.classes import ClassSchema
from geoasanet.errors import ConfigError
from geoasanet.progress import Progress, silent
from geoasanet.raster.faults import OnError, faults_for
from geoasanet.raster.scaling import SarScale
from geoasanet.raster.tileplan import ScenePlan, common_spec
from geoasanet.tools.archives import find_archive, list_archive
from geoasanet.tools.cluster import connected
from geoasanet.tools.dryrun import DryRun
from geoasanet.tools.tilearchive import tile_archive
from geoasanet.tools.tilearchivejob import ArchiveJob
from geoasanet.tools.tiledry import dry_run_archive, dry_run_tiles, require_room
from geoasanet.tools.tilefolder import Unfinished, check_folder, check_split
from geoasanet.tools.tileinputs import find_classes, layouts_of, prefixes, scene_files
from geoasanet.tools.tilejob import TileJob, cut_all, finish_all
from geoasanet.tools.tileresult import TileResult
from geoasanet.tools.tilescene import named

PathLike = str | os.PathLike[str]


class TileOptions(TypedDict, total=False):
    """Keywords of :func:`tile` that do not decide what it returns."""

    labels: PathLike | None
    out: PathLike
    size: int
    overlap: int
    format: Literal["tif", "png"]
    split: Sequence[float]
    block: int
    min_valid: float
    class_field: str | None
    classes: PathLike | ClassSchema | Sequence[str] | None
    scenes: PathLike | None
    layout: str | None
    rgb_bands: Sequence[int] | None
    sar_bands: Sequence[int] | None
    sar_scale: SarScale
    on_error: OnError
    workers: int | None
    scheduler: PathLike | None
    seed: int
    resume: bool
    overwrite: bool
    progress: Progress


@overload
def tile(
    rgb: PathLike | None = None,
    sar: PathLike | None = None,
    *,
    dry_run: Literal[False] = False,
    **options: Unpack[TileOptions],
) -> TileResult: ...
@overload
def tile(
    rgb: PathLike | None = None, sar: PathLike | None = None, *, dry_run: Literal[True], **options: Unpack[TileOptions]
) -> DryRun: ...
@overload
def tile(
    rgb: PathLike | None = None, sar: PathLike | None = None, *, dry_run: bool, **options: Unpack[TileOptions]
) -> TileResult | DryRun: ...
def tile(
    rgb: PathLike | None = None,
    sar: PathLike | None = None,
    *,
    labels: PathLike | None = None,
    out: PathLike = "tiles",
    size: int = 256,
    overlap: int = 0,
    format: Literal["tif", "png"] = "tif",
    split: Sequence[float] = (0.7, 0.15, 0.15),
    block: int = 4,
    min_valid: float = 0.5,
    class_field: str | None = None,
    classes: PathLike | ClassSchema | Sequence[str] | None = None,
    scenes: PathLike | None = None,
    layout: str | None = None,
    rgb_bands: Sequence[int] | None = None,
    sar_bands: Sequence[int] | None = None,
    sar_scale: SarScale = "auto",
    on_error: OnError = "fail",
    workers: int | None = None,
    scheduler: PathLike | None = None,
    seed: int = 0,
    resume: bool = True,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> TileResult | DryRun:
    """Cut scenes and their labels into tiles for training, split by blocks of ground.

    Tiles lie on the RGB raster's grid, in blocks of ``block`` x ``block``; whole blocks go to train, val or test, and
    no pixel is in two splits. Every class is present in train. Band statistics and class weights are those of the
    train split. The result is the same for any number of workers. SAR in linear power is written as decibel.

    The dataset appears when it is whole. A run that was interrupted, in whatever way, leaves its tiles in a hidden
    folder beside it, and the same call goes on with the others; the result is the same to the byte.

    Args:
        rgb: Optical raster: path, URL or GDAL virtual path.
        sar: SAR raster on any grid over the same ground.
        labels: Raster of class ids on any grid, or polygons in any CRS with class ids or names. Without it, the tiles
            have no labels.
        out: The dataset folder.
        size: Side of the tiles in pixels.
        overlap: Overlap of neighbouring tiles of a block in pixels.
        format: "tif", or "png" (8 or 16 bit, georeferenced by a sidecar file).
        split: Shares of train, val and test.
        block: Tiles on a side of a block; halved as long as the scenes have too few blocks.
        min_valid: Least share of a tile's pixels that must have data of both sensors.
        class_field: Attribute of polygons that holds the class.
        classes: Class schema, a YAML file with one, or class names. If None, from our own tags, ``classes.yaml`` beside
            the labels, the names in them, or their values, in this order.
        scenes: Instead of ``rgb``, ``sar`` and ``labels``, a CSV file with the columns rgb, sar, labels[, split].
        layout: "pie-rgb-sar", "ddhr-sk" or "whu-opt-sar": ``rgb`` is the folder of that published archive. Of the other
            options only ``out``, ``size`` (of the tiles that WHU-OPT-SAR's scenes are cut into; 512 is the original
            project's), ``workers``, ``seed`` and ``overwrite`` matter.
        rgb_bands: Numbers (from 1) of the red, green and blue bands.
        sar_bands: Numbers of the SAR bands; all if None.
        sar_scale: What the SAR values are: "auto", "linear", "db", or "none" to take them as they come.
        on_error: What a block of a raster is that cannot be read: "fail" the end of the run, "nodata" pixels without
            data, which a warning tells.
        workers: Threads; all cores if None. With ``scheduler="local"``, processes; one if None.
        scheduler: Cut on a Dask cluster: the address of its scheduler, its scheduler file, or "local" for processes of
            this machine. Workers need the same version of geoasanet and the inputs under the same paths; the dataset is
            written here, and is the same to the byte. Not with ``layout`` and ``dry_run``.
        seed: Decides among equally good splits.
        resume: Go on with an unfinished run of the same description.
        dry_run: Write nothing; check all inputs and return what would be done, with the time it would take.
        overwrite: Replace an existing dataset folder.
        progress: Told how far the work is.

    Returns:
        Paths, counts, weights, notes and warnings; or the description of the dry run.

    Raises:
        GeoASANetError: If an input, an option or the output is at fault; see its subclasses.
    """
    started = time.monotonic()
    shares = check_split(split)
    _check_options(min_valid, format, workers)
    _check_scheduler(scheduler, layout, dry_run=dry_run)
    faults = faults_for(on_error)
    target = Path(out)
    unfinished = Unfinished.of(target)
    if not dry_run:
        unfinished.restore()
    threads = workers or _cores()
    if layout is not None:
        if rgb is None or any(v is not None for v in (sar, labels, scenes, classes, class_field)):
            raise ConfigError(
                "--layout takes one folder and no other files.", "geoasanet tile --layout NAME DIR -o OUT"
            )
        check_folder(target, overwrite=overwrite, inputs=[str(Path(rgb) / "rgb"), str(rgb)])
        archive = ArchiveJob(find_archive(layout), list_archive(Path(rgb)), size, seed, threads)
        if dry_run:
            return dry_run_archive(archive, unfinished, resume=resume, progress=progress)
        return _tile_archive(archive, unfinished, resume, started, progress)
    files = scene_files(rgb, sar, labels, scenes)
    check_folder(target, overwrite=overwrite, inputs=[p for f in files for p in (f.rgb, f.sar, f.labels) if p])
    with connected(scheduler, workers) as cluster:
        schema, notes = find_classes(classes, files, class_field)
        plans = []
        for scene, prefix in zip(files, prefixes(files), strict=True):
            with named(scene):
                plan = ScenePlan.of(
                    scene, prefix, rgb_bands=rgb_bands, sar_bands=sar_bands, sar_scale=sar_scale, faults=faults
                )
                plans.append(plan)
        spec = common_spec(
            plans, size=size, suffix=f".{format}", min_valid=min_valid, classes=schema, class_field=class_field
        )
        layouts, warnings = layouts_of(plans, size, overlap, block, sum(s > 0 for s in shares))
        job = TileJob(plans, layouts, spec, shares, seed, threads, on_error, cluster)
        if dry_run or len(plans) > 1:
            job.check_labels()
        if dry_run:
            return dry_run_tiles(job, unfinished, notes, warnings, resume=resume, progress=progress)
        return _tile_scenes(job, unfinished, resume, started, notes, warnings, progress)


def _tile_scenes(
    job: TileJob,
    unfinished: Unfinished,
    resume: bool,
    started: float,
    notes: list[str],
    warnings: list[str],
    progress: Progress,
) -> TileResult:
    """Cut scenes into tiles; see :func:`tile`."""
    with unfinished.working(job.describe(), job.folders, resume=resume) as journal:
        require_room(job, unfinished, journal)
        cut = cut_all(job, journal, progress)
        progress("Splitting", 0, 1)
        made, schema, more = finish_all(job, cut, unfinished.data)
        progress("Splitting", 1, 1)
        unfinished.publish()
    return TileResult(
        path=unfinished.target,
        tiles=made.tiles,
        left_out=cut.left_out,
        classes=schema,
        class_pixels=made.class_pixels,
        class_weights=made.class_weights,
        seconds=time.monotonic() - started,
        notes=tuple(notes + more),
        warnings=tuple(warnings + cut.warnings() + made.warnings),
    )


def _tile_archive(
    archive: ArchiveJob, unfinished: Unfinished, resume: bool, started: float, progress: Progress
) -> TileResult:
    """Turn a published archive into a dataset; see :func:`tile`."""
    with unfinished.working(archive.describe(), ("rgb", "sar", "label"), resume=resume) as journal:
        made = tile_archive(archive, journal, progress)
        unfinished.publish()
    return TileResult(
        path=unfinished.target,
        tiles=made.tiles,
        left_out={},
        classes=archive.archive.classes,
        class_pixels=made.class_pixels,
        class_weights=made.class_weights,
        seconds=time.monotonic() - started,
        warnings=tuple(made.warnings),
    )


def _check_options(min_valid: float, format: str, workers: int | None) -> None:
    if not 0 <= min_valid <= 1:
        raise ConfigError(f"--min-valid must be 0 to 1, found {min_valid!r}.", "0.5 is usual.")
    if format not in ("tif", "png"):
        raise ConfigError(f"--format {format!r} is unknown; tif or png is needed.")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers must be 1 or more, found {workers!r}.")


def _check_scheduler(scheduler: PathLike | None, layout: str | None, *, dry_run: bool) -> None:
    if scheduler is not None and layout is not None:
        raise ConfigError("--layout turns an archive into a dataset in this process.", "Leave out --scheduler.")
    if scheduler is not None and dry_run:
        raise ConfigError("--dry-run times tiles in this process.", "Leave out --scheduler.")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
