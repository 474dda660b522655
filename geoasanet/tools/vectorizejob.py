"""What ``vectorize`` is to do: options checked, inputs opened, the layer described."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoasanet.errors import ConfigError
from geoasanet.files import clean_up
from geoasanet.raster.polygons.coverage import Batch, Coverage, Outline
from geoasanet.raster.polygons.legend import choose_classes, legend_of
from geoasanet.raster.polygons.source import ConfidenceReader, MapReader
from geoasanet.raster.remote import file_stem
from geoasanet.raster.vectorfile import check_vector_output
from geoasanet.raster.vectorwriter import Layer

MAP_PATTERN = "*_landcover.tif"
"""Maps that are found by default."""
MOST_PASSES = 6
"""Passes of smoothing at most; each doubles the vertices."""


@dataclass(frozen=True)
class VectorizeJob:
    """Everything that is known before the work."""

    target: Path
    """The vector file."""
    map_path: str
    """The map."""
    reader: MapReader
    """The map, open."""
    confidence_path: str | None
    """The confidence raster."""
    confidence: ConfidenceReader | None
    """The same, open."""
    chosen: tuple[int, ...]
    """Classes to write."""
    outline: Outline
    """How borders are drawn."""
    dissolve: bool
    """True for one multipolygon of each class."""
    threads: int
    """Workers."""

    def layer(self, coverage: Coverage, regions: NDArray[np.int64]) -> Layer:
        """Describe the layer of some regions of a coverage of this map."""
        schema = legend_of(self.reader.dataset, [int(v) for v in np.unique(coverage.classes[1:])])
        present = np.unique(coverage.classes[regions])
        return Layer(
            schema,
            tuple(int(i) for i in present) if len(present) else tuple(i for i in self.chosen if i < len(schema)),
            coverage.grid.crs.to_wkt(),
            self.dissolve,
            self.confidence is not None,
            coverage.bounds(regions),
            len(present) if self.dissolve else len(regions),
            int(coverage.sides.points[regions].sum()) + len(regions),
            _time_stamp(self.map_path),
        )

    def batches(self, coverage: Coverage, regions: NDArray[np.int64]) -> Iterator[Batch]:
        """Return the features of some regions of a coverage of this map."""
        return coverage.dissolved(regions) if self.dissolve else coverage.features(regions, self.threads)


@contextlib.contextmanager
def open_job(
    map_path: str | os.PathLike[str] | None,
    out: str | os.PathLike[str] | None,
    outline: Outline,
    classes: Sequence[str | int] | None,
    confidence: str | os.PathLike[str] | None,
    warnings: list[str],
    *,
    dissolve: bool,
    workers: int | None,
    overwrite: bool,
    tidy: bool,
) -> Iterator[VectorizeJob]:
    """Check all options, open the inputs, and close them at the end.

    ``warnings`` are added to. With ``tidy``, what killed runs left beside the output is removed first.

    Raises:
        GeoASANetError: As :func:`geoasanet.tools.vectorize.vectorize` says.
    """
    _check_options(outline.min_area_m2, outline.simplify_m, outline.smooth, workers)
    map_name = os.fspath(map_path) if map_path is not None else _newest_map(warnings)
    target = Path(out) if out is not None else Path(f"{file_stem(map_name)}.gpkg")
    confidence_name = None if confidence is None else os.fspath(confidence)
    inputs = tuple(p for p in (map_name, confidence_name) if p is not None)
    if tidy:
        clean_up(target)
    check_vector_output(target, overwrite=overwrite, inputs=inputs)
    threads = workers or _cores()
    with contextlib.ExitStack() as stack:
        reader = MapReader(map_name, threads)
        stack.callback(reader.close)
        sure = None
        if confidence_name is not None:
            sure = ConfidenceReader(confidence_name, threads, reader.grid, map_name)
            stack.callback(sure.close)
        chosen = tuple(choose_classes(reader.dataset, classes))
        yield VectorizeJob(target, map_name, reader, confidence_name, sure, chosen, outline, dissolve, threads)


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
