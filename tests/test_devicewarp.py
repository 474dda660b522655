"""Warping on the network's device gives what the CPU's kernels give; here in tensors on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine, from_origin

from geoasanet.inference.devicewarp import DeviceResampler
from geoasanet.raster.grid import Grid
from geoasanet.raster.resample import resample
from geoasanet.raster.source import RasterSource
from geoasanet.raster.warp import WarpedLayer
from geoasanet.windows import Window
from tests.conftest import write_raster
from tests.test_scene import HEIGHT, SAR_GRIDS, WIDTH, sar_transform

TARGET = Grid(rasterio.crs.CRS.from_epsg(32650), from_origin(500_000, 3_000_000, 10, 10), HEIGHT, WIDTH)
WINDOWS = [TARGET.window, Window(13, 70, 40, 58), Window(-9, -5, 30, 31)]


def both(path: Path, device: torch.device, windows: list[Window]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pixels and validity of each window, stacked: of the CPU's kernels and of the device's."""
    results = []
    source = RasterSource(path, (1, 2), "SAR")
    for window in windows:
        parts = [WarpedLayer(source, TARGET, r).read(window) for r in (resample, DeviceResampler(device))]
        results.append((np.stack([p for p, _ in parts]), np.stack([v for _, v in parts])))
    source.close()
    return results


def write_sar(folder: Path, kind: str, dtype: str) -> Path:
    crs, transform = SAR_GRIDS[kind]
    rng = np.random.default_rng(3)
    height, width = {"finer": (300, 400), "neighbouring zone": (80, 100)}.get(kind, (140, 170))
    pixels = (rng.random((2, height, width)) * 200).astype(dtype)
    mask = np.where(rng.random((height, width)) < 0.05, 0, 255).astype(np.uint8)
    place = sar_transform(crs, transform, height, width)
    write_raster(folder / "sar.tif", pixels, crs=crs, transform=place, mask=mask)
    return folder / "sar.tif"


@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16"])
@pytest.mark.parametrize("kind", sorted(SAR_GRIDS))
def test_the_same_bits_as_on_the_cpu(tmp_path: Path, kind: str, dtype: str) -> None:
    results = both(write_sar(tmp_path, kind, dtype), torch.device("cpu"), WINDOWS)
    assert results[0][1].any() and not results[0][1].all()
    for pixels, valid in results:
        assert (valid[0] == valid[1]).all()
        np.testing.assert_array_equal(pixels[0], pixels[1])


def test_what_lies_beyond_a_projection_stays_without_data(tmp_path: Path) -> None:
    """Not all control points have a place in the source."""
    pixels = np.random.default_rng(0).random((2, 90, 90)).astype(np.float32)
    write_raster(tmp_path / "polar.tif", pixels, crs="EPSG:3413", transform=from_origin(-4e6, 4e6, 9e4, 9e4))
    source = RasterSource(tmp_path / "polar.tif", (1, 2), "SAR")
    # The orthographic map of a hemisphere: its corners lie beyond the Earth's edge.
    crs = rasterio.crs.CRS.from_proj4("+proj=ortho +lat_0=60 +lon_0=0 +R=6371000")
    grid = Grid(crs, Affine(1e5, 0, -7e6, 0, -1e5, 7e6), 140, 140)
    parts = [WarpedLayer(source, grid, r).read(grid.window) for r in (resample, DeviceResampler(torch.device("cpu")))]
    source.close()
    assert parts[0][1].any() and not parts[0][1].all()
    assert (parts[0][1] == parts[1][1]).all()
    np.testing.assert_array_equal(parts[0][0], parts[1][0])


def test_much_coarser_grids_are_left_to_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(original: Callable[..., None]) -> Callable[..., None]:
        return lambda *arguments: (calls.append(1), original(*arguments))[1]

    monkeypatch.setattr("geoasanet.inference.devicewarp.resample", counted(resample))
    pixels = np.random.default_rng(0).random((2, 900, 900)).astype(np.float32)
    path = tmp_path / "fine.tif"
    write_raster(path, pixels, crs="EPSG:32650", transform=from_origin(500_000, 3_000_000, 1, 1))
    source = RasterSource(path, (1, 2), "SAR")
    data, valid = WarpedLayer(source, TARGET, DeviceResampler(torch.device("cpu"))).read(TARGET.window)
    source.close()
    assert calls and valid.any() and data[:, valid].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", sorted(SAR_GRIDS))
def test_on_a_gpu(gpu: torch.device, tmp_path: Path, kind: str) -> None:
    """Contracted arithmetic may move a position by a rounding error of float64."""
    for pixels, valid in both(write_sar(tmp_path, kind, "float32"), gpu, WINDOWS):
        assert (valid[0] == valid[1]).mean() > 0.9999
        agreed = valid.all(axis=0)
        np.testing.assert_allclose(pixels[1][:, agreed], pixels[0][:, agreed], rtol=1e-5, atol=1e-3)
