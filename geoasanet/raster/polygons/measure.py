"""True ground area and length of what is drawn on a map, whatever its projection.

The ellipsoid's metric is sampled, in pixel coordinates, on a control grid that is refined until linear interpolation
errs by less than one part in ten million. Areas are line integrals (Green's theorem) over borders, so that a shared
border is measured once for the two regions it divides, and holes need no care.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.grid import Grid

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-7
"""Relative interpolation error at which the control grid is fine enough."""
MAX_CELLS = 4096
"""Control cells along one axis at most."""
PROBE_M = 100.0
"""Ground distance over which derivatives of the projection are taken, metres."""
METRES_PER_DEGREE = 111_320.0
GAUSS = 0.21132486540518713
"""First of the two Gauss points of the unit interval, 1/2 - 1/√12."""

Sampler = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Ground:
    """How large pixels are on the ground, as a smooth function of (column, row); integers are pixel corners."""

    step: tuple[float, float]
    """Rows and columns between control points."""
    metric: FloatArray
    """Shape (4, n, m) at control points: area of a pixel in m², then ds² = [1] dc² + 2·[2] dc·dr + [3] dr² in m²."""
    area_before: FloatArray
    """Shape (n, m): area between column 0 and the control point's column, per row, in m²."""
    planar: bool
    """True if the CRS has no ellipsoid or cannot be inverted here, so that its own plane was measured."""

    def pixel_size(self, col: float, row: float) -> tuple[float, float]:
        """Return the ground width and height in metres of the pixel at (``col``, ``row``)."""
        _, across, _, down = self._at(col, row)
        return math.sqrt(across), math.sqrt(down)

    def pixel_area(self, cols: FloatArray, rows: FloatArray) -> FloatArray:
        """Return the ground area in m² of one pixel at each position."""
        areas: FloatArray = _densities(cols, rows, self.metric, *self.step)
        return areas

    def _at(self, col: float, row: float) -> FloatArray:
        i = min(int(row / self.step[0]), self.metric.shape[1] - 2)
        j = min(int(col / self.step[1]), self.metric.shape[2] - 2)
        t, s = row / self.step[0] - i, col / self.step[1] - j
        m = self.metric
        upper = m[:, i, j] * (1 - s) + m[:, i, j + 1] * s
        lower = m[:, i + 1, j] * (1 - s) + m[:, i + 1, j + 1] * s
        result: FloatArray = upper * (1 - t) + lower * t
        return result


def ground_of(grid: Grid) -> Ground:
    """Return the ground model of a grid."""
    sampler = _ellipsoid_sampler(grid)
    planar = sampler is None
    if sampler is not None:
        corners = _control(grid, sampler, 1, 1)
        planar = not np.isfinite(corners).all()
    metric = None if planar or sampler is None else _refine(grid, sampler)
    if metric is None or not np.isfinite(metric).all():
        planar = True
        metric = _control(grid, _planar_sampler(grid), 1, 1)
    step = grid.height / (metric.shape[1] - 1), grid.width / (metric.shape[2] - 1)
    density = metric[0]
    cells = 0.5 * (density[:, 1:] + density[:, :-1]) * step[1]
    before = np.concatenate([np.zeros((len(density), 1)), np.cumsum(cells, axis=1)], axis=1)
    return Ground(step, metric, before, planar)


def _refine(grid: Grid, sampler: Sampler) -> FloatArray:
    """Return the metric on the coarsest control grid that is fine enough."""
    n = m = 1
    while True:
        metric = _control(grid, sampler, n, m)
        finer_rows, finer_cols = _control(grid, sampler, 2 * n, m), _control(grid, sampler, n, 2 * m)
        split_rows = _error(finer_rows[:, 1::2], metric[:, :-1], metric[:, 1:]) > TOLERANCE and n < MAX_CELLS
        split_cols = _error(finer_cols[:, :, 1::2], metric[:, :, :-1], metric[:, :, 1:]) > TOLERANCE and m < MAX_CELLS
        if not (split_rows or split_cols) or n * m >= MAX_CELLS * 256:
            return metric
        n, m = n * (2 if split_rows else 1), m * (2 if split_cols else 1)


def _error(middle: FloatArray, one: FloatArray, other: FloatArray) -> float:
    """Return the largest error of the mean of ``one`` and ``other``, relative to ``middle``."""
    worst = 0.0
    for k in (0, 1, 3):
        scale = np.maximum(middle[k], 1e-3 * float(middle[k].max()))
        worst = max(worst, float((np.abs(middle[k] - 0.5 * (one[k] + other[k])) / scale).max()))
    return worst


def _control(grid: Grid, sampler: Sampler, n: int, m: int) -> FloatArray:
    """Return the metric at (n + 1) × (m + 1) control points, shape (4, n + 1, m + 1)."""
    rows, cols = np.linspace(0, grid.height, n + 1), np.linspace(0, grid.width, m + 1)
    return sampler(*np.meshgrid(cols, rows))


def _planar_sampler(grid: Grid) -> Sampler:
    """Return the metric of the CRS's own plane."""
    t, unit = grid.transform, _metres_per_unit(grid)
    values = (
        abs(t.a * t.e - t.b * t.d) * unit**2,
        (t.a**2 + t.d**2) * unit**2,
        (t.a * t.b + t.d * t.e) * unit**2,
        (t.b**2 + t.e**2) * unit**2,
    )
    return lambda cols, rows: np.stack([np.full(cols.shape, v) for v in values])


def _ellipsoid_sampler(grid: Grid) -> Sampler | None:
    """Return the metric of the CRS's ellipsoid, or None if it has none."""
    crs = _horizontal(pyproj.CRS.from_wkt(grid.crs.to_wkt()))
    geodetic, geod = crs.geodetic_crs, crs.get_geod()
    if geodetic is None or geod is None:
        return None
    to_angles = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    radians = geodetic.axis_info[0].unit_conversion_factor  # degrees mostly, grads sometimes
    t = grid.transform
    probe = PROBE_M / (_metres_per_unit(grid) * max(grid.resolution))

    def angles(cols: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        lon, lat = to_angles.transform(t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f)
        return np.asarray(lon) * radians, np.asarray(lat) * radians

    def sample(cols: FloatArray, rows: FloatArray) -> FloatArray:
        latitude = angles(cols, rows)[1]
        sine = np.sin(np.where(np.isfinite(latitude), latitude, np.nan))
        curve = 1 - geod.es * sine**2
        meridian, parallel = geod.a * (1 - geod.es) / curve**1.5, geod.a / np.sqrt(curve) * np.sqrt(1 - sine**2)

        def derivative(dc: float, dr: float) -> tuple[FloatArray, FloatArray]:
            lon1, lat1 = angles(cols + dc, rows + dr)
            lon0, lat0 = angles(cols - dc, rows - dr)
            turn = (lon1 - lon0 + np.pi) % (2 * np.pi) - np.pi
            return parallel * turn / (2 * probe), meridian * (lat1 - lat0) / (2 * probe)

        with np.errstate(invalid="ignore"):
            xc, yc = derivative(probe, 0)
            xr, yr = derivative(0, probe)
            return np.stack([np.abs(xc * yr - xr * yc), xc**2 + yc**2, xc * xr + yc * yr, xr**2 + yr**2])

    return sample


def _horizontal(crs: pyproj.CRS) -> pyproj.CRS:
    if crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    return crs.sub_crs_list[0] if crs.is_compound else crs


def _metres_per_unit(grid: Grid) -> float:
    if grid.crs.is_geographic:
        return METRES_PER_DEGREE
    try:
        return float(grid.crs.linear_units_factor[1])
    except (ValueError, RuntimeError):
        return 1.0


@kernel
def area_before(
    col: float, row: float, metric: FloatArray, before: FloatArray, step_row: float, step_col: float
) -> float:
    """Return the ground area in m², per row, between column 0 and ``col`` at ``row``."""
    i = min(max(int(row / step_row), 0), before.shape[0] - 2)
    j = min(max(int(col / step_col), 0), before.shape[1] - 2)
    t = row / step_row - i
    s = col - j * step_col
    q = 0.5 * s * s / step_col
    upper = before[i, j] + s * metric[0, i, j] + q * (metric[0, i, j + 1] - metric[0, i, j])
    lower = before[i + 1, j] + s * metric[0, i + 1, j] + q * (metric[0, i + 1, j + 1] - metric[0, i + 1, j])
    area: float = upper + t * (lower - upper)
    return area


@kernel
def edge_measures(
    c0: float,
    r0: float,
    c1: float,
    r1: float,
    metric: FloatArray,
    before: FloatArray,
    step_row: float,
    step_col: float,
) -> tuple[float, float]:
    """Return what a straight edge adds to the area on its left, in m², and its ground length in m.

    Exact for the area within a control cell, midpoint rule for the length; longer edges are cut into as many pieces as
    they span cells. "Left" is on a screen where rows count downwards.
    """
    pieces = 1 + int(max(abs(r1 - r0) / step_row, abs(c1 - c0) / step_col))
    dc = (c1 - c0) / pieces
    dr = (r1 - r0) / pieces
    area = 0.0
    length = 0.0
    along_grid = dc == 0.0 or dr == 0.0
    for piece in range(pieces):
        if dr != 0.0:
            # Along a column the integrand is linear and one point, the middle, is exact; else two Gauss points are.
            for k in range(1 if along_grid else 2):
                side = 0.5 if along_grid else (GAUSS if k == 0 else 1 - GAUSS)
                col = c0 + (piece + side) * dc
                row = r0 + (piece + side) * dr
                area -= (dr if along_grid else 0.5 * dr) * area_before(col, row, metric, before, step_row, step_col)
        col = c0 + (piece + 0.5) * dc
        row = r0 + (piece + 0.5) * dr
        i = min(max(int(row / step_row), 0), before.shape[0] - 2)
        j = min(max(int(col / step_col), 0), before.shape[1] - 2)
        t = row / step_row - i
        s = col / step_col - j
        squared = 0.0
        for k in range(1, 4):
            factor = dc * dc if k == 1 else (2 * dc * dr if k == 2 else dr * dr)
            if factor != 0.0:
                upper = metric[k, i, j] + s * (metric[k, i, j + 1] - metric[k, i, j])
                lower = metric[k, i + 1, j] + s * (metric[k, i + 1, j + 1] - metric[k, i + 1, j])
                squared += factor * (upper + t * (lower - upper))
        length += math.sqrt(max(squared, 0.0))
    return area, length


@kernel
def _densities(cols: FloatArray, rows: FloatArray, metric: FloatArray, step_row: float, step_col: float) -> FloatArray:
    result = np.empty(cols.size)
    for k in range(cols.size):
        i = min(max(int(rows[k] / step_row), 0), metric.shape[1] - 2)
        j = min(max(int(cols[k] / step_col), 0), metric.shape[2] - 2)
        t = rows[k] / step_row - i
        s = cols[k] / step_col - j
        upper = metric[0, i, j] * (1 - s) + metric[0, i, j + 1] * s
        lower = metric[0, i + 1, j] * (1 - s) + metric[0, i + 1, j + 1] * s
        result[k] = upper * (1 - t) + lower * t
    return result
