"""Clouds over part of the scene, and the shadows they throw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geoasanet.synthetic.noise import Field, blur, fractal, lattice_noise, smoothstep, stream


@dataclass(frozen=True, slots=True)
class Sky:
    """What stands between sensor and ground; arrays are (height, width)."""

    opacity: Field
    """0 where the view is clear, 1 where cloud hides the ground."""
    brightness: Field
    """Brightness of the cloud, 0..1."""
    shadow: Field
    """0 in sunlight, 1 in a cloud's full shadow."""


def make_sky(
    seed: int, shape: tuple[int, int], pixel_m: float, *, azimuth: float, elevation: float, cover: float | None = None
) -> Sky:
    """Return the sky of a seed.

    Args:
        seed: Seed of the landscape.
        shape: (height, width).
        pixel_m: Pixel size, metres.
        azimuth: The sun's, radians clockwise from north.
        elevation: The sun's, radians above the horizon.
        cover: Share of the scene under cloud, 0..1; drawn from the seed (0.09..0.19) if None.
    """
    rng = stream(seed, "sky")
    share = rng.uniform(0.09, 0.19) if cover is None else cover
    base_m = rng.uniform(700, 1300)
    shift = base_m / np.tan(elevation) / pixel_m  # shadows fall away from the sun
    down, right = shift * np.cos(azimuth), -shift * np.sin(azimuth)
    margin = int(np.ceil(max(abs(down), abs(right)))) + 8
    ground = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    bank = lattice_noise(rng, ground, max(shape) / 2.4)  # clouds keep to one part of the sky
    puffs = fractal(rng, ground, rng.uniform(900, 1600) / pixel_m, octaves=7, gain=0.56)
    wisps = fractal(rng, ground, 240 / pixel_m, octaves=4, gain=0.6)
    density = 0.85 * bank + puffs + 0.10 * wisps
    inner = (slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    threshold = float(np.quantile(density[inner][::2, ::2], 1 - share)) if share > 0 else np.inf
    thick = np.asarray(density - np.float32(threshold), dtype=np.float32)
    opacity = np.clip(1.18 * smoothstep(-0.34, 0.30, thick), 0, 1).astype(np.float32)
    veil = 0.22 * smoothstep(-0.75, -0.05, thick)
    opacity = np.maximum(opacity, veil * smoothstep(-0.6, 0.8, wisps)).astype(np.float32)
    body = blur(np.clip(thick, -0.2, 1.2).astype(np.float32), 2.0)
    down_light, right_light = np.gradient(body)
    relief = (down_light * np.cos(azimuth) - right_light * np.sin(azimuth)) * 2.2
    bright = 0.885 + 0.07 * np.tanh(1.4 * thick) + np.clip(relief, -0.09, 0.04) + 0.01 * wisps
    casts = np.clip(1.2 * blur(opacity, 1.6) - 0.15, 0, 1)
    shadow = ndimage.shift(casts, (-down, -right), order=1, mode="nearest")[inner]
    return Sky(opacity[inner].copy(), bright[inner].astype(np.float32), shadow.astype(np.float32).copy())
