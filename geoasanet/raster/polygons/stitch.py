"""The map's arcs from the pieces of its strips, in files, in an order that no strip can be told from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs, Pieces
from geoasanet.raster.polygons.cracks import direction_of
from geoasanet.raster.polygons.seams import Chains, Cut, join_seams
from geoasanet.raster.polygons.spool import Column, keep


class _Table:
    """Whole arcs in the order in which they are found, their vertices and attributes in files."""

    def __init__(self, stride: int, folder: Path | None) -> None:
        self.cols, self.rows = Column(np.int32, folder), Column(np.int32, folder)
        self.cut_cols, self.cut_rows = Column(np.int32, folder), Column(np.int32, folder)
        self.first, self.size = Column(np.int64, folder), Column(np.int32, folder)
        self.left, self.right = Column(np.int32, folder), Column(np.int32, folder)
        self.closed = Column(np.bool_, folder)
        self.key = Column(
            np.int64, folder
        )  # 4 * the lattice index of the first vertex + the direction of the first crack
        self.end = Column(np.int64, folder)  # lattice index of the last vertex
        self.arriving = Column(np.uint8, folder)
        self._stride = stride

    def add_strip(self, pieces: Pieces) -> Cut:
        """Take the whole arcs of a strip and the vertices of all its pieces; return what the seams cut."""
        cut = pieces.seam_start | pieces.seam_end
        first, size = pieces.offsets[:-1], np.diff(pieces.offsets).astype(np.int32)
        self._add(pieces.cols, pieces.rows, first, size, pieces.left, pieces.right, pieces.closed, ~cut)
        vertices = _ranges(first[cut], size[cut])
        self.cut_cols.append(pieces.cols[vertices])
        self.cut_rows.append(pieces.rows[vertices])
        return Cut(size[cut], pieces.left[cut], pieces.right[cut], pieces.seam_start[cut], pieces.seam_end[cut])

    def add_chains(self, chains: Chains) -> None:
        """Take arcs that were joined."""
        cols, rows, offsets, left, right, closed = chains
        size = np.diff(offsets).astype(np.int32)
        self._add(cols, rows, offsets[:-1], size, left, right, closed, np.ones(len(size), bool))

    def _add(
        self,
        cols: NDArray[np.int32],
        rows: NDArray[np.int32],
        first: NDArray[np.int64],
        size: NDArray[np.int32],
        left: NDArray[np.int32],
        right: NDArray[np.int32],
        closed: NDArray[np.bool_],
        whole: NDArray[np.bool_],
    ) -> None:
        start, end, leaving, arriving = _describe(cols, rows, first[whole], size[whole], self._stride)
        self.first.append(first[whole] + len(self.cols))
        self.cols.append(cols)
        self.rows.append(rows)
        self.size.append(size[whole])
        self.left.append(left[whole])
        self.right.append(right[whole])
        self.closed.append(closed[whole])
        self.key.append(start * 4 + leaving)
        self.end.append(end)
        self.arriving.append(arriving)


def stitch(pieces: Iterable[Pieces], width: int, folder: Path | None = None) -> Arcs:
    """Return the arcs of a map of ``width`` columns from the pieces of its strips.

    Args:
        pieces: Of all strips in order; held one strip at a time.
        width: Columns of the map.
        folder: Where temporary files lie; None: the system's folder for them.

    Raises:
        OutputError: If the disk is full.
    """
    table = _Table(width + 1, folder)
    cut, nodes = [], []
    for strip in pieces:
        cut.append(table.add_strip(strip))
        nodes.append(strip.nodes)
    del strip
    chains = join_seams(cut, table.cut_cols.array(), table.cut_rows.array(), width + 1)
    table.add_chains(chains)
    del cut, chains
    return _ordered(table, np.concatenate(nodes), folder)


def _ordered(table: _Table, nodes: NDArray[np.int64], folder: Path | None) -> Arcs:
    """Return the arcs in canonical order, which is that of their keys."""
    key = table.key.array()
    order = np.argsort(key, kind="stable")

    def sorted_column(column: Column) -> NDArray[Any]:
        return keep(column.array()[order], folder)

    closed = sorted_column(table.closed)
    key = key[order]
    start = np.where(closed, -1, np.searchsorted(nodes, key >> 2)).astype(np.int32)
    leaving = (key & 3).astype(np.uint8)
    del key
    end = np.where(closed, -1, np.searchsorted(nodes, table.end.array()[order])).astype(np.int32)
    return Arcs(
        table.cols.array(),
        table.rows.array(),
        sorted_column(table.first),
        sorted_column(table.size),
        sorted_column(table.left),
        sorted_column(table.right),
        closed,
        keep(start, folder),
        keep(end, folder),
        keep(leaving, folder),
        sorted_column(table.arriving),
        len(nodes),
    )


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the concatenated ranges start … start + size - 1."""
    shift = np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
    return shift + np.arange(len(shift))


@kernel
def _describe(
    cols: NDArray[np.int32], rows: NDArray[np.int32], first: NDArray[np.int64], size: NDArray[np.int32], stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the lattice index of each arc's first and last vertex, and the directions of its first and last crack."""
    n = first.size
    start = np.empty(n, np.int64)
    end = np.empty(n, np.int64)
    leaving = np.empty(n, np.uint8)
    arriving = np.empty(n, np.uint8)
    for k in range(n):
        a = first[k]
        b = a + size[k] - 1
        start[k] = np.int64(rows[a]) * stride + cols[a]
        end[k] = np.int64(rows[b]) * stride + cols[b]
        leaving[k] = direction_of(cols[a], rows[a], cols[a + 1], rows[a + 1])
        arriving[k] = direction_of(cols[b - 1], rows[b - 1], cols[b], rows[b])
    return start, end, leaving, arriving
