"""CPU time and accuracy of the second raster's warp, against GDAL's ``WarpedVRT`` in the same run.

    python scripts/bench_warp.py
    python scripts/bench_warp.py --side 3072 --compress zstd

Scenes are synthetic. The target is a UTM grid of 1 m; the sources are a grid of the neighbouring UTM zone and a
geographic one of about the same resolution, RGB-like (3 bands, uint8) and SAR-like (1 band, float32). Both read the
same files in the same blocks and resample bilinearly; runs alternate, and the median of CPU time per output pixel is
printed, with its reading included. Accuracy is measured on a smooth raster whose values are known at any position:
each output pixel is compared with the same bilinear rule at its exactly transformed position.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import torch
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoasanet.inference.devicewarp import DeviceResampler
from geoasanet.raster.grid import Grid
from geoasanet.raster.resample import Resampler, resample
from geoasanet.raster.source import RasterSource
from geoasanet.raster.warp import CoordinateMap, WarpedLayer
from geoasanet.tools.machine import describe_machine
from geoasanet.windows import Window

LEFT, TOP = 760_000, 3_000_000
"""Upper-left corner of the target in EPSG:32650, 2.6 degrees east of the central meridian."""
SOURCES = {"UTM zone to UTM zone": (32651, 1.0), "geographic to UTM": (4326, 1e-5)}
"""EPSG code and pixel size (its units) of each source."""
BLOCKS = {
    "512 x 512": (512, 512),
    "bands of 256": (256, None),
    "strips of 128": (128, None),
    "strips of 64": (64, None),
}
"""Rows and columns (None: all) that are read at a time; ``predict`` reads strips of 128."""


def target_grid(side: int) -> Grid:
    return Grid(rasterio.crs.CRS.from_epsg(32650), from_origin(LEFT, TOP, 1, 1), side, side)


def source_grid(side: int, epsg: int, resolution: float) -> Grid:
    """Return a grid that covers the target with a margin."""
    project = pyproj.Transformer.from_crs("EPSG:32650", f"EPSG:{epsg}", always_xy=True)
    edge = np.linspace(-50, side + 50, 20)
    xs, ys = project.transform(*np.meshgrid(LEFT + edge, TOP - edge))
    height, width = int(np.ptp(ys) / resolution) + 1, int(np.ptp(xs) / resolution) + 1
    return Grid(
        rasterio.crs.CRS.from_epsg(epsg), from_origin(xs.min(), ys.max(), resolution, resolution), height, width
    )


def smooth(kind: str, height: int, width: int) -> np.ndarray:
    """Return waves of 60 to 100 pixels: RGB-like as whole numbers, SAR-like in float32."""
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
    bands = range(3 if kind == "RGB" else 1)
    waves = np.stack([np.sin(cols / 10 + k) * np.cos(rows / 16) for k in bands])
    return (127 + 100 * waves).astype(np.uint8) if kind == "RGB" else 0.3 + 0.2 * waves


def write_source(path: Path, grid: Grid, pixels: np.ndarray, compress: str) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(pixels),
        height=grid.height,
        width=grid.width,
        dtype=pixels.dtype,
        crs=grid.crs,
        transform=grid.transform,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress=compress,
        interleave="pixel",
    ) as dataset:
        dataset.write(pixels)


def blocks(side: int, rows: int, cols: int | None) -> list[Window]:
    cols = cols or side
    return [
        Window(r, c, min(rows, side - r), min(cols, side - c))
        for r in range(0, side, rows)
        for c in range(0, side, cols)
    ]


Reader = Callable[[Window], np.ndarray]
Opener = Callable[[Path, int, Grid], contextlib.AbstractContextManager[Reader]]


def opener_of_ours(resampler: Resampler) -> Opener:
    @contextlib.contextmanager
    def open_ours(path: Path, bands: int, grid: Grid) -> Iterator[Reader]:
        source = RasterSource(path, range(1, bands + 1), "SAR")
        layer = WarpedLayer(source, grid, resampler)
        with contextlib.closing(source):
            yield lambda w: layer.read(w)[0]

    return open_ours


def opener_of_vrt(tolerance: float) -> Opener:
    @contextlib.contextmanager
    def open_vrt(path: Path, bands: int, grid: Grid) -> Iterator[Reader]:
        place = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
        with (
            rasterio.open(path) as dataset,
            WarpedVRT(dataset, resampling=Resampling.bilinear, tolerance=tolerance, **place) as vrt,
        ):
            yield lambda w: vrt.read(window=RasterioWindow(w.col, w.row, w.width, w.height))

    return open_vrt


OPENERS: dict[str, Opener] = {
    "geoasanet": opener_of_ours(resample),
    "WarpedVRT": opener_of_vrt(0.125),
    "WarpedVRT, tolerance 0.01": opener_of_vrt(0.01),
}
"""0.125 px is GDAL's default tolerance."""


def timed(opener: Opener, path: Path, bands: int, grid: Grid, windows: list[Window]) -> float:
    """Return CPU seconds of reading ``windows`` with nothing cached; opening is not counted."""
    with opener(path, bands, grid) as read:
        started = time.process_time()
        for window in windows:
            read(window)
        return time.process_time() - started


def exact_values(coordinates: CoordinateMap, pixels: np.ndarray, window: Window) -> np.ndarray:
    """Return ``pixels`` interpolated bilinearly, in float64, at exactly transformed pixel centres."""
    rows, cols = np.mgrid[window.row : window.row_stop, window.col : window.col_stop] + 0.5
    y, x = coordinates.exact(rows, cols)
    y, x = y - 0.5, x - 0.5
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = y - y0, x - x0
    data = pixels.astype(np.float64)
    upper = data[:, y0, x0] * (1 - fx) + data[:, y0, x0 + 1] * fx
    lower = data[:, y0 + 1, x0] * (1 - fx) + data[:, y0 + 1, x0 + 1] * fx
    return upper * (1 - fy) + lower * fy


def bench(folder: Path, side: int, repeat: int, compress: str) -> None:
    grid = target_grid(side)
    for name, (epsg, resolution) in SOURCES.items():
        for kind in ("RGB", "SAR"):
            source = source_grid(side, epsg, resolution)
            pixels = smooth(kind, source.height, source.width)
            path = folder / f"{kind}_{epsg}.tif"
            write_source(path, source, pixels, compress)
            job = path, len(pixels), grid
            coordinates = CoordinateMap(grid, source)
            window = Window(side // 3, side // 4, min(1024, side // 2), min(1024, side // 2))
            truth = exact_values(coordinates, pixels, window)
            span = float(np.ptp(pixels))
            print(f"\n{name}, {kind}: control points every {coordinates.spacing} px, largest error found at the "
                  f"probes {coordinates.error_px:.5f} px")  # fmt: skip
            print("  largest and mean deviation from exact positions, in % of the value range:")
            for label, opener in OPENERS.items():
                with opener(*job) as read:
                    deviation = np.abs(read(window).astype(np.float64) - truth) / span * 100
                print(f"    {label:26} {deviation.max():8.4f} {deviation.mean():8.4f}")
            for shape, (rows, cols) in BLOCKS.items():
                windows = blocks(side, rows, cols)
                times: dict[str, list[float]] = {label: [] for label in OPENERS}
                for _ in range(repeat):
                    for label, opener in OPENERS.items():
                        times[label].append(timed(opener, *job, windows) / side**2 * 1e9)
                ours = statistics.median(times["geoasanet"])
                figures = (f"{label} {statistics.median(t):.1f} ({statistics.median(t) / ours:.2f} x)"
                           for label, t in times.items())  # fmt: skip
                print(f"  {shape:13} CPU ns per output pixel: {', '.join(figures)}", flush=True)
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=3072, help="rows and columns of the target")
    parser.add_argument("--repeat", type=int, default=5, help="the median is printed")
    parser.add_argument("--compress", default="none", help="of the source files, for instance zstd")
    parser.add_argument("--device", help="also warp on this device (cuda); CPU time is then that of the host")
    options = parser.parse_args()
    if options.device:
        OPENERS[f"geoasanet on {options.device}"] = opener_of_ours(DeviceResampler(torch.device(options.device)))
    machine = describe_machine(torch.device("cpu"))
    print(f"machine {machine.processor}, {machine.cores} cores, load {machine.load}, Python {machine.python}")
    print(f"target {options.side} x {options.side} px, sources tiled 512, compression {options.compress}")
    with tempfile.TemporaryDirectory() as folder, rasterio.Env(GDAL_CACHEMAX=256 << 20):
        bench(Path(folder), options.side, options.repeat, options.compress)


if __name__ == "__main__":
    main()
