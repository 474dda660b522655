"""The radar's view: how much power each pixel of the ground sends back, before speckle."""

from __future__ import annotations

import numpy as np

from geoasanet.synthetic.classes import BARE, BUILT_UP, CROPLAND, FOREST, GRASSLAND, WATER
from geoasanet.synthetic.cover import CENTRE, INDUSTRIAL, Cover
from geoasanet.synthetic.noise import Field, blur, fractal, stream, unit_hash
from geoasanet.synthetic.parcels import Parcels
from geoasanet.synthetic.relief import Relief
from geoasanet.synthetic.settlements import Settlements

_CROP_DB = np.array([-9.6, -10.4, -7.9, -11.0, -8.9, -11.6, -12.2], np.float32)
"""Backscatter of each crop, dB, in the order of :data:`geoasanet.synthetic.cover.CROPS`."""


def render_backscatter(seed: int, relief: Relief, parcels: Parcels, settlements: Settlements, cover: Cover) -> Field:
    """Return sigma nought as linear power (height, width), without speckle.

    Smooth water and roads mirror the pulse away, crowns scatter it in all directions, and walls that face the sensor
    send it straight back. Slopes that face the sensor look brighter, those that turn away darker.
    """
    rng = stream(seed, "backscatter")
    shape, pixel_m = (relief.elevation.shape[0], relief.elevation.shape[1]), relief.pixel_m
    look = np.radians(rng.choice([78.0, 282.0]) + rng.uniform(-3, 3))  # looking east or west, clockwise from north
    incidence = np.radians(rng.uniform(34, 42))
    uneven = fractal(rng, shape, 140 / pixel_m, octaves=4)
    sigma_db = np.full(shape, -15.6, np.float32) + rng.normal(0, 0.5, parcels.count).astype(np.float32)[parcels.index]
    rows = np.cos(2 * (parcels.row_angle - (np.pi / 2 - look)))  # rows across the look direction scatter more
    crop_db = _CROP_DB[cover.crop] + rng.normal(0, 0.7, parcels.count).astype(np.float32)
    labels = cover.labels
    sigma_db = np.where(labels == CROPLAND, crop_db[parcels.index] - 0.6 * rows, sigma_db)
    sigma_db = np.where(labels == GRASSLAND, sigma_db + 0.3 * uneven, sigma_db + 0.35 * uneven)
    crowns = -7.9 + 0.35 * uneven + 0.7 * rng.standard_normal(shape)
    sigma_db = np.where(labels == FOREST, crowns, sigma_db)
    stones = np.where(cover.rock > 0.5, -9.0, -18.6) + 0.9 * uneven
    sigma_db = np.where(labels == BARE, stones, sigma_db)
    power = 10 ** (sigma_db / 10)
    built = (labels == BUILT_UP) & settlements.built
    power = np.where(built, _town(settlements, cover, look), power)
    power += cover.hedge * 0.22
    power *= _slope_gain(relief, cover, look, incidence)
    power = power * (1 - 0.85 * cover.road) + 0.012 * cover.road
    wind = 10 ** ((-23.5 + rng.uniform(-1, 2.5) + 0.5 * uneven) / 10)
    wet = np.where(labels == WATER, 1.0, np.minimum(relief.water, 1 - cover.road))
    bridge = (relief.water > 0.4) & (cover.road > 0.4)
    power = power * (1 - wet) + wind * wet + 1.2 * bridge
    return blur(np.maximum(power, 1e-4).astype(np.float32), 0.5)


def _town(settlements: Settlements, cover: Cover, look: float) -> Field:
    """Return the power of streets and walls: strongest where walls stand square to the look direction."""
    shape = settlements.block.shape
    turn = (settlements.street_angle - (np.pi / 2 - look) + np.pi / 4) % (np.pi / 2) - np.pi / 4
    facing = np.exp(-((turn / np.radians(13)) ** 2))
    rows, cols = (np.arange(n, dtype=np.int64) for n in shape)
    lot = unit_hash(rows[:, None], cols[None, :], 61)
    glint = np.log(np.maximum(lot, 1e-4)) ** 2 / 2  # few corners send back most of the power
    kind = np.where(cover.block_kind == CENTRE, 1.5, np.where(cover.block_kind == INDUSTRIAL, 1.8, 0.8))
    walls = cover.roof * kind * (0.6 + 1.9 * facing) * (0.4 + 0.6 * glint)
    return np.asarray(0.10 * (1 - cover.street) + 0.03 * cover.street + walls, dtype=np.float32)


def _slope_gain(relief: Relief, cover: Cover, look: float, incidence: float) -> Field:
    """Return how much slopes, forest edges included, brighten or darken the return."""
    surface = relief.elevation + 0.6 * blur(np.where(cover.labels == FOREST, cover.height_m, 0), 0.8)
    down, right = np.gradient(surface, relief.pixel_m)
    rise = right * np.sin(look) - down * np.cos(look)  # ground that rises along the look faces the sensor
    tilt = np.arctan(np.clip(rise, -0.9, 0.9))
    local = np.clip(incidence - tilt, np.radians(6), np.radians(84))
    gain = (np.sin(incidence) / np.sin(local)) * (np.cos(local) / np.cos(incidence)) ** 0.5
    return np.asarray(np.clip(gain, 0.15, 3.2), dtype=np.float32)
