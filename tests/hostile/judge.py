"""What a command may do with an input: make a right and whole output, or say in one line why not."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely

from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.raster.dataset import open_dataset_folder
from geoasanet.raster.vectorwriter import LAYER
from tests.hostile.commands import Command

LONGEST = 1500
"""Characters of an error message that a person still reads."""
MOST_BYTES = 1 << 30
"""Memory that a command may take for inputs as small as these, beyond what it held before."""

_UGLY = re.compile(
    r"Traceback|unexpected \w+: .*This is a bug|^\S+\.py:\d+: \w*(Warning|Error)|^ERROR \d|^Warning \d|^TIFF"
    r"|^(?!Error: |\s+\").*: TIFF\w+:|CPLE_|^WARNING|^Exception ignored|^HDF5-DIAG|^PROJ:|free\(\)|malloc|^[fF]atal"
    r"|^terminate called",
    re.MULTILINE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
_SCRIPT = re.compile(r"<script>alert|<img src=x")

Snapshot = dict[str, tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Run:
    """What a command did."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int
    """Memory at its highest, beyond what was held before."""


def snapshot(folder: Path) -> Snapshot:
    """Return size, time of change and hash of everything in a folder."""
    return {str(path.relative_to(folder)): _state(path) for path in _walk(folder)}


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def _state(path: Path) -> tuple[int, int, str]:
    if path.is_symlink():
        return 0, 0, str(path.readlink())
    if not path.is_file():
        return 0, 0, "folder" if path.is_dir() else "special"
    state = path.stat()
    return state.st_size, state.st_mtime_ns, hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def problems(run: Run, command: Command, source: Path, before: Snapshot, place: Path) -> list[str]:
    """Return what is wrong with what a command did, empty if nothing.

    Args:
        run: What it did.
        command: What was asked.
        source: The hostile input; all of its folder are inputs.
        before: The inputs before.
        place: The folder the command ran in; everything new in it is output.
    """
    after = snapshot(source.parent)
    found = [] if command.name == "train --resume" and run.code == 0 else _changes(before, after)
    if (place.parent / "EXECUTED").exists() or any(path.name == "EXECUTED" for path in _walk(place.parent)):
        found.append("code from the input was executed")
    if run.peak_bytes > MOST_BYTES:
        found.append(f"took {run.peak_bytes >> 20} MiB")
    ugly = _UGLY.search(run.stderr) or _UGLY.search(run.stdout)
    if ugly:
        line = next(x for x in (run.stderr + run.stdout)[ugly.start() :].splitlines() if x.strip()) if ugly else ""
        found.append(f"ugly: {line[:200]}")
    if _CONTROL.search(run.stderr) or _CONTROL.search(run.stdout):
        found.append("control characters on the terminal")
    if command.name == "info" and run.code == 1 and not _errors(run):
        return found + _unfit(run)
    if run.code == 0:
        return found + _whole(run, command, source, place)
    if run.code not in (1, 2):
        found.append(f"exit code {run.code}")
    return found + _refusal(run, source) + [f"left behind: {name}" for name in _leftovers(place, command)]


def _leftovers(place: Path, command: Command) -> list[str]:
    """Return what a refused command left; finished work that the same command goes on with is allowed.

    So is the report on scenes that could not be mapped.
    """
    if command.outputs == ("maps",) and [path.name for path in place.glob("maps/*")] == ["scenes.json"]:
        return []
    resumable = {f".{name}.partial" for name in command.outputs if any(place.glob(f".{name}.partial/*"))}
    return sorted({path.name for path in place.iterdir()} - resumable)


def _changes(before: Snapshot, after: Snapshot) -> list[str]:
    gone = [f"input removed: {name}" for name in before if name not in after]
    new = [f"beside the input: {name}" for name in after if name not in before]
    return gone + new + [f"input modified: {n}" for n in before if n in after and before[n] != after[n]]


def _errors(run: Run) -> list[str]:
    return [line for line in run.stderr.splitlines() if line.startswith("Error")]


def _refusal(run: Run, source: Path) -> list[str]:
    errors = _errors(run)
    if len(errors) != 1:
        return [f"{len(errors)} error lines"]
    found = []
    message = errors[0]
    if not run.stderr.rstrip().endswith(message):
        found.append("something follows the error line")
    if len(message) > LONGEST:
        found.append(f"an error of {len(message)} characters")
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(source.name.split()))[:60]
    plain = "".join(c if c.isprintable() else "?" for c in message)
    names = {shown, shown.encode("unicode_escape").decode(), ascii(source.name)[1:61].rstrip("'")}
    if source.suffix in (".csv", ".json"):  # a list of files, of which one is at fault
        names |= {"points.gpkg", "/etc/", "x does not exist", "none.tif"}
    if source.suffix == ".yaml":  # a configuration that does not fit the dataset
        names.add("good_tiles")
    if source.suffix not in (".safetensors", ".onnx", ".pt2", ".csv", ".json"):  # two files that do not fit each other
        names.add("good.pth")
        names |= {path.name for path in source.parent.glob("good_*.tif")}
    if not any(name in plain for name in names):
        found.append("the error does not name the file")
    return found


def _unfit(run: Run) -> list[str]:
    data = _document(run.stdout)
    if not isinstance(data, dict) or not data.get("problems"):
        return ["info says neither what is wrong nor that it cannot be read"]
    return [f"a problem of {len(p)} characters" for p in data["problems"] if len(p) > LONGEST]


def _document(text: str) -> object:
    try:
        return json.loads(text, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return None


def _whole(run: Run, command: Command, source: Path, place: Path) -> list[str]:
    """Return what is wrong with the outputs of a command that says it succeeded."""
    found = [] if "--json" not in command.line or isinstance(_document(run.stdout), dict) else ["no JSON on stdout"]
    missing = [name for name in command.outputs if not (place / name).exists()]
    if missing:
        return [*found, f"no {missing[0]} although it succeeded"]
    stems = {name.split(".")[0] for name in (*command.outputs, "runs")}  # sidecars are fine
    extra = [path.name for path in place.iterdir() if path.name.split(".")[0] not in stems]
    found += [f"left behind: {name}" for name in extra]
    for name in command.outputs:
        try:
            found += _CHECKS[name](place / name, source, command)
        except Exception as error:  # whatever it is, the output is not whole
            found.append(f"{name} is not whole: {type(error).__name__}: {error}")
    return found


def _map(path: Path, source: Path, command: Command) -> list[str]:
    rgb = source if command.name in ("predict RGB", "predict --vectorize") else source.parent / "good_rgb.tif"
    with rasterio.open(path) as dataset, rasterio.open(rgb) as reference:
        values = dataset.read(1)
        same = dataset.crs == reference.crs and dataset.transform.almost_equals(reference.transform)
        if command.name != "predict --aoi" and (not same or dataset.shape != reference.shape):
            return ["the map is on another grid"]
        return [] if dataset.dtypes == ("uint8",) and dataset.nodata == 255 and values.size else ["an odd map"]


def _dataset(path: Path, source: Path, command: Command) -> list[str]:
    dataset = open_dataset_folder(path)
    names = [name for split in dataset.splits.values() for name in split]
    for name in names:
        tile = dataset.read(name)
        if not np.isfinite(tile.rgb.astype(float)).all() or not np.isfinite(tile.sar.astype(float)).all():
            return [f"tile {name} is not finite"]
    return [] if names else ["a dataset without tiles"]


def _polygons(path: Path, source: Path, command: Command) -> list[str]:
    frame = pyogrio.read_dataframe(path, layer=LAYER)
    if not shapely.is_valid(frame.geometry.values).all():
        return ["invalid polygons"]
    columns = [c for c in ("area_m2", "perimeter_m", "confidence") if c in frame]
    bad = [c for c in columns if not (np.isfinite(frame[c].dropna()) & (frame[c].dropna() >= 0)).all()]
    return [f"{bad[0]} is negative or not finite"] if bad else []


def _page(path: Path, source: Path, command: Command) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if _SCRIPT.search(text):
        return ["markup of the input in the report"]
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        return ["control characters in the report"]
    return [] if text.rstrip().endswith("</html>") else ["half a report"]


def _confidence(path: Path, source: Path, command: Command) -> list[str]:
    with rasterio.open(path) as dataset:
        values = dataset.read(1)
        known = values[~np.isnan(values)]
        return [] if dataset.dtypes == ("float32",) and ((known >= 0) & (known <= 1)).all() else ["odd confidence"]


def _item(path: Path, source: Path, command: Command) -> list[str]:
    return [] if json.loads(path.read_text())["type"] == "Feature" else ["no STAC Item"]


def _maps(path: Path, source: Path, command: Command) -> list[str]:
    maps = sorted(path.glob("*.tif"))
    return (
        [fault for map_ in maps for fault in _map(map_, source, command)] if maps else ["no map although it succeeded"]
    )


def _checkpoint(path: Path, source: Path, command: Command) -> list[str]:
    load_checkpoint(path)
    return []


def _run(path: Path, source: Path, command: Command) -> list[str]:
    load_checkpoint(path / "last.safetensors")
    return []


_CHECKS = {
    "map.tif": _map,
    "out": _dataset,
    "p.gpkg": _polygons,
    "r.html": _page,
    "v.html": _page,
    "conf.tif": _confidence,
    "c.json": _item,
    "maps": _maps,
    "c.safetensors": _checkpoint,
    "run": _run,
}
