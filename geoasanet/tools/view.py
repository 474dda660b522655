"""``geoasanet view``: a map and what it was made from as one local web page."""

from __future__ import annotations

import contextlib
import os
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from geoasanet.classes import NODATA
from geoasanet.errors import ConfigError, OutputError
from geoasanet.files import atomic_output, check_output
from geoasanet.progress import Progress, silent
from geoasanet.raster.crosswalk import MapClasses
from geoasanet.raster.polygons.legend import legend_of
from geoasanet.raster.polygons.measure import ground_of
from geoasanet.raster.polygons.source import MapReader
from geoasanet.raster.preview import preview_grid
from geoasanet.raster.tally import Tally, tally
from geoasanet.tools.viewlayers import Bands, read_layers
from geoasanet.tools.viewleaflet import leaflet
from geoasanet.tools.viewpage import Page, render
from geoasanet.tools.viewpolygons import Outlines, outlines
from geoasanet.tools.viewscene import Shown, facts, made_from, outlines_note, script_data

MAX_SIDE = 3072
"""Longer side of the pictures, pixels, where none is asked for."""
LIMITS = 64, 8192
"""Least and most that can be asked for; browsers hold 4 bytes for each pixel of each picture."""

_CACHE_MB = 256  # of GDAL's blocks, each of which is read once


@dataclass(frozen=True)
class ViewResult:
    """What :func:`view` wrote."""

    path: Path
    """The page."""
    map_path: str
    """The map."""
    layers: tuple[str, ...]
    """What can be compared: "rgb", "sar", "map", "confidence"."""
    height: int
    """Rows of the pictures."""
    width: int
    """Columns of the pictures."""
    pixel_m: tuple[float, float]
    """Ground width and height of a shown pixel in the middle of the map, metres."""
    class_area_m2: dict[str, float]
    """Ground area of each class of the whole map, in m²."""
    polygons: int
    """Polygons on the page."""
    polygons_left_out: int
    """Polygons of the file that are not."""
    file_size: int
    """Bytes."""
    seconds: float
    """Wall time."""
    warnings: tuple[str, ...]
    """What the user should know."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        plain = asdict(self)
        plain["map"] = plain.pop("map_path")
        return {**plain, "path": str(self.path), "seconds": round(self.seconds, 3)}


def view(
    map: str | os.PathLike[str],
    *,
    rgb: str | os.PathLike[str] | None = None,
    sar: str | os.PathLike[str] | None = None,
    confidence: str | os.PathLike[str] | None = None,
    polygons: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "view.html",
    rgb_bands: tuple[int, ...] | None = None,
    sar_band: int | None = None,
    class_field: str | None = None,
    max_side: int = MAX_SIDE,
    open: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ViewResult:
    """Write one HTML file to look at a map and compare it with what it was made from; it works without a network.

    Pictures are read on a coarse grid, from overviews where there are any; areas are those of the whole map at full
    resolution, on the ground. What is held in memory depends on ``max_side``, not on the map's size.

    Args:
        map: The class map.
        rgb: Optical raster, on any grid.
        sar: SAR raster, on any grid.
        confidence: Probability of the mapped class, as ``predict`` writes it.
        polygons: Vector file with classes, as ``vectorize`` writes it.
        out: The page.
        rgb_bands: Bands to show as red, green and blue. None takes those that the map was made from.
        sar_band: Band to show as grey. None takes the one that the map was made from.
        class_field: Field of the polygons with the class; ``class_name``, ``class_id`` and the like if None.
        max_side: Longer side of the pictures, pixels.
        open: Show the page in the browser.
        overwrite: Replace an existing page.
        progress: Told how far the work is.

    Returns:
        What was written.

    Raises:
        ConfigError: If an option is impossible, or the map library's package is not installed.
        SceneError: If a raster cannot be read, or shows nothing of the map's ground.
        BandError: If a raster lacks a band, or a map value is no class id.
        VectorError: If the polygons cannot be read.
        LabelError: If their classes are not the map's.
        OutputExistsError: If the page exists and ``overwrite`` is false.
        OutputError: If it cannot be written.
    """
    began = time.perf_counter()
    map_path, target = os.fspath(map), Path(out)
    given = {"rgb": rgb, "sar": sar, "confidence": confidence, "polygons": polygons}
    paths = {role: os.fspath(path) for role, path in given.items() if path is not None}
    if not LIMITS[0] <= max_side <= LIMITS[1]:
        raise ConfigError(f"--max-side must be {LIMITS[0]} to {LIMITS[1]}, found {max_side}.")
    if rgb_bands is not None and len(rgb_bands) != 3:
        raise ConfigError(f"--rgb-bands must be three bands to show as red, green and blue, found {rgb_bands}.")
    check_output(target, overwrite=overwrite, inputs=(map_path, *paths.values()))
    library = leaflet()

    def measuring(task: str, done: float, total: float, unit: str = "") -> None:
        progress("measuring", done, total, unit)

    with contextlib.closing(MapReader(map_path, 1)) as reader:
        found = tally(reader, None, max_side=1, progress=measuring)
        schema = legend_of(reader.dataset, np.flatnonzero(found.area_m2[:NODATA]).tolist())
        tags = {str(key): str(value) for key, value in reader.dataset.tags().items()}
        grid, classes = reader.grid, MapClasses(map_path, schema, MapClasses.of(reader.dataset, map_path).named)
    ground = ground_of(grid)
    shown = Shown(grid, preview_grid(map_path, max_side), ground.pixel_size(grid.width / 2, grid.height / 2))
    low = 1 / max(2, len(schema))
    bands = _bands(rgb_bands, sar_band, tags)
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        layers = read_layers(map_path, paths, bands, shown.grid, schema, low, progress)
    drawn = None
    if "polygons" in paths:
        drawn = outlines(paths["polygons"], grid, ground, classes, shown.factor, class_field)
    areas = {name: float(found.area_m2[i]) for i, name in enumerate(schema.names)}
    page = Page(
        title=Path(map_path).name,
        note=shown.note(),
        layers=layers,
        classes=schema,
        class_area_m2=areas,
        confidence_low=low if "confidence" in paths else None,
        outlines_note="" if drawn is None else outlines_note(drawn),
        facts=facts(map_path, paths, shown, tags),
        scene=script_data(layers, schema, shown, low, drawn),
    )
    _write(target, render(page, library))
    remarks = _remarks(found, drawn)
    if open and not webbrowser.open(target.resolve().as_uri()):
        remarks.append(f"No browser could be started here; open {target} in one.")
    return ViewResult(
        path=target,
        map_path=map_path,
        layers=tuple(layer.key for layer in layers),
        height=shown.grid.height,
        width=shown.grid.width,
        pixel_m=shown.shown_m,
        class_area_m2=areas,
        polygons=0 if drawn is None else len(drawn.entries),
        polygons_left_out=0 if drawn is None else drawn.total - len(drawn.entries),
        file_size=target.stat().st_size,
        seconds=time.perf_counter() - began,
        warnings=tuple(remarks),
    )


def _bands(rgb: tuple[int, ...] | None, sar: int | None, tags: Mapping[str, str]) -> Bands:
    """Return the bands that were asked for, else those that the map was made from."""
    options = made_from(tags)
    used_rgb, used_sar = (_band_numbers(options.get(f"{role}_bands")) for role in ("rgb", "sar"))
    if rgb is None and len(used_rgb) == 3:
        rgb = used_rgb
    if sar is None and used_sar:
        sar = used_sar[0]
    return Bands(rgb, sar)


def _band_numbers(value: Any) -> tuple[int, ...]:
    """Return what a tag says as band numbers, none where it says something else."""
    numbers = tuple(value) if isinstance(value, list) else ()
    return numbers if all(type(number) is int and number > 0 for number in numbers) else ()


def _remarks(found: Tally, drawn: Outlines | None) -> list[str]:
    remarks = list(drawn.remarks) if drawn is not None else []
    if drawn is not None and len(drawn.entries) < drawn.total:
        remarks.append(f"The page has the {len(drawn.entries)} largest of {drawn.total} polygons.")
    if not found.area_m2[:NODATA].any():
        remarks.append("The map has no valid pixel.")
    if found.planar:
        remarks.append("The CRS has no ellipsoid to measure on here: areas are those of its plane.")
    return remarks


def _write(target: Path, text: str) -> None:
    try:
        with atomic_output(target) as temporary:
            temporary.write_bytes(text.encode("utf-8", "replace"))  # names of files may hold bytes that are no text
    except OSError as error:
        raise OutputError(f"Page {target} cannot be written ({error.strerror or error}).") from error
