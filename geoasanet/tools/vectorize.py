"""Polygons of a class map that cover its valid area without gaps or overlaps."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np

from geoasanet.errors import ConfigError
from geoasanet.files import scratch_folder
from geoasanet.progress import Progress, silent
from geoasanet.raster.polygons.coverage import Batch, Coverage, Outline, cover
from geoasanet.raster.polygons.runs import count_runs
from geoasanet.raster.vectorfile import write_layer
from geoasanet.tools.cluster import connected
from geoasanet.tools.dryrun import DryRun, require_space, space_needed
from geoasanet.tools.firstrun import announce_compilation
from geoasanet.tools.vectorizecluster import scans_on
from geoasanet.tools.vectorizedry import file_bytes, rehearse
from geoasanet.tools.vectorizejob import open_job


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


class VectorizeOptions(TypedDict, total=False):
    """The options of :func:`vectorize`, described there."""

    out: str | os.PathLike[str] | None
    min_area: float
    simplify: float
    smooth: int
    classes: Sequence[str | int] | None
    confidence: str | os.PathLike[str] | None
    dissolve: bool
    workers: int | None
    scheduler: str | os.PathLike[str] | None
    overwrite: bool
    progress: Progress


@overload
def vectorize(
    map_path: str | os.PathLike[str] | None = None,
    *,
    dry_run: Literal[False] = False,
    **options: Unpack[VectorizeOptions],
) -> VectorizeResult: ...


@overload
def vectorize(
    map_path: str | os.PathLike[str] | None = None, *, dry_run: Literal[True], **options: Unpack[VectorizeOptions]
) -> DryRun: ...


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
    scheduler: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> VectorizeResult | DryRun:
    """Write the polygons of a class map to a vector file.

    Every 4-connected region of one class becomes a polygon. Borders are shared: after ``min_area``, ``simplify`` and
    ``smooth`` the polygons still cover the map's valid area without gaps or overlaps. The result depends neither on
    ``workers`` nor on how the map is read. A billion pixels take half a minute to a minute on two cores, so that a
    killed run is not taken up but done again; what it left is removed by the next run of the same output.

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
        workers: Threads. Default: all cores. With ``scheduler="local"`` also the number of processes, by default one.
        scheduler: Read the map on a Dask cluster: the address of its scheduler, its scheduler file, or "local" for
            processes of this machine. Workers need the same version of geoasanet and the rasters under the same paths.
            Only reading and finding runs of one class are theirs; borders are drawn and written here. Not with
            ``dry_run``.
        overwrite: Replace an existing output.
        dry_run: Only check everything, time a few strips and say what would be done; nothing is written.
        progress: Told how far the work is.

    Returns:
        What was written; with ``dry_run`` what would be.

    Raises:
        ConfigError: If an option is impossible, or no map is found.
        SceneError: If a raster cannot be read.
        GridError: If the map lacks a CRS, or the confidence is on another grid.
        BandError: If a raster's bands or values are not what they should be.
        OutputExistsError: If the output exists and ``overwrite`` is false.
        OutputError: If the output's folder is missing or not writable, or the output cannot be written.
        VectorError: If the format cannot hold the polygons.
    """
    began = time.perf_counter()
    if dry_run and scheduler is not None:
        raise ConfigError("--dry-run times strips in this process.", "Leave out --scheduler.")
    warnings: list[str] = []
    outline = Outline(min_area, simplify, smooth)
    with open_job(
        map_path,
        out,
        outline,
        classes,
        confidence,
        warnings,
        dissolve=dissolve,
        workers=workers,
        overwrite=overwrite,
        tidy=not dry_run,
    ) as job:
        compiled = announce_compilation(count_runs, progress, warnings)
        if dry_run:
            rehearsal = rehearse(job, warnings, progress=progress)
            compiled()
            return rehearsal
        with scratch_folder(job.target) as scratch:
            with connected(scheduler, workers) as cluster:
                coverage = cover(
                    job.reader,
                    outline,
                    job.confidence,
                    workers=job.threads,
                    folder=scratch,
                    scans=None if cluster is None else scans_on(cluster, job),
                    progress=progress,
                )
            compiled()
            regions = coverage.chosen(job.chosen)
            layer = job.layer(coverage, regions)
            warnings += _remarks(coverage, regions, classes, job.map_path)
            size = file_bytes(job.target.suffix.lower(), layer.features, layer.points)
            require_space(space_needed([(job.target, size)]))
            counted = _Counted(job.batches(coverage, regions), layer.features, progress)
            warnings += write_layer(job.target, layer, counted, overwrite=overwrite)
    return VectorizeResult(
        job.target,
        job.map_path,
        len(regions),
        layer.features,
        counted.points,
        {
            layer.classes.names[i]: math.fsum(coverage.area_m2[regions[coverage.classes[regions] == i]])
            for i in map(int, np.unique(coverage.classes[regions]))
        },
        time.perf_counter() - began,
        tuple(warnings),
    )


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
