"""Measure tile on a synthetic scene, against a plain copy of the same windows with rasterio in the same run.

    python scripts/bench_tile.py --size 10000

The scene is synthetic: uint8 RGB, uint8 SAR and labels of six classes on one grid, tiled 512, compressed (zstd). The
plain copy reads each window of the three files and writes it as a GeoTIFF, uncompressed, in one thread; it computes
no statistics, checks no label and makes no split. Every measurement is a fresh process, so that peak memory is its
own; times are wall seconds without the start of Python and the imports.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_vectorize import peak_mb, processor

TILE = 256
NAMES = ("rgb", "sar", "label")


def write_scene(folder: Path, size: int) -> None:
    """Write rgb.tif, sar.tif and label.tif: noise over waves, the same 2048 px pattern throughout."""
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    side = 2048
    rows, cols = np.mgrid[0:side, 0:side] * (2 * np.pi / side)
    waves = [np.sin(3 * rows + k) * np.cos(5 * cols - 2 * k) for k in range(3)]
    rgb = np.stack([120 + 60 * w + rng.normal(0, 8, w.shape) for w in waves]).clip(0, 255).astype(np.uint8)
    sar = (110 + 50 * waves[1] + rng.normal(0, 25, rows.shape)).clip(0, 255).astype(np.uint8)[None]
    label = ((waves[0] + 1) * 2.99).astype(np.uint8)[None]
    for name, pixels in zip(NAMES, (rgb, sar, label), strict=True):
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            height=size,
            width=size,
            count=len(pixels),
            dtype="uint8",
            crs="EPSG:32650",
            transform=rasterio.Affine(10, 0, 500_000, 0, -10, 3_000_000),
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="zstd",
            zstd_level=1,
            interleave="pixel",
        ) as dataset:
            for row in range(0, size, side):
                for col in range(0, size, side):
                    height, width = min(side, size - row), min(side, size - col)
                    dataset.write(pixels[:, :height, :width], window=Window(col, row, width, height))


def run_copy(folder: str, out: str, workers: int) -> dict[str, float]:
    """The usual loop: read a window, write a file."""
    import rasterio
    from rasterio.windows import Window

    target = Path(out)
    for name in NAMES:
        (target / name).mkdir(parents=True)
    started = time.perf_counter()
    count = 0
    sources = {name: rasterio.open(f"{folder}/{name}.tif") for name in NAMES}
    size = sources["rgb"].height
    for row in range(0, size - TILE // 2 + 1, TILE):
        for col in range(0, size - TILE // 2 + 1, TILE):
            window = Window(col, row, min(TILE, size - col), min(TILE, size - row))
            for name, source in sources.items():
                pixels = source.read(window=window)
                with rasterio.open(
                    target / name / f"{row:05d}_{col:05d}.tif",
                    "w",
                    driver="GTiff",
                    height=pixels.shape[1],
                    width=pixels.shape[2],
                    count=pixels.shape[0],
                    dtype=pixels.dtype,
                    crs=source.crs,
                    transform=source.window_transform(window),
                ) as dataset:
                    dataset.write(pixels)
            count += 1
    return {"seconds": time.perf_counter() - started, "tiles": count}


def run_ours(folder: str, out: str, workers: int) -> dict[str, float]:
    from geoasanet.tools.tile import tile

    started = time.perf_counter()
    names = [f"class {i}" for i in range(6)]
    result = tile(
        f"{folder}/rgb.tif", f"{folder}/sar.tif", labels=f"{folder}/label.tif", out=out, classes=names, workers=workers
    )
    return {"seconds": time.perf_counter() - started, "tiles": sum(result.tiles.values())}


RUNS = {"copy": run_copy, "ours": run_ours}


def measure(name: str, folder: Path, workers: int) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    out = folder / "out"
    command = [sys.executable, __file__, "--run", name, str(folder), str(out), str(workers)]
    try:
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=10_000, help="side of the scene in pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="the median is printed")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, folder, out, workers = options.run
        figures = RUNS[name](folder, out, int(workers))
        figures["peak_mb"] = peak_mb()
        print(json.dumps(figures))
        return
    print(f"machine: {platform.processor() or platform.machine()}, {processor()}, Python {platform.python_version()}")
    jobs = [("copy", 1), ("ours", 1), *([("ours", options.workers)] if options.workers > 1 else [])]
    figures: dict[tuple[str, int], list[dict[str, float]]] = {job: [] for job in jobs}
    with tempfile.TemporaryDirectory() as folder:
        write_scene(Path(folder), options.size)
        for _ in range(options.repeat):
            for job in jobs:
                figures[job].append(measure(job[0], Path(folder), job[1]))
    tiles = int(figures["copy", 1][0]["tiles"])
    print(f"\nsynthetic scene, {options.size} × {options.size} px, {tiles} tiles of {TILE}, median of {options.repeat}")
    base = statistics.median(f["seconds"] for f in figures["copy", 1])
    for (name, workers), rows in figures.items():
        seconds = statistics.median(f["seconds"] for f in rows)
        peak = statistics.median(f["peak_mb"] for f in rows)
        label = f"{name}, {workers} thread{'s' * (workers > 1)}"
        print(f"  {label:18} {seconds:7.2f} s  {seconds / base:5.2f} × copy  peak {peak:5.0f} MB")


if __name__ == "__main__":
    main()
