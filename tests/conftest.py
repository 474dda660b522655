"""What all tests share: small rasters with known content, and the folder of real data where it is present."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine, from_origin

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts background jobs so; tests of Ctrl-C need to hear
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
UTM = from_origin(500_000, 3_000_000, 10, 10)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small networks run faster on one thread, and their results do not depend on how many cores there are."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real scenes and reference outputs; skips where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("needs ../shared, which is not here")
    return SHARED


@pytest.fixture
def gpu() -> torch.device:
    """The first CUDA device; skips without one."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, none is here")
    return torch.device("cuda")


def write_raster(
    path: Path,
    pixels: np.ndarray,
    *,
    transform: Affine = UTM,
    crs: str | None = "EPSG:32650",
    mask: np.ndarray | None = None,
    **profile: Any,
) -> Path:
    """Write ``pixels`` (bands, height, width) as a GeoTIFF."""
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    options = {"driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **options, dtype=pixels.dtype, crs=crs, transform=transform, **profile) as dataset,
    ):
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return path


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Write a raster called ``name`` into the test's folder; see :func:`write_raster`."""

    def make(name: str, pixels: np.ndarray, **options: Any) -> Path:
        return write_raster(tmp_path / name, pixels, **options)

    return make


@pytest.fixture
def scene_files(make_raster: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """Write an RGB raster (uint8) and a SAR raster (float32) of random pixels on one grid."""

    def make(height: int = 150, width: int = 131, seed: int = 0, **options: Any) -> tuple[Path, Path]:
        rng = np.random.default_rng(seed)
        rgb = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
        sar = rng.gamma(4, 0.05, (1, height, width)).astype(np.float32)
        return make_raster("rgb.tif", rgb, **options), make_raster("sar.tif", sar, **options)

    return make


def small_asanet() -> torch.nn.Module:
    """Return an untrained ASANet of five classes and one SAR band, always the same."""
    import geoasanet as ga

    torch.manual_seed(0)
    encoder = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
    return ga.create_model("asanet", 5, (3, 1), encoder, decoder_channels=16, auxiliary_channels=8)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained ASANet for windows of 64 pixels, 8-bit optical and one SAR band of linear power."""
    import geoasanet as ga
    from geoasanet.bands import InputBands, SensorBands
    from geoasanet.classes import ClassSchema

    model = small_asanet()
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    bands = InputBands(SensorBands((120.0,) * 3, (70.0,) * 3), SensorBands((0.2,), (0.1,), "linear"))
    classes = ClassSchema.from_names(["water", "forest", "field", "town", "bare"])
    ga.save_checkpoint(path, model, classes=classes, bands=bands, window_size=64)
    return path


class PixelNet(torch.nn.Module):
    """A network whose logits at a pixel are known from that pixel alone: the nearest of ``classes`` grey levels."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.register_buffer("levels", torch.linspace(0, 255, classes).view(1, -1, 1, 1))

    def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
        value = rgb.mean(dim=1, keepdim=True) + 40 * sar.mean(dim=1, keepdim=True)
        return -((value - self.levels) ** 2) / 500


class PlaceNet(torch.nn.Module):
    """A network that also answers by place in the window, so that every window of a pixel disagrees."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
        rows = torch.linspace(-1, 1, rgb.shape[2]).view(1, 1, -1, 1)
        cols = torch.linspace(-1, 1, rgb.shape[3]).view(1, 1, 1, -1)
        weights = torch.arange(1, self.classes + 1).view(1, -1, 1, 1)
        return torch.sin(weights * (rows + 2 * cols)) + weights * rgb[:, :1] / 255 + sar[:, :1]
