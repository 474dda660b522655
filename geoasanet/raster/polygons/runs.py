"""A strip of map rows as runs: stretches of one class within a row, and the component each belongs to.

Runs are what is kept of the map after it was read once, in a file: 8 bytes for each run, however many pixels it covers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.kernels import kernel
from geoasanet.raster.polygons.scan import set_positions
from geoasanet.raster.polygons.spool import Column


@dataclass(frozen=True)
class Runs:
    """The rows ``row`` … ``row + height - 1`` of a map."""

    row: int
    """First row, counted from the top of the map."""
    width: int
    """Columns of the map."""
    offsets: NDArray[np.int64]
    """Runs of local row ``i`` are ``offsets[i]`` … ``offsets[i + 1] - 1``; length height + 1."""
    starts: NDArray[np.int32]
    """First column of each run."""
    components: NDArray[np.int32]
    """Strip-local 4-connected component of each run, numbered from 1 by first pixel; 0 where the map has no data."""
    classes: NDArray[np.uint8]
    """Class of each component; ``classes[0]`` is nodata."""

    @property
    def height(self) -> int:
        """Rows of the strip."""
        return len(self.offsets) - 1

    @property
    def count(self) -> int:
        """Components of the strip, without nodata."""
        return len(self.classes) - 1

    def row_components(self, row: int) -> NDArray[np.int32]:
        """Return the component of every pixel of local ``row`` (negative: from the last), shape (width,)."""
        row %= self.height
        first, last = int(self.offsets[row]), int(self.offsets[row + 1])
        ends = np.append(self.starts[first + 1 : last], self.width)
        result: NDArray[np.int32] = np.repeat(self.components[first:last], ends - self.starts[first:last])
        return result


class RunFile:
    """Runs of consecutive strips, in a temporary file.

    Args:
        folder: Where it lies; None: the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._starts, self._components = Column(np.int32, folder), Column(np.int32, folder)
        self._strips: list[tuple[Runs, slice]] = []

    def append(self, runs: Runs) -> None:
        """Take the next strip.

        Raises:
            OutputError: If the disk is full.
        """
        self._components.append(runs.components)
        place = self._starts.append(runs.starts)
        none = np.empty(0, np.int32)
        self._strips.append((replace(runs, starts=none, components=none), place))

    def strips(self) -> tuple[Runs, ...]:
        """Return all strips, to be read only."""
        starts, components = self._starts.array(), self._components.array()
        return tuple(replace(r, starts=starts[at], components=components[at]) for r, at in self._strips)


def runs_of(classes: NDArray[np.uint8], row: int) -> Runs:
    """Return the runs and components of a strip.

    Args:
        classes: Class ids, 255 where there is no data; uint8 of shape (height, width).
        row: The strip's first row in the map.
    """
    classes = np.ascontiguousarray(classes)
    height, width = classes.shape
    offsets = count_runs(classes)
    starts = np.empty(offsets[height], np.int32)
    values = np.empty(offsets[height], np.uint8)
    _find_runs(classes, offsets, starts, values)
    components, component_classes = _connect_runs(offsets, starts, values, width)
    return Runs(row, width, offsets, starts, components, component_classes)


def fill_rows(runs: Runs, values: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Paint a strip into ``out``, uint8 of shape (height, width), with one of ``values`` for each component."""
    _fill_rows(runs.offsets, runs.starts, runs.components, values, out)


@kernel
def find_root(parent: NDArray[Any], item: int) -> int:
    """Return the representative of ``item`` in a union-find forest, halving the path on the way."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@kernel
def join_roots(parent: NDArray[Any], first: int, second: int) -> None:
    """Join the trees of two items; the smaller representative stays one."""
    first = find_root(parent, first)
    second = find_root(parent, second)
    if first < second:
        parent[second] = first
    elif second < first:
        parent[first] = second


@kernel
def count_runs(classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return run offsets by row: int64 of shape (height + 1,)."""
    height, width = classes.shape
    offsets = np.zeros(height + 1, np.int64)
    for i in range(height):
        row = classes[i]
        changes = 1
        for j in range(1, width):
            changes += row[j] != row[j - 1]
        offsets[i + 1] = offsets[i] + changes
    return offsets


@kernel
def _find_runs(
    classes: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    starts: NDArray[np.int32],
    values: NDArray[np.uint8],
) -> None:
    """Write the first column and the class of each run."""
    height, width = classes.shape
    changes = np.zeros((width + 7) // 8 * 8, np.uint8)
    words = changes.view(np.uint64)
    changes[0] = 1
    for i in range(height):
        row = classes[i]
        for j in range(1, width):
            changes[j] = row[j] != row[j - 1]
        found = starts[offsets[i] : offsets[i + 1]]
        set_positions(words, found)
        for k in range(found.size):
            values[offsets[i] + k] = row[found[k]]


@kernel
def _connect_runs(
    offsets: NDArray[np.int64], starts: NDArray[np.int32], values: NDArray[np.uint8], width: int
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the component of each run, and the class of each component (4-connectivity)."""
    count = starts.size
    parent = np.arange(count).astype(np.int32)
    for i in range(1, offsets.size - 1):
        p = offsets[i - 1]
        q = offsets[i]
        p_stop = q
        q_stop = offsets[i + 1]
        while p < p_stop and q < q_stop:
            if values[p] == values[q] and values[q] != NODATA:
                join_roots(parent, p, q)
            p_end = starts[p + 1] if p + 1 < p_stop else width
            q_end = starts[q + 1] if q + 1 < q_stop else width
            if p_end <= q_end:
                p += 1
            if q_end <= p_end:
                q += 1
    components = np.zeros(count, np.int32)
    classes = np.empty(count + 1, np.uint8)
    classes[0] = NODATA
    n = 0
    for k in range(count):
        if values[k] == NODATA:
            continue
        root = find_root(parent, k)
        if root == k:
            n += 1
            components[k] = n
            classes[n] = values[k]
        else:
            components[k] = components[root]
    return components, classes[: n + 1].copy()


@kernel
def _fill_rows(
    offsets: NDArray[np.int64],
    starts: NDArray[np.int32],
    components: NDArray[np.int32],
    values: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    for i in range(out.shape[0]):
        row = out[i]
        for k in range(offsets[i], offsets[i + 1]):
            end = starts[k + 1] if k + 1 < offsets[i + 1] else row.size
            row[starts[k] : end] = values[components[k]]
