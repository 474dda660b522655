"""Where the two sensors' pixels lie: UTM zone 32 for the optical image, the neighbouring zone for the radar's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy import ndimage

from geoasanet.synthetic.landscape import Landscape
from geoasanet.synthetic.noise import Field, stream

RGB_CRS, SAR_CRS = "EPSG:32632", "EPSG:32633"
"""Near the zones' common border their grids are turned by 4.5 degrees against one another."""
RGB_ORIGIN = (699_960.0, 5_350_020.0)
"""Easting and northing of the optical image's upper left corner, metres."""
SAR_PIXEL_M = 12.5
"""Pixel size of the radar image, metres."""
LOOKS = 4.4
"""Equivalent number of looks of the radar image."""

Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class SarGrid:
    """The radar image's grid."""

    crs: str
    """Coordinate reference system."""
    transform: Affine
    """x = a·col + b·row + c and y = d·col + e·row + f, as (a, b, c, d, e, f)."""
    height: int
    """Rows."""
    width: int
    """Columns."""


def rgb_transform(pixel_m: float) -> Affine:
    """Return the optical image's transform as (a, b, c, d, e, f)."""
    return (pixel_m, 0.0, RGB_ORIGIN[0], 0.0, -pixel_m, RGB_ORIGIN[1])


def sar_grid(height: int, width: int, pixel_m: float, sar_pixel_m: float = SAR_PIXEL_M) -> SarGrid:
    """Return the grid of the radar image that goes with an optical image of this size.

    It lies in the neighbouring UTM zone and ends where the swath does, a little inside the optical image.
    """
    inside = np.array([(0.045, 0.985), (0.012, 0.008), (0.988, 0.008), (0.988, 0.985)])  # corners of the swath
    x = RGB_ORIGIN[0] + inside[:, 0] * width * pixel_m
    y = RGB_ORIGIN[1] - inside[:, 1] * height * pixel_m
    east, north = _transformer(RGB_CRS, SAR_CRS).transform(x, y)
    left, top = np.floor(east.min() / sar_pixel_m) * sar_pixel_m, np.ceil(north.max() / sar_pixel_m) * sar_pixel_m
    return SarGrid(
        crs=SAR_CRS,
        transform=(sar_pixel_m, 0.0, float(left), 0.0, -sar_pixel_m, float(top)),
        height=int(np.ceil((top - north.min()) / sar_pixel_m)),
        width=int(np.ceil((east.max() - left) / sar_pixel_m)),
    )


def observe_sar(landscape: Landscape, grid: SarGrid, looks: float = LOOKS) -> Field:
    """Return the radar image on its own grid, dB, with speckle; NaN outside the swath.

    Speckle is multiplicative: power times a gamma variable of mean 1 and variance ``1 / looks``, drawn afresh for
    every radar pixel.

    Args:
        landscape: What the radar flies over.
        grid: From :func:`sar_grid`.
        looks: Equivalent number of looks.
    """
    height, width = landscape.shape
    row, col = _rgb_pixels(grid, landscape.pixel_m)
    power = ndimage.map_coordinates(landscape.sar_power, [row, col], order=1, mode="nearest")
    rng = stream(landscape.seed, "speckle")
    power = power * rng.gamma(looks, 1 / looks, power.shape)
    across, down = (col + 0.5) / width, (row + 0.5) / height
    valid = (across > 0.012 + 0.033 * down) & (across < 0.988) & (down > 0.008) & (down < 0.985)
    sigma_db = 10 * np.log10(np.maximum(power, 1e-5))
    return np.where(valid, sigma_db, np.nan).astype(np.float32)


def _rgb_pixels(grid: SarGrid, pixel_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return row and column in the optical image of every radar pixel's centre (pixel centres are whole)."""
    a, _, c, _, e, f = grid.transform
    x, y = np.meshgrid(c + (np.arange(grid.width) + 0.5) * a, f + (np.arange(grid.height) + 0.5) * e)
    east, north = _transformer(grid.crs, RGB_CRS).transform(x, y)
    return (RGB_ORIGIN[1] - north) / pixel_m - 0.5, (east - RGB_ORIGIN[0]) / pixel_m - 0.5


@lru_cache(maxsize=4)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
