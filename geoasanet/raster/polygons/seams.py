"""Joining pieces of arcs that seams cut, into whole arcs that no seam can be told from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.cracks import direction_of

Chains = tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.bool_],
]
"""Columns, rows, offsets, left, right, closed: arcs in any order."""


class Cut(NamedTuple):
    """Pieces of a strip that end at a seam; see :class:`geoasanet.raster.polygons.arcs.Pieces`."""

    size: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    seam_start: NDArray[np.bool_]
    seam_end: NDArray[np.bool_]


def join_seams(cut: Sequence[Cut], cols: NDArray[np.int32], rows: NDArray[np.int32], stride: int) -> Chains:
    """Return the arcs that cross seams; ``cols`` and ``rows`` are the vertices of the pieces, one after the other."""
    size, left, right, seam_start, seam_end = (np.concatenate(column) for column in zip(*cut, strict=True))
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    at_seam = np.stack([seam_start, seam_end], axis=1)
    # Ends are numbered 2 * piece + side; at each seam vertex exactly two ends meet, one from above, one from below.
    ends = np.flatnonzero(at_seam.ravel())
    at = np.where(ends % 2 == 0, offsets[ends // 2], offsets[ends // 2 + 1] - 1)
    order = np.argsort(rows[at].astype(np.int64) * stride + cols[at], kind="stable")
    pairs = ends[order].reshape(-1, 2)
    mate = np.full(2 * len(size), -1, np.int64)
    mate[pairs[:, 0]], mate[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    chains: Chains = _join(cols, rows, offsets, left, right, mate, stride)
    return chains


@kernel
def _join(
    cols: NDArray[np.int32],
    rows: NDArray[np.int32],
    offsets: NDArray[np.int64],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    mate: NDArray[np.int64],
    stride: int,
) -> Chains:
    """Return the chains that pieces form, each in its canonical direction and, if closed, from its canonical start.

    Args:
        cols: Columns of the pieces' vertices.
        rows: Rows of the pieces' vertices.
        offsets: Vertices of piece i are offsets[i] … offsets[i + 1] - 1.
        left: Region on the left of each piece.
        right: Region on the right.
        mate: For end 2 * piece + side (0 first vertex, 1 last) the end that it meets, -1 at a node.
        stride: Vertices in a row of the lattice.
    """
    count = left.size
    out_cols = np.empty(cols.size, np.int32)
    out_rows = np.empty(cols.size, np.int32)
    out_offsets = np.zeros(count + 1, np.int64)
    out_left = np.empty(count, np.int32)
    out_right = np.empty(count, np.int32)
    closed = np.zeros(count, np.bool_)
    done = np.zeros(count, np.bool_)
    chains = 0
    for phase in range(2):
        for begin in range(2 * count):
            if done[begin // 2] or (phase == 0 and mate[begin] >= 0):
                continue
            base = out_offsets[chains]
            n = base
            end = begin
            while end >= 0 and not done[end // 2]:
                piece = end // 2
                forward = end % 2 == 0
                done[piece] = True
                length = offsets[piece + 1] - offsets[piece]
                for k in range(0 if n == base else 1, length):
                    v = offsets[piece] + k if forward else offsets[piece + 1] - 1 - k
                    if k == 1 and n - base >= 2:
                        level = out_rows[n - 2] == out_rows[n - 1] == rows[v]
                        upright = out_cols[n - 2] == out_cols[n - 1] == cols[v]
                        if level or upright:
                            n -= 1
                    out_cols[n] = cols[v]
                    out_rows[n] = rows[v]
                    n += 1
                end = mate[end ^ 1]
            swap = begin % 2 == 1
            if phase == 1:
                closed[chains] = True
                n, reverse = _canonical_ring(out_cols[base:n], out_rows[base:n])
                n += base
            else:
                reverse = _is_backward(out_cols[base:n], out_rows[base:n], stride)
                if reverse:
                    out_cols[base:n] = out_cols[base:n][::-1].copy()
                    out_rows[base:n] = out_rows[base:n][::-1].copy()
            swap ^= reverse
            out_left[chains] = right[begin // 2] if swap else left[begin // 2]
            out_right[chains] = left[begin // 2] if swap else right[begin // 2]
            chains += 1
            out_offsets[chains] = n
    n = out_offsets[chains]
    return (
        out_cols[:n].copy(),
        out_rows[:n].copy(),
        out_offsets[: chains + 1].copy(),
        out_left[:chains].copy(),
        out_right[:chains].copy(),
        closed[:chains].copy(),
    )


@kernel
def _is_backward(cols: NDArray[np.int32], rows: NDArray[np.int32], stride: int) -> bool:
    """Return True if the canonical direction of an open chain is the other one."""
    n = cols.size
    here = (np.int64(rows[0]) * stride + cols[0]) * 4 + direction_of(cols[0], rows[0], cols[1], rows[1])
    there = (np.int64(rows[n - 1]) * stride + cols[n - 1]) * 4
    there += direction_of(cols[n - 1], rows[n - 1], cols[n - 2], rows[n - 2])
    backward: bool = there < here
    return backward


@kernel
def _canonical_ring(cols: NDArray[np.int32], rows: NDArray[np.int32]) -> tuple[int, bool]:
    """Rotate a closed chain in place to its upper left corner, heading east.

    Returns:
        The number of vertices, the first repeated at the end; and whether the direction was reversed.
    """
    n = cols.size - 1
    shift = 0
    level = rows[n - 1] == rows[0] == rows[1]
    upright = cols[n - 1] == cols[0] == cols[1]
    if level or upright:
        shift = 1
    ring_cols = cols[shift:n].copy()
    ring_rows = rows[shift:n].copy()
    n -= shift
    top = 0
    for k in range(1, n):
        if ring_rows[k] < ring_rows[top] or (ring_rows[k] == ring_rows[top] and ring_cols[k] < ring_cols[top]):
            top = k
    reverse = ring_rows[(top + 1) % n] != ring_rows[top]
    for k in range(n + 1):
        v = (top - k) % n if reverse else (top + k) % n
        cols[k] = ring_cols[v]
        rows[k] = ring_rows[v]
    return n + 1, reverse
