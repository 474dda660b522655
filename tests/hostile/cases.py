"""Which hostile inputs there are, and through which commands each goes."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.conftest import SHARED
from tests.hostile import containers, folders, graphs, programs, rasters, texts, vectors, weights
from tests.hostile.commands import COMMANDS, Command
from tests.hostile.good import TILES, exported, lay_out

RASTERS = {**rasters.ODD, **rasters.BROKEN, **containers.CONTAINERS, **containers.NAMES}
ROLES = ("rgb", "sar", "classes", "confidence")


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile input."""

    family: str
    """What it pretends to be: a role of rasters, "labels", "schema", "scenes", …"""
    kind: str
    """What is wrong with it."""
    seed: int
    """Decides everything random."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return f"{self.family}: {self.kind} #{self.seed}"

    def make(self, folder: Path, kit: Path) -> Path:
        """Write it into ``folder``, with what it needs beside it, and return its path."""
        rng = np.random.default_rng([self.seed, zlib.crc32(f"{self.family}/{self.kind}".encode())])
        if self.family.startswith("odd "):
            return _real(self.kind, folder, kit)
        return FAMILIES[self.family].make(self.kind, folder, kit, rng)


@dataclass(frozen=True, slots=True)
class Family:
    """Inputs of one sort."""

    kinds: tuple[str, ...]
    make: Callable[[str, Path, Path, np.random.Generator], Path]
    commands: tuple[Command, ...]


def _raster(role: str) -> Callable[[str, Path, Path, np.random.Generator], Path]:
    def make(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
        lay_out(kit, folder, "good_rgb.tif", "good_sar.tif", "good_map.tif", "good_labels.gpkg", "good.safetensors")
        return RASTERS[kind](folder, role, rng)

    return make


def _beside(*names: str) -> Callable[[Callable[..., Path]], Callable[[str, Path, Path, np.random.Generator], Path]]:
    """Return a wrapper that lays good files beside the hostile one."""

    def wrap(make: Callable[..., Path]) -> Callable[[str, Path, Path, np.random.Generator], Path]:
        def both(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
            lay_out(kit, folder, *names)
            return make(kind, folder, kit, rng)

        return both

    return wrap


@_beside("good_rgb.tif", "good_sar.tif", "good_map.tif", "good.safetensors")
def _labels(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    return vectors.VECTORS[kind](folder, rng)


_NO_FILES = {f"a {kind}": kind for kind in ("folder", "pipe", "missing", "device")}


def _written(kind: str, name: str, contents: dict[str, str | bytes], sound: str) -> texts.Maker:
    if kind in _NO_FILES:
        return texts.no_file(name, _NO_FILES[kind])
    if kind == "sound":
        return texts.writer(name, sound)
    if kind == "garbled":
        return texts.garbled(name, sound)
    return texts.writer(name, contents[kind])


_SCHEMA = "classes:\n- {id: 0, name: a, color: [1, 2, 3]}\n" + "".join(
    f"- {{id: {i}, name: c{i}}}\n" for i in range(1, 5)
)


@_beside("good_rgb.tif", "good_sar.tif", "good_map.tif", "good.pth")
def _schema(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    return _written(kind, "hostile.yaml", texts.YAML, _SCHEMA)(folder, rng)


@_beside("good_rgb.tif", "good_sar.tif", "good_map.tif", "good.safetensors")
def _scenes(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    sound = "rgb,sar,labels\ngood_rgb.tif,good_sar.tif,good_map.tif\n"
    return _written(kind, "hostile.csv", texts.SCENES, sound)(folder, rng)


@_beside("good_rgb.tif", "good_sar.tif", "good.safetensors")
def _items(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    return _written(kind, "hostile.json", texts.ITEMS, texts.ITEM_COLLECTION)(folder, rng)


@_beside("good_map.tif", "points.gpkg")
def _strata(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    return _written(kind, "hostile.csv", texts.STRATA, "stratum,size\nwater,5\nforest,6\n")(folder, rng)


@_beside("good_tiles")
def _config(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    sound = (kit / "good.yaml").read_text()
    if kind in texts.CONFIGS:
        return texts.writer("hostile.yaml", f"{sound}{texts.CONFIGS[kind]}\n")(folder, rng)
    return _written(kind, "hostile.yaml", texts.YAML, sound)(folder, rng)


@_beside("good.safetensors", "good.yaml")
def _dataset(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    path = folder / "hostile"
    shutil.copytree(kit / "good_tiles", path)
    if kind.startswith("yaml: "):
        (path / "dataset.yaml").unlink()
        sound = (kit / "good_tiles" / "dataset.yaml").read_text()
        _written(kind.removeprefix("yaml: "), "dataset.yaml", texts.YAML, sound)(path, rng)
    else:
        folders.DATASETS[kind](path, rng)
    return path


def _archive(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    path = folders.archive(kit / "good_tiles", folder / "hostile")
    folders.ARCHIVES[kind](path, rng)
    return path


@_beside("good_rgb.tif", "good_sar.tif", "good_tiles")
def _checkpoint(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    if kind in _NO_FILES:
        return texts.no_file("hostile.safetensors", _NO_FILES[kind])(folder, rng)
    return weights.CHECKPOINTS[kind](folder, kit / "good.safetensors", rng)


@_beside("good_rgb.tif", "good_sar.tif", "good_tiles")
def _exported(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    form, _, kind = kind.partition(": ")
    if kind in _NO_FILES:
        return texts.no_file(f"hostile.{form}", _NO_FILES[kind])(folder, rng)
    makers = graphs.GRAPHS if form == "onnx" else programs.PROGRAMS
    return makers[kind](folder, exported(kit, form), rng)


@_beside("good.yaml", "good_tiles")
def _pickle(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    if kind in _NO_FILES:
        return texts.no_file("hostile.pth", _NO_FILES[kind])(folder, rng)
    return weights.PICKLES[kind](folder, kit / "good.pth", rng)


@_beside("good_tiles")
def _run(kind: str, folder: Path, kit: Path, rng: np.random.Generator) -> Path:
    path = folder / "hostile"
    shutil.copytree(kit / "good_run", path)
    config = path / "config.yaml"
    config.write_text(config.read_text().replace(TILES, str(folder / "good_tiles")))
    if kind in weights.STATES:
        (path / "state.previous.pt").unlink(missing_ok=True)
        weights.STATES[kind](path, kit / "good_run" / "state.pt", rng)
    else:
        sound = config.read_text()
        config.unlink()
        _written(kind.removeprefix("config: "), "config.yaml", texts.YAML, sound)(path, rng)
    return path


def _real(name: str, folder: Path, kit: Path) -> Path:
    """Lay a file of ``../shared`` with all it may refer to beside good ones."""
    lay_out(kit, folder, "good_rgb.tif", "good_sar.tif", "good_map.tif", "good_labels.gpkg", "good.safetensors")
    for path in (SHARED / "data" / "odd").iterdir():
        if path.is_file() and path.stat().st_size < 1 << 24:
            (folder / path.name).symlink_to(path)
    return folder / name


_FULL_RECIPE = ("empty", "only a comment")
"""Configurations that ask for nothing, and so for 80 000 iterations of the default network."""
_OTHER = (*_NO_FILES, "garbled", "sound")
_MAKERS: dict[str, tuple[tuple[str, ...], Callable[[str, Path, Path, np.random.Generator], Path]]] = {
    **{role: (tuple(RASTERS), _raster(role)) for role in ROLES},
    "labels": (tuple(vectors.VECTORS), _labels),
    "schema": ((*texts.YAML, *_OTHER), _schema),
    "scenes": ((*texts.SCENES, *_OTHER), _scenes),
    "items": ((*texts.ITEMS, *_OTHER), _items),
    "strata": ((*texts.STRATA, *_OTHER), _strata),
    "config": ((*texts.CONFIGS, *(k for k in texts.YAML if k not in _FULL_RECIPE), *_OTHER), _config),
    "dataset": ((*folders.DATASETS, *(f"yaml: {kind}" for kind in (*texts.YAML, *_OTHER))), _dataset),
    "archive": (tuple(folders.ARCHIVES), _archive),
    "checkpoint": ((*weights.CHECKPOINTS, *_NO_FILES), _checkpoint),
    "exported": (
        (
            *(f"onnx: {kind}" for kind in (*graphs.GRAPHS, *_NO_FILES)),
            *(f"pt2: {kind}" for kind in (*programs.PROGRAMS, *_NO_FILES)),
        ),
        _exported,
    ),
    "pickle": ((*weights.PICKLES, *_NO_FILES), _pickle),
    "run": ((*weights.STATES, *(f"config: {kind}" for kind in (*texts.YAML, *_OTHER))), _run),
}
FAMILIES = {name: Family(kinds, make, COMMANDS[name]) for name, (kinds, make) in _MAKERS.items()}
"""All sorts of inputs."""


def all_cases(seed: int = 0) -> Iterator[Case]:
    """Give cases without end, shuffled: every kind once, rasters in one role each, then in other roles and seeds."""
    while True:
        for turn in range(len(ROLES)):
            rasters_ = [Case(ROLES[(i + turn + seed) % len(ROLES)], kind, seed) for i, kind in enumerate(RASTERS)]
            others = [Case(n, kind, seed) for n, family in FAMILIES.items() if n not in ROLES for kind in family.kinds]
            chosen = rasters_ if turn else rasters_ + others
            for i in np.random.default_rng(turn).permutation(len(chosen)):
                yield chosen[i]
        seed += 1
