"""``geoasanet tile``: from scenes and labels to a dataset folder that can be trained on."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import ConfigError, GeoASANetError, ManifestError
from geoasanet.progress import Progress, silent
from geoasanet.raster.scaling import SarScale
from geoasanet.raster.schemas import schema_of_values
from geoasanet.raster.split import BlockLayout
from geoasanet.raster.tileplan import SceneFiles, ScenePlan, TileSpec, common_spec
from geoasanet.raster.tiles import TileRecord, cut_scene
from geoasanet.tools.archives import find_archive, list_archive
from geoasanet.tools.journal import partial_folder
from geoasanet.tools.tilearchive import tile_archive
from geoasanet.tools.tilefolder import check_folder, check_split, publish
from geoasanet.tools.tileinputs import find_classes, layouts_of, prefixes, scene_files
from geoasanet.tools.tileset import Tileset, finish

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TileResult:
    """What :func:`tile` made."""

    path: Path
    """The dataset folder."""
    tiles: dict[str, int]
    """Tiles of each split."""
    left_out: dict[str, int]
    """Windows that became no tile, by reason."""
    classes: ClassSchema | None
    """None without labels."""
    class_pixels: dict[str, dict[str, int]]
    """Labelled pixels of each class, by split."""
    class_weights: tuple[float, ...] | None
    """Loss weight of each class, from the train split."""
    seconds: float
    notes: tuple[str, ...] = field(default=())
    """What was found or chosen."""
    warnings: tuple[str, ...] = field(default=())
    """What the user should know."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {
            "path": str(self.path),
            "tiles": self.tiles,
            "left_out": self.left_out,
            "classes": None if self.classes is None else self.classes.to_dict()["classes"],
            "class_pixels": self.class_pixels,
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


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
    workers: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> TileResult:
    """Cut scenes and their labels into tiles for training, split by blocks of ground.

    Tiles lie on the RGB raster's grid, in blocks of ``block`` x ``block``; whole blocks go to train, val or test, and
    no pixel is in two splits. Every class is present in train. Band statistics and class weights are those of the
    train split. The result is the same for any number of workers. SAR in linear power is written as decibel.

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
        workers: Threads; all cores if None.
        seed: Decides among equally good splits.
        overwrite: Replace an existing dataset folder.
        progress: Told how far the work is.

    Raises:
        GeoASANetError: If an input, an option or the output is at fault; see its subclasses.
    """
    started = time.monotonic()
    shares = check_split(split)
    _check_options(min_valid, format, workers)
    target = Path(out)
    if layout is not None:
        if rgb is None or any(v is not None for v in (sar, labels, scenes, classes, class_field)):
            raise ConfigError(
                "--layout takes one folder and no other files.", "geoasanet tile --layout NAME DIR -o OUT"
            )
        return _tile_archive(layout, Path(rgb), target, size, seed, workers or _cores(), overwrite, progress)
    files = scene_files(rgb, sar, labels, scenes)
    check_folder(target, overwrite=overwrite, inputs=[p for f in files for p in (f.rgb, f.sar, f.labels) if p])
    schema, notes = find_classes(classes, files, class_field)
    plans = []
    for scene, prefix in zip(files, prefixes(files), strict=True):
        with _named(scene):
            plans.append(ScenePlan.of(scene, prefix, rgb_bands=rgb_bands, sar_bands=sar_bands, sar_scale=sar_scale))
    spec = common_spec(
        plans, size=size, suffix=f".{format}", min_valid=min_valid, classes=schema, class_field=class_field
    )
    layouts, warnings = layouts_of(plans, size, overlap, block, sum(s > 0 for s in shares))

    folder = partial_folder(target.resolve())
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for name in ("rgb", "sar", *(["label"] if files[0].labels else [])):
            (folder / name).mkdir(parents=True)
        records, left_out = _cut(plans, layouts, spec, folder, workers or _cores(), progress)
        if not records:
            raise ManifestError(
                f"No tile could be cut from {files[0].rgb}: {_reasons(left_out)}.", "Lower --min-valid."
            )
        if files[0].labels and schema is None:
            present = sorted({i for r in records for i in r.class_pixels})
            schema = schema_of_values([f.labels for f in files if f.labels], present, class_field)
            notes.append(f"Classes by their values in the labels: {', '.join(schema.names)}.")
        if schema is not None:
            schema = replace(schema, ignore_index=NODATA)
        progress("Splitting", 0, 1)
        made = finish(Tileset(folder, plans, layouts, spec, schema, records), shares, seed)
        progress("Splitting", 1, 1)
        publish(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return TileResult(
        path=target,
        tiles=made.tiles,
        left_out=left_out,
        classes=schema,
        class_pixels=made.class_pixels,
        class_weights=made.class_weights,
        seconds=time.monotonic() - started,
        notes=tuple(notes),
        warnings=tuple(warnings + made.warnings),
    )


def _tile_archive(
    layout: str, root: Path, target: Path, size: int, seed: int, workers: int, overwrite: bool, progress: Progress
) -> TileResult:
    """Turn a published archive into a dataset; see :func:`tile`."""
    started = time.monotonic()
    archive = find_archive(layout)
    check_folder(target, overwrite=overwrite, inputs=[str(root / "rgb"), str(root)])
    items = list_archive(root)
    folder = partial_folder(target.resolve())
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        made = tile_archive(archive, items, folder, size=size, seed=seed, workers=workers, progress=progress)
        publish(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return TileResult(
        path=target,
        tiles=made.tiles,
        left_out={},
        classes=archive.classes,
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


def _cut(
    plans: Sequence[ScenePlan],
    layouts: Sequence[BlockLayout],
    spec: TileSpec,
    folder: Path,
    workers: int,
    progress: Progress,
) -> tuple[list[TileRecord], dict[str, int]]:
    """Write the tiles of all scenes; return them, and how many windows became none, by reason."""
    total = sum(len(layout.rows) * len(layout.cols) for layout in layouts)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("Tiling", done, total, "tiles")

    progress("Tiling", 0, total, "tiles")
    palette = {} if spec.classes is None else dict(enumerate(spec.classes.colors))
    records: list[TileRecord] = []
    left_out = {"too little data": 0, "no label": 0}
    for number, (plan, layout) in enumerate(zip(plans, layouts, strict=True)):
        with _named(plan.files):
            found = cut_scene(plan, number, layout, spec, folder, palette, workers=workers, advance=advance)
        records += found.records
        left_out["too little data"] += found.without_data
        left_out["no label"] += found.without_label
    return records, left_out


def _reasons(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} windows have {reason}" for reason, count in left_out.items() if count)


@contextlib.contextmanager
def _named(scene: SceneFiles) -> Iterator[None]:
    """Say in errors where a scene was named."""
    try:
        yield
    except GeoASANetError as error:
        if not scene.place:
            raise
        raise type(error)(f"{scene.place}{error.args[0]}", error.hint) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
