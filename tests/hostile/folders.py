"""Dataset folders, archives and runs in which one thing is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.conftest import write_raster
from tests.hostile import tiff

Change = Callable[[Path, np.random.Generator], Any]
"""Spoils a copy of a good dataset folder."""


def _lists(text: str | bytes, name: str = "train.txt") -> Change:
    def change(folder: Path, rng: np.random.Generator) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def _added(*lines: str) -> Change:
    """Return the change that adds lines to both lists."""

    def change(folder: Path, rng: np.random.Generator) -> None:
        for name in ("train.txt", "val.txt"):
            path = folder / name
            path.write_text("\n".join([*lines, *path.read_text().splitlines()]))

    return change


def _described(**values: Any) -> Change:
    """Return the change of entries of dataset.yaml; None as a key's value stays null."""

    def change(folder: Path, rng: np.random.Generator) -> None:
        path = folder / "dataset.yaml"
        data = yaml.safe_load(path.read_text())
        data.update(values)
        path.write_text(yaml.safe_dump(data))

    return change


def _pictures(kind: str, pixels: Callable[[np.random.Generator, np.ndarray], np.ndarray], **options: Any) -> Change:
    """Return the change that writes the pixels of every tile of a sensor anew."""

    def change(folder: Path, rng: np.random.Generator) -> None:
        import rasterio

        for path in sorted((folder / kind).iterdir()):
            with rasterio.open(path) as dataset:
                old = dataset.read()
            write_raster(path, pixels(rng, old), **options)

    return change


def _files(kind: str, spoil: Callable[[Path, np.random.Generator], Any]) -> Change:
    """Return the change that spoils every file of a kind."""

    def change(folder: Path, rng: np.random.Generator) -> None:
        for path in sorted((folder / kind).iterdir()):
            spoil(path, rng)

    return change


def _outward_link(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _missing(name: str) -> Change:
    def change(folder: Path, rng: np.random.Generator) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def _file_for_folder(folder: Path, rng: np.random.Generator) -> None:
    shutil.rmtree(folder / "sar")
    (folder / "sar").write_text("no folder")


def _virtual(path: Path, rng: np.random.Generator) -> None:
    path.write_text(
        "<VRTDataset rasterXSize='2147483647' rasterYSize='2147483647'><VRTRasterBand dataType='Byte' band='1'/>"
        "<VRTRasterBand dataType='Byte' band='2'/><VRTRasterBand dataType='Byte' band='3'/></VRTDataset>"
    )


DATASETS: dict[str, Change] = {
    "names that climb out": _added("../../../etc/passwd"),
    "names that climb out within": _added("a/../../../x"),
    "absolute names": _added("/etc/passwd"),
    "names of Windows": _added("C:\\Windows\\x", "..\\..\\x"),
    "names with colons": _added("HDF5:x"),
    "names of virtual files": _added("vsicurl/http://127.0.0.1:9/x"),
    "names of control characters": _added("red\x1b[31m", "bell\x07"),
    "names with zero bytes": _added("a\x00b"),
    "names that do not exist": _added("nowhere"),
    "endless name": _added("x" * 100_000),
    "a million names": _lists("\n".join(f"t{i}" for i in range(1_000_000))),
    "names twice": _lists("a\na\n"),
    "list of bytes": _lists(bytes(range(128, 256))),
    "list in UTF-16": _lists("a\nb\n".encode("utf-16")),
    "empty lists": _lists(""),
    "empty val": _lists("", "val.txt"),
    "unseparated lists": _lists("a" * 300_000),
    "list is a folder": lambda folder, rng: ((folder / "train.txt").unlink(), (folder / "train.txt").mkdir()),
    "no train": _missing("train.txt"),
    "no val": _missing("val.txt"),
    "no SAR": _missing("sar"),
    "no labels": _missing("label"),
    "SAR is a file": _file_for_folder,
    "folders that climb out": _described(rgb_dir="../../etc", sar_dir="../.."),
    "absolute folders": _described(label_dir="/etc"),
    "folder of a home": _described(rgb_dir="~/x"),
    "folders of numbers": _described(rgb_dir=5),
    "suffix that climbs": _described(rgb_suffix="/../../etc/passwd"),
    "suffix of a colon": _described(rgb_suffix=":x"),
    "no suffix": _described(rgb_suffix=""),
    "other suffix": _described(sar_suffix=".png"),
    "classes of markup": _described(classes=["<script>alert(1)</script>", "a&b", "'\"><img src=x>", "]]>", "{{7*7}}"]),
    "classes of control characters": _described(classes=["a\x1b[31m", "b\nc", "d\te", "\u202ef", "g"]),
    "one class": _described(classes=["a"]),
    "other number of classes": _described(classes=["a", "b"], class_pixels=None, class_weights=None),
    "hundreds of classes": _described(classes=[f"c{i}" for i in range(255)], class_pixels=None, class_weights=None),
    "too many classes": _described(classes=[f"c{i}" for i in range(300)]),
    "ignored class": _described(ignore_index=0),
    "ignore index beyond": _described(ignore_index=300),
    "infinite ignore index": _described(ignore_index=float("inf")),
    "ignore index of words": _described(ignore_index="x"),
    "tile size of words": _described(tile_size="x"),
    "absurd tile size": _described(tile_size=10**12),
    "bands of words": _described(bands={"rgb": "x", "sar": "y"}),
    "bands of numbers": _described(bands=5),
    "infinite bands": _described(
        bands={"rgb": {"mean": [float("inf")] * 3, "std": [1] * 3}, "sar": {"mean": [0], "std": [1]}}
    ),
    "no deviation": _described(bands={"rgb": {"mean": [0] * 3, "std": [0] * 3}, "sar": {"mean": [0], "std": [1]}}),
    "bands of another sensor": _described(
        bands={"rgb": {"mean": [0] * 3, "std": [1] * 3}, "sar": {"mean": [0] * 4, "std": [1] * 4}}
    ),
    "huge statistics": _described(
        bands={"rgb": {"mean": [1e300] * 3, "std": [1e300] * 3}, "sar": {"mean": [0], "std": [1e-300]}}
    ),
    "weights of words": _described(class_weights=["x"] * 5),
    "weights of nothing": _described(class_weights=[0] * 5),
    "negative pixels": _described(class_pixels=[-1] * 5),
    "huge pixels": _described(class_pixels=[10**30] * 5),
    "fractions of pixels": _described(class_pixels=[0.5, 1e308, 1e308, 0, 0]),
    "reduced": _described(reduce_zero_label=True),
    "reduced by words": _described(reduce_zero_label="yes please"),
    "origin of words": _described(origin="x"),
    "format of tomorrow": _described(format="geoasanet-dataset-99"),
    "format is a list": _described(format=[1]),
    "labels beyond the classes": _pictures("label", lambda rng, old: old * 0 + 200),
    "labels of words": _files("label", lambda path, rng: path.write_text("no picture")),
    "labels that are negative": _pictures("label", lambda rng, old: old.astype(np.int16) * 0 - 3),
    "labels of fractions": _pictures("label", lambda rng, old: old.astype(np.float32) + 0.5),
    "labels that are NaN": _pictures("label", lambda rng, old: old.astype(np.float32) * np.nan),
    "labels that are huge": _pictures("label", lambda rng, old: old.astype(np.float64) * 0 + 1e30),
    "labels of three bands": _pictures("label", lambda rng, old: old.repeat(3, axis=0)),
    "labels all ignored": _pictures("label", lambda rng, old: old * 0 + 255),
    "labels of one class": _pictures("label", lambda rng, old: old * 0),
    "complex labels": _pictures("label", lambda rng, old: old.astype(np.complex64)),
    "one pixel": _pictures("rgb", lambda rng, old: old[:, :1, :1]),
    "SAR of another size": _pictures("sar", lambda rng, old: old[:, :7]),
    "complex SAR": _pictures("sar", lambda rng, old: old.astype(np.complex64)),
    "SAR that is NaN": _pictures("sar", lambda rng, old: old * np.nan),
    "SAR with infinity": _pictures("sar", lambda rng, old: np.where(rng.random(old.shape) < 0.2, np.inf, old)),
    "huge SAR": _pictures("sar", lambda rng, old: old.astype(np.float64) * 1e300),
    "SAR of many bands": _pictures("sar", lambda rng, old: old.repeat(40, axis=0)),
    "optical of two bands": _pictures("rgb", lambda rng, old: old[:2]),
    "optical of floats": _pictures("rgb", lambda rng, old: old.astype(np.float64) * 1e300),
    "optical all nodata": _pictures("rgb", lambda rng, old: old * 0, nodata=0),
    "optical in 64 bits": _pictures("rgb", lambda rng, old: old.astype(np.int64) * 2**50),
    "optical cut short": _files("rgb", lambda path, rng: tiff.cut(path, float(rng.uniform(0, 0.9)))),
    "optical empty": _files("rgb", lambda path, rng: path.write_bytes(b"")),
    "optical with bits flipped": _files("rgb", lambda path, rng: tiff.flip_bits(path, rng, 4)),
    "SAR with bits flipped": _files("sar", lambda path, rng: tiff.flip_bits(path, rng, 9)),
    "labels with bits flipped": _files("label", lambda path, rng: tiff.flip_bits(path, rng, 9)),
    "optical of huge size": _files("rgb", lambda path, rng: tiff.set_tag(path, tiff.HEIGHT, 2**31 - 1)),
    "virtual optical of huge size": _files("rgb", _virtual),
    "links that lead out": _files("rgb", _outward_link),
    "pictures that are folders": _files("rgb", lambda path, rng: (path.unlink(), path.mkdir())),
}
"""What is wrong with a dataset folder."""


def archive(good: Path, folder: Path) -> Path:
    """Make a folder of a published layout (PIE-RGB-SAR) from a good dataset."""
    for kind in ("rgb", "sar", "label"):
        shutil.copytree(good / kind, folder / kind)
    for name in ("train.txt", "val.txt"):
        shutil.copyfile(good / name, folder / name)
    return folder


ARCHIVES: dict[str, Change] = {
    "sound": lambda folder, rng: None,
    "names that climb out": _added("../../../etc/passwd"),
    "absolute names": _added("/etc/passwd"),
    "names with zero bytes": _added("a\x00b"),
    "list of bytes": _lists(bytes(range(128, 256))),
    "list is a folder": lambda folder, rng: ((folder / "train.txt").unlink(), (folder / "train.txt").mkdir()),
    "SAR is a file": _file_for_folder,
    "no labels": _missing("label"),
    "files that are folders": _files("rgb", lambda path, rng: (path.unlink(), path.mkdir())),
    "links that lead out": _files("sar", _outward_link),
    "links to themselves": _files("sar", lambda path, rng: (path.unlink(), path.symlink_to(path.name))),
    "optical cut short": _files("rgb", lambda path, rng: tiff.cut(path, float(rng.uniform(0, 0.9)))),
    "labels beyond the classes": _pictures("label", lambda rng, old: old * 0 + 200),
    "labels of floats": _pictures("label", lambda rng, old: old.astype(np.float32) * np.nan),
    "complex SAR": _pictures("sar", lambda rng, old: old.astype(np.complex64)),
    "SAR that is NaN": _pictures("sar", lambda rng, old: old * np.nan),
    "SAR of another size": _pictures("sar", lambda rng, old: old[:, :7]),
    "optical of one band": _pictures("rgb", lambda rng, old: old[:1]),
    "optical of floats": _pictures("rgb", lambda rng, old: old.astype(np.float64) * 1e300),
    "virtual optical of huge size": _files("rgb", _virtual),
    "optical with bits flipped": _files("rgb", lambda path, rng: tiff.flip_bits(path, rng, 4)),
}
"""What is wrong with the folder of a published data set."""
