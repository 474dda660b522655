"""From tiles on disk to a dataset: split, statistics, lists, ``dataset.yaml`` and ``tiles.gpkg``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import geoasanet
from geoasanet.bands import InputBands
from geoasanet.classes import ClassSchema
from geoasanet.raster.dataset import SPLITS
from geoasanet.raster.footprints import Footprint, overlapping, write_footprints
from geoasanet.raster.manifest import Manifest
from geoasanet.raster.moments import Moments, class_weights, sensor_bands
from geoasanet.raster.split import BlockLayout, assign_blocks
from geoasanet.raster.tileplan import ScenePlan, TileSpec
from geoasanet.raster.tilerecord import TileRecord
from geoasanet.windows import Window


@dataclass(frozen=True, slots=True)
class Tileset:
    """All tiles of some scenes, written but not yet split."""

    folder: Path
    plans: Sequence[ScenePlan]
    layouts: Sequence[BlockLayout]
    spec: TileSpec
    classes: ClassSchema | None
    """None without labels."""
    records: Sequence[TileRecord]
    """At least one."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of the splits."""

    tiles: dict[str, int]
    """Tiles by split."""
    class_pixels: dict[str, dict[str, int]]
    """Labelled pixels of each class, by split; empty without labels."""
    class_weights: tuple[float, ...] | None
    warnings: list[str]


def finish(tiles: Tileset, shares: Sequence[float], seed: int) -> Finished:
    """Split the tiles by blocks and write the lists, ``dataset.yaml`` and ``tiles.gpkg``.

    Args:
        tiles: What was cut.
        shares: Wanted shares of train, val and test.
        seed: Decides among equally good splits.

    Raises:
        VectorError: If ``tiles.gpkg`` cannot be written.
        OSError: If another file cannot.
    """
    splits, warnings = _split(tiles, shares, seed)
    counts = _class_pixels(tiles, splits)
    weights = None if tiles.classes is None else class_weights(counts[0].tolist())
    bands, more = _bands(tiles, [r for r, s in zip(tiles.records, splits, strict=True) if s == 0])
    warnings += more + _split_warnings(tiles, splits, counts, shares)
    labelled = tiles.classes is not None
    manifest = Manifest(
        label_dir="label" if labelled else None,
        rgb_suffix=tiles.spec.suffix,
        sar_suffix=tiles.spec.suffix,
        label_suffix=tiles.spec.suffix,
        classes=tiles.classes,
        bands=bands,
        tile_size=tiles.spec.size,
        class_pixels=tuple(counts[0].tolist()) if labelled else None,
        class_weights=weights,
        origin=_origin(tiles, shares, seed),
    )
    names = {s: [r.name for r, k in zip(tiles.records, splits, strict=True) if k == i] for i, s in enumerate(SPLITS)}
    write_lists(tiles.folder, names, shares)
    write_manifest(tiles.folder, manifest)
    rows = [_footprint(tiles, record, SPLITS[k]) for record, k in zip(tiles.records, splits, strict=True)]
    write_footprints(tiles.folder / "tiles.gpkg", rows, tiles.classes, _date(tiles.plans))
    return Finished(
        {split: len(found) for split, found in names.items()},
        {s: dict(zip(tiles.classes.names, counts[i].tolist(), strict=True)) for i, s in enumerate(SPLITS)}
        if tiles.classes is not None
        else {},
        weights,
        warnings,
    )


def write_lists(folder: Path, names: dict[str, list[str]], shares: Sequence[float]) -> None:
    """Write ``train.txt``, ``val.txt`` and, where tiles were wanted for it, ``test.txt``."""
    for i, split in enumerate(SPLITS):
        if i < 2 or shares[i] > 0 or names[split]:
            text = "".join(f"{name}\n" for name in names[split])
            (folder / f"{split}.txt").write_text(text, encoding="utf-8")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``dataset.yaml``."""
    import yaml

    text = yaml.safe_dump(manifest.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")


def _split(tiles: Tileset, shares: Sequence[float], seed: int) -> tuple[NDArray[np.intp], list[str]]:
    """Return the split of each tile, and warnings."""
    keys = sorted({(r.scene, *r.block) for r in tiles.records})
    number = {key: i for i, key in enumerate(keys)}
    places = []
    for scene, row, col in keys:
        pitch = tiles.layouts[scene].pitch
        places.append((scene, tiles.plans[scene].grid, Window(row * pitch, col * pitch, pitch, pitch)))
    names, groups = np.unique(overlapping(places), return_inverse=True)
    count = 0 if tiles.classes is None else len(tiles.classes)
    amounts = np.zeros((len(names), count + 1))
    for record in tiles.records:
        group = groups[number[record.scene, *record.block]]
        for i, pixels in record.class_pixels.items():
            amounts[group, i] += pixels
        amounts[group, -1] += record.valid * tiles.spec.size**2
    fixed: list[int | None] = [None] * len(names)
    warnings: list[str] = []
    for (scene, _, _), group in zip(keys, groups, strict=True):
        given = tiles.plans[scene].files.split
        if given is None or fixed[group] == given:
            continue
        if fixed[group] is not None and not warnings:
            warnings.append(
                f"{tiles.plans[scene].files.place}the scene overlaps another on the ground that is given to another "
                "split: validation will see ground that it was trained on."
            )
        fixed[group] = given
    chosen = assign_blocks(amounts, shares, seed, fixed)
    splits = np.array([chosen[groups[number[r.scene, *r.block]]] for r in tiles.records], np.intp)
    for i, record in enumerate(tiles.records):
        given = tiles.plans[record.scene].files.split
        splits[i] = splits[i] if given is None else given
    return splits, warnings


def _class_pixels(tiles: Tileset, splits: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return labelled pixels, shape (3, classes)."""
    counts = np.zeros((3, 0 if tiles.classes is None else len(tiles.classes)), np.int64)
    for record, split in zip(tiles.records, splits, strict=True):
        for i, pixels in record.class_pixels.items():
            counts[split, i] += pixels
    return counts


def _bands(tiles: Tileset, train: Sequence[TileRecord]) -> tuple[InputBands | None, list[str]]:
    if not train:
        return None, []
    spec = tiles.spec
    rgb, first = sensor_bands(
        Moments.total((r.rgb for r in train), 3),
        "uint8" if spec.rgb_dtype == np.uint8 else "raw",
        ("red", "green", "blue"),
        "RGB",
    )
    sar, second = sensor_bands(Moments.total((r.sar for r in train), spec.sar_count), spec.sar_scale, (), "SAR")
    return InputBands(rgb, sar), first + second


def _split_warnings(
    tiles: Tileset, splits: NDArray[np.intp], counts: NDArray[np.int64], shares: Sequence[float]
) -> list[str]:
    warnings = []
    total = counts.sum(axis=0)
    names = () if tiles.classes is None else tiles.classes.names
    absent = [name for name, pixels in zip(names, total, strict=True) if not pixels]
    if absent:
        warnings.append(f"No pixel is labelled {', '.join(absent)}.")
    for i, split in enumerate(SPLITS):
        if i and not shares[i]:
            continue
        if not (splits == i).any():
            warnings.append(
                f"No block was left for {split}: {split}.txt is empty. Use a smaller --block or --size, or more scenes."
            )
            continue
        missing = [name for name, here, all_ in zip(names, counts[i], total, strict=True) if all_ and not here]
        if missing:
            warnings.append(f"The {split} split has no pixel of {', '.join(missing)}.")
    return warnings


def _footprint(tiles: Tileset, record: TileRecord, split: str) -> Footprint:
    plan = tiles.plans[record.scene]
    labelled = sum(record.class_pixels.values())
    count = 0 if tiles.classes is None else len(tiles.classes)
    return Footprint(
        record.name,
        Path(plan.files.rgb).name,
        plan.grid.crop(record.window),
        split,
        record.valid,
        labelled / tiles.spec.size**2,
        tuple(record.class_pixels.get(i, 0) / labelled if labelled else 0.0 for i in range(count)),
    )


def _origin(tiles: Tileset, shares: Sequence[float], seed: int) -> dict[str, Any]:
    scenes = []
    for plan in tiles.plans:
        files = {"rgb": plan.files.rgb, "sar": plan.files.sar, "labels": plan.files.labels}
        scenes.append({**files, "split": None if plan.files.split is None else SPLITS[plan.files.split]})
    return {
        "made_by": f"geoasanet tile {geoasanet.__version__}",
        "scenes": scenes,
        "overlap": tiles.layouts[0].overlap,
        "block": tiles.layouts[0].block,
        "split": list(shares),
        "min_valid": tiles.spec.min_valid,
        "seed": seed,
    }


def _date(plans: Sequence[ScenePlan]) -> str:
    """Return the time of the newest local optical file, so that the same input gives the same file."""
    times = [int(path.stat().st_mtime) for path in (Path(p.files.rgb) for p in plans) if path.exists()]
    return datetime.fromtimestamp(max(times, default=0), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
