"""The optical sensor: true-colour reflectance of the ground, sunlit, hazy and partly under clouds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoasanet.synthetic.classes import BARE, BUILT_UP, CROPLAND, FOREST, WATER
from geoasanet.synthetic.clouds import Sky
from geoasanet.synthetic.cover import CENTRE, INDUSTRIAL, Cover
from geoasanet.synthetic.noise import Field, blur, fractal, lattice_noise, stream, unit_hash
from geoasanet.synthetic.parcels import Parcels
from geoasanet.synthetic.relief import Relief
from geoasanet.synthetic.settlements import Settlements

Image = NDArray[np.float32]
"""Colour (height, width, 3), 0..255."""

_CROP_COLORS = np.array(
    [
        [[84, 120, 58], [186, 164, 104]],  # winter wheat: green, then ripe
        [[120, 138, 70], [204, 182, 122]],  # barley
        [[196, 188, 58], [150, 150, 82]],  # rapeseed in bloom
        [[146, 122, 92], [72, 108, 50]],  # maize: soil first
        [[112, 124, 76], [60, 116, 56]],  # beet
        [[118, 92, 70], [136, 110, 84]],  # ploughed soil
        [[166, 142, 104], [198, 174, 128]],  # stubble
    ],
    np.float32,
)
"""Red, green, blue of each crop in spring and in late summer."""
_ROOFS = np.array([[168, 112, 92], [150, 142, 136], [120, 100, 92], [196, 186, 176], [132, 128, 130]], np.float32)
_HALLS = np.array([[206, 206, 204], [170, 176, 184], [228, 226, 220], [140, 144, 150]], np.float32)


@dataclass(frozen=True, slots=True)
class Sun:
    """Where the light comes from; also a random season."""

    azimuth: float
    """Radians clockwise from north."""
    elevation: float
    """Radians above the horizon."""
    season: float
    """0 in spring to 1 in late summer."""


def make_sun(seed: int) -> Sun:
    """Return sun and season of a seed: a morning overpass in the northern hemisphere."""
    rng = stream(seed, "sun")
    return Sun(np.radians(rng.uniform(135, 170)), np.radians(rng.uniform(40, 60)), float(rng.random()))


def render_rgb(
    seed: int, relief: Relief, parcels: Parcels, settlements: Settlements, cover: Cover, *, sun: Sun, sky: Sky
) -> NDArray[np.uint8]:
    """Return the true-colour image (3, height, width)."""
    rng = stream(seed, "optical")
    shape, pixel_m = (relief.elevation.shape[0], relief.elevation.shape[1]), relief.pixel_m
    image = _farmland(rng, relief, parcels, cover, sun)
    image = _where(cover.labels == FOREST, _forest(rng, shape, pixel_m, sun), image)
    image = _where(cover.labels == BARE, _bare(rng, shape, pixel_m, cover), image)
    built = (cover.labels == BUILT_UP) & settlements.built
    image = _where(built, _town(rng, settlements, cover), image)
    image = _mix(image, np.array([58, 78, 46]), cover.hedge * 1.3)
    image = _mix(image, np.array([176, 160, 132]), cover.track * 0.5)
    image *= _shade(relief, cover, sun)[..., None]
    image = _mix(image, np.array([152, 148, 144]) + rng.uniform(-16, 10), cover.road * 0.9)
    ford = np.where(cover.labels == WATER, 1.0, np.minimum(relief.water, 1 - cover.road)).astype(np.float32)
    image = image * (1 - ford[..., None]) + _water(rng, relief) * ford[..., None]
    image = ndimage.gaussian_filter(image, (0.55, 0.55, 0))  # the sensor's point spread
    image *= np.array([1.0, 1.0, 1.0]) + rng.normal(0, 0.025, 3)
    image = _atmosphere(rng, image, sky)
    image += rng.normal(0, 1.2, image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8).transpose(2, 0, 1).copy()


def _farmland(rng: np.random.Generator, relief: Relief, parcels: Parcels, cover: Cover, sun: Sun) -> Image:
    shape, pixel_m = (relief.elevation.shape[0], relief.elevation.shape[1]), relief.pixel_m
    spring, late = _CROP_COLORS[cover.crop, 0], _CROP_COLORS[cover.crop, 1]
    ripe = np.clip(sun.season + rng.normal(0, 0.2, parcels.count), 0, 1)[:, None]
    crop = spring * (1 - ripe) + late * ripe
    crop = crop * rng.normal(1, 0.09, (parcels.count, 1)) * rng.normal(1, 0.03, (parcels.count, 3))
    patchy = fractal(rng, shape, 170 / pixel_m, octaves=5, gain=0.6)[..., None]
    period = rng.uniform(28, 46, parcels.count).astype(np.float32)[parcels.index]
    rows = np.sin(2 * np.pi * parcels.across_m / period) * unit_hash(parcels.index.astype(np.int64), 41)
    headland = np.clip(1 - parcels.edge_m / 16, 0, 1)
    tilled = crop[parcels.index].astype(np.float32)
    tilled *= 1 + 0.05 * patchy + 0.055 * rows[..., None] - 0.09 * headland[..., None]
    meadow = np.array([104, 132, 68]) * (1 - sun.season) + np.array([138, 144, 86]) * sun.season
    tint = rng.normal(1, 0.07, (parcels.count, 1)) * rng.normal(1, 0.02, (parcels.count, 3))
    grass = meadow * tint[parcels.index]
    dry = np.array([1.10, 1.02, 0.96]) - 1
    grass = grass * (1 + 0.07 * patchy + dry * fractal(rng, shape, 90 / pixel_m, octaves=3)[..., None])
    return _where(cover.labels == CROPLAND, tilled, grass.astype(np.float32))


def _forest(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, sun: Sun) -> Image:
    stand = lattice_noise(rng, shape, 700 / pixel_m) + 0.7 * fractal(rng, shape, 130 / pixel_m, octaves=3)
    conifer = np.clip(0.5 + 0.8 * stand + rng.normal(0, 0.5), 0, 1)[..., None]
    leafy = np.array([62, 88, 42]) + sun.season * np.array([6, -2, 2])
    image = leafy * (1 - conifer) + np.array([32, 54, 38]) * conifer
    crowns = 0.10 * rng.standard_normal(shape) + 0.06 * fractal(rng, shape, 40 / pixel_m, octaves=2)
    return np.asarray(image * (1 + crowns[..., None]), dtype=np.float32)


def _bare(rng: np.random.Generator, shape: tuple[int, int], pixel_m: float, cover: Cover) -> Image:
    texture = fractal(rng, shape, 110 / pixel_m, octaves=5, gain=0.65)[..., None]
    gravel = np.array([204, 192, 168]) + rng.uniform(-12, 12)
    rock = np.array([158, 152, 144])
    image = gravel * (1 - cover.rock[..., None]) + rock * cover.rock[..., None]
    return (image * (1 + 0.085 * texture)).astype(np.float32)


def _town(rng: np.random.Generator, settlements: Settlements, cover: Cover) -> Image:
    shape = settlements.block.shape
    rows, cols = (np.arange(n, dtype=np.int64) for n in shape)
    tone = rng.permutation(len(_ROOFS))[:3]
    house = unit_hash(rows[:, None], cols[None, :], 51)
    roof = _ROOFS[tone[(house * 2.999).astype(int)]]
    hall = unit_hash(rows[:, None] // 5, cols[None, :] // 4, settlements.block % 65521)
    roof = _where(cover.block_kind == INDUSTRIAL, _HALLS[(hall * 7919 % 1 * 3.999).astype(int)], roof)
    roof = roof * (0.78 + 0.44 * unit_hash(rows[:, None], cols[None, :], 52))[..., None]
    garden = np.array([98, 108, 72]) * (0.85 + 0.3 * unit_hash(rows[:, None], cols[None, :], 53))[..., None]
    yard = np.array([142, 136, 128])
    paved = np.where(cover.block_kind == CENTRE, 0.75, np.where(cover.block_kind == INDUSTRIAL, 0.85, 0.12))[..., None]
    ground = yard * paved + garden * (1 - paved)
    image = _mix(ground.astype(np.float32), roof, cover.roof)
    return _mix(image, np.array([128, 126, 126]), cover.street)


def _water(rng: np.random.Generator, relief: Relief) -> Image:
    shape = (relief.elevation.shape[0], relief.elevation.shape[1])
    silt = np.clip(np.exp(-relief.river_m / 50) * rng.uniform(0.5, 1.1) + rng.uniform(0, 0.25), 0, 1)[..., None]
    clear = np.array([20, 44, 58]) + rng.uniform(-4, 6, 3)
    image = clear * (1 - silt) + np.array([66, 84, 74]) * silt
    return (image * (1 + 0.035 * fractal(rng, shape, 40, octaves=4)[..., None])).astype(np.float32)


def _shade(relief: Relief, cover: Cover, sun: Sun) -> Field:
    """Return how brightly the ground is lit, 1 where level; trees and houses stand on it."""
    surface = relief.elevation + blur(cover.height_m, 0.6) * 0.6
    down, right = np.gradient(surface, relief.pixel_m)
    north, east = np.cos(sun.azimuth), np.sin(sun.azimuth)
    steep = np.sqrt(1 + down**2 + right**2)
    lit = (np.sin(sun.elevation) + np.cos(sun.elevation) * (down * north - right * east)) / steep
    light = np.clip(lit / np.sin(sun.elevation), 0.0, 1.9)
    return np.asarray(np.clip(0.12 + 0.88 * light**1.15, 0.22, 1.7), dtype=np.float32)


def _atmosphere(rng: np.random.Generator, image: Image, sky: Sky) -> Image:
    """Return what reaches the sensor through haze, shadow and cloud."""
    shape = (image.shape[0], image.shape[1])
    haze = np.clip(rng.uniform(0.03, 0.10) * (1 + 0.4 * lattice_noise(rng, shape, max(shape) / 2)), 0, 0.3)
    result = image * (1 - 0.56 * sky.shadow[..., None] * np.array([1.0, 0.97, 0.88]))
    result = _mix(result.astype(np.float32), np.array([150, 172, 200]), haze.astype(np.float32))
    bright = np.clip(sky.brightness, 0, 1)[..., None] * np.array([255.0, 255.0, 255.0])
    return _mix(result, bright.astype(np.float32), sky.opacity)


def _mix(image: Image, color: NDArray[np.floating], share: Field) -> Image:
    weight = np.clip(share, 0, 1)[..., None]
    return np.asarray(image * (1 - weight) + color * weight, dtype=np.float32)


def _where(mask: NDArray[np.bool_], first: Image, second: Image) -> Image:
    return np.where(mask[..., None], first, second)
