"""A folder of tiles: paired optical and SAR images with labels, listed by split.

The layout is that of the original project, which other tools write too: ``rgb/``, ``sar/``, ``label/`` with one file of
the same name for each tile, and ``train.txt``, ``val.txt``, ``test.txt`` with one name a line. ``dataset.yaml`` says
more where it is present: folders, suffixes, classes, band statistics.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.bands import InputBands
from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import LabelError, ManifestError
from geoasanet.raster.manifest import Manifest, look_around, read_manifest
from geoasanet.raster.tilefile import as_gray, read_image
from geoasanet.sample import BoolArray

SPLITS = ("train", "val", "test")
LONGEST_NAME = 200
"""Most characters of a tile's name; file systems hold 255 bytes with its ending."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One training sample as it lies on disk."""

    name: str
    rgb: NDArray[Any]
    """Optical bands red, green, blue with shape (3, height, width), in the file's dtype; 0 where not valid."""
    sar: NDArray[Any]
    """SAR bands with shape (bands, height, width), in the file's dtype; 0 where not valid."""
    label: NDArray[np.uint8] | None
    """Class ids with shape (height, width), 255 where there is none; None in a dataset without labels."""
    rgb_valid: BoolArray
    """Shape (height, width). True where the optical image has data."""
    sar_valid: BoolArray
    """Shape (height, width). True where the SAR image has data."""

    @property
    def valid(self) -> BoolArray:
        """Shape (height, width). True where both sensors have data."""
        return self.rgb_valid & self.sar_valid


@dataclass(frozen=True, slots=True)
class TilePaths:
    """The files of one tile."""

    rgb: Path
    sar: Path
    label: Path | None


@dataclass(frozen=True, slots=True)
class TileDataset:
    """A dataset folder; nothing is open and nothing is held but names."""

    root: Path
    manifest: Manifest
    """What ``dataset.yaml`` says, or what was found by looking."""
    splits: dict[str, tuple[str, ...]] = field(repr=False)
    """Names of the tiles of each split that has a list."""

    @property
    def classes(self) -> ClassSchema | None:
        """Class schema, None where the folder does not say."""
        return self.manifest.classes

    @property
    def bands(self) -> InputBands | None:
        """Band statistics of the train split, None where the folder does not say."""
        return self.manifest.bands

    @property
    def tile_size(self) -> int | None:
        """Side of the tiles in pixels, None where the folder does not say."""
        return self.manifest.tile_size

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """Loss weight of each class from its share of the train split, None where the folder does not say."""
        return self.manifest.class_weights

    @property
    def labelled(self) -> bool:
        """True if the tiles have labels."""
        return self.manifest.label_dir is not None

    def assuming(self, classes: ClassSchema | None = None, *, reduce_zero_label: bool | None = None) -> TileDataset:
        """Return the same tiles with classes and label convention from elsewhere, for folders that do not say."""
        manifest = replace(
            self.manifest,
            classes=self.manifest.classes if classes is None else classes,
            reduce_zero_label=self.manifest.reduce_zero_label if reduce_zero_label is None else reduce_zero_label,
        )
        return replace(self, manifest=manifest)

    def names(self, split: str) -> tuple[str, ...]:
        """Return the names of the tiles of a split.

        Raises:
            ManifestError: If the split has no list, or an empty one.
        """
        found = self.splits.get(split)
        if found is None:
            have = ", ".join(f"{name}.txt" for name in self.splits) or "none"
            raise ManifestError(
                f"Dataset {self.root} has no list {split}.txt (found: {have}).",
                "Write the names of its tiles into it, one a line.",
            )
        if not found:
            raise ManifestError(
                f"{self.root / split}.txt names no tile: the {split} split is empty.",
                "Add names, one a line, or tile more ground (or with a smaller --block).",
            )
        return found

    def paths(self, name: str) -> TilePaths:
        """Return where the files of a tile are; whether they exist is not checked."""
        m = self.manifest
        label = None if m.label_dir is None else self.root / m.label_dir / f"{name}{m.label_suffix}"
        return TilePaths(
            self.root / m.rgb_dir / f"{name}{m.rgb_suffix}", self.root / m.sar_dir / f"{name}{m.sar_suffix}", label
        )

    def check(self, split: str) -> None:
        """Raise if a file of a split's tiles is missing.

        Raises:
            ManifestError: Naming the first tile and file that are missing, and how many.
        """
        m = self.manifest
        kinds = [(m.rgb_dir, m.rgb_suffix), (m.sar_dir, m.sar_suffix)]
        kinds += [] if m.label_dir is None else [(m.label_dir, m.label_suffix)]
        folders = [(self.root / folder, suffix, _files(self.root / folder)) for folder, suffix in kinds]
        missing, first = 0, ("", Path())
        for name in self.names(split):
            for folder, suffix, files in folders:
                file = f"{name}{suffix}"
                if file in files or ("/" in file and (folder / file).is_file()):
                    continue
                first = first if missing else (name, folder / file)
                missing += 1
        if missing:
            name, path = first
            more = f" (and {missing - 1} more files)" if missing > 1 else ""
            raise ManifestError(
                f"Tile {name!r} of {self.root / split}.txt lacks {path}{more}.",
                "Add the file, or take the name out of the list.",
            )

    def read(self, name: str) -> Tile:
        """Return a tile.

        A one-band optical image is repeated three times. Pixels that a file masks (nodata value, alpha, mask band),
        or that are not finite, are not valid, hold 0, and are 255 in the label.

        Raises:
            ManifestError: If a file is missing or unreadable, or sizes differ.
            LabelError: If a label is no single band of whole numbers 0..255, or names no class of the schema.
        """
        paths = self.paths(name)
        rgb, rgb_valid = read_image(paths.rgb)
        if rgb.shape[0] == 1:
            rgb = np.repeat(rgb, 3, axis=0)
        if rgb.shape[0] < 3:
            raise ManifestError(f"{paths.rgb} has {rgb.shape[0]} bands, red, green and blue are needed.")
        sar, sar_valid = read_image(paths.sar)
        sar = as_gray(sar, paths.sar)
        _check_size(paths.rgb, rgb_valid, paths.sar, sar_valid)
        label = None
        if paths.label is not None:
            label = self._label(paths.label)
            _check_size(paths.rgb, rgb_valid, paths.label, label)
            label[~(rgb_valid & sar_valid)] = NODATA
        return Tile(name, np.ascontiguousarray(rgb[:3]), sar, label, rgb_valid, sar_valid)

    def _label(self, path: Path) -> NDArray[np.uint8]:
        values, valid = read_image(path)
        if values.shape[0] != 1:
            raise LabelError(
                f"Label {path} has {values.shape[0]} bands, one of class ids is needed.",
                "Colour-coded pictures must be turned into class ids first.",
            )
        ids = values[0]
        if ids.dtype != np.uint8:
            whole = np.where(valid, ids, 0)
            bad = (whole != np.floor(whole)) | (whole < 0) | (whole > NODATA)
            if bad.any():
                raise LabelError(f"Label {path} holds the value {whole[bad][0]}; class ids are 0 to 254, 255 is none.")
            ids = whole.astype(np.uint8)
        ids = np.asarray(np.where(valid, ids, NODATA), np.uint8)
        m = self.manifest
        if m.classes is not None and m.classes.ignore_index != NODATA:
            ids[ids == m.classes.ignore_index] = NODATA
        if m.reduce_zero_label:
            ids = reduce_zero(ids)
        if m.classes is not None:
            wrong = (ids >= len(m.classes)) & (ids != NODATA)
            if wrong.any():
                raise LabelError(
                    f"Label {path} holds class {int(ids[wrong][0])}"
                    f"{' (after reduce_zero_label)' if m.reduce_zero_label else ''}, "
                    f"but the schema has classes 0 to {len(m.classes) - 1}.",
                    "Correct the label, or the classes in dataset.yaml.",
                )
        return np.asarray(ids, np.uint8)


def open_dataset_folder(root: str | os.PathLike[str]) -> TileDataset:
    """Return the dataset in a folder; lists are read, tiles are not.

    Raises:
        ManifestError: If the folder, its ``dataset.yaml`` or a list is missing or malformed.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ManifestError(f"Dataset folder {folder} does not exist.", "Make one with geoasanet tile.")
    splits = {s: _read_list(folder / f"{s}.txt") for s in SPLITS if (folder / f"{s}.txt").is_file()}
    if not splits:
        raise ManifestError(
            f"Dataset {folder} has no train.txt, val.txt or test.txt.",
            "List the names of its tiles, one a line, or make a dataset with geoasanet tile.",
        )
    yaml_path = folder / "dataset.yaml"
    first = next((names[0] for names in splits.values() if names), None)
    manifest = read_manifest(yaml_path, first) if yaml_path.is_file() else look_around(folder, first)
    for kind, name in (("rgb", manifest.rgb_dir), ("sar", manifest.sar_dir), ("label", manifest.label_dir)):
        if name is not None and not (folder / name).is_dir():
            raise ManifestError(f"Dataset {folder} has no folder {name}/ ({kind}).", "Check dataset.yaml.")
    return TileDataset(folder, manifest, splits)


def reduce_zero(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels with class 0 ignored (255) and the others one less, as ``reduce_zero_label`` of the original."""
    lut = np.arange(-1, 255, dtype=np.int16)
    lut[0] = lut[255] = NODATA
    return np.asarray(lut.astype(np.uint8)[label], np.uint8)


def _files(folder: Path) -> set[str]:
    """Return the names of the files in a folder: looking at it once is faster than asking for each."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"List {path} cannot be read ({error}).", "It must be UTF-8 text.") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or ":" in name:
            raise ManifestError(
                f"{path} line {number}: the name {name!r} leads out of the dataset.",
                "Names are relative to the image folders, without extension.",
            )
        if len(name) > LONGEST_NAME:
            raise ManifestError(
                f"{path} line {number}: a name of {len(name)} characters; at most {LONGEST_NAME} are possible.",
                "Name one tile a line.",
            )
        if name in seen:
            raise ManifestError(
                f"{path} line {number}: {name!r} is already on line {seen[name]}.", "Name each tile once."
            )
        seen[name] = number
    return tuple(seen)


def _check_size(first: Path, a: NDArray[Any], second: Path, b: NDArray[Any]) -> None:
    if a.shape != b.shape:
        raise ManifestError(
            f"{second} has {b.shape[0]} x {b.shape[1]} pixels (rows x columns), but {first} has "
            f"{a.shape[0]} x {a.shape[1]}.",
            "The files of a tile must cover the same pixels.",
        )
