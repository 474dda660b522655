"""Joining the pieces of arcs across seams, into the map's arcs in an order that no strip can be told from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.raster.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs, Pieces
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


def stitch(pieces: list[Pieces], width: int) -> Arcs:
    """Return the arcs of a map of ``width`` columns from the pieces of its strips.

    The list is emptied on the way, so that pieces and arcs are in memory together as briefly as possible.
    """
    joined = _join_seams(pieces, width + 1)
    cols = np.concatenate([*(p.cols for p in pieces), joined[0]])
    rows = np.concatenate([*(p.rows for p in pieces), joined[1]])
    whole = [~(p.seam_start | p.seam_end) for p in pieces]
    bases = np.cumsum([0, *(len(p.cols) for p in pieces)])
    first = _gather(
        whole, [p.offsets[:-1] + b for p, b in zip(pieces, bases, strict=False)], joined[2][:-1] + bases[-1]
    )
    size = _gather(whole, [np.diff(p.offsets) for p in pieces], np.diff(joined[2])).astype(np.int32)
    left = _gather(whole, [p.left for p in pieces], joined[3])
    right = _gather(whole, [p.right for p in pieces], joined[4])
    closed = _gather(whole, [p.closed for p in pieces], joined[5])
    nodes = np.concatenate([p.nodes for p in pieces])
    pieces.clear()

    start, end, leaving, arriving = _describe(cols, rows, first, size, width + 1)
    order = np.argsort(start * 4 + leaving, kind="stable")
    closed = closed[order]
    start_node = np.where(closed, -1, np.searchsorted(nodes, start[order])).astype(np.int32)
    end_node = np.where(closed, -1, np.searchsorted(nodes, end[order])).astype(np.int32)
    return Arcs(
        cols,
        rows,
        first[order],
        size[order],
        left[order],
        right[order],
        closed,
        start_node,
        end_node,
        leaving[order],
        arriving[order],
        len(nodes),
    )


def _gather(keep: Sequence[NDArray[np.bool_]], parts: Sequence[NDArray[Any]], joined: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([*(part[mask] for part, mask in zip(parts, keep, strict=True)), joined])


def _join_seams(pieces: Sequence[Pieces], stride: int) -> Chains:
    """Return the arcs that cross seams."""
    cut = [np.flatnonzero(p.seam_start | p.seam_end) for p in pieces]
    sizes = np.concatenate([np.diff(p.offsets)[c] for p, c in zip(pieces, cut, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    picks = [_ranges(p.offsets[c], np.diff(p.offsets)[c]) for p, c in zip(pieces, cut, strict=True)]
    cols = np.concatenate([p.cols[i] for p, i in zip(pieces, picks, strict=True)])
    rows = np.concatenate([p.rows[i] for p, i in zip(pieces, picks, strict=True)])
    left = np.concatenate([p.left[c] for p, c in zip(pieces, cut, strict=True)])
    right = np.concatenate([p.right[c] for p, c in zip(pieces, cut, strict=True)])
    at_seam = np.empty((len(sizes), 2), bool)
    at_seam[:, 0] = np.concatenate([p.seam_start[c] for p, c in zip(pieces, cut, strict=True)])
    at_seam[:, 1] = np.concatenate([p.seam_end[c] for p, c in zip(pieces, cut, strict=True)])

    # Ends are numbered 2 * piece + side; at each seam vertex exactly two ends meet, one from above, one from below.
    ends = np.flatnonzero(at_seam.ravel())
    at = np.where(ends % 2 == 0, offsets[ends // 2], offsets[ends // 2 + 1] - 1)
    order = np.argsort(rows[at].astype(np.int64) * stride + cols[at], kind="stable")
    pairs = ends[order].reshape(-1, 2)
    mate = np.full(2 * len(sizes), -1, np.int64)
    mate[pairs[:, 0]], mate[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    chains: Chains = _join(cols, rows, offsets, left, right, mate, stride)
    return chains


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
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
