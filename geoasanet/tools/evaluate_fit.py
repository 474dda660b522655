"""Whether a checkpoint and a dataset fit each other: classes, bands, value scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.bands import Scale, SensorBands
from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import BandError, CheckpointError, ManifestError
from geoasanet.raster.dataset import Tile, TileDataset
from geoasanet.raster.scaling import detect_scale, range_warnings
from geoasanet.tools.network import MapNetwork

_PROBES = 8
"""Tiles that are looked at before the network runs."""


@dataclass(frozen=True, slots=True)
class LabelMatch:
    """How labels become the classes of a checkpoint."""

    dataset: TileDataset
    """The dataset; with the checkpoint's classes if it has none of its own."""
    table: NDArray[np.uint8]
    """The checkpoint's class id for each label value 0..255; 255 stays."""
    notes: tuple[str, ...]
    """What the user should know."""

    def apply(self, tile: Tile) -> NDArray[np.uint8]:
        """Return the label of a tile in the checkpoint's class ids, shape (height, width), 255 where there is none."""
        assert tile.label is not None
        return np.asarray(self.table[tile.label], np.uint8)


def match_classes(dataset: TileDataset, network: MapNetwork) -> LabelMatch:
    """Return how the labels of a dataset become the classes of a checkpoint: by name, in any order.

    Names are compared without regard to case and surrounding blanks. Labels of a dataset without names are taken for
    the checkpoint's class ids.

    Raises:
        ManifestError: If the dataset has no labels.
        CheckpointError: If the classes are not the same.
    """
    if not dataset.labelled:
        raise ManifestError(f"Dataset {dataset.root} has no labels.", "Tile the scenes with --labels.")
    table = np.arange(NODATA + 1, dtype=np.uint8)
    own, theirs = network.classes, dataset.classes
    if theirs is None:
        note = f"{dataset.root} names no classes: labels are taken for {_listing(own)}, as in {network.label}."
        return LabelMatch(dataset.assuming(own), table, (note,))
    wanted, found = _keys(own), _keys(theirs)
    if sorted(wanted) != sorted(found):
        raise CheckpointError(
            f"Checkpoint {network.label} knows the classes {', '.join(own.names)}, but the dataset {dataset.root} has "
            f"{', '.join(theirs.names)}.",
            "Tile the labels with the checkpoint's classes (geoasanet tile --classes), or train on this dataset.",
        )
    if wanted == found:
        return LabelMatch(dataset, table, ())
    for i, name in enumerate(found):
        table[i] = wanted.index(name)
    note = f"{dataset.root} has the classes in another order than {network.label}: they were matched by name."
    return LabelMatch(dataset, table, (note,))


def check_values(dataset: TileDataset, names: Sequence[str], network: MapNetwork) -> list[str]:
    """Return warnings about values far from the checkpoint's statistics, from a few tiles spread over ``names``.

    Raises:
        BandError: If their value scale is not the one that the checkpoint takes.
        CheckpointError: If they have another number of bands.
        ManifestError: If a file is missing or unreadable.
        LabelError: If a label is no class.
    """
    bands = network.bands
    assert bands is not None
    places = np.unique(np.linspace(0, len(names) - 1, _PROBES).round().astype(int))
    tiles = [dataset.read(names[i]) for i in places]
    for tile in tiles:
        check_bands(dataset, tile, network)
    notes = []
    said = None if dataset.bands is None else dataset.bands.sar.scale
    for sensor, folder, expected, values, scale in (
        ("RGB", dataset.manifest.rgb_dir, bands.rgb, [t.rgb[:, t.rgb_valid] for t in tiles], None),
        ("SAR", dataset.manifest.sar_dir, bands.sar, [t.sar[:, t.sar_valid] for t in tiles], said),
    ):
        path = f"{dataset.root / folder}/"
        pixels = np.concatenate(values, axis=1)
        _check_scale(sensor, expected, pixels, scale, path, network.label)
        notes += range_warnings(sensor, expected, pixels, path)
    return notes


def check_bands(dataset: TileDataset, tile: Tile, network: MapNetwork) -> None:
    """Raise unless a tile has as many SAR bands as the checkpoint takes (optical bands are always three).

    Raises:
        CheckpointError: If it has not.
    """
    if len(tile.sar) != network.sar_count:
        raise CheckpointError(
            f"Checkpoint {network.label} takes {network.sar_count} SAR band{'s' * (network.sar_count != 1)}, but "
            f"{dataset.paths(tile.name).sar} has {len(tile.sar)}.",
            "Tile the scenes with those bands (geoasanet tile --sar-bands), or use another checkpoint.",
        )


def _check_scale(
    sensor: str, expected: SensorBands, pixels: NDArray[Any], said: Scale | None, path: str, label: str
) -> None:
    """Raise unless pixel values are in the scale that a checkpoint takes.

    Args:
        sensor: "RGB" or "SAR".
        expected: The checkpoint's bands.
        pixels: Valid pixels, shape (bands, pixels).
        said: What ``dataset.yaml`` calls their scale, where it does.
        path: Their folder, for the message.
        label: What to call the checkpoint.

    Raises:
        BandError: If they are not.
    """
    if expected.scale == "raw" or not pixels.size:
        return
    found = said if said not in (None, "raw") else detect_scale(pixels.dtype, pixels)
    if found != expected.scale:
        described = f"values up to {pixels.max():.4g}" if sensor == "RGB" else f"{_WORDS[found]} values"
        raise BandError(
            f"{sensor} tiles in {path} hold {described} ({pixels.dtype}), but the checkpoint {label} takes "
            f"{_WORDS[expected.scale]} values.",
            "Tile the scenes anew from rasters in that scale, or use a checkpoint trained on such tiles.",
        )


_WORDS: dict[Scale, str] = {"uint8": "8-bit grey", "linear": "linear power", "db": "decibel", "raw": "raw"}


def _keys(schema: ClassSchema) -> list[str]:
    """Return class names as they are compared."""
    folded = [name.strip().casefold() for name in schema.names]
    return folded if len(set(folded)) == len(folded) else list(schema.names)


def _listing(schema: ClassSchema) -> str:
    return ", ".join(f"{i} {name}" for i, name in enumerate(schema.names))
