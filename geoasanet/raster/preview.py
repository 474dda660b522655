"""Small pictures of large rasters, all on one coarse grid, read in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from geoasanet.classes import NODATA
from geoasanet.raster.figure import BLANK, Pixels
from geoasanet.raster.grid import Grid, grid_of
from geoasanet.raster.limits import measured
from geoasanet.raster.opening import open_dataset
from geoasanet.sample import BoolArray

PathLike = Path | str


def preview_grid(path: PathLike, max_side: int = 640) -> Grid:
    """Return the grid of the raster at ``path`` with its longer side reduced to ``max_side`` pixels at most.

    Raises:
        SceneError: If the raster cannot be opened or has no georeference.
    """
    with open_dataset(str(path), "raster") as dataset:
        grid = grid_of(dataset, str(path))
    factor = max(1.0, max(grid.height, grid.width) / max_side)
    height, width = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
    scale = Affine.scale(grid.width / width, grid.height / height)
    return Grid(grid.crs, grid.transform @ scale, height, width)


@np.errstate(over="ignore")
def read_rgb(path: PathLike, grid: Grid, bands: tuple[int, int, int] = (1, 2, 3)) -> Pixels:
    """Return the raster's colours on ``grid``: 8-bit as they are, others stretched (2nd to 98th percentile).

    Raises:
        SceneError: If the raster cannot be read.
    """
    data, valid = _read(path, grid, bands, Resampling.bilinear)
    if data.dtype != np.uint8:
        data = stretch(data.astype(np.float32), valid, 2, 98)
    return np.where(valid[..., None], data.transpose(1, 2, 0), BLANK).astype(np.uint8)


@np.errstate(over="ignore")
def read_gray(path: PathLike, grid: Grid, band: int = 1) -> Pixels:
    """Return one band on ``grid`` as grey, stretched between its 1st and 99th percentile.

    Floating-point values that are never negative are taken for power and shown in dB.

    Raises:
        SceneError: If the raster cannot be read.
    """
    data, valid = _read(path, grid, (band,), Resampling.bilinear)
    values = data.astype(np.float32)
    if data.dtype.kind == "f" and valid.any() and values[:, valid].min() >= 0:
        values = 10 * np.log10(np.maximum(values, 1e-6))
    gray = stretch(values, valid, 1, 99)[0]
    return np.where(valid[..., None], gray[..., None], BLANK).astype(np.uint8)


def read_classes(path: PathLike, grid: Grid) -> NDArray[np.uint8]:
    """Return class ids on ``grid``, the most frequent one per pixel where overviews hold it; 255 without data.

    Raises:
        SceneError: If the raster cannot be read.
    """
    data, valid = _read(path, grid, (1,), Resampling.nearest)
    return np.where(valid, data[0], NODATA).astype(np.uint8)


@np.errstate(over="ignore")
def read_values(path: PathLike, grid: Grid, band: int = 1) -> NDArray[np.float32]:
    """Return one band on ``grid``, NaN without data.

    Raises:
        SceneError: If the raster cannot be read.
    """
    data, valid = _read(path, grid, (band,), Resampling.bilinear)
    return np.where(valid, data[0], np.nan).astype(np.float32)


def stretch(values: NDArray[np.float32], valid: BoolArray, low: float, high: float) -> NDArray[np.uint8]:
    """Return ``values`` (bands, height, width) as 0..255, from the ``low`` to the ``high`` percentile of all bands."""
    if not valid.any():
        return np.zeros(values.shape, np.uint8)
    bottom, top = np.percentile(values[:, valid], [low, high])
    values = np.where(valid, values, bottom)
    scaled = (values - bottom) / max(top - bottom, 1e-6) * 255
    return np.asarray(np.clip(np.nan_to_num(scaled), 0, 255), dtype=np.uint8)


def _read(path: PathLike, grid: Grid, bands: tuple[int, ...], how: Resampling) -> tuple[NDArray[Any], BoolArray]:
    """Return bands (bands, height, width) on ``grid``, and where they have data."""
    with open_dataset(str(path), "raster") as dataset:
        own = grid_of(dataset, str(path))
        if _same_ground(own, grid):
            averaging = Resampling.average if how is Resampling.bilinear else how
            shape = (grid.height, grid.width)
            data = dataset.read(list(bands), out_shape=(len(bands), *shape), resampling=averaging)
            valid = dataset.read_masks(bands[0], out_shape=shape, resampling=Resampling.nearest) != 0
        else:
            options: dict[str, Any] = {"crs": grid.crs, "transform": grid.transform, "resampling": how}
            options |= {"height": grid.height, "width": grid.width}
            options["add_alpha"] = ColorInterp.alpha not in dataset.colorinterp
            with WarpedVRT(dataset, **options) as warped:
                alpha = warped.colorinterp.index(ColorInterp.alpha) + 1
                data, valid = warped.read(list(bands)), warped.read(alpha) != 0
    return data, valid & measured(data)


def _same_ground(own: Grid, grid: Grid) -> bool:
    """Return whether ``grid`` is the whole of ``own``, only coarser."""
    if own.crs != grid.crs:
        return False
    scaled = grid.transform @ Affine.scale(grid.width / own.width, grid.height / own.height)
    return bool(np.allclose(tuple(scaled)[:6], tuple(own.transform)[:6], rtol=1e-9, atol=1e-9))
