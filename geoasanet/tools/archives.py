"""The three published data sets, from the folders they are distributed in to the layout of ``geoasanet tile``.

Class names, palettes and on-disk forms are those of the data sets' authors and of the original project's scripts:
PIE-RGB-SAR (256 px tiles, GeoTIFF), DDHR-SK (Ren et al., JAG 112:102896; 256 px tiles, JPEG and PNG) and WHU-OPT-SAR
(JAG 2021.102638; whole scenes).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geoasanet.classes import ClassSchema
from geoasanet.errors import ConfigError, ManifestError
from geoasanet.raster.manifest import SUFFIXES

_SIDES = {
    "rgb": ("rgb", "optical", "opt", "image", "images"),
    "sar": ("sar",),
    "label": ("label", "labels", "lbl"),
}
"""Names that folders of the three kinds of files go by."""


@dataclass(frozen=True, slots=True)
class Archive:
    """How one data set is distributed."""

    name: str
    classes: ClassSchema
    scenes: bool
    """True if it holds whole scenes that must be cut, False for finished tiles."""
    label_step: int
    """Label values are this many times the class number."""
    zero_is_none: bool
    """True if label 0 is no class and class ids start from label 1."""
    train_share: float
    """Share of the train split where no list says which files it has."""


ARCHIVES = {
    "pie-rgb-sar": Archive(
        "pie-rgb-sar",
        ClassSchema(
            ("background", "city", "road", "water", "forest", "farmland"),
            ((128, 128, 128), (235, 51, 36), (255, 253, 85), (66, 236, 245), (56, 168, 0), (168, 112, 0)),
        ),
        scenes=False,
        label_step=1,
        zero_is_none=False,
        train_share=0.5,
    ),
    "ddhr-sk": Archive(
        "ddhr-sk",
        ClassSchema(
            ("buildings", "roads", "greenery", "water", "farmland"),
            ((255, 0, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0)),
        ),
        scenes=False,
        label_step=1,
        zero_is_none=False,
        train_share=0.5,
    ),
    "whu-opt-sar": Archive(
        "whu-opt-sar",
        ClassSchema(
            ("farmland", "city", "village", "water", "forest", "road", "other"),
            (
                (255, 195, 128),
                (255, 0, 0),
                (159, 129, 183),
                (0, 0, 255),
                (0, 255, 0),
                (255, 255, 0),
                (255, 255, 255),
            ),
        ),
        scenes=True,
        label_step=10,
        zero_is_none=True,
        train_share=0.8,
    ),
}
"""The published data sets by the name of ``--layout``."""


@dataclass(frozen=True, slots=True)
class ArchiveItem:
    """The three files of one tile or scene."""

    name: str
    rgb: Path
    sar: Path
    label: Path
    split: int | None
    """0 train, 1 val, 2 test; None where neither a list nor a folder says."""


def find_archive(layout: str) -> Archive:
    """Return a published data set by name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if layout not in ARCHIVES:
        raise ConfigError(f"--layout {layout!r} is unknown; one of {', '.join(ARCHIVES)} is needed.")
    return ARCHIVES[layout]


def list_archive(root: Path) -> list[ArchiveItem]:
    """Return the tiles or scenes in an archive's folder, sorted by name.

    The folder holds optical, SAR and label folders, or ``train`` and ``test`` (or ``val``) folders with these three
    in each. Lists ``train.txt``, ``val.txt``, ``test.txt`` beside them, with one name a line (an ending is passed
    over), say the split.

    Raises:
        ManifestError: If a folder or file is missing, or a list names a file that is not there.
    """
    if not root.is_dir():
        raise ManifestError(
            f"Archive folder {root} does not exist.", "Give the folder that the archive was unpacked to."
        )
    items: list[ArchiveItem] = []
    for split, folder in enumerate(("train", "val", "test")):
        if (root / folder).is_dir():
            items += _items(root / folder, split)
    if not items:
        items = _items(root, None)
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise ManifestError(f"{root}: {item.name!r} is in two splits.", "Each file belongs to one.")
        seen.add(item.name)
    listed = _lists(root, seen)
    if listed:
        items = [ArchiveItem(i.name, i.rgb, i.sar, i.label, listed[i.name]) for i in items if i.name in listed]
    return sorted(items, key=lambda item: item.name)


def _items(folder: Path, split: int | None) -> list[ArchiveItem]:
    present = {p.name.casefold(): p for p in folder.iterdir() if p.is_dir()}
    found: dict[str, dict[str, Path]] = {}
    for kind, names in _SIDES.items():
        place = next((present[n] for n in names if n in present), None)
        if place is None:
            raise ManifestError(
                f"{folder} has no {kind} folder (one of {', '.join(names)}).",
                "Give the folder of the unpacked archive.",
            )
        found[kind] = {p.stem: p for p in sorted(place.iterdir()) if p.suffix in SUFFIXES}
    if not found["rgb"]:
        raise ManifestError(f"{folder} has no optical images.", "Is the archive unpacked as a whole?")
    for kind in ("sar", "label"):
        missing = sorted(found["rgb"].keys() - found[kind].keys())
        if missing:
            raise ManifestError(
                f"{found['rgb'][missing[0]]} has no {kind} file of the same name ({len(missing)} are missing).",
                "Is the archive unpacked as a whole?",
            )
    return [ArchiveItem(n, p, found["sar"][n], found["label"][n], split) for n, p in found["rgb"].items()]


def _lists(root: Path, names: set[str]) -> dict[str, int]:
    """Return the split of each name in the lists, empty where there are none."""
    splits: dict[str, int] = {}
    for split, kind in enumerate(("train", "val", "test")):
        path = root / f"{kind}.txt"
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"List {path} cannot be read ({error}).", "It must be UTF-8 text.") from None
        for number, line in enumerate(lines, 1):
            name = line.strip()
            if not name:
                continue
            name = name if name in names else Path(name).stem
            if name not in names:
                raise ManifestError(f"{path} line {number}: there is no image {line.strip()!r}.", "Correct the list.")
            if splits.setdefault(name, split) != split:
                raise ManifestError(f"{path} line {number}: {name!r} is in another list, too.", "Name each once.")
    return splits
