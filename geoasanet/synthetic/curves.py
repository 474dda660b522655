"""Lines on the ground: rivers and roads as dense points, and how far each pixel is from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from geoasanet.synthetic.noise import Field

Points = NDArray[np.float64]
"""Points (n, 2) as (row, column) in pixels; may lie outside the scene."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with a width."""

    points: Points
    """Dense points, at most about half a pixel apart."""
    width_px: NDArray[np.float64]
    """Full width at every point (n,)."""


@dataclass(frozen=True, slots=True)
class Nearness:
    """What lies closest to every pixel among some lines."""

    distance_px: Field
    """Distance from the pixel centre to the nearest centre line; ``reach_px`` where it is farther."""
    width_px: Field
    """Width of the line at its nearest point; 0 where none is within reach."""

    def coverage(self, soft_px: float = 1.0) -> Field:
        """Return how much of each pixel the lines cover, 0..1."""
        inside = (self.width_px / 2 - self.distance_px) / np.float32(soft_px) + 0.5
        return np.clip(inside, 0.0, np.minimum(self.width_px, 1.0)).astype(np.float32)


def nearness(lines: list[Line], shape: tuple[int, int], reach_px: float) -> Nearness:
    """Return distance to and width of the nearest of ``lines`` for every pixel, as far as ``reach_px``."""
    distance = np.full(shape, reach_px, np.float32)
    width = np.zeros(shape, np.float32)
    if not lines:
        return Nearness(distance, width)
    points = np.concatenate([line.points for line in lines])
    widths = np.concatenate([line.width_px for line in lines])
    row, col = points.T
    close = (row > -reach_px) & (row < shape[0] + reach_px) & (col > -reach_px) & (col < shape[1] + reach_px)
    points, widths = points[close], widths[close]
    if not len(points):
        return Nearness(distance, width)
    border = int(reach_px) + 2
    empty = np.ones((shape[0] + 2 * border, shape[1] + 2 * border), bool)
    cells = np.round(points).astype(int) + border
    empty[cells[:, 0], cells[:, 1]] = False
    near = ndimage.distance_transform_edt(empty) <= reach_px + 1
    at = np.argwhere(near[border:-border, border:-border])
    found, index = cKDTree(points).query(at, distance_upper_bound=reach_px)
    hit = np.isfinite(found)
    at, index = at[hit], index[hit]
    distance[at[:, 0], at[:, 1]] = found[hit]
    width[at[:, 0], at[:, 1]] = widths[index]
    return Nearness(distance, width)


def densify(points: Points, step_px: float = 0.5) -> Points:
    """Return the polyline through ``points`` with a point about every ``step_px``."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    count = max(2, int(along[-1] / step_px) + 1)
    where = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(where, along, points[:, axis]) for axis in (0, 1)], axis=1)


def smooth(points: Points, sigma: float) -> Points:
    """Return ``points`` rounded by a Gaussian of ``sigma`` points, the two ends kept in place."""
    if len(points) < 4:
        return points
    result = ndimage.gaussian_filter1d(points, sigma, axis=0, mode="nearest")
    fade = np.clip(np.minimum(np.arange(len(points)), np.arange(len(points))[::-1]) / (2 * sigma + 1), 0, 1)
    return np.asarray(points + (result - points) * fade[:, None], dtype=np.float64)


def meander(rng: np.random.Generator, shape: tuple[int, int], length_px: float) -> Points:
    """Return a river that winds across the scene from one side to another.

    A sine-generated curve: its direction swings around the valley's, by an angle that itself varies along the way.

    Args:
        rng: Random stream.
        shape: (height, width) of the scene in pixels.
        length_px: Channel length of one full swing.
    """
    height, width = shape
    heading = rng.uniform(0, 2 * np.pi)
    reach = np.hypot(height, width)
    steps = int(reach * 2.2 / 0.5)
    along: NDArray[np.float64] = np.arange(steps, dtype=np.float64) * 0.5
    swing = np.radians(38 + 22 * _wave(rng, along, 4.5 * length_px))
    phase = 2 * np.pi * along / length_px + 1.6 * _wave(rng, along, 2.5 * length_px) + rng.uniform(0, 2 * np.pi)
    bend = np.radians(24) * _wave(rng, along, 7 * length_px)
    angle = heading + bend + swing * np.sin(phase)
    path = np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=1) * 0.5, axis=0)
    middle = np.array([height, width]) * rng.uniform(0.38, 0.62, 2)
    return np.asarray(path - path[steps // 2] + middle, dtype=np.float64)


def _wave(rng: np.random.Generator, along: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """Return smooth 1-D noise of deviation about 1 that changes over ``length``."""
    knots = rng.standard_normal(int(along[-1] / length) + 6)
    rough = np.interp(along / length, np.arange(len(knots)), knots)
    sigma = max(1.0, 0.35 * length / max(along[1] - along[0], 1e-9))
    return np.asarray(ndimage.gaussian_filter1d(rough, sigma, mode="nearest") * 1.4)
