"""``dataset.yaml``: what a dataset folder says about itself."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from geoasanet.bands import InputBands
from geoasanet.classes import ClassSchema
from geoasanet.errors import ClassSchemaError, ConfigError, ManifestError
from geoasanet.yamltext import YamlError, read_yaml

FORMAT = "geoasanet-dataset-1"
"""Marks a ``dataset.yaml`` of ours, and its version."""
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".TIF", ".PNG", ".JPG")
"""Image files that are found by looking, in this order."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Folders, suffixes and what is known of the tiles in them."""

    rgb_dir: str = "rgb"
    sar_dir: str = "sar"
    label_dir: str | None = "label"
    """None in a dataset without labels."""
    rgb_suffix: str = ".tif"
    """What follows a tile's name in the names of its optical files."""
    sar_suffix: str = ".tif"
    label_suffix: str = ".tif"
    classes: ClassSchema | None = None
    bands: InputBands | None = None
    """Band counts, and mean and standard deviation over the valid pixels of the train split."""
    reduce_zero_label: bool = False
    """Labels on disk are one more than class ids, and 0 is none."""
    tile_size: int | None = None
    """Side of the tiles, pixels."""
    class_pixels: tuple[int, ...] | None = None
    """Labelled pixels of each class in the train split."""
    class_weights: tuple[float, ...] | None = None
    """Loss weight of each class; the mean over the labelled pixels of the train split is 1."""
    origin: dict[str, Any] = field(default_factory=dict)
    """How the dataset was made: scenes and options."""

    def to_dict(self) -> dict[str, Any]:
        """Return what :func:`read_manifest` reads back, in plain values."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "rgb_dir": self.rgb_dir,
            "sar_dir": self.sar_dir,
            "label_dir": self.label_dir,
            "rgb_suffix": self.rgb_suffix,
            "sar_suffix": self.sar_suffix,
            "label_suffix": self.label_suffix,
            "reduce_zero_label": self.reduce_zero_label,
            "tile_size": self.tile_size,
            "bands": None if self.bands is None else self.bands.to_dict(),
            "class_pixels": None if self.class_pixels is None else list(self.class_pixels),
            "class_weights": None if self.class_weights is None else list(self.class_weights),
        }
        if self.classes is not None:
            data |= self.classes.to_dict()
        return {**data, "origin": self.origin}


def read_manifest(path: Path, name: str | None) -> Manifest:
    """Return what a ``dataset.yaml`` says; keys that are left out have the defaults of :class:`Manifest`.

    Suffixes that are left out are found by looking. Keys of other programs are passed over, unless they look like a
    misspelt one of ours.

    Args:
        path: The file.
        name: A tile's name, None if the lists are empty.

    Raises:
        ManifestError: If it is unreadable, or a value is of the wrong kind.
    """
    data = _load(path)
    _check_spelling(path, data)
    folders = {key: _folder(path, data, key) for key in ("rgb_dir", "sar_dir", "label_dir")}
    suffixes = {f"{k}_suffix": _suffix(path, data, k, folders[f"{k}_dir"], name) for k in ("rgb", "sar", "label")}
    try:
        classes = None if data.get("classes") is None else ClassSchema.from_dict(data)
        bands = None if data.get("bands") is None else InputBands.from_dict(data["bands"])
    except (ClassSchemaError, ConfigError) as error:
        raise ManifestError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{path}: 'bands' is malformed ({error!r}).", "It needs rgb and sar, mean and std."
        ) from None
    reduce = data.get("reduce_zero_label", False)
    if not isinstance(reduce, bool):
        raise ManifestError(f"{path}: reduce_zero_label must be true or false, found {reduce!r}.")
    pixels = _numbers(path, data, "class_pixels", classes)
    origin = data.get("origin")
    return Manifest(
        rgb_dir=folders["rgb_dir"] or "rgb",
        sar_dir=folders["sar_dir"] or "sar",
        label_dir=folders["label_dir"],
        **suffixes,
        classes=classes,
        bands=bands,
        reduce_zero_label=reduce,
        tile_size=_tile_size(path, data),
        class_pixels=None if pixels is None else tuple(int(v) for v in pixels),
        class_weights=_numbers(path, data, "class_weights", classes),
        origin=dict(origin) if isinstance(origin, Mapping) else {},
    )


def look_around(root: Path, name: str | None) -> Manifest:
    """Return what the plain layout ``rgb/ sar/ label/`` holds, with suffixes found from one tile's files.

    Args:
        root: The dataset folder.
        name: A tile's name, None if the lists are empty.

    Raises:
        ManifestError: If a folder is missing, or it has no image of that name.
    """
    for folder in ("rgb", "sar"):
        if not (root / folder).is_dir():
            raise ManifestError(
                f"Dataset {root} has neither a dataset.yaml nor a folder {folder}/.",
                "It needs rgb/, sar/, label/ and the lists train.txt and val.txt.",
            )
    label = "label" if (root / "label").is_dir() else None
    if name is None:
        return Manifest(label_dir=label)
    found = {f: _find_suffix(root / f, name) for f in ("rgb", "sar", *([label] if label else []))}
    return Manifest(
        label_dir=label,
        rgb_suffix=found["rgb"],
        sar_suffix=found["sar"],
        label_suffix=found.get("label", ".tif"),
    )


def is_ours(folder: Path) -> bool:
    """Tell whether a folder is a dataset that this program wrote."""
    path = folder / "dataset.yaml"
    try:
        return path.is_file() and _load(path).get("format") == FORMAT
    except ManifestError:
        return False


def _load(path: Path) -> dict[Any, Any]:
    try:
        data = read_yaml(path)
    except YamlError as error:
        raise ManifestError(f"{path} cannot be read ({error}).", "It must be YAML.") from None
    if not isinstance(data, dict):
        raise ManifestError(f"{path} must hold keys and values, found {type(data).__name__}.")
    return data


def _find_suffix(folder: Path, name: str) -> str:
    if not folder.is_dir():
        return SUFFIXES[0]
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return suffix
    raise ManifestError(
        f"No image of the tile {name!r} in {folder} (tried {', '.join(SUFFIXES[:5])}).",
        "Add it, or say the suffix in dataset.yaml.",
    )


def _folder(path: Path, data: Mapping[Any, Any], key: str) -> str | None:
    value = data.get(key, key.removesuffix("_dir"))
    if value is None and key == "label_dir":
        return None
    pure = PurePosixPath(value) if isinstance(value, str) else None
    if pure is None or not value or pure.is_absolute() or ".." in pure.parts:
        raise ManifestError(f"{path}: {key} must be a folder inside the dataset, found {value!r}.")
    return str(value)


def _suffix(path: Path, data: Mapping[Any, Any], kind: str, folder: str | None, name: str | None) -> str:
    key = f"{kind}_suffix"
    if key not in data:
        return ".tif" if folder is None or name is None else _find_suffix(path.parent / folder, name)
    value = data[key]
    if not isinstance(value, str) or not value or "/" in value or "\\" in value:
        raise ManifestError(f"{path}: {key} must be the end of a file name such as .tif, found {value!r}.")
    return value


def _check_spelling(path: Path, data: Mapping[Any, Any]) -> None:
    known = sorted(set(Manifest().to_dict()) | {"classes", "ignore_index", "nodata"})
    for key in sorted(set(map(str, data)) - set(known)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        if near:
            raise ManifestError(f"{path}: unknown key {key!r}.", f"Did you mean {near[0]!r}?")


def _tile_size(path: Path, data: Mapping[Any, Any]) -> int | None:
    value = data.get("tile_size")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ManifestError(f"{path}: tile_size must be a positive whole number of pixels, found {value!r}.")
    return value


def _numbers(path: Path, data: Mapping[Any, Any], key: str, classes: ClassSchema | None) -> tuple[float, ...] | None:
    values = data.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise ManifestError(f"{path}: {key} must be a list of numbers, found {values!r}.")
    if any(v < 0 or not math.isfinite(v) for v in values):
        raise ManifestError(f"{path}: {key} must be 0 or more, found {values!r}.")
    if classes is not None and len(values) != len(classes):
        raise ManifestError(f"{path}: {key} has {len(values)} values for {len(classes)} classes.")
    return tuple(values)
