"""What the page says and draws of a scene, besides its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyproj

from geoasanet import __version__
from geoasanet.classes import ClassSchema
from geoasanet.raster.grid import Grid
from geoasanet.tools.viewlayers import Layer, confidence_colors
from geoasanet.tools.viewpolygons import UNITS, Outlines


@dataclass(frozen=True)
class Shown:
    """At which size a map is shown."""

    full: Grid
    """The map's grid."""
    grid: Grid
    """The pictures' grid: the same ground in larger pixels."""
    pixel_m: tuple[float, float]
    """Ground width and height of a pixel of the map in its middle, metres."""

    @property
    def factor(self) -> tuple[float, float]:
        """Rows and columns of the map per shown pixel."""
        return self.full.height / self.grid.height, self.full.width / self.grid.width

    @property
    def shown_m(self) -> tuple[float, float]:
        """Ground width and height of a shown pixel in the map's middle, metres."""
        return self.pixel_m[0] * self.factor[1], self.pixel_m[1] * self.factor[0]

    def note(self) -> str:
        """Return at which resolution the pictures are."""
        metres = _metres(self.shown_m)
        times = max(self.factor)
        if times <= 1:
            return f"Shown at the map's full resolution, {metres} per pixel."
        return f"Shown at {metres} per pixel, {times:.3g} times coarser than the map ({_metres(self.pixel_m)})."


def outlines_note(outlines: Outlines) -> str:
    """Return what is shown of the polygons."""
    shown, total = len(outlines.entries), outlines.total
    some = f"All {total:,} are shown" if shown == total else f"The {shown:,} largest of {total:,} are shown"
    return f"{some}, with simplified borders." if outlines.simplified else f"{some}."


def facts(map_path: str, paths: Mapping[str, str], shown: Shown, tags: Mapping[str, str]) -> dict[str, str]:
    """Return names and values that tell where the map comes from; names of files without their folders."""
    titles = {"rgb": "RGB", "sar": "SAR", "confidence": "Confidence", "polygons": "Polygons"}
    full = shown.full
    result = {
        "Map": Path(map_path).name,
        **{title: Path(paths[role]).name for role, title in titles.items() if role in paths},
        "Size": f"{full.width:,} × {full.height:,} px of {_metres(shown.pixel_m)}",
        "Shown": f"{shown.grid.width:,} × {shown.grid.height:,} px of {_metres(shown.shown_m)}",
        "CRS": _crs_name(full),
    }
    for key, title in (("MODEL", "Network"), ("CHECKPOINT", "Checkpoint"), ("VERSION", "Mapped with")):
        value = tags.get(f"GEOASANET_{key}")
        if value:
            result[title] = f"geoasanet {value[:16]}" if key == "VERSION" else value[:16]
    return result | {"Page": f"geoasanet {__version__}"}


def script_data(
    layers: Sequence[Layer], classes: ClassSchema, shown: Shown, low: float, outlines: Outlines | None
) -> dict[str, Any]:
    """Return what the page's script needs."""
    grid = shown.grid
    return {
        "layers": [{"key": layer.key, "title": layer.title} for layer in layers],
        "picture": [grid.width, grid.height],
        "pixel": shown.shown_m,
        "transform": tuple(grid.transform)[:6],
        "crs": _crs_code(grid),
        "digits": 5 if grid.crs.is_geographic else 0,
        "classes": [{"name": n, "color": c} for n, c in zip(classes.names, classes.colors, strict=True)],
        "confidence": confidence_colors(low).tolist() if any(layer.key == "confidence" for layer in layers) else [],
        "units": UNITS,
        "outlines": [] if outlines is None else outlines.entries,
    }


def made_from(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that the map was made with, empty where it does not say."""
    try:
        options = json.loads(tags.get("GEOASANET_OPTIONS", "{}"))
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}


def _crs_code(grid: Grid) -> str:
    code = grid.crs.to_epsg()
    return f"EPSG:{code}" if code else "the map's own CRS"


def _crs_name(grid: Grid) -> str:
    code = grid.crs.to_epsg()
    name = pyproj.CRS.from_wkt(grid.crs.to_wkt()).name
    return f"{name} (EPSG:{code})" if code else name


def _metres(size: tuple[float, float]) -> str:
    width, height = (f"{v:.3g}" for v in size)
    return f"{width} m" if width == height else f"{width} × {height} m"
