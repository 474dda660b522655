"""Regions: the 4-connected patches of one class of the whole map, joined from the components of its strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.kernels import kernel
from geoasanet.raster.polygons.runs import Runs, find_root, join_roots


@dataclass(frozen=True)
class Regions:
    """The regions of a map, numbered from 1 by first pixel in row-major order; region 0 is where there is no data."""

    classes: NDArray[np.uint8]
    """Class of each region; ``classes[0]`` is nodata."""
    of_component: tuple[NDArray[np.int32], ...]
    """For each strip, the region of each of its components."""

    @property
    def count(self) -> int:
        """Regions, without nodata."""
        return len(self.classes) - 1

    def of_row(self, strips: Sequence[Runs], k: int, row: int) -> NDArray[np.int32]:
        """Return the region of every pixel of a local row of strip ``k``, shape (width,); negative: from the last."""
        regions: NDArray[np.int32] = self.of_component[k][strips[k].row_components(row)]
        return regions

    def sums(self, values: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return per-region sums of per-component integers.

        Args:
            values: For each strip, one value per component (index 0 is nodata).
        """
        total = np.zeros(self.count + 1, np.int64)
        for table, strip_values in zip(self.of_component, values, strict=True):
            np.add.at(total, table, strip_values)
        total[0] = 0
        return total

    def regroup(self, root_of: NDArray[np.int32], classes: NDArray[np.uint8]) -> Regions:
        """Return the regions after some were joined.

        Args:
            root_of: For each region, the lowest region of its group.
            classes: Class of each group, at its lowest region.
        """
        ranks = rank_roots(root_of)
        is_root = root_of == np.arange(len(root_of))
        return Regions(classes[is_root], tuple(ranks[table] for table in self.of_component))


def join_strips(strips: Sequence[Runs]) -> Regions:
    """Return the regions of the map that consists of consecutive strips."""
    bases = np.concatenate([[0], np.cumsum([s.count for s in strips])]).astype(np.int64)
    dtype = np.int32 if bases[-1] < np.iinfo(np.int32).max else np.int64
    parent = np.arange(bases[-1] + 1).astype(dtype)
    for k in range(len(strips) - 1):
        above, below = strips[k], strips[k + 1]
        _join_seam(
            parent,
            above.row_components(-1),
            below.row_components(0),
            above.classes,
            below.classes,
            int(bases[k]),
            int(bases[k + 1]),
        )
    ranks = rank_roots(parent)
    is_root = parent == np.arange(len(parent))
    classes = np.concatenate([[NODATA], *(s.classes[1:] for s in strips)]).astype(np.uint8)[is_root]
    tables = (
        np.concatenate([ranks[:1], ranks[1 + base : 1 + base + s.count]])
        for s, base in zip(strips, bases[:-1], strict=True)
    )
    return Regions(classes, tuple(tables))


@kernel
def rank_roots(parent: NDArray[Any]) -> NDArray[np.int32]:
    """Flatten a union-find forest in place; return, for each item, the rank of its representative among all.

    Representatives are the lowest items of their trees, so ranks follow first occurrence.
    """
    ranks = np.empty(parent.size, np.int32)
    count = 0
    for item in range(parent.size):
        root = find_root(parent, item)
        parent[item] = root
        if root == item:
            ranks[item] = count
            count += 1
        else:
            ranks[item] = ranks[root]
    return ranks


@kernel
def _join_seam(
    parent: NDArray[Any],
    above: NDArray[np.int32],
    below: NDArray[np.int32],
    classes_above: NDArray[np.uint8],
    classes_below: NDArray[np.uint8],
    base_above: int,
    base_below: int,
) -> None:
    """Join components that meet across a seam; ``above`` and ``below`` are component ids of shape (width,)."""
    for j in range(above.size):
        a = above[j]
        b = below[j]
        if a != 0 and b != 0 and classes_above[a] == classes_below[b]:
            join_roots(parent, base_above + a, base_below + b)
