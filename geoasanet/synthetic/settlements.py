"""Towns and villages: where people settle, the roads between them, and the streets and roofs within."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

from geoasanet.synthetic import curves
from geoasanet.synthetic.noise import Field, fractal, lattice_noise, stream, unit_hash
from geoasanet.synthetic.relief import Relief

_COARSE = 8
"""Roads are routed on cells of this many pixels on a side."""


@dataclass(frozen=True, slots=True)
class Settlements:
    """Built-up ground; arrays are (height, width)."""

    built: NDArray[np.bool_]
    """True within settlements."""
    centrality: Field
    """1 at the heart of a settlement, falling to 0 at its edge."""
    street_m: Field
    """Distance to the middle of the nearest street, metres; meaningful within settlements."""
    block: NDArray[np.int64]
    """A number per block of houses."""
    street_angle: Field
    """Direction of the street grid, radians from the column axis."""
    roads: curves.Nearness
    """Roads between settlements."""
    road_lines: list[curves.Line]
    """The same roads as lines."""


@dataclass(frozen=True, slots=True)
class _Site:
    row: float
    col: float
    radius_m: float
    angle: float


def make_settlements(seed: int, relief: Relief) -> Settlements:
    """Return settlements on flat ground near water, joined by roads."""
    rng = stream(seed, "settlements")
    shape, pixel_m = relief.elevation.shape, relief.pixel_m
    sites = _choose_sites(rng, relief)
    lines = _route_roads(rng, relief, sites)
    roads = curves.nearness(lines, (shape[0], shape[1]), 160 / pixel_m)
    ragged = fractal(rng, (shape[0], shape[1]), 420 / pixel_m, octaves=5, gain=0.65)
    ribbon = np.exp(-roads.distance_px * pixel_m / 55)  # houses line the roads out
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    centrality = np.full(shape, -1.0, np.float32)
    owner = np.zeros(shape, np.int64)
    for index, site in enumerate(sites):
        away = np.hypot(rows - site.row, cols - site.col) * pixel_m / site.radius_m
        score = (1 - away + 0.34 * ragged + 0.55 * ribbon * np.clip(2.6 - away, 0, 1)).astype(np.float32)
        owner = np.where(score > centrality, index, owner)
        centrality = np.maximum(centrality, score)
    dry = relief.stream_m > np.where(relief.river_m < 200, 55, 14)
    built = (centrality > 0) & (relief.water < 0.3) & (relief.slope() < 0.16) & dry
    angle = np.array([site.angle for site in sites], np.float32)[owner]
    street_m, block = _streets(rng, relief, angle, owner)
    return Settlements(built, centrality, street_m, block, angle, roads, lines)


def _choose_sites(rng: np.random.Generator, relief: Relief) -> list[_Site]:
    """Return towns and villages, the largest first, apart from one another."""
    height, width = relief.elevation.shape
    area_km2 = height * width * relief.pixel_m**2 / 1e6
    count = max(2, rng.poisson(area_km2 / 7.5) + 1)
    spots = np.stack([rng.uniform(0.04, 0.96, 60 * count) * height, rng.uniform(0.04, 0.96, 60 * count) * width], 1)
    pick = spots.astype(int)
    slope = relief.slope()[pick[:, 0], pick[:, 1]]
    water_m = relief.stream_m[pick[:, 0], pick[:, 1]]
    wet = relief.water[pick[:, 0], pick[:, 1]] > 0.1
    cost = 14 * slope + np.abs(water_m - 180) / 600 + 1.2 * wet + rng.uniform(0, 0.5, len(spots))
    sites: list[_Site] = []
    largest = min(950.0, 0.14 * relief.pixel_m * float(np.hypot(height, width)))
    for index in np.argsort(cost):
        rank = len(sites)
        radius = largest * (1.0 if rank == 0 else rng.uniform(0.4, 0.6) if rank == 1 else rng.uniform(0.13, 0.32))
        row, col = spots[index]
        gaps = [np.hypot(row - s.row, col - s.col) * relief.pixel_m - 1.3 * (s.radius_m + radius) for s in sites]
        if rank == 0 and not (0.15 < row / height < 0.85 and 0.15 < col / width < 0.85):
            continue
        if all(gap > 250 for gap in gaps):
            sites.append(_Site(float(row), float(col), max(120.0, radius), rng.uniform(0, np.pi / 2)))
        if len(sites) == count:
            break
    return sites


def _route_roads(rng: np.random.Generator, relief: Relief, sites: list[_Site]) -> list[curves.Line]:
    """Return roads that join all sites and leave the scene, along gentle slopes and over few bridges."""
    cost, size = _travel_cost(relief)
    ends = [(site.row, site.col) for site in sites]
    height, width = relief.elevation.shape
    sides = [(0.0, None), (height - 1.0, None), (None, 0.0), (None, width - 1.0)]
    for side in rng.permutation(4)[:3]:
        row, col = sides[side]
        ends.append(
            (
                rng.uniform(0.2, 0.8) * height if row is None else row,
                rng.uniform(0.2, 0.8) * width if col is None else col,
            )
        )
    cells = [min(int(r) // _COARSE, size[0] - 1) * size[1] + min(int(c) // _COARSE, size[1] - 1) for r, c in ends]
    far, before = dijkstra(cost, directed=False, indices=cells, return_predecessors=True)
    tree = minimum_spanning_tree(far[:, cells]).tocoo()
    pairs = list(zip(tree.row.tolist(), tree.col.tolist(), strict=True))
    lines = []
    for start, stop in pairs:
        path, cell = [], cells[stop]
        while cell >= 0:
            path.append(divmod(cell, size[1]))
            cell = int(before[start, cell])
        if len(path) < 2:
            continue
        points = (np.array(path, float) + 0.5) * _COARSE - 0.5
        points[0], points[-1] = ends[stop], ends[start]
        dense = curves.densify(curves.smooth(curves.densify(points, 4.0), 3.0))
        major = min(start, stop) <= 1 or max(start, stop) >= len(sites)
        lines.append(curves.Line(dense, np.full(len(dense), (22.0 if major else 14.0) / relief.pixel_m)))
    return lines


def _travel_cost(relief: Relief) -> tuple[coo_array, tuple[int, int]]:
    """Return the graph of coarse cells with the cost of going from each to its eight neighbours."""
    pick = np.s_[_COARSE // 2 :: _COARSE, _COARSE // 2 :: _COARSE]
    height = relief.elevation[pick]
    wet = np.maximum(relief.water, (relief.river_m < 60) * np.float32(0.7))[pick]
    lake = relief.lake[pick]
    size = (height.shape[0], height.shape[1])
    number = np.arange(height.size).reshape(size)
    starts, stops, costs = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = np.s_[: size[0] - down, max(0, -right) : size[1] - max(0, right)]
        b = np.s_[down:, max(0, right) : size[1] + min(0, right)]
        run = _COARSE * relief.pixel_m * np.hypot(down, right)
        grade = np.abs(height[a] - height[b]) / run
        cost = run * (1 + 250 * grade**1.5 + 6 * (wet[a] + wet[b]) + 60 * (lake[a] | lake[b]))
        starts.append(number[a].ravel())
        stops.append(number[b].ravel())
        costs.append(cost.ravel())
    edges = (np.concatenate(costs), (np.concatenate(starts), np.concatenate(stops)))
    return coo_array(edges, shape=(height.size, height.size)).tocsr(), size


def _streets(
    rng: np.random.Generator, relief: Relief, angle: Field, owner: NDArray[np.int64]
) -> tuple[Field, NDArray[np.int64]]:
    """Return the distance to the nearest street (metres) and a number per block."""
    shape = (relief.elevation.shape[0], relief.elevation.shape[1])
    pixel_m = relief.pixel_m
    bend = [np.float32(28) * lattice_noise(rng, shape, 420 / pixel_m) for _ in range(2)]
    rows, cols = (np.arange(n, dtype=np.float32) * np.float32(pixel_m) for n in shape)
    y, x = rows[:, None] + bend[0], cols[None, :] + bend[1]
    along = np.cos(angle) * x + np.sin(angle) * y
    across = -np.sin(angle) * x + np.cos(angle) * y
    depth = np.float32(rng.uniform(75, 100))
    band = np.floor(across / depth).astype(np.int64)
    length = 130 + 120 * unit_hash(owner, band, 1)
    cell = np.floor(along / length + unit_hash(owner, band, 2)).astype(np.int64)
    side = np.abs(across / depth - np.round(across / depth)) * depth
    position = along / length + unit_hash(owner, band, 2)
    end = np.abs(position - np.round(position)) * length
    block = (owner * 1009 + band) * 2003 + cell
    return np.minimum(side, end).astype(np.float32), block
