"""What covers the ground: the exact label of every pixel, and the detail that the two sensors will see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoasanet.synthetic.classes import BARE, BUILT_UP, CROPLAND, FOREST, GRASSLAND, WATER
from geoasanet.synthetic.noise import Field, blur, fractal, lattice_noise, smoothstep, stream, unit_hash
from geoasanet.synthetic.parcels import Parcels
from geoasanet.synthetic.relief import Relief
from geoasanet.synthetic.settlements import Settlements

CROPS = ("winter wheat", "barley", "rapeseed", "maize", "beet", "ploughed soil", "stubble")
"""What grows on cropland; a parcel's crop is a position in here."""
RESIDENTIAL, CENTRE, INDUSTRIAL = range(3)
"""Kinds of built-up block."""


@dataclass(frozen=True, slots=True)
class Cover:
    """The ground's cover; arrays are (height, width) unless said otherwise."""

    labels: NDArray[np.uint8]
    """Class id per pixel."""
    crop: NDArray[np.int8]
    """Crop per parcel (count,)."""
    road: Field
    """How much of each pixel is paved road between settlements, 0..1."""
    track: Field
    """How much is farm track, 0..1."""
    hedge: Field
    """How much is hedge or tree line, 0..1; always below one half, so that labels stay what they are."""
    roof: Field
    """How much is roof, 0..1."""
    street: Field
    """How much is street within settlements, 0..1."""
    block_kind: NDArray[np.int8]
    """Kind of block within settlements."""
    height_m: Field
    """Height of trees and houses above ground, metres."""
    rock: Field
    """Within bare ground: 1 rock and scree, 0 gravel and quarry floor."""


def make_cover(seed: int, relief: Relief, parcels: Parcels, settlements: Settlements) -> Cover:
    """Return the cover of a seed."""
    rng = stream(seed, "cover")
    shape, pixel_m = (relief.elevation.shape[0], relief.elevation.shape[1]), relief.pixel_m
    water = relief.water >= 0.5
    road = settlements.roads.coverage()
    built = _fill(settlements.built)
    forest = _forest(rng, relief, parcels, settlements)
    bare, rock = _bare(rng, relief, settlements, built)
    grass = _grass(rng, relief, parcels)
    park = built & (unit_hash(settlements.block, 77) < 0.07) & (settlements.centrality < 0.8)
    grove = park & (unit_hash(settlements.block, 78) < 0.4)

    labels = np.where(grass, GRASSLAND, CROPLAND).astype(np.uint8)
    labels[forest] = FOREST
    labels[bare] = BARE
    labels[built] = BUILT_UP
    labels[park] = GRASSLAND
    labels[grove] = FOREST
    labels[road >= 0.5] = BUILT_UP
    labels[water & (road < 0.5)] = WATER
    labels = _sieve(labels, road >= 0.5, water)

    built = (labels == BUILT_UP) & settlements.built & (road < 0.5)
    kind, roof, street, house_m = _blocks(relief, settlements, built)
    farm = (labels == CROPLAND) | (labels == GRASSLAND)
    track = np.where(farm, np.clip(1 - parcels.parish_edge_m / 7, 0, 1) * 0.75, 0).astype(np.float32)
    lined = unit_hash(parcels.index.astype(np.int64), 21) < 0.16
    hedge = np.where(farm & lined, np.clip(1.2 - parcels.edge_m / 8, 0, 1) * 0.48, 0).astype(np.float32)
    crowns = 15 + 3.0 * fractal(rng, shape, 180 / pixel_m, octaves=3) + 2.6 * rng.standard_normal(shape)
    height = np.where(labels == FOREST, np.clip(crowns, 5, 30), house_m * roof) + 9 * hedge
    return Cover(
        labels=labels,
        crop=_crops(rng, parcels),
        road=road,
        track=track,
        hedge=hedge,
        roof=roof,
        street=street,
        block_kind=kind,
        height_m=height.astype(np.float32),
        rock=rock,
    )


def _forest(rng: np.random.Generator, relief: Relief, parcels: Parcels, settlements: Settlements) -> NDArray[np.bool_]:
    """Return True in forest: on steep and high ground, in patches on the plain, along streams."""
    shape, pixel_m = (relief.elevation.shape[0], relief.elevation.shape[1]), relief.pixel_m
    slope = blur(relief.slope(), 50 / pixel_m)
    high = relief.elevation - blur(relief.elevation, 900 / pixel_m)
    wild = fractal(rng, shape, 1500 / pixel_m, octaves=4, gain=0.55)
    ragged = fractal(rng, shape, 160 / pixel_m, octaves=4, gain=0.6)
    suit = 9.0 * slope + 0.008 * high + 0.62 * wild - 1.0 * smoothstep(-0.5, 0.1, settlements.centrality)
    by_parcel = parcels.mean(suit.astype(np.float32))[parcels.index]
    straight = smoothstep(-0.3, 0.6, lattice_noise(rng, shape, 1400 / pixel_m))  # borders that follow parcels
    mixed = (1 - straight) * (suit + 0.22 * ragged) + straight * (0.9 * by_parcel + 0.1 * suit)
    forest = mixed > np.quantile(mixed[::3, ::3], 1 - rng.uniform(0.24, 0.38))
    bank = 12 + 14 * smoothstep(-0.2, 1.2, fractal(rng, shape, 350 / pixel_m, octaves=3))
    wooded = lattice_noise(rng, shape, 500 / pixel_m) > -0.1
    gap = np.where(relief.river_m < 120, 34.0, 0.0)
    riparian = (relief.stream_m < bank + gap) & wooded & (relief.stream_m < 75)
    copse = (ragged + 0.5 * wild > 2.35) & (mixed > np.quantile(mixed[::3, ::3], 0.25))
    return np.asarray(forest | riparian | copse)


def _grass(rng: np.random.Generator, relief: Relief, parcels: Parcels) -> NDArray[np.bool_]:
    """Return True on meadow and pasture: wet valley floors, slopes, and some parcels anywhere."""
    shape, pixel_m = (relief.elevation.shape[0], relief.elevation.shape[1]), relief.pixel_m
    slope = blur(relief.slope(), 40 / pixel_m)
    wet = np.exp(-relief.stream_m / 110) + 0.8 * np.exp(-relief.river_m / 260)
    habit = 0.5 * fractal(rng, shape, 2000 / pixel_m, octaves=2)
    natural = parcels.mean((1.3 * wet + 7 * slope + habit).astype(np.float32))
    suit = natural + 0.45 * rng.standard_normal(parcels.count)
    farmed = np.quantile(suit[parcels.index[::4, ::4]], rng.uniform(0.55, 0.72))
    return np.asarray((suit > farmed)[parcels.index] | (relief.stream_m < 22))


def _bare(
    rng: np.random.Generator, relief: Relief, settlements: Settlements, built: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], Field]:
    """Return True on quarries, gravel bars and rocky crests, and how rocky it is."""
    shape, pixel_m = (relief.elevation.shape[0], relief.elevation.shape[1]), relief.pixel_m
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    ragged = fractal(rng, shape, 300 / pixel_m, octaves=6, gain=0.62)
    free = (relief.water < 0.1) & ~built & (settlements.roads.distance_px * pixel_m > 60)
    score = np.full(shape, -9.0, np.float32)
    area_km2 = shape[0] * shape[1] * pixel_m**2 / 1e6
    steep = relief.slope()
    for _ in range(2 + rng.poisson(area_km2 / 12)):
        spots = np.stack([rng.integers(shape[0], size=25), rng.integers(shape[1], size=25)], axis=1)
        best = max(spots.tolist(), key=lambda s: free[s[0], s[1]] + steep[s[0], s[1]])
        radius = rng.uniform(80, 240) * min(1.0, (area_km2 / 12) ** 0.25)
        away = np.hypot(rows - best[0], cols - best[1]) * pixel_m / radius
        score = np.maximum(score, (1 - away + 0.55 * ragged).astype(np.float32))
    quarry = score > 0
    crest = relief.elevation - blur(relief.elevation, 250 / pixel_m)
    bleak = 5 * steep + 0.03 * crest + 0.004 * (relief.elevation - np.median(relief.elevation)) + 0.3 * ragged
    scree = (bleak > max(2.3, float(np.quantile(bleak[::3, ::3], 0.985)))) & (steep > 0.12)
    bar = (relief.river_m < 75) & (fractal(rng, shape, 320 / pixel_m, octaves=3) > 1.25)
    return np.asarray((quarry | scree | bar) & ~built), np.where(scree & ~quarry, 1, 0).astype(np.float32)


def _blocks(
    relief: Relief, settlements: Settlements, built: NDArray[np.bool_]
) -> tuple[NDArray[np.int8], Field, Field, Field]:
    """Return kind of block, share of roof, share of street, and height of houses in metres."""
    block, central = settlements.block, settlements.centrality
    draw = unit_hash(block, 31)
    kind = np.where(central > 0.62 + 0.3 * draw, CENTRE, RESIDENTIAL)
    kind = np.where((draw > 0.84) & (central < 0.62), INDUSTRIAL, kind)
    street = np.where(built, np.clip((11 - settlements.street_m) / 10, 0, 1) * 0.85, 0).astype(np.float32)
    rows, cols = (np.arange(n, dtype=np.int64) for n in relief.elevation.shape)
    house = unit_hash(rows[:, None], cols[None, :], block % 65521)
    hall = unit_hash(rows[:, None] // 5, cols[None, :] // 4, block % 65521)
    roof = np.where(kind == CENTRE, 0.55 + 0.45 * house, np.where(house < 0.55, 0.25 + 0.75 * house, 0.08))
    roof = np.where(kind == INDUSTRIAL, np.where(hall < 0.62, 0.95, 0.05), roof)
    roof = np.where(built, roof * (1 - street), 0).astype(np.float32)
    tall = np.where(kind == CENTRE, 14 + 10 * house, np.where(kind == INDUSTRIAL, 10, 6)).astype(np.float32)
    return kind.astype(np.int8), roof, street, tall


def _crops(rng: np.random.Generator, parcels: Parcels) -> NDArray[np.int8]:
    share = rng.dirichlet(np.array([5.0, 2.5, 1.6, 3.0, 1.5, 2.6, 2.2]))
    return rng.choice(len(CROPS), parcels.count, p=share).astype(np.int8)


def _fill(built: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``built`` without ragged edges and pinholes."""
    return np.asarray(ndimage.binary_opening(ndimage.binary_closing(built, iterations=2), iterations=2) & built)


def _sieve(labels: NDArray[np.uint8], road: NDArray[np.bool_], water: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return labels without specks: each pixel takes its neighbourhood's majority, but roads and water stay."""
    counts = np.stack([ndimage.uniform_filter((labels == k).astype(np.float32), 3) for k in range(6)])
    counts[WATER] = 0  # narrow water and roads do not spread
    majority = counts.argmax(axis=0).astype(np.uint8)
    return np.where(road | water | (counts.max(axis=0) < 0.5), labels, majority)
