"""A map read by the workers of a Dask cluster, which send back the runs of each strip."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rasterio

from geoasanet.errors import SceneError
from geoasanet.raster.grid import Grid
from geoasanet.raster.polygons.source import ConfidenceReader, MapReader
from geoasanet.raster.polygons.strips import Scans, StripScan, scan_strip
from geoasanet.tools.cluster import Cluster, path_for_workers
from geoasanet.tools.vectorizejob import VectorizeJob

_TASK_STRIPS = 4
"""Strips that a worker reads before it closes the map again."""

Strips = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class StripTask:
    """Some strips of a map."""

    map_path: str
    grid: Grid
    """What the map's must be."""
    confidence_path: str | None
    strips: tuple[tuple[int, int], ...]
    """First row, and row after the last."""
    borders: bool
    """Whether to measure the borders between components."""


def scans_on(cluster: Cluster, job: VectorizeJob) -> Scans:
    """Return what has strips of a job's map scanned by a cluster, whose workers must see it under the same path.

    What is called raises GeoASANetError if a raster cannot be read, or the cluster fails.
    """
    path = path_for_workers(job.map_path)
    confidence = None if job.confidence_path is None else path_for_workers(job.confidence_path)
    borders = job.outline.min_area_m2 > 0
    each = 1 + 2 * cluster.threads  # tasks that all threads of a worker work on, others to go on with

    def scans(strips: Strips) -> Iterator[StripScan]:
        parts = (tuple(strips[i : i + _TASK_STRIPS]) for i in range(0, len(strips), _TASK_STRIPS))
        tasks = ((StripTask(path, job.reader.grid, confidence, part, borders),) for part in parts)
        with contextlib.closing(cluster.ordered(scan_on_worker, tasks, each=each)) as results:
            for found in results:
                yield from found

    return scans


def scan_on_worker(task: StripTask) -> list[StripScan]:
    """Read some strips.

    Raises:
        SceneError: If a raster cannot be opened or read, or is another one here.
        BandError: If a value is no class id or no confidence.
    """
    with contextlib.ExitStack() as stack:
        reader = MapReader(task.map_path, 1)
        stack.callback(reader.close)
        if reader.grid != task.grid:
            raise SceneError(
                f"Map {task.map_path} is another one on a worker (another grid).",
                "All workers must see the same files.",
            )
        confidence = None
        if task.confidence_path is not None:
            confidence = ConfidenceReader(task.confidence_path, 1, reader.grid, task.map_path)
            stack.callback(confidence.close)
        cache = reader.cache_mb + (confidence.cache_mb if confidence else 0)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache))
        return [scan_strip(reader, confidence, rows, borders=task.borders) for rows in task.strips]
