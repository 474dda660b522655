"""Rows of windows: every pixel read and every block decoded once, in threads that stop when told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from geoasanet.inference.rows import read_rows
from geoasanet.inference.threads import prefetch
from geoasanet.raster.grid import Grid
from geoasanet.raster.scaling import Scaling
from geoasanet.raster.scene import AlignedLayer, Scene
from geoasanet.raster.source import RasterSource
from geoasanet.raster.warp import WarpedLayer
from geoasanet.windows import Tiling, Window
from tests.conftest import write_raster

RAW = Scaling("raw", "raw")
TILED = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "zstd", "interleave": "pixel"}
STRIPED = {"blockysize": 8, "compress": "deflate"}


def write_pair(
    folder: Path, sar_transform: Affine, sar_options: dict[str, object], side: int = 700, mask: str = "none"
) -> Scene:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, side, side), dtype=np.uint8)
    sar = rng.random((1, side, side), dtype=np.float32)
    write_raster(folder / "rgb.tif", rgb, transform=from_origin(500_000, 3_000_000, 1, 1), **TILED)
    write_raster(folder / "sar.tif", sar, transform=sar_transform, **sar_options)
    for name in ("rgb", "sar") if mask != "none" else ():
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=mask == "internal"),
            rasterio.open(folder / f"{name}.tif", "r+") as dataset,
        ):
            dataset.write_mask(rng.random((side, side)) < 0.9)
    return Scene.open(folder / "rgb.tif", folder / "sar.tif")


def turned(degrees: float, side: int) -> Affine:
    """Return a transform of 1 m pixels turned about the scene's middle."""
    middle = Affine.translation(500_000 + side / 2, 3_000_000 - side / 2)
    return middle @ Affine.rotation(degrees) @ Affine.scale(1, -1) @ Affine.translation(-side / 2, -side / 2)


def test_each_pixel_is_read_once_however_much_the_windows_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = {name: np.zeros((700, 700), int) for name in ("RGB", "SAR")}
    genuine = RasterSource._read_inside

    def counting(self: RasterSource, window: Window) -> object:
        reads[self.role][window.slices] += 1
        return genuine(self, window)

    monkeypatch.setattr(RasterSource, "_read_inside", counting)
    with write_pair(tmp_path, from_origin(500_000, 3_000_000, 1, 1), TILED) as scene:
        assert isinstance(scene.sar, AlignedLayer)
        plan = Tiling.over(700, 700, size=100, overlap=60).touching(Window(0, 0, 700, 700))
        windows = sum(sample is not None for row in read_rows(scene, plan, scaling=RAW) for sample in row.samples())
    assert windows == len(plan) == 16 * 16
    for name, count in reads.items():
        assert (count == 1).all(), name


def bytes_read_over(scene: Scene, side: int) -> int:
    """Return how many bytes of its files it takes to read a scene, with the cache that the scene asks for.

    GDAL reads the bytes of a block whenever it decodes it; the kernel counts the bytes that are read.
    """
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("needs Linux, which counts the bytes that a process reads")

    def bytes_read() -> int:
        return int(counter.read_text().split()[1])

    plan = Tiling.over(side, side, size=96, overlap=32).touching(Window(0, 0, side, side))
    cache = scene.rgb.cache_bytes + scene.sar.cache_bytes
    scene.read(Window(side // 2, side // 2, 8, 8))  # what is loaded at first use is read from disk, too
    with rasterio.Env(GDAL_CACHEMAX=cache):
        before = bytes_read()
        assert sum(1 for _ in read_rows(scene, plan, scaling=RAW)) == len(plan.rows)
        return bytes_read() - before


@pytest.mark.parametrize("mask", ["none", "internal", "sidecar"])
@pytest.mark.parametrize(
    ("degrees", "options"),
    [(0, TILED), (0, STRIPED), (3, TILED), (3, STRIPED), (40, TILED), (40, STRIPED), (90, TILED)],
    ids=lambda value: value if isinstance(value, int) else "striped" if value is STRIPED else "tiled",
)
def test_each_block_is_decoded_once_with_the_cache_that_the_scene_asks_for(
    tmp_path: Path, degrees: float, options: dict[str, object], mask: str
) -> None:
    with write_pair(tmp_path, turned(degrees, 1500), options, 1500, mask) as scene:
        assert isinstance(scene.sar, WarpedLayer if degrees else AlignedLayer)
        found = bytes_read_over(scene, 1500)
    assert found < 1.05 * sum(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize("step", [20, 43, 64])
def test_strips_that_do_not_divide_the_blocks_decode_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Read in strips of 43 rows, say, one in three would reach into the next row of blocks."""
    monkeypatch.setattr("geoasanet.raster.scene._STRIP_PIXELS", step * 1500)
    with write_pair(tmp_path, from_origin(500_000, 3_000_000, 1, 1), TILED, 1500) as scene:
        assert max(len(rows) for rows in scene.strips(0, 1500)) == step
        found = bytes_read_over(scene, 1500)
    assert found < 1.05 * sum(path.stat().st_size for path in tmp_path.iterdir())


@given(
    st.integers(0, 900),
    st.integers(1, 900),
    st.integers(1, 40_000),
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.integers(-600, 600),
)
def test_strips_cover_the_rows_and_no_edge_of_tall_blocks(
    start: int, count: int, width: int, heights: tuple[int, int], offset: int
) -> None:
    grid = Grid(CRS.from_epsg(32650), from_origin(0, 0, 1, 1), 2000, width)
    rgb, sar = (
        AlignedLayer(cast(RasterSource, SimpleNamespace(block_shape=(height, 512))), grid, (row, 0))
        for height, row in zip(heights, (0, offset), strict=True)
    )
    strips = list(Scene(rgb, sar, grid).strips(start, start + count))
    assert [row for rows in strips for row in rows] == list(range(start, start + count))
    longest = max(map(len, strips))
    assert longest <= 64 and (longest >= 16 or count < 64 or min(heights) < 64)
    for height, row in zip(heights, (0, offset), strict=True):
        if height >= 64:
            assert all((rows[0] - row) // height == (rows[-1] - row) // height for rows in strips)


def test_closing_stops_the_thread_and_what_feeds_it() -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    before = threading.active_count()
    items = prefetch(numbers(), depth=1)
    assert next(items) == 0
    items.close()
    assert closed.is_set() and threading.active_count() == before


def test_an_error_in_either_sensor_reaches_the_reader(tmp_path: Path) -> None:
    before = threading.active_count()
    with write_pair(tmp_path, from_origin(500_000, 3_000_000, 1, 1), TILED) as scene:
        plan = Tiling.over(700, 700, size=96, overlap=32).touching(Window(0, 0, 700, 700))
        scene.sar.read = lambda window: (_ for _ in ()).throw(OSError("torn"))  # type: ignore[method-assign]
        with pytest.raises(OSError, match="torn"):
            list(read_rows(scene, plan, scaling=RAW))
    assert threading.active_count() == before
