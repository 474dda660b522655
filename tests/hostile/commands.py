"""The command lines that inputs go through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A way to hand an input to a command."""

    name: str
    """What the report calls it."""
    line: tuple[str, ...]
    """The command line; INPUT stands for the input and IN/… for a file beside it."""
    outputs: tuple[str, ...] = ()
    """What appears in the current folder if it succeeds, relative."""


def _command(name: str, line: str, *outputs: str) -> Command:
    return Command(name, tuple(line.split()), outputs)


_PREDICT = "predict -c IN/good.safetensors -o map.tif --no-progress --json"
_MANY = "predict -c IN/good.safetensors -o maps --no-progress --json"
_TILE = "tile --size 16 --block 1 -o out --workers 1 --min-valid 0.1 --no-progress --json"
_TRAIN = "--out run --device cpu --set workers=0 --no-progress --json"
_EVAL = "eval --no-progress --json"
_VECTORIZE = "vectorize -o p.gpkg --workers 1 --no-progress --json"
_VIEW = "view --max-side 64 -o v.html --no-progress --json"
_EXPORT = "export -c INPUT -o c.json --to stac --no-progress --json"
_SCENE = "IN/good_rgb.tif IN/good_sar.tif"
_INFO = _command("info", "info --json -- INPUT")
_LABELS = _command("tile --labels", f"{_TILE} --labels=INPUT {_SCENE}", "out")

COMMANDS = {
    "rgb": (
        _INFO,
        _command("view --rgb", f"{_VIEW} --rgb=INPUT -- IN/good_map.tif", "v.html"),
        _command(
            "predict --vectorize",
            f"{_PREDICT} --vectorize p.gpkg --confidence conf.tif -- INPUT IN/good_sar.tif",
            "map.tif",
            "p.gpkg",
            "conf.tif",
        ),
        _command("predict RGB", f"{_PREDICT} -- INPUT IN/good_sar.tif", "map.tif"),
        _command("tile RGB", f"{_TILE} --labels IN/good_map.tif -- INPUT IN/good_sar.tif", "out"),
    ),
    "sar": (
        _INFO,
        _command("view --sar", f"{_VIEW} --sar=INPUT -- IN/good_map.tif", "v.html"),
        _command("predict SAR", f"{_PREDICT} -- IN/good_rgb.tif INPUT", "map.tif"),
        _command("tile SAR", f"{_TILE} --labels IN/good_map.tif -- IN/good_rgb.tif INPUT", "out"),
    ),
    "classes": (
        _INFO,
        _command("view", f"{_VIEW} -- INPUT", "v.html"),
        _command("vectorize", f"{_VECTORIZE} -- INPUT", "p.gpkg"),
        _command("eval --map", f"{_EVAL} --map=INPUT --labels IN/good_labels.gpkg --report r.html", "r.html"),
        _command("eval --labels", f"{_EVAL} --map IN/good_map.tif --labels=INPUT"),
        _LABELS,
    ),
    "confidence": (
        _command("vectorize --confidence", f"{_VECTORIZE} IN/good_map.tif --confidence=INPUT", "p.gpkg"),
        _command("view --confidence", f"{_VIEW} --confidence=INPUT -- IN/good_map.tif", "v.html"),
    ),
    "labels": (
        _INFO,
        _command("view --polygons", f"{_VIEW} --polygons=INPUT -- IN/good_map.tif", "v.html"),
        _command("eval --labels", f"{_EVAL} --map IN/good_map.tif --labels=INPUT --report r.html", "r.html"),
        _LABELS,
        _command("predict --aoi", f"{_PREDICT} --aoi=INPUT {_SCENE}", "map.tif"),
    ),
    "schema": (
        _command("tile --classes", f"{_TILE} --labels IN/good_map.tif --classes=INPUT {_SCENE}", "out"),
        _command("convert --classes", "convert IN/good.pth --classes=INPUT -o c.safetensors --json", "c.safetensors"),
    ),
    "scenes": (
        _command("tile --scenes", f"{_TILE} --scenes=INPUT", "out"),
        _command("predict --scenes", f"{_MANY} --scenes=INPUT", "maps"),
    ),
    "items": (_command("predict --scenes (STAC)", f"{_MANY} --scenes=INPUT", "maps"),),
    "strata": (_command("eval --strata", f"{_EVAL} --map IN/good_map.tif --labels IN/points.gpkg --strata=INPUT"),),
    "config": (_command("train CONFIG", f"train INPUT --data IN/good_tiles {_TRAIN}", "run"),),
    "dataset": (
        _INFO,
        _command("eval --data", f"{_EVAL} -c IN/good.safetensors --data=INPUT --report r.html", "r.html"),
        _command("train --data", f"train IN/good.yaml --data=INPUT {_TRAIN}", "run"),
    ),
    "archive": (
        _command("tile --layout", "tile --layout pie-rgb-sar INPUT -o out --workers 1 --no-progress --json", "out"),
    ),
    "checkpoint": (
        _INFO,
        _command("predict -c", f"predict -c INPUT -o map.tif --no-progress --json {_SCENE}", "map.tif"),
        _command("eval -c", f"{_EVAL} -c INPUT --data IN/good_tiles --report r.html", "r.html"),
        _command("export --to stac", _EXPORT, "c.json"),
    ),
    "exported": (
        _INFO,
        _command("predict -c (exported)", f"predict -c INPUT -o map.tif --no-progress --json {_SCENE}", "map.tif"),
        _command("eval -c (exported)", f"{_EVAL} -c INPUT --data IN/good_tiles --report r.html", "r.html"),
    ),
    "pickle": (
        _command("convert", "convert INPUT -o c.safetensors --json", "c.safetensors"),
        _INFO,
        _command(
            "train encoder_weights",
            f"train IN/good.yaml --data IN/good_tiles --set encoder_weights=INPUT {_TRAIN}",
            "run",
        ),
    ),
    "run": (_command("train --resume", "train --resume=INPUT --max-iters 2 --device cpu --no-progress --json"),),
}
"""The commands for each family of inputs; outputs are in the current folder."""
