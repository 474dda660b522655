"""Polygons of a class map that cover its valid area without gaps or overlaps."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from geoasanet.errors import ConfigError
from geoasanet.files import scratch_folder
from geoasanet.progress import Progress, silent
from geoasanet.raster.polygons.compiled import cache_folder, is_compiled
from geoasanet.raster.polygons.coverage import Batch, Coverage, Outline, cover
from geoasanet.raster.polygons.legend import choose_classes, legend_of
from geoasanet.raster.polygons.source import ConfidenceReader, MapReader
from geoasanet.raster.vectorfile import Layer, check_vector_output, write_layer

MAP_PATTERN = "*_landcover.tif"
"""Maps that are found by default."""
COMPILING = "compiling (first run only)"
"""What progress calls the time in which numba compiles the kernels and keeps them on disk."""
MOST_PASSES = 6
"""Passes of smoothing at most; each doubles the vertices."""


@dataclass(frozen=True)
class VectorizeResult:
    """What :func:`vectorize` wrote."""

    path: Path
    """The vector file."""
    map_path: str
    """The map it was made from."""
    polygons: int
    """Regions written: features, or with ``dissolve`` the parts of the multipolygons."""
    features: int
    """Features written."""
    vertices: int
    """Vertices of all rings, each ring's first one counted twice."""
    class_area_m2: dict[str, float]
    """Ground area of each class that was written, as drawn, in m²."""
    seconds: float
    """Wall time."""
    warnings: tuple[str, ...]
    """What the user should know."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON."""
        return {
            "path": str(self.path),
            "map": self.map_path,
            "polygons": self.polygons,
            "features": self.features,
            "vertices": self.vertices,
            "class_area_m2": self.class_area_m2,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }


def vectorize(
    map_path: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    min_area: float = 0.0,
    simplify: float = 0.0,
    smooth: int = 0,
    classes: Sequence[str | int] | None = None,
    confidence: str | os.PathLike[str] | None = None,
    dissolve: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> VectorizeResult:
    """Write the polygons of a class map to a vector file.

    Every 4-connected region of one class becomes a polygon. Borders are shared: after ``min_area``, ``simplify`` and
    ``smooth`` the polygons still cover the map's valid area without gaps or overlaps. The result depends neither on
    ``workers`` nor on how the map is read.

    Args:
        map_path: The map: one band of integers below 255, with CRS and geotransform. Default: the newest
            ``*_landcover.tif`` of the current folder.
        out: ``.gpkg``, ``.fgb``, ``.parquet``, ``.geojson`` (always WGS 84) or ``.shp``. Default: the map's name with
            ``.gpkg``, in the current folder.
        min_area: Regions with less ground area, in m², join the neighbour with which they share the longest border,
            smallest first. All classes take part, also those that ``classes`` leaves out.
        simplify: Tolerance on the ground in metres, in every CRS: bends of borders go that span a triangle of less
            than its square (Visvalingam–Whyatt, as in ``shapely.coverage_simplify``). Points where three regions meet
            and the map's outer edges stay.
        smooth: Passes of corner cutting on shared borders, 0 to 6.
        classes: Names or ids of the classes to write; others are left out. Default: all.
        confidence: Raster on the map's grid, 0 to 1, whose mean over each polygon's pixels is written.
        dissolve: Write one multipolygon for each class.
        workers: Threads. Default: all cores.
        overwrite: Replace an existing output.
        progress: Told how far the work is.

    Returns:
        What was written.

    Raises:
        ConfigError: If an option is impossible, or no map is found.
        SceneError: If a raster cannot be read.
        GridError: If the map lacks a CRS, or the confidence is on another grid.
        BandError: If a raster's bands or values are not what they should be.
        OutputExistsError: If the output exists and ``overwrite`` is false.
        OutputError: If the output's folder is missing or not writable.
        VectorError: If the output cannot be written.
    """
    began = time.perf_counter()
    _check_options(min_area, simplify, smooth, workers)
    warnings: list[str] = []
    map_name = os.fspath(map_path) if map_path is not None else _newest_map(warnings)
    target = Path(out) if out is not None else Path(f"{Path(map_name).stem}.gpkg")
    confidence_name = None if confidence is None else os.fspath(confidence)
    inputs = tuple(p for p in (map_name, confidence_name) if p is not None)
    check_vector_output(target, overwrite=overwrite, inputs=inputs)
    threads = workers or _cores()

    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(target))
        reader = MapReader(map_name, threads)
        stack.callback(reader.close)
        confidence_reader = None
        if confidence_name is not None:
            confidence_reader = ConfidenceReader(confidence_name, threads, reader.grid, map_name)
            stack.callback(confidence_reader.close)
        chosen = choose_classes(reader.dataset, classes)
        outline = Outline(min_area, simplify, smooth)
        with _compiling(progress, warnings):
            coverage = cover(reader, outline, confidence_reader, workers=threads, folder=scratch, progress=progress)
        schema = legend_of(reader.dataset, [int(v) for v in np.unique(coverage.classes[1:])])

    regions = coverage.chosen(chosen)
    present = np.unique(coverage.classes[regions])
    warnings += _remarks(coverage, regions, classes, map_name)
    layer = Layer(
        schema,
        tuple(int(i) for i in present) if len(present) else tuple(i for i in chosen if i < len(schema)),
        reader.grid.crs.to_wkt(),
        dissolve,
        confidence_reader is not None,
        coverage.bounds(regions),
        len(present) if dissolve else len(regions),
        int(coverage.sides.points[regions].sum()) + len(regions),
        _time_stamp(map_name),
    )
    batches = coverage.dissolved(regions) if dissolve else coverage.features(regions, threads)
    counted = _Counted(batches, layer.features, progress)
    warnings += write_layer(target, layer, counted, overwrite=overwrite)
    return VectorizeResult(
        target,
        map_name,
        len(regions),
        layer.features,
        counted.points,
        {
            schema.names[i]: math.fsum(coverage.area_m2[regions[coverage.classes[regions] == i]])
            for i in map(int, present)
        },
        time.perf_counter() - began,
        tuple(warnings),
    )


@contextlib.contextmanager
def _compiling(progress: Progress, warnings: list[str]) -> Iterator[None]:
    """Say so if the kernels are compiled on the way, and warn if that happens in every run."""
    folder = cache_folder()
    if folder is None:
        warnings.append(
            "Kernels are compiled in every run, some 20 s: set NUMBA_CACHE_DIR to a folder to keep them in."
        )
    first_run = folder is not None and not is_compiled(folder)
    if first_run:
        progress(COMPILING, 0, 1)
    yield
    if first_run:
        progress(COMPILING, 1, 1)


def _check_options(min_area: float, simplify: float, smooth: int, workers: int | None) -> None:
    for name, value, unit in (("min-area", min_area, "m²"), ("simplify", simplify, "metres")):
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"--{name} must be 0 or more {unit}, found {value!r}.")
    if not 0 <= smooth <= MOST_PASSES:
        raise ConfigError(f"--smooth must be 0 to {MOST_PASSES} passes, found {smooth!r}.")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers must be 1 or more, found {workers!r}.")


def _newest_map(warnings: list[str]) -> str:
    """Return the newest map of the current folder, by name where times are equal."""
    found = sorted(Path().glob(MAP_PATTERN), key=lambda p: (-p.stat().st_mtime_ns, p.name))
    if not found:
        raise ConfigError(
            f"No map was given, and there is no {MAP_PATTERN} in {Path.cwd()}.",
            "Make one with geoasanet predict, or name it: geoasanet vectorize MAP",
        )
    if len(found) > 1:
        warnings.append(f"Took {found[0]}, the newest of {len(found)} maps here.")
    return str(found[0])


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _time_stamp(map_name: str) -> str:
    """Return the map's time of change, or the current time where it has none (a remote map)."""
    path = Path(map_name)
    seconds = int(path.stat().st_mtime) if path.exists() else int(time.time())
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _remarks(
    coverage: Coverage, regions: np.ndarray[Any, Any], classes: Sequence[str | int] | None, map_name: str
) -> list[str]:
    remarks = []
    if len(coverage.classes) == 1:
        remarks.append(f"The map {map_name} has no valid pixel; the layer is empty.")
    elif not len(regions):
        remarks.append(f"No polygon of {', '.join(map(str, classes or ()))} in {map_name}; the layer is empty.")
    if coverage.planar:
        remarks.append("The CRS has no ellipsoid to measure on here: areas and lengths are those of its plane.")
    return remarks


class _Counted:
    """Batches on their way to a file, and how many vertices have passed."""

    def __init__(self, batches: Iterator[Batch], total: int, progress: Progress) -> None:
        self.points = 0
        self._batches, self._total, self._progress = batches, total, progress

    def __iter__(self) -> Iterator[Batch]:
        done = 0
        for batch in self._batches:
            yield batch
            done += len(batch.class_ids)
            self.points += batch.points
            self._progress("writing", done, self._total, "polygons")
