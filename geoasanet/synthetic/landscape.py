"""A whole landscape from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoasanet.errors import ConfigError
from geoasanet.synthetic.backscatter import render_backscatter
from geoasanet.synthetic.clouds import make_sky
from geoasanet.synthetic.cover import make_cover
from geoasanet.synthetic.noise import Field
from geoasanet.synthetic.optical import make_sun, render_rgb
from geoasanet.synthetic.parcels import make_parcels
from geoasanet.synthetic.relief import make_relief
from geoasanet.synthetic.settlements import make_settlements

MIN_SIZE, MAX_SIZE = 96, 8192
"""Smallest and largest height and width in pixels."""


@dataclass(frozen=True, slots=True)
class Landscape:
    """Ground, labels and what the sensors receive from it; every array lies on the optical grid."""

    seed: int
    """The seed it was drawn from."""
    pixel_m: float
    """Pixel size, metres."""
    elevation: Field
    """Metres above sea level (height, width)."""
    labels: NDArray[np.uint8]
    """Class id per pixel, also under clouds (height, width); see :data:`geoasanet.synthetic.CLASSES`."""
    rgb: NDArray[np.uint8]
    """Red, green, blue as the optical sensor sees them (3, height, width)."""
    cloud: Field
    """How much cloud hides the ground, 0..1 (height, width)."""
    shadow: Field
    """How deep in a cloud's shadow the ground lies, 0..1 (height, width)."""
    sar_power: Field
    """Radar backscatter (sigma nought) as linear power, without speckle (height, width)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[0], self.labels.shape[1]


def generate_landscape(
    seed: int, height: int, width: int, pixel_m: float = 10.0, cloud_cover: float | None = None
) -> Landscape:
    """Return the landscape of a seed; the same arguments always give the same arrays.

    Args:
        seed: Any whole number from 0.
        height: Rows, 96 to 8192.
        width: Columns, 96 to 8192.
        pixel_m: Pixel size, metres; 5 to 20 look natural.
        cloud_cover: Share of the scene under clouds, 0..0.9; drawn from the seed if None.

    Raises:
        ConfigError: If an argument is out of range.
    """
    for name, value in (("height", height), ("width", width)):
        if not MIN_SIZE <= value <= MAX_SIZE:
            raise ConfigError(f"A landscape's {name} must be {MIN_SIZE} to {MAX_SIZE} pixels, found {value}.")
    if seed < 0:
        raise ConfigError(f"A landscape's seed must be 0 or more, found {seed}.")
    if not 1 <= pixel_m <= 100:
        raise ConfigError(f"A landscape's pixel size must be 1 to 100 metres, found {pixel_m}.")
    if cloud_cover is not None and not 0 <= cloud_cover <= 0.9:
        raise ConfigError(f"Cloud cover must be 0 to 0.9, found {cloud_cover}.")
    shape = (height, width)
    relief = make_relief(seed, shape, pixel_m)
    parcels = make_parcels(seed, shape, pixel_m)
    settlements = make_settlements(seed, relief)
    cover = make_cover(seed, relief, parcels, settlements)
    sun = make_sun(seed)
    sky = make_sky(seed, shape, pixel_m, azimuth=sun.azimuth, elevation=sun.elevation, cover=cloud_cover)
    return Landscape(
        seed=seed,
        pixel_m=pixel_m,
        elevation=relief.elevation,
        labels=cover.labels,
        rgb=render_rgb(seed, relief, parcels, settlements, cover, sun=sun, sky=sky),
        cloud=sky.opacity,
        shadow=sky.shadow,
        sar_power=render_backscatter(seed, relief, parcels, settlements, cover),
    )
