"""The ground: elevation with ridges and valleys, the rivers in them, the lakes in their hollows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoasanet.synthetic import curves
from geoasanet.synthetic.hydrology import Drainage, drain, erode, trace_streams, upstream
from geoasanet.synthetic.noise import Field, blur, fractal, shrink, smoothstep, stream

_COARSE = 4
"""Drainage is computed on cells of this many pixels on a side."""
_MARGIN_M = 1000.0
"""Ground around the scene that shapes it and is cut off in the end."""


@dataclass(frozen=True, slots=True)
class Relief:
    """The ground and its waters; every array is (height, width)."""

    elevation: Field
    """Metres above sea level; lakes are level."""
    river_m: Field
    """Distance to the middle of the main river, metres."""
    stream_m: Field
    """Distance to the nearest river or stream, metres, as far as 400."""
    water: Field
    """How much of each pixel is water, 0..1."""
    lake: NDArray[np.bool_]
    """True in lakes."""
    pixel_m: float
    """Pixel size, metres."""

    def slope(self) -> Field:
        """Return the slope as rise over run."""
        down, right = np.gradient(self.elevation, self.pixel_m)
        return np.asarray(np.hypot(down, right), dtype=np.float32)


def make_relief(seed: int, shape: tuple[int, int], pixel_m: float) -> Relief:
    """Return the relief of a seed."""
    rng = stream(seed, "relief")
    block = 4 * _COARSE
    margin = int(np.ceil(_MARGIN_M / pixel_m / block)) * block
    ground = tuple(-(-n // block) * block + 2 * margin for n in shape)
    river = curves.meander(rng, shape, rng.uniform(900, 1600) / pixel_m) + margin
    river_m = _distance_m(river, (ground[0], ground[1]), pixel_m)
    coarse, channel = _carve(rng, river_m, pixel_m)
    elevation = _detail(rng, coarse, pixel_m)
    _dig_hollows(rng, elevation, river_m, margin, pixel_m)

    drainage = drain(shrink(elevation, _COARSE), channel)
    lake = _lakes(rng, elevation, drainage, river_m, margin=margin, pixel_m=pixel_m)
    width_m = rng.uniform(32, 62)
    varied = width_m * (1 + 0.22 * _wobble(rng, len(river)))
    lines = [curves.Line(river, varied / pixel_m)]
    cell_ha = (_COARSE * pixel_m) ** 2 / 1e4
    streams = trace_streams(drainage, max(8, int(60 / cell_ha)))
    lines += [_stream_line(path, cell_ha, pixel_m) for path in streams]
    inner = [curves.Line(line.points - margin, line.width_px) for line in lines]
    near = curves.nearness(inner, shape, 400 / pixel_m)
    cut = (slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    water = np.maximum(near.coverage(), lake[cut].astype(np.float32))
    stream_m = near.distance_px * np.float32(pixel_m)
    return Relief(elevation[cut].copy(), river_m[cut].copy(), stream_m, water, lake[cut].copy(), pixel_m)


def _carve(rng: np.random.Generator, river_m: Field, pixel_m: float) -> tuple[Field, NDArray[np.bool_]]:
    """Return the relief on coarse cells, and True in the cells of the main river."""
    result: Field | None = None
    floor = np.float32(rng.uniform(120, 380))
    plain_m, rough = rng.uniform(300, 1100), rng.uniform(0.022, 0.042)
    size = (river_m.shape[0] // _COARSE, river_m.shape[1] // _COARSE)
    cell_m = _COARSE * pixel_m
    broad = fractal(rng, size, 3000 / cell_m, octaves=6, gain=0.55)
    wall = fractal(rng, size, 900 / cell_m, octaves=3)
    far = blur(shrink(river_m, _COARSE), 250 / cell_m)
    foot = smoothstep(0.35 * plain_m, 2.2 * plain_m, far + 0.35 * plain_m * wall)
    steep = rough * (0.06 + 0.94 * foot) * np.exp(0.6 * broad) * np.exp(0.12 * rng.standard_normal(size))
    hilly = np.maximum(60 * fractal(rng, size, 1800 / cell_m, octaves=6, gain=0.5) + 30, 0)
    guess = floor + 2 + 0.02 * far + hilly * foot
    for factor, rounds in ((4, 10), (2, 4), (1, 1)):
        channel = shrink(river_m, _COARSE * factor) < 0.9 * _COARSE * factor * pixel_m
        level = shrink(np.asarray(guess, dtype=np.float32), factor)
        if result is not None:
            level = ndimage.zoom(result, 2, order=1)
        level = level + rng.standard_normal(level.shape).astype(np.float32) * np.float32(0.5)
        level[channel] = floor
        result = erode(level, channel, shrink(steep.astype(np.float32), factor), cell_m * factor, rounds)
    assert result is not None
    return ndimage.gaussian_filter(result, 1.2), channel


def _detail(rng: np.random.Generator, coarse: Field, pixel_m: float) -> Field:
    """Return the coarse relief on pixels, with fine roughness where it is steep."""
    fine = ndimage.zoom(coarse, _COARSE, order=3, grid_mode=True, mode="nearest")
    down, right = np.gradient(blur(fine, 60 / pixel_m), pixel_m)
    roughness = 0.5 + 14 * np.hypot(down, right)
    return np.asarray(fine + roughness * fractal(rng, fine.shape, 150 / pixel_m, octaves=4), dtype=np.float32)


def _dig_hollows(rng: np.random.Generator, elevation: Field, river_m: Field, margin: int, pixel_m: float) -> None:
    """Lower the ground, in place, in basins that will fill to lakes."""
    height, width = (n - 2 * margin for n in elevation.shape)
    area_km2 = height * width * pixel_m**2 / 1e6
    rows, cols = np.ogrid[: elevation.shape[0], : elevation.shape[1]]
    ragged = fractal(rng, elevation.shape, 300 / pixel_m, octaves=4)
    for _ in range(max(1, rng.poisson(area_km2 / 20))):
        spots = np.stack([rng.uniform(0, height, 12), rng.uniform(0, width, 12)], axis=1) + margin
        pick = spots.astype(int)
        cost = elevation[pick[:, 0], pick[:, 1]] + np.where(river_m[pick[:, 0], pick[:, 1]] < 600, 400, 0)
        row, col = spots[np.argmin(cost)]
        radius = rng.uniform(90, 330) * min(1.0, np.sqrt(area_km2 / 12)) / pixel_m
        stretch, turn = rng.uniform(0.4, 0.95), rng.uniform(0, np.pi)
        along = np.cos(turn) * (rows - row) + np.sin(turn) * (cols - col)
        across = -np.sin(turn) * (rows - row) + np.cos(turn) * (cols - col)
        away = (along / radius) ** 2 + (across / radius / stretch) ** 2
        bowl = np.exp(-away / 1.2) * (1 + 0.45 * ragged)
        elevation -= (rng.uniform(14, 26) * np.where(away < 9, bowl, 0)).astype(np.float32)


def _lakes(
    rng: np.random.Generator, elevation: Field, drainage: Drainage, river_m: Field, *, margin: int, pixel_m: float
) -> NDArray[np.bool_]:
    """Return True where lakes stand; their surface is levelled in ``elevation``, in place."""
    coarse = shrink(elevation, _COARSE)
    cell_ha = (_COARSE * pixel_m) ** 2 / 1e4
    labels, _ = ndimage.label(drainage.filled - coarse > 0.7)
    basins = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[box] == index
        if inside.sum() * cell_ha > 1.6:
            basins.append((inside, box, float(drainage.filled[box][inside].max()) - 0.3))
    basins += _reservoirs(rng, coarse, drainage, margin, cell_ha)
    lake = np.zeros(elevation.shape, bool)
    for inside, box, level in basins:
        view = tuple(slice(max(0, (s.start - 1) * _COARSE), (s.stop + 1) * _COARSE) for s in box)
        near = _enlarge(inside, elevation[view].shape, box, view)
        near = ndimage.binary_dilation(near, iterations=2)
        wet = near & (elevation[view] < level)
        if (river_m[view][wet] < 90).any():
            continue
        lake[view] |= wet
        elevation[view] = np.where(wet, np.float32(level), elevation[view])
    return np.asarray(ndimage.binary_opening(lake, iterations=1))


def _reservoirs(
    rng: np.random.Generator, coarse: Field, drainage: Drainage, margin: int, cell_ha: float
) -> list[tuple[NDArray[np.bool_], tuple[slice, ...], float]]:
    """Return dammed valleys as (cells, their bounding box, water level)."""
    edge = margin // _COARSE
    inner = np.zeros(coarse.shape, bool)
    inner[edge:-edge, edge:-edge] = True
    drained_ha = drainage.area * cell_ha
    found = np.flatnonzero(inner & (drained_ha > 180) & (drained_ha < 1500) & (drainage.parent >= 0))
    count = min(len(found), rng.poisson(inner.sum() * cell_ha / 3500))
    result = []
    for dam in rng.choice(found, count, replace=False).tolist():
        row, col = divmod(dam, coarse.shape[1])
        level = float(coarse[row, col]) + rng.uniform(7, 15)
        wet, _ = ndimage.label(upstream(drainage, dam) & (coarse < level))
        inside = wet == wet[row, col]
        if 3 < inside.sum() * cell_ha < 0.03 * inner.sum() * cell_ha + 25:
            box = ndimage.find_objects(inside.astype(int))[0]
            result.append((inside[box], box, level))
    return result


def _enlarge(
    inside: NDArray[np.bool_], shape: tuple[int, ...], box: tuple[slice, ...], view: tuple[slice, ...]
) -> NDArray[np.bool_]:
    """Return coarse cells ``inside`` (at ``box``) as pixels of ``view``."""
    padded = np.pad(inside, 1)
    index = [
        np.clip((np.arange(n) + v.start) // _COARSE - b.start + 1, 0, m - 1)
        for n, v, b, m in zip(shape, view, box, padded.shape, strict=True)
    ]
    return np.asarray(padded[np.ix_(*index)])


def _stream_line(path: NDArray[np.int64], cell_ha: float, pixel_m: float) -> curves.Line:
    """Return a traced stream as a rounded line that widens downstream."""
    middle = (path[:, :2] + 0.5) * _COARSE - 0.5
    points = curves.smooth(middle.astype(np.float64), 1.6)
    dense = curves.densify(points)
    area_ha = np.interp(np.linspace(0, 1, len(dense)), np.linspace(0, 1, len(path)), path[:, 2] * cell_ha)
    return curves.Line(dense, _channel_m(area_ha) / pixel_m)


def _channel_m(area_ha: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return channel widths; what is too narrow to make an unbroken line of pixels is a brook that none shows."""
    width = np.clip(0.62 * np.sqrt(area_ha), 4, 26)
    return np.where(width < 12.5, np.minimum(width, 4.5), width)


def _wobble(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    knots = rng.standard_normal(count // 60 + 3)
    return np.asarray(np.interp(np.arange(count) / 60.0, np.arange(len(knots)), knots), dtype=np.float64)


def _distance_m(points: curves.Points, shape: tuple[int, int], pixel_m: float) -> Field:
    """Return the distance to ``points`` in metres."""
    cells = np.round(points).astype(int)
    inside = ((cells >= 0) & (cells < np.array(shape))).all(axis=1)
    empty = np.ones(shape, bool)
    empty[cells[inside, 0], cells[inside, 1]] = False
    return np.asarray(ndimage.distance_transform_edt(empty) * pixel_m, dtype=np.float32)
