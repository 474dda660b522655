"""Measure vectorize on a synthetic land-cover map, against the usual tools in the same run.

    python scripts/bench_vectorize.py --size 8192 --gdal /usr/bin/gdal

The map is synthetic: six classes, the largest of six random fields with a power-law spectrum at every pixel ("clean",
1.3 polygons for every 1000 pixels), or the same with salt of any class on 0.4 % of the pixels ("noisy", 4.6). Every
measurement is a fresh process, so that peak memory is its own; times are from map file to vector file, without the
start of Python and the imports, with compiled kernels in numba's cache, their loading included. Seconds of processor
time (all threads) come first, since they hardly depend on what else the machine does; wall seconds follow. Peak memory
counts pages of mapped files (libraries, temporary files), which the system can take back; "anonymous" does not.

Peers: rasterio.features.shapes with geopandas, shapely.coverage_simplify, and `gdal raster polygonize` (GDAL 3.11 or
newer) where there is a program of that name or `--gdal` names one. The polygons are compared with the peers'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
        field += 0.012 * rng.standard_normal((size, size), dtype=np.float32) * field.std()
        larger = field > best
        best[larger], classes[larger] = field[larger], k
    if kind == "noisy":
        salt = rng.random((size, size), dtype=np.float32) < SALT
        classes[salt] = rng.integers(0, CLASSES, salt.sum(), dtype=np.uint8)
    return classes


def write_map(path: Path, classes: np.ndarray, tiles: int = 1) -> None:
    """Write a map; ``tiles`` times in each direction, which leaves no seams, since fields made by FFT are periodic."""
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=classes.shape[0] * tiles,
        width=classes.shape[1] * tiles,
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
        for i, j in np.ndindex(tiles, tiles):
            height, width = classes.shape
            dataset.write(classes, 1, window=Window(j * width, i * height, width, height))


def run_ours(source: str, target: str, workers: int) -> dict[str, float]:
    from geoasanet.tools.vectorize import vectorize

    with Clock() as clock:
        result = vectorize(source, out=target, overwrite=True, workers=workers)
    return {**clock.figures(), "polygons": result.polygons, "vertices": result.vertices}


def run_usual(source: str, target: str, workers: int) -> dict[str, float]:
    """rasterio.features.shapes, shapely geometries, GeoDataFrame, to_file or to_parquet."""
    import geopandas
    import rasterio
    import rasterio.features
    from shapely.geometry import shape

    with Clock() as clock:
        with rasterio.open(source) as dataset:
            classes, valid, crs = dataset.read(1), dataset.read_masks(1) != 0, dataset.crs
            shapes = list(rasterio.features.shapes(classes, mask=valid, transform=dataset.transform))
        values = [value for _, value in shapes]
        frame = geopandas.GeoDataFrame({"class_id": values}, geometry=[shape(s) for s, _ in shapes], crs=crs)
        if target.endswith(".parquet"):
            frame.to_parquet(target)
        else:
            frame.to_file(target, driver="GPKG")
    return {**clock.figures(), "polygons": len(frame)}


def run_gdal(source: str, target: str, workers: int) -> dict[str, float]:
    """The program that the environment variable GDAL names; its start is counted."""
    import pyogrio

    names = ["--attribute-name", "class_id", "--output-layer", "landcover"]
    command = [os.environ["GDAL"], "raster", "polygonize", "--overwrite", *names, source, target]
    with Clock(resource.RUSAGE_CHILDREN) as clock:
        subprocess.run(command, check=True, capture_output=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    return {**clock.figures(), "polygons": pyogrio.read_info(target)["features"], "peak_mb": peak}


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
    with Clock() as clock:
        arcs = stitch(c._trace(strips, regions, workers, silent), reader.grid.width)
        simplify_arcs(arcs, np.full(len(arcs), 4.0), (reader.grid.height, reader.grid.width), workers)
    return clock.figures()


def run_coverage_simplify(source: str, target: str, workers: int) -> dict[str, float]:
    """The same with shapely.coverage_simplify on valid coverage polygons."""
    import geopandas
    import shapely

    from geoasanet.tools.vectorize import vectorize

    vectorize(source, out=target, overwrite=True, workers=workers)
    polygons = np.asarray(geopandas.read_parquet(target).geometry.values)
    with Clock() as clock:
        shapely.coverage_simplify(polygons, 20.0)
    return clock.figures()


RUNS: dict[str, Callable[[str, str, int], dict[str, float]]] = {
    "ours": run_ours,
    "usual": run_usual,
    "gdal": run_gdal,
    "simplify": run_simplify,
    "coverage_simplify": run_coverage_simplify,
}


class Clock:
    """Wall and processor seconds of the body of a ``with`` statement.

    Args:
        who: Whose processor time, as in :func:`resource.getrusage`.
    """

    def __init__(self, who: int = resource.RUSAGE_SELF) -> None:
        self._who = who

    def __enter__(self) -> Clock:
        self._cpu, self._wall = self._used(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._wall = time.perf_counter() - self._wall
        self._cpu = self._used() - self._cpu

    def _used(self) -> float:
        usage = resource.getrusage(self._who)
        return usage.ru_utime + usage.ru_stime

    def figures(self) -> dict[str, float]:
        """Return the seconds by name."""
        return {"wall": self._wall, "cpu": self._cpu}


def measure(name: str, source: Path, target: Path, workers: int) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, "--run", name, str(source), str(target), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        anonymous = 0.0
        while process.poll() is None:
            anonymous = max(anonymous, memory_mb(process.pid, "RssAnon:"))
            time.sleep(0.02)
        output = process.communicate()[0]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {**json.loads(output), "anonymous_mb": anonymous}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the map in pixels")
    parser.add_argument("--tiles", type=int, default=1, help="repeat the map so many times in each direction")
    parser.add_argument("--kind", choices=("clean", "noisy", "both"), default="both")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="the median is printed")
    parser.add_argument("--no-peers", action="store_true", help="measure geoasanet only")
    parser.add_argument("--gdal", metavar="PROGRAM", default="gdal", help="program `gdal` of GDAL 3.11 or newer")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, source, target, workers = options.run
        figures = RUNS[name](source, target, int(workers))
        print(json.dumps({"peak_mb": peak_mb(), **figures}))
        return
    print(f"machine: {platform.processor() or platform.machine()}, {processor()}, Python {platform.python_version()}")
    peers = [] if options.no_peers else [("usual", "gpkg"), ("usual", "parquet"), ("coverage_simplify", "parquet")]
    if not options.no_peers and (gdal := find_gdal(options.gdal)):
        os.environ["GDAL"] = gdal
        peers.append(("gdal", "gpkg"))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("clean", "noisy") if options.kind == "both" else (options.kind,):
            bench(Path(folder), kind, options, peers)


def find_gdal(program: str) -> str | None:
    """Return the path of ``program`` if it can polygonize; else say why it is left out."""
    path = shutil.which(program)
    if path is None:
        print(f"gdal raster polygonize: left out, there is no program {program!r}; name one with --gdal")
        return None
    if subprocess.run([path, "raster", "polygonize", "--help"], check=False, capture_output=True).returncode:
        print(f"gdal raster polygonize: left out, {path} does not know it; GDAL 3.11 or newer does")
        return None
    version = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    print(f"gdal raster polygonize: {version.strip()}")
    return path


def bench(folder: Path, kind: str, options: argparse.Namespace, peers: list[tuple[str, str]]) -> None:
    source = folder / f"{kind}.tif"
    write_map(source, synthetic_map(options.size, kind), options.tiles)
    side = options.size * options.tiles
    warm = folder / "warm.tif"
    write_map(warm, synthetic_map(128, kind))
    for name, suffix in (("ours", "gpkg"), ("simplify", "none")):
        measure(name, warm, folder / f"warm.{suffix}", options.workers)
    jobs = [("ours", "gpkg"), ("ours", "parquet"), ("simplify", "none"), *peers]
    figures: dict[tuple[str, str], list[dict[str, float]]] = {job: [] for job in jobs}
    for _ in range(options.repeat):
        for name, suffix in jobs:
            figures[name, suffix].append(measure(name, source, folder / f"{name}.{suffix}", options.workers))
    first = figures["ours", "gpkg"][0]
    print(
        f"\nsynthetic {kind} map, {side} × {side} px, {options.workers} threads, "
        f"{first['polygons']:,} polygons, {first['vertices']:,} vertices, median of {options.repeat}"
    )
    middle = {job: {k: statistics.median(f[k] for f in rows) for k in rows[0]} for job, rows in figures.items()}
    for (name, suffix), row in middle.items():
        per_pixel = row["cpu"] / side**2 * 1e9
        print(f"  {name:18} {suffix:8} CPU {row['cpu']:7.2f} s  {per_pixel:6.1f} ns/px", end="")
        print(f"  wall {row['wall']:7.2f} s  peak {row['peak_mb']:6.0f} MB", end="")
        print(f"  anonymous {row['anonymous_mb']:6.0f} MB")
    for peer in peers:
        ours = ("simplify", "none") if peer[0] == "coverage_simplify" else ("ours", peer[1])
        ratios = [middle[peer][unit] / middle[ours][unit] for unit in ("cpu", "wall")]
        print(
            f"  {peer[0]} {peer[1]} takes {ratios[0]:.1f} times our processor time, {ratios[1]:.1f} times our wall time"
        )
    for name, suffix in (("usual", "parquet"), ("gdal", "gpkg")):
        if (name, suffix) in peers:
            same = same_polygons(folder / "ours.parquet", folder / f"{name}.{suffix}")
            print(f"  polygons of {name}: {'the same' if same else 'NOT THE SAME'}")


def same_polygons(one: Path, other: Path) -> bool:
    """Return True if two files hold the same polygons, in any order; vertices on straight edges do not count."""
    return sorted(normal_forms(one)) == sorted(normal_forms(other))


def normal_forms(path: Path) -> list[bytes]:
    """Return the polygons of a file in normal form, without vertices on straight horizontal or vertical edges."""
    import geopandas
    import pyogrio
    import shapely

    frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else pyogrio.read_dataframe(path)
    parts = shapely.get_parts(np.asarray(frame.geometry.values))  # GDAL may write multipolygons of one part
    kind, points, (rings, polygons) = shapely.to_ragged_array(shapely.normalize(parts))
    # Normal rings begin at their lowest leftmost vertex, which is a corner, so ends of rings can be kept as they are.
    same = points[1:] == points[:-1]
    straight = np.zeros(len(points), bool)
    straight[1:-1] = (same[1:] & same[:-1]).any(axis=1)
    straight[rings[:-1]] = straight[rings[1:] - 1] = False
    before = np.concatenate([[0], np.cumsum(~straight)])
    bare = shapely.from_ragged_array(kind, points[~straight], (before[rings], polygons))
    forms: list[bytes] = shapely.to_wkb(shapely.normalize(bare)).tolist()  # the order of holes depends on their sizes
    return forms


def peak_mb() -> float:
    """Return the peak memory of this process in 10^6 bytes; getrusage would count its parent's before the exec, too."""
    return memory_mb(os.getpid(), "VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def memory_mb(process: int, field: str) -> float:
    """Return a figure of Linux's about a process, in 10^6 bytes; 0 where there is none."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.split(field)[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        return 0.0


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else "unknown processor"


if __name__ == "__main__":
    main()
