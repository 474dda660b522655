"""What a dataset folder holds, and whether it is fit to train on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import LabelError, ManifestError
from geoasanet.raster.dataset import Tile, TileDataset, open_dataset_folder

_SAMPLE = 64
"""Tiles of the train split that are read."""


def describe_dataset(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return facts about a dataset folder and the problems that keep it from being trained on.

    Lists and files of all splits are checked; at most 64 tiles of the train split are read.

    Raises:
        ManifestError: If the folder holds no dataset, or its ``dataset.yaml`` or a list is malformed.
    """
    dataset = open_dataset_folder(folder)
    problems = [*_list_problems(dataset), *_file_problems(dataset)]
    tiles, whole, more = _read(dataset)
    problems += more
    facts: dict[str, Any] = {
        "tiles": {split: len(names) for split, names in dataset.splits.items()},
        "tile_size": dataset.tile_size,
        "sampled_tiles": len(tiles),
        "sizes": sorted({f"{tile.valid.shape[0]} x {tile.valid.shape[1]}" for tile in tiles}),
        "rgb_dtypes": sorted({str(tile.rgb.dtype) for tile in tiles}),
        "sar_dtypes": sorted({f"{len(tile.sar)} x {tile.sar.dtype}" for tile in tiles}),
        "valid_share": round(float(np.mean([tile.valid.mean() for tile in tiles])), 4) if tiles else None,
        "bands": None if dataset.bands is None else dataset.bands.to_dict(),
        "reduce_zero_label": dataset.manifest.reduce_zero_label,
    }
    pixels, known = dataset.manifest.class_pixels, True
    if pixels is None and dataset.labelled:
        pixels, known = _count(tiles, dataset.classes), whole
    facts |= _class_facts(dataset, pixels)
    if pixels is not None:
        facts["shares_of"] = "the train split" if known else f"a sample of {len(tiles)} tiles"
    facts["origin"] = dataset.manifest.origin
    problems += _class_problems(dataset, pixels, known)
    return facts, problems


def _class_facts(dataset: TileDataset, pixels: tuple[int, ...] | None) -> dict[str, Any]:
    """Return the classes with their shares of labelled pixels and loss weights, or shares of the ids found."""
    total = sum(pixels or ())
    shares = [round(count / total, 6) for count in pixels] if pixels and total else []
    if dataset.classes is None:
        return {"label_shares": {str(i): share for i, share in enumerate(shares) if share}}
    entries = dataset.classes.to_dict()["classes"]
    for key, values in (("share", shares), ("weight", dataset.class_weights or ())):
        for entry, value in zip(entries, values, strict=False):
            entry[key] = value
    return {"classes": entries}


def _list_problems(dataset: TileDataset) -> list[str]:
    """Return what is wrong with the lists: missing, empty, or with a tile in common."""
    problems = []
    for split, use in (("train", "there is nothing to train on"), ("val", "training cannot choose a checkpoint")):
        if not dataset.splits.get(split):
            state = "names no tile" if split in dataset.splits else "is missing"
            problems.append(f"{split}.txt {state}: {use}.")
    for first, second in itertools.combinations(dataset.splits, 2):
        both = sorted(set(dataset.splits[first]) & set(dataset.splits[second]))
        if both:
            problems.append(
                f"{first}.txt and {second}.txt share {len(both)} tile{'s' * (len(both) != 1)}, such as {both[0]!r}: "
                f"accuracy on {second} would be that of ground already seen."
            )
    return problems


def _file_problems(dataset: TileDataset) -> list[str]:
    problems = []
    if not dataset.labelled:
        problems.append("There are no labels.")
    for split, names in dataset.splits.items():
        if names:
            try:
                dataset.check(split)
            except ManifestError as error:
                problems.append(str(error))
    return problems


def _read(dataset: TileDataset) -> tuple[list[Tile], bool, list[str]]:
    """Return tiles spread over the first split that has any, whether these are all of train, and what failed."""
    split = next((split for split, names in dataset.splits.items() if names), None)
    if split is None:
        return [], False, []
    names = dataset.splits[split]
    places = np.unique(np.linspace(0, len(names) - 1, _SAMPLE).round().astype(int))
    tiles: list[Tile] = []
    problems: list[str] = []
    for place in places:
        try:
            tiles.append(dataset.read(names[place]))
        except (ManifestError, LabelError) as error:
            problems.append(str(error))
    whole = split == "train" and len(tiles) == len(names)
    return tiles, whole, [p for p in problems if "does not exist" not in p]  # those are named once already


def _count(tiles: list[Tile], classes: ClassSchema | None) -> tuple[int, ...]:
    """Return labelled pixels of each class; without a schema, of the ids up to the highest that occurs."""
    counts = np.zeros(NODATA + 1, np.int64)
    for tile in tiles:
        if tile.label is not None:
            counts += np.bincount(tile.label.ravel(), minlength=NODATA + 1)
    used = np.flatnonzero(counts[:NODATA])
    size = (int(used[-1]) + 1 if used.size else 0) if classes is None else len(classes)
    return tuple(counts[:size].tolist())


def _class_problems(dataset: TileDataset, pixels: tuple[int, ...] | None, known: bool) -> list[str]:
    """Return the classes without a labelled pixel in train, if all of it is known."""
    if pixels is None or not known or not dataset.splits.get("train"):
        return []
    if not sum(pixels):
        return ["No pixel of the train split is labelled."]
    if dataset.classes is None:
        return []
    absent = [name for name, count in zip(dataset.classes.names, pixels, strict=True) if not count]
    return [f"No pixel of the train split is labelled {', '.join(absent)}."] if absent else []
