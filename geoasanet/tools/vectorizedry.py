"""``vectorize --dry-run``: every block is read once, a few strips are drawn and written to memory, nothing to disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import rasterio

from geoasanet.progress import Progress, silent
from geoasanet.raster.polygons.coverage import cover
from geoasanet.raster.polygons.source import Part
from geoasanet.raster.polygons.threads import ordered_map
from geoasanet.raster.vectorwriter import write_file
from geoasanet.tools.dryrun import DryRun, InputFile, OutputFile, Work, peak_memory_bytes, shortages, space_needed
from geoasanet.tools.vectorizejob import VectorizeJob

PARTS = 4
"""Strips that are tried, spread evenly over the map."""
WARM_ROWS = 16
"""Rows that are tried first, so that the loading of the kernels is not timed."""
FILE_BYTES = {".gpkg": (16, 220), ".fgb": (16, 145), ".parquet": (2.5, 10), ".geojson": (25, 300), ".shp": (16, 206)}
"""Bytes that a vertex and a feature take, about."""
VERTEX_BYTES, ARC_BYTES, REGION_BYTES = 16, 60, 50
"""Bytes: in temporary files of a vertex of a border, runs included, and of a border; in memory of a region."""
ARC_MEMORY = 45
"""Bytes in memory for each border while borders are ordered."""


@dataclass
class _Trial:
    """What a few strips gave."""

    pixels: int = 0
    seconds: float = 0.0
    regions: int = 0
    features: int = 0
    points: int = 0
    arcs: int = 0
    vertices: int = 0
    bytes: int = 0


def file_bytes(suffix: str, features: int, points: int) -> int:
    """Return about how large a vector file gets."""
    per_point, per_feature = FILE_BYTES[suffix]
    return int(per_point * points + per_feature * features)


def rehearse(job: VectorizeJob, warnings: list[str], *, progress: Progress = silent) -> DryRun:
    """Return what a run would do.

    Raises:
        SceneError: If a block of the map or of the confidence raster cannot be read.
        BandError: If a value is no class id or no confidence.
    """
    grid = job.reader.grid
    checked = _check_blocks(job, progress)
    trial = _try_parts(job, progress)
    pixels = grid.height * grid.width
    scale = pixels / trial.pixels
    features = len(job.chosen) if job.dissolve else int(trial.features * scale)
    size = int(trial.bytes * scale)
    temporary = int((VERTEX_BYTES * trial.vertices + ARC_BYTES * trial.arcs) * scale)
    if job.target.suffix.lower() == ".fgb":
        temporary += size
    memory = peak_memory_bytes()
    if memory is not None and scale > 1:
        memory += int((ARC_MEMORY * trial.arcs + REGION_BYTES * trial.regions) * scale)
    inputs = [InputFile.raster(job.map_path, "map")]
    if job.confidence_path is not None:
        inputs.append(InputFile.raster(job.confidence_path, "confidence"))
    spaces = space_needed([(job.target, size + temporary)])
    tried = min(PARTS, len(job.reader.strips()))
    return DryRun(
        command="vectorize",
        inputs=tuple(inputs),
        outputs=(OutputFile.of(job.target, size),),
        work=(Work("pixels", pixels), Work("polygons (estimated)", features)),
        memory_bytes=memory,
        temporary_bytes=temporary,
        spaces=spaces,
        seconds=trial.seconds * scale,
        basis=f"{tried} strip{'s' * (tried != 1)} of {grid.width} px timed",
        notes=(f"All blocks were read, in {checked:.1f} s, and are sound.",),
        warnings=(*warnings, *shortages(spaces)),
    )


def _check_blocks(job: VectorizeJob, progress: Progress) -> float:
    """Read everything once and return the seconds it took."""
    began = time.perf_counter()

    def read(rows: tuple[int, int]) -> int:
        job.reader.read(*rows)
        if job.confidence is not None:
            job.confidence.read(*rows)
        return rows[1]

    cache = job.reader.cache_mb + (job.confidence.cache_mb if job.confidence else 0)
    with rasterio.Env(GDAL_CACHEMAX=cache):
        for done in ordered_map(read, job.reader.strips(), job.threads):
            progress("checking map", done, job.reader.grid.height, "rows")
    return time.perf_counter() - began


def _try_parts(job: VectorizeJob, progress: Progress) -> _Trial:
    """Make polygons of a few strips, each as if it were a map, and write them to memory."""
    strips = job.reader.strips()
    _try_part(job, (0, min(WARM_ROWS, job.reader.grid.height)), _Trial())
    trial = _Trial()
    places = np.unique(np.linspace(0, len(strips) - 1, PARTS).round().astype(int))
    for done, k in enumerate(places, 1):
        _try_part(job, strips[k], trial)
        progress("trying strips", done, len(places), "strips")
    return trial


def _try_part(job: VectorizeJob, rows: tuple[int, int], trial: _Trial) -> None:
    """Add what some rows give to ``trial``."""
    began = time.perf_counter()
    part = Part(job.reader, *rows)
    sure = Part(job.confidence, *rows) if job.confidence is not None else None
    coverage = cover(part, job.outline, sure, workers=job.threads, strip_rows=-(-part.grid.height // job.threads))
    regions = coverage.chosen(job.chosen)
    layer = job.layer(coverage, regions)
    suffix = job.target.suffix.lower()
    file = BytesIO()
    if layer.features:
        write_file(file, suffix if suffix != ".shp" else ".fgb", layer, job.batches(coverage, regions))
    trial.seconds += time.perf_counter() - began
    trial.pixels += part.grid.height * part.grid.width
    trial.regions += len(coverage.classes) - 1
    trial.features += layer.features
    trial.points += layer.points
    trial.arcs += len(coverage.arcs)
    trial.vertices += len(coverage.arcs.cols)
    depends = suffix in (".parquet", ".geojson")  # on how well it is compressed, on how many digits there are
    trial.bytes += len(file.getbuffer()) if depends else file_bytes(suffix, layer.features, layer.points)
