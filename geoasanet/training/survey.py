"""One pass over a dataset before training: everything that could go wrong with a tile later goes wrong here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoasanet.bands import InputBands, Scale
from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import LabelError, ManifestError
from geoasanet.progress import Progress, silent
from geoasanet.raster.dataset import Tile, TileDataset
from geoasanet.raster.moments import Moments, sensor_bands
from geoasanet.raster.scaling import detect_scale
from geoasanet.training.tiles import FolderTiles, MemoryTiles, TileSource, can_keep, fits_memory

_CACHE_SHARE = 0.25
_TASK = "Reading tiles"


@dataclass(frozen=True)
class Survey:
    """What training needs to know of a dataset."""

    classes: ClassSchema
    bands: InputBands
    """Statistics for normalisation: those given, else the folder's, else those of the train split's valid pixels."""
    tile_size: tuple[int, int]
    """Height and width of every tile, pixels."""
    class_pixels: tuple[int, ...]
    """Labelled pixels of each class in the train split."""
    train: TileSource
    val: TileSource
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """What one tile holds."""

    position: int
    tile: Tile | None
    looks: tuple[str, str]
    class_pixels: NDArray[np.int64]
    rgb: Moments | None
    sar: Moments | None


@dataclass
class _Totals:
    looks: tuple[str, str]
    first: str
    class_pixels: NDArray[np.int64]
    rgb: list[Moments] = field(default_factory=list)
    sar: list[Moments] = field(default_factory=list)
    empty: int = 0


def survey(
    dataset: TileDataset,
    bands: InputBands | None = None,
    *,
    cache: bool | Literal["auto"] = "auto",
    processes: int = 1,
    progress: Progress = silent,
) -> Survey:
    """Read every tile of the train and val splits once, check it, and keep it where memory allows.

    Args:
        dataset: The folder, with its class schema.
        bands: Statistics from elsewhere, in the scale of the tiles, whatever theirs says; None takes the folder's,
            else computes them.
        cache: Whether to keep decoded tiles; "auto" if they fit into a quarter of the free memory.
        processes: How many processes of this machine do the same.
        progress: Told how far the reading is.

    Raises:
        ManifestError: If a split is missing or empty, a file is missing or unreadable, or sizes or bands differ.
        LabelError: If a label holds no class of the schema, or the train split has fewer than two classes.
    """
    classes = _check_folder(dataset)
    names = {split: dataset.names(split) for split in ("train", "val")}
    first = dataset.read(names["train"][0])
    _check_types(dataset, first)
    bands = dataset.bands if bands is None else _in_scale(bands, dataset, first)
    count = sum(map(len, names.values()))
    keep = can_keep(first) and (fits_memory(first, count, _CACHE_SHARE / processes) if cache == "auto" else cache)
    sources: dict[str, TileSource] = {}
    totals: dict[str, _Totals] = {}
    done = 0
    for split, listed in names.items():
        kept = MemoryTiles(listed, first) if keep else None
        sources[split] = FolderTiles(dataset, listed) if kept is None else kept
        totals[split] = _Totals(_looks(first), first.name, np.zeros(len(classes), np.int64))
        for found in _read_all(dataset, listed, len(classes), bands is None and split == "train", keep):
            _add(totals[split], found, dataset, listed[found.position])
            if kept is not None and found.tile is not None:
                kept.put(found.position, found.tile)
            done += 1
            progress(_TASK, done, count, "tiles")
    warnings = _check_classes(dataset, classes, totals)
    if bands is None:
        bands, more = _bands(totals["train"], first)
        warnings += more
    _check_bands(dataset, bands, first)
    return Survey(
        classes,
        bands,
        (first.rgb.shape[1], first.rgb.shape[2]),
        tuple(int(v) for v in totals["train"].class_pixels),
        sources["train"],
        sources["val"],
        tuple(warnings),
    )


def _check_folder(dataset: TileDataset) -> ClassSchema:
    if not dataset.labelled:
        raise ManifestError(f"Dataset {dataset.root} has no labels to train on.", "Tile it again with --labels.")
    if dataset.classes is None:
        raise ManifestError(
            f"Dataset {dataset.root} does not say which classes it has.",
            "Add them to its dataset.yaml, or give classes in the configuration, for instance classes: [land, water].",
        )
    if len(dataset.classes) < 2:
        raise LabelError(
            f"Dataset {dataset.root} has one class only, {dataset.classes.names[0]!r}.",
            "Label at least two, for instance what is looked for and everything else.",
        )
    for split in ("train", "val"):
        dataset.check(split)
    return dataset.classes


def _read_all(
    dataset: TileDataset, names: tuple[str, ...], num_classes: int, moments: bool, keep: bool
) -> Iterator[_Found]:
    def read(position: int) -> _Found:
        tile = dataset.read(names[position])
        assert tile.label is not None
        pixels = np.bincount(tile.label.ravel(), minlength=NODATA + 1)[:num_classes]
        rgb = Moments.of(tile.rgb, tile.rgb_valid) if moments else None
        sar = Moments.of(tile.sar, tile.sar_valid) if moments else None
        return _Found(position, tile if keep else None, _looks(tile), pixels, rgb, sar)

    threads = max(1, min(8, os.cpu_count() or 1))
    with ThreadPoolExecutor(threads) as pool:
        step = 16 * threads  # so that what is read ahead stays small
        for start in range(0, len(names), step):
            yield from pool.map(read, range(start, min(start + step, len(names))))


def _check_types(dataset: TileDataset, tile: Tile) -> None:
    paths = dataset.paths(tile.name)
    for path, image in ((paths.rgb, tile.rgb), (paths.sar, tile.sar)):
        if image.dtype.kind not in "iuf":
            raise ManifestError(f"{path} holds {image.dtype} values, real numbers are needed.", "Take their magnitude.")


def _looks(tile: Tile) -> tuple[str, str]:
    """Return bands, size and type of the optical and the SAR image, in words."""
    return _words(tile.rgb), _words(tile.sar)


def _add(totals: _Totals, found: _Found, dataset: TileDataset, name: str) -> None:
    if found.looks != totals.looks:
        path = dataset.paths(name)
        here, there = (" and ".join(looks) for looks in (found.looks, totals.looks))
        raise ManifestError(
            f"Tile {name!r} ({path.rgb}, {path.sar}) has {here}, but tile {totals.first!r} has {there}.",
            "All tiles need one size, the same bands and the same type: cut them with geoasanet tile.",
        )
    totals.class_pixels += found.class_pixels
    totals.empty += not found.class_pixels.any()
    if found.rgb is not None and found.sar is not None:
        totals.rgb.append(found.rgb)
        totals.sar.append(found.sar)


def _words(image: NDArray[Any]) -> str:
    bands, height, width = image.shape
    return f"{bands} band{'s' * (bands != 1)} of {height} x {width} pixels of {image.dtype}"


def _check_classes(dataset: TileDataset, classes: ClassSchema, totals: dict[str, _Totals]) -> list[str]:
    train = totals["train"].class_pixels
    present = [name for name, pixels in zip(classes.names, train, strict=True) if pixels]
    if len(present) < 2:
        held = f"only {present[0]!r}" if present else "no labelled pixel"
        raise LabelError(
            f"The train split of {dataset.root} holds {held}: there is nothing to tell apart.",
            "Add labels of other classes, or check that the class names and ids of the labels are right.",
        )
    warnings = []
    missing = [name for name in classes.names if name not in present]
    if missing:
        warnings.append(f"The train split of {dataset.root} has no pixel of {', '.join(missing)}: never to be mapped.")
    if not totals["val"].class_pixels.any():
        raise LabelError(f"The val split of {dataset.root} holds no labelled pixel.", "Nothing could be evaluated.")
    if totals["train"].empty:
        warnings.append(f"{totals['train'].empty} tiles of the train split of {dataset.root} have no labelled pixel.")
    return warnings


def _bands(totals: _Totals, first: Tile) -> tuple[InputBands, list[str]]:
    rgb_scale, sar_scale = _scales(first)
    rgb, one = sensor_bands(Moments.total(totals.rgb, 3), rgb_scale, ("red", "green", "blue"), "RGB")
    sar, two = sensor_bands(Moments.total(totals.sar, len(first.sar)), sar_scale, (), "SAR")
    return InputBands(rgb, sar), one + two


def _scales(tile: Tile) -> tuple[Scale, Scale]:
    """Return the value scales of the optical and the SAR image of a tile."""
    rgb: Scale = "uint8" if tile.rgb.dtype == np.uint8 else "raw"
    return rgb, detect_scale(tile.sar.dtype, tile.sar[:, tile.sar_valid])


def _in_scale(bands: InputBands, dataset: TileDataset, first: Tile) -> InputBands:
    """Return statistics marked with the scale that the folder says, or that a tile shows."""
    known = dataset.bands
    rgb, sar = _scales(first) if known is None else (known.rgb.scale, known.sar.scale)
    return InputBands(replace(bands.rgb, scale=rgb), replace(bands.sar, scale=sar))


def _check_bands(dataset: TileDataset, bands: InputBands, first: Tile) -> None:
    for sensor, expected, found in (("optical", bands.rgb, first.rgb), ("SAR", bands.sar, first.sar)):
        if len(expected) != len(found):
            raise ManifestError(
                f"The tiles of {dataset.root} have {len(found)} {sensor} band{'s' * (len(found) != 1)}, but statistics "
                f"are given for {len(expected)}.",
                "Correct dataset.yaml or the configuration.",
            )
