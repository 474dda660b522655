"""Measure vectorize on a synthetic land-cover map, against the usual tools in the same run.

    python scripts/bench_vectorize.py --size 8192 --kind noisy

The map is synthetic: six classes, the largest of six random fields with a power-law spectrum at every pixel ("clean"),
or the same with salt of other classes on 0.4 % of the pixels ("noisy"). Every measurement is a fresh process, so that
peak memory is its own; times are wall seconds from map file to vector file, without the start of Python and the
imports, with compiled kernels in numba's cache.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES = 6
SALT = 0.004


def synthetic_map(size: int, kind: str, seed: int = 0) -> np.ndarray:
    """Return class ids, uint8 of shape (size, size)."""
    from scipy import fft

    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(size)[:, None].astype(np.float32), np.fft.rfftfreq(size)[None].astype(np.float32)
    frequency = np.sqrt(fy**2 + fx**2)
    # Power law, flat beyond 256 pixels and cut off below 6, so that the density of polygons depends on no size.
    gain = np.maximum(frequency, 1 / 256) ** np.float32(-1.8) * np.exp(-((frequency * 6) ** 2))
    best = np.full((size, size), -np.inf, np.float32)
    classes = np.zeros((size, size), np.uint8)
    for k in range(CLASSES):
        field = fft.irfft2(
            fft.rfft2(rng.standard_normal((size, size), dtype=np.float32), workers=-1) * gain, workers=-1
        )
        field += 0.015 * rng.standard_normal((size, size), dtype=np.float32) * field.std()
        larger = field > best
        best[larger], classes[larger] = field[larger], k
    if kind == "noisy":
        salt = rng.random((size, size), dtype=np.float32) < SALT
        classes[salt] = (classes[salt] + rng.integers(1, CLASSES, salt.sum(), dtype=np.uint8)) % CLASSES
    return classes


def write_map(path: Path, classes: np.ndarray) -> None:
    import rasterio

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=classes.shape[0],
        width=classes.shape[1],
        count=1,
        dtype="uint8",
        nodata=255,
        crs="EPSG:32650",
        transform=rasterio.Affine(10, 0, 500_000, 0, -10, 3_000_000),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="zstd",
        zstd_level=1,
    ) as dataset:
        dataset.write(classes, 1)


def run_ours(source: str, target: str, workers: int) -> dict[str, float]:
    from geoasanet.tools.vectorize import vectorize

    started = time.perf_counter()
    result = vectorize(source, out=target, overwrite=True, workers=workers)
    return {"seconds": time.perf_counter() - started, "polygons": result.polygons, "vertices": result.vertices}


def run_usual(source: str, target: str, workers: int) -> dict[str, float]:
    """rasterio.features.shapes, shapely geometries, GeoDataFrame, to_file or to_parquet."""
    import geopandas
    import rasterio
    import rasterio.features
    from shapely.geometry import shape

    started = time.perf_counter()
    with rasterio.open(source) as dataset:
        classes, valid, crs = dataset.read(1), dataset.read_masks(1) != 0, dataset.crs
        shapes = list(rasterio.features.shapes(classes, mask=valid, transform=dataset.transform))
    values = [value for _, value in shapes]
    frame = geopandas.GeoDataFrame({"class_id": values}, geometry=[shape(s) for s, _ in shapes], crs=crs)
    if target.endswith(".parquet"):
        frame.to_parquet(target)
    else:
        frame.to_file(target, driver="GPKG")
    return {"seconds": time.perf_counter() - started, "polygons": len(frame)}


def run_simplify(source: str, target: str, workers: int) -> dict[str, float]:
    """Tracing and simplification of shared borders alone, in memory: 2 px tolerance, kernels loaded."""
    from geoasanet.progress import silent
    from geoasanet.raster.polygons import coverage as c
    from geoasanet.raster.polygons.regions import join_strips
    from geoasanet.raster.polygons.runs import runs_of
    from geoasanet.raster.polygons.simplify import simplify_arcs
    from geoasanet.raster.polygons.source import MapReader
    from geoasanet.raster.polygons.stitch import stitch

    reader = MapReader(source, workers)
    strips = tuple(runs_of(reader.read(*rows), rows[0]) for rows in reader.strips())
    regions = join_strips(strips)
    few = strips[:1]
    some = stitch(c._trace(few, join_strips(few), 1, silent), reader.grid.width)  # load the kernels
    simplify_arcs(some, np.full(len(some), 4.0), (few[0].height, reader.grid.width), 1)
    started = time.perf_counter()
    arcs = stitch(c._trace(strips, regions, workers, silent), reader.grid.width)
    traced = time.perf_counter()
    simplify_arcs(arcs, np.full(len(arcs), 4.0), (reader.grid.height, reader.grid.width), workers)
    return {"seconds": time.perf_counter() - started, "tracing": traced - started}


def run_coverage_simplify(source: str, target: str, workers: int) -> dict[str, float]:
    """The same with shapely.coverage_simplify on valid coverage polygons."""
    import geopandas
    import shapely

    from geoasanet.tools.vectorize import vectorize

    vectorize(source, out=target, overwrite=True, workers=workers)
    polygons = geopandas.read_parquet(target).geometry.values
    started = time.perf_counter()
    shapely.coverage_simplify(np.asarray(polygons), 20.0)
    return {"seconds": time.perf_counter() - started}


RUNS = {
    "ours": run_ours,
    "usual": run_usual,
    "simplify": run_simplify,
    "coverage_simplify": run_coverage_simplify,
}


def measure(name: str, source: Path, target: Path, workers: int) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, "--run", name, str(source), str(target), str(workers)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the map in pixels")
    parser.add_argument("--kind", choices=("clean", "noisy", "both"), default="both")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="the median is printed")
    parser.add_argument("--no-peers", action="store_true", help="measure geoasanet only")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, source, target, workers = options.run
        figures = RUNS[name](source, target, int(workers))
        figures["peak_mb"] = peak_mb()
        print(json.dumps(figures))
        return
    print(f"machine: {platform.processor() or platform.machine()}, {processor()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("clean", "noisy") if options.kind == "both" else (options.kind,):
            bench(Path(folder), kind, options)


def bench(folder: Path, kind: str, options: argparse.Namespace) -> None:
    source = folder / f"{kind}.tif"
    write_map(source, synthetic_map(options.size, kind))
    warm = folder / "warm.tif"
    write_map(warm, synthetic_map(128, kind))
    for name, suffix in (("ours", "gpkg"), ("simplify", "none")):
        measure(name, warm, folder / f"warm.{suffix}", options.workers)
    jobs = [("ours", "gpkg"), ("ours", "parquet"), ("simplify", "none")]
    if not options.no_peers:
        jobs += [("usual", "gpkg"), ("usual", "parquet"), ("coverage_simplify", "parquet")]
    figures: dict[tuple[str, str], list[dict[str, float]]] = {job: [] for job in jobs}
    for _ in range(options.repeat):
        for name, suffix in jobs:
            figures[name, suffix].append(measure(name, source, folder / f"{name}.{suffix}", options.workers))
    print(f"\nsynthetic {kind} map, {options.size} × {options.size} px, {options.workers} threads, ", end="")
    first = figures["ours", "gpkg"][0]
    print(f"{first['polygons']:,} polygons, {first['vertices']:,} vertices, median of {options.repeat}")
    middle = {job: statistics.median(f["seconds"] for f in rows) for job, rows in figures.items()}
    for (name, suffix), rows in figures.items():
        peak = statistics.median(f["peak_mb"] for f in rows)
        per_pixel = middle[name, suffix] / options.size**2 * 1e9
        print(f"  {name:18} {suffix:8} {middle[name, suffix]:8.2f} s  {per_pixel:7.1f} ns/px  peak {peak:6.0f} MB")
    if not options.no_peers:
        for suffix in ("gpkg", "parquet"):
            print(f"  file to {suffix}: {middle['usual', suffix] / middle['ours', suffix]:.1f} times as fast")
        ratio = middle["coverage_simplify", "parquet"] / middle["simplify", "none"]
        print(f"  tracing and simplifying: {ratio:.1f} times as fast as shapely.coverage_simplify")


def peak_mb() -> float:
    """Return the peak memory of this process; getrusage would count its parent's before the exec, too."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else "unknown processor"


if __name__ == "__main__":
    main()
