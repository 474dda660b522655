"""Farm land cut into parcels: strips and blocks that share one direction within each parish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoasanet.synthetic.noise import Field, lattice_noise, stream, unit_hash

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Parcels:
    """Parcels of the whole ground, whatever grows on it; arrays are (height, width)."""

    index: NDArray[np.int32]
    """Parcel number, 0 to ``count - 1``."""
    count: int
    """Number of parcels."""
    edge_m: Field
    """Distance to the parcel's border, metres."""
    parish_edge_m: Field
    """Distance to the border of the parish, where farm tracks run, metres."""
    across_m: Field
    """Distance across the rows in which the parcel is tilled, metres."""
    row_angle: Field
    """Direction of the rows, radians from the column axis."""

    def mean(self, field: Field) -> NDArray[np.float32]:
        """Return the mean of ``field`` per parcel (count,)."""
        flat = self.index.ravel()
        total = np.bincount(flat, field.ravel(), self.count)
        return np.asarray(total / np.maximum(np.bincount(flat, minlength=self.count), 1), dtype=np.float32)


def make_parcels(seed: int, shape: tuple[int, int], pixel_m: float) -> Parcels:
    """Return the parcels of a seed."""
    rng = stream(seed, "parcels")
    salt = int(rng.integers(2**31))
    rows, cols = np.meshgrid(*(np.arange(n, dtype=np.float32) * np.float32(pixel_m) for n in shape), indexing="ij")
    bend = [np.float32(40) * lattice_noise(rng, shape, 900 / pixel_m) for _ in range(2)]
    y, x = rows + bend[0] + np.float32(5e4), cols + bend[1] + np.float32(5e4)
    parish, parish_edge = _voronoi(y, x, rng.uniform(750, 1150), salt)

    def draw(low: float, high: float, key: int, *more: Whole) -> Field:
        return low + (high - low) * unit_hash(parish, key + salt, *more)

    main = rng.uniform(0, np.pi)
    angle = main + (draw(0, 1, 1) - 0.5) * np.pi * np.where(draw(0, 1, 2) < 0.5, 0.35, 1.0)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = -np.sin(angle) * x + np.cos(angle) * y
    across = across + np.float32(0.05) * (draw(0, 1, 3) - 0.5) * along  # strips that are not quite square
    scale = rng.uniform(0.85, 1.25)
    breadth = scale * draw(70, 210, 4)
    band, side = _jittered(across / breadth, 0.3, lambda k: unit_hash(parish, k, 5 + salt))
    length = scale * draw(220, 700, 6, band)
    lean = along + np.float32(0.25) * (unit_hash(parish, 7 + salt) - 0.5) * across
    shifted = lean / length + unit_hash(parish, band, 8 + salt)
    cell, end = _jittered(shifted, 0.3, lambda k: unit_hash(parish, band, k, 9 + salt))
    edge = np.minimum(np.minimum(side * breadth, end * length), parish_edge)
    turned = unit_hash(parish, band, cell, 10 + salt) < 0.22  # some are tilled the other way
    key = (unit_hash(parish, band, cell, 11 + salt) * 2**24).astype(np.int64)
    _, index = np.unique(key * 4096 + parish % 4096, return_inverse=True)
    index = index.reshape(shape).astype(np.int32)
    return Parcels(
        index=index,
        count=int(index.max()) + 1,
        edge_m=edge.astype(np.float32),
        parish_edge_m=parish_edge,
        across_m=np.where(turned, along, across).astype(np.float32),
        row_angle=np.where(turned, angle + np.pi / 2, angle).astype(np.float32),
    )


def _voronoi(y: Field, x: Field, size_m: float, salt: int) -> tuple[Whole, Field]:
    """Return which of the jittered sites, one per ``size_m`` square, is nearest, and the distance to the border."""
    i, j = np.floor(y / size_m).astype(np.int64), np.floor(x / size_m).astype(np.int64)
    best = np.full(y.shape, np.inf, np.float32)
    second = best.copy()
    owner: Whole = np.zeros(y.shape, np.int64)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            a, b = i + down, j + right
            site_y = (a + 0.12 + 0.76 * unit_hash(a, b, salt)) * size_m
            site_x = (b + 0.12 + 0.76 * unit_hash(a, b, salt + 1)) * size_m
            away = np.hypot(y - site_y, x - site_x).astype(np.float32)
            nearer = away < best
            second = np.where(nearer, best, np.minimum(second, away))
            best = np.where(nearer, away, best)
            np.copyto(owner, a * 4093 + b, where=nearer)
    return owner, np.asarray((second - best) / 2, dtype=np.float32)


def _jittered(position: Field, jitter: float, hash_of: Callable[[Whole], Field]) -> tuple[Whole, Field]:
    """Return the interval that ``position`` falls in, with jittered bounds near the whole numbers, and the distance.

    The distance to the nearer bound is in the units of ``position``.
    """
    lower = np.floor(position).astype(np.int64)

    def bound(k: Whole) -> NDArray[np.float64]:
        return np.asarray(k + (hash_of(k) - 0.5) * 2 * jitter, dtype=np.float64)

    after = np.where(position >= bound(lower + 1), 1, 0)
    interval: Whole = lower + np.where(position < bound(lower), -1, after)
    distance = np.minimum(position - bound(interval), bound(interval + 1) - position)
    return interval, np.asarray(distance, dtype=np.float32)
