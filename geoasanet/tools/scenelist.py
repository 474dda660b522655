"""A list of scenes: a CSV file with the columns rgb, sar, labels and, if wanted, split."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from geoasanet.errors import ManifestError
from geoasanet.files import read_limited
from geoasanet.raster.dataset import SPLITS
from geoasanet.raster.tileplan import SceneFiles

_LARGEST = 64 << 20
COLUMNS = ("rgb", "sar", "labels", "split")


def read_scene_list(path: str | os.PathLike[str]) -> list[SceneFiles]:
    """Return the scenes of a CSV file; paths are relative to its folder.

    Raises:
        ManifestError: If it cannot be read, or a line is incomplete; the line is named.
    """
    source = Path(path)
    try:
        return _parse(source, read_limited(source, _LARGEST).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"List of scenes {source} cannot be read: {reason}.", "Give a CSV file.") from None


def _parse(source: Path, text: str) -> list[SceneFiles]:
    """Return the scenes in the text of a list."""
    first = next(iter(text.splitlines()), "")
    delimiter = ";" if ";" in first and "," not in first else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or not {"rgb", "sar"} <= set(header) or len(set(header)) != len(header):
        raise ManifestError(
            f"{source} line 1: the columns are {', '.join(header) or 'none'}.",
            "They must be rgb,sar,labels and, if wanted, split, each once.",
        )
    scenes = []
    for row in reader:
        place = f"{source} line {reader.line_num}: "
        if None in row or None in row.values():
            raise ManifestError(f"{place}{len(header)} values are needed, as many as columns.")
        values = {key: value.strip() for key, value in row.items()}
        for key in ("rgb", "sar"):
            if not values[key]:
                raise ManifestError(f"{place}{key} is empty.", "Name the raster.")
        split = values.get("split", "")
        if split and split not in SPLITS:
            raise ManifestError(f"{place}the split is {split!r}.", f"It must be {', '.join(SPLITS)}, or empty.")
        labels = values.get("labels", "")
        scenes.append(
            SceneFiles(
                _near(source, values["rgb"]),
                _near(source, values["sar"]),
                _near(source, labels) if labels else None,
                SPLITS.index(split) if split else None,
                place,
            )
        )
    if not scenes:
        raise ManifestError(f"{source} names no scene.", "Add one line for each.")
    with_labels = [scene for scene in scenes if scene.labels]
    if with_labels and len(with_labels) != len(scenes):
        bare = next(scene for scene in scenes if not scene.labels)
        raise ManifestError(
            f"{bare.place}labels is empty, but other scenes have labels.", "Name them, or drop the line."
        )
    return scenes


def _near(source: Path, name: str) -> str:
    return name if "://" in name or name.startswith("/vsi") else str(source.parent / name)
