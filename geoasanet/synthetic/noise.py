"""Smooth random fields and hashes: the raw material of a landscape."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]
"""A float32 array (height, width)."""

_SPLINE_STD = 0.4794
"""Standard deviation of a cubic B-spline surface through unit white noise (151/315 per axis)."""


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random stream ``name`` of a seed; streams are independent of one another."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))


def lattice_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Field:
    """Return noise of mean 0 and deviation about 1: a cubic B-spline surface over white noise every ``cell_px``."""
    weights, starts = zip(*(_spline_taps(rng, length, cell_px) for length in shape), strict=True)
    lattice = rng.standard_normal((int(starts[0][-1]) + 4, int(starts[1][-1]) + 4)).astype(np.float32)
    rows = sum(weights[0][k][:, None] * lattice[starts[0] + k] for k in range(4))
    field = sum(weights[1][k] * np.take(rows, starts[1] + k, axis=1) for k in range(4))
    return np.asarray(field / np.float32(_SPLINE_STD), dtype=np.float32)


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], cell_px: float, octaves: int = 5, gain: float = 0.5
) -> Field:
    """Return noise of deviation about 1 with ``octaves`` of detail, each half as coarse and ``gain`` as strong.

    Octaves finer than a pixel are left out.
    """
    total = np.zeros(shape, np.float32)
    power = 0.0
    for octave in range(octaves):
        cell = cell_px / 2**octave
        if cell < 0.8 and octave:
            break
        total += np.float32(gain**octave) * lattice_noise(rng, shape, cell)
        power += gain ** (2 * octave)
    return np.asarray(total / np.float32(np.sqrt(power)), dtype=np.float32)


def smoothstep(low: float, high: float, value: Field) -> Field:
    """Return 0 below ``low``, 1 above ``high``, and a smooth S between."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def shrink(field: Field, factor: int) -> Field:
    """Return the means of ``factor`` × ``factor`` blocks; the last row and column of blocks may be partial."""
    rows = np.arange(0, field.shape[0], factor)
    cols = np.arange(0, field.shape[1], factor)
    total = np.add.reduceat(np.add.reduceat(field.astype(np.float64), rows, axis=0), cols, axis=1)
    sizes = np.outer(np.diff(rows, append=field.shape[0]), np.diff(cols, append=field.shape[1]))
    return np.asarray(total / sizes, dtype=np.float32)


def blur(field: Field, sigma_px: float) -> Field:
    """Return ``field`` under a Gaussian; a wide one is computed on block means, which nobody sees."""
    factor = int(sigma_px / 3)
    if factor < 2:
        return np.asarray(ndimage.gaussian_filter(field, sigma_px, mode="nearest"), dtype=np.float32)
    coarse = ndimage.gaussian_filter(shrink(field, factor), sigma_px / factor, mode="nearest")
    sizes = list(zip(field.shape, coarse.shape, strict=True))
    at = [np.clip((np.arange(n) + 0.5) / factor - 0.5, 0, m - 1) for n, m in sizes]
    low = [np.minimum(np.floor(a).astype(int), max(m - 2, 0)) for a, (_, m) in zip(at, sizes, strict=True)]
    high = [np.minimum(i + 1, m - 1) for i, (_, m) in zip(low, sizes, strict=True)]
    t = [(a - i).astype(np.float32) for a, i in zip(at, low, strict=True)]
    rows = coarse[low[0]] * (1 - t[0])[:, None] + coarse[high[0]] * t[0][:, None]
    return np.asarray(rows[:, low[1]] * (1 - t[1]) + rows[:, high[1]] * t[1], dtype=np.float32)


def unit_hash(*keys: NDArray[np.int64] | int) -> Field:
    """Return one number in 0..1 per element, fixed by the integer keys (broadcast together)."""
    state = np.zeros(np.broadcast_shapes(*(np.shape(key) for key in keys)) or (1,), np.uint64)
    for key in keys:
        state ^= np.asarray(key, dtype=np.int64).astype(np.uint64)
        state *= np.uint64(0x9E3779B97F4A7C15)  # splitmix64's mixing steps
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
    return ((state >> np.uint64(40)).astype(np.float32) / np.float32(2**24)).astype(np.float32)


def _spline_taps(
    rng: np.random.Generator, length: int, cell_px: float
) -> tuple[list[NDArray[np.float32]], NDArray[np.intp]]:
    position = np.arange(length) / cell_px + rng.random()
    start = np.floor(position).astype(np.intp)
    t = position - start
    taps = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return [(tap / 6).astype(np.float32) for tap in taps], start
