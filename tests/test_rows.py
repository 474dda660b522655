"""Rows of windows: every pixel read and every block decoded once, in threads that stop when told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

from geoasanet.inference.rows import read_rows
from geoasanet.inference.threads import prefetch
from geoasanet.raster.scaling import Scaling
from geoasanet.raster.scene import AlignedLayer, Scene
from geoasanet.raster.source import RasterSource
from geoasanet.raster.warp import WarpedLayer
from geoasanet.windows import Tiling, Window
from tests.conftest import write_raster

RAW = Scaling("raw", "raw")
TILED = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "zstd", "interleave": "pixel"}
STRIPED = {"blockysize": 8, "compress": "deflate"}


def write_pair(folder: Path, sar_transform: Affine, sar_options: dict[str, object], side: int = 700) -> Scene:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, side, side), dtype=np.uint8)
    sar = rng.random((1, side, side), dtype=np.float32)
    write_raster(folder / "rgb.tif", rgb, transform=from_origin(500_000, 3_000_000, 1, 1), **TILED)
    write_raster(folder / "sar.tif", sar, transform=sar_transform, **sar_options)
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


@pytest.mark.parametrize(
    ("degrees", "options"),
    [(0, TILED), (0, STRIPED), (3, TILED), (3, STRIPED), (40, TILED), (40, STRIPED), (90, TILED)],
    ids=lambda value: value if isinstance(value, int) else "striped" if value is STRIPED else "tiled",
)
def test_each_block_is_decoded_once_with_the_cache_that_the_scene_asks_for(
    tmp_path: Path, degrees: float, options: dict[str, object]
) -> None:
    """GDAL reads the bytes of a block whenever it decodes it; the kernel counts the bytes that are read."""
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("needs Linux, which counts the bytes that a process reads")

    def bytes_read() -> int:
        return int(counter.read_text().split()[1])

    with write_pair(tmp_path, turned(degrees, 1500), options, side=1500) as scene:
        assert isinstance(scene.sar, WarpedLayer if degrees else AlignedLayer)
        plan = Tiling.over(1500, 1500, size=96, overlap=32).touching(Window(0, 0, 1500, 1500))
        cache = scene.rgb.cache_bytes + scene.sar.cache_bytes
        scene.read(Window(700, 700, 8, 8))  # what is loaded at first use is read from disk, too
        with rasterio.Env(GDAL_CACHEMAX=cache):
            before = bytes_read()
            rows = sum(1 for _ in read_rows(scene, plan, scaling=RAW))
            found = bytes_read() - before
    assert rows == len(plan.rows)
    assert found < 1.05 * sum(path.stat().st_size for path in tmp_path.iterdir())


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
