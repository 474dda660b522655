"""Where water gathers: hollows that fill to lakes, and streams that follow the relief."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoasanet.synthetic.noise import Field

_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True, slots=True)
class Drainage:
    """How a relief drains, cell by cell; arrays are (height, width) of the relief given."""

    filled: Field
    """Water level after every hollow is filled to its spill point, metres."""
    parent: NDArray[np.int64]
    """Flat index of the cell that each one drains to; -1 at outlets."""
    area: NDArray[np.int64]
    """Number of cells that drain through each cell, itself included."""
    order: NDArray[np.int64]
    """Flat indices, every cell after the one it drains to."""


def drain(elevation: Field, outlets: NDArray[np.bool_]) -> Drainage:
    """Return the drainage of ``elevation`` by flooding it upwards from its border and from ``outlets``.

    Cells are taken in order of water level (priority flood), so that each drains along the lowest pass.

    Args:
        elevation: Metres.
        outlets: True where water leaves, besides the border.
    """
    height, width = elevation.shape
    level = elevation.astype(np.float64).ravel().tolist()
    parent = [-1] * (height * width)
    seen = outlets.copy()
    seen[[0, -1], :] = True
    seen[:, [0, -1]] = True
    heap = [(level[i], i) for i in np.flatnonzero(seen).tolist()]
    known = seen.ravel().tolist()
    heapq.heapify(heap)
    order: list[int] = []
    while heap:
        water, index = heapq.heappop(heap)
        order.append(index)
        row, col = divmod(index, width)
        for down, right in _NEIGHBOURS:
            r, c = row + down, col + right
            if not (0 <= r < height and 0 <= c < width):
                continue
            other = r * width + c
            if known[other]:
                continue
            known[other] = True
            parent[other] = index
            level[other] = max(level[other], water)
            heapq.heappush(heap, (level[other], other))
    area = [1] * (height * width)
    for index in reversed(order):
        if parent[index] >= 0:
            area[parent[index]] += area[index]
    shape = (height, width)
    return Drainage(
        filled=np.array(level, np.float32).reshape(shape),
        parent=np.array(parent, np.int64).reshape(shape),
        area=np.array(area, np.int64).reshape(shape),
        order=np.array(order, np.int64),
    )


def erode(elevation: Field, outlets: NDArray[np.bool_], steepness: Field, cell_m: float, rounds: int) -> Field:
    """Return relief carved by its own water: branching valleys between ridges.

    Steady state of the stream-power law: slope = steepness · (drained area in km² + 0.04)^-0.45, upwards from
    the outlets along the drainage of the last round's relief.

    Args:
        elevation: First guess, metres; its hills decide where the ridges come to lie.
        outlets: True where the elevation is given and kept, besides the border.
        steepness: Slope of a channel that drains 1 km².
        cell_m: Cell size, metres.
        rounds: How often drainage and relief are brought in line with one another.
    """
    width = elevation.shape[1]
    steep = steepness.ravel().tolist()
    result = elevation
    for _ in range(rounds):
        drainage = drain(result, outlets)
        slope_of_area = (drainage.area * cell_m**2 / 1e6 + 0.04) ** -0.45
        factor = slope_of_area.ravel().tolist()
        level = result.ravel().tolist()
        parent = drainage.parent.ravel().tolist()
        for index in drainage.order.tolist():
            below = parent[index]
            if below >= 0:
                run = cell_m if below in (index - 1, index + 1, index - width, index + width) else 1.4142 * cell_m
                level[index] = level[below] + run * steep[index] * factor[index]
        carved = np.array(level, np.float32).reshape(elevation.shape)
        creep = ndimage.gaussian_filter(carved, 0.8)  # soil creep wears down the cliffs where basins meet
        result = np.where(outlets, elevation, creep)
    return result


def upstream(drainage: Drainage, cell: int) -> NDArray[np.bool_]:
    """Return True for every cell that drains through the flat index ``cell``, itself included."""
    parent = drainage.parent.ravel().tolist()
    inside = [False] * len(parent)
    inside[cell] = True
    for index in drainage.order.tolist():
        if parent[index] >= 0 and inside[parent[index]]:
            inside[index] = True
    return np.array(inside).reshape(drainage.parent.shape)


def trace_streams(drainage: Drainage, min_area: int) -> list[NDArray[np.int64]]:
    """Return streams, source first, as (n, 3) rows of (row, column, drained cells).

    Each follows the flow until an outlet or until it joins a stream already traced; larger ones come first.

    Args:
        drainage: From :func:`drain`.
        min_area: Cells that must drain through a cell for a stream to begin there.
    """
    width = drainage.area.shape[1]
    parent, area = drainage.parent.ravel(), drainage.area.ravel()
    wet = area >= min_area
    has_wet_source = np.zeros(area.size, bool)
    has_wet_source[parent[wet & (parent >= 0)]] = True
    sources = np.flatnonzero(wet & ~has_wet_source)
    # A longer way down marks the main stem: sources in order of flooding, farthest last.
    rank = np.empty(area.size, np.int64)
    rank[drainage.order] = np.arange(area.size)
    taken = np.zeros(area.size, bool)
    streams: list[NDArray[np.int64]] = []
    for source in sources[np.argsort(-rank[sources], kind="stable")].tolist():
        path: list[tuple[int, int, int]] = []
        cell = source
        while cell >= 0:
            path.append((cell // width, cell % width, int(area[cell])))
            if taken[cell]:
                break
            taken[cell] = True
            cell = int(parent[cell])
        if len(path) > 2:
            streams.append(np.array(path, np.int64))
    return streams
