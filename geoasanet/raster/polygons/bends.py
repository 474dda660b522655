"""Removing the bends of arcs, smallest first, with a heap of triangles and a bitmap of vertices.

The heap is lazy: an entry whose triangle has grown since goes back with its present size when it comes up, so that
an entry is added only for a triangle that shrank or was out of the heap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.scan import EVERY_BIT, NO_BIT, ONE_BIT, bit_place

PLACE_BITS = 31
"""Low bits of an entry of the heap: the place of a vertex in its arc; above them, twice the area of its triangle."""
PLACE_MASK = (1 << PLACE_BITS) - 1
BEYOND = (1 << 63) - 1
"""Larger than any entry."""
LARGEST = float((1 << (62 - PLACE_BITS)) - 1)
"""Twice the largest area that fits an entry, in square pixels: tolerances end at 32,767 pixels."""


@kernel
def _is_free(ax: int, ay: int, bx: int, by: int, cx: int, cy: int, occupied: NDArray[np.uint64]) -> bool:
    """Return True if the closed triangle a, b, c holds no vertex; its own are not marked in ``occupied``."""
    low = min(ax, bx, cx)
    high = max(ax, bx, cx)
    from_low = EVERY_BIT << np.uint64(low & 63)
    to_high = EVERY_BIT >> np.uint64(63 - (high & 63))
    for y in range(min(ay, by, cy), max(ay, by, cy) + 1):
        for w in range(low >> 6, (high >> 6) + 1):
            word = occupied[y, w]
            if w == low >> 6:
                word &= from_low
            if w == high >> 6:
                word &= to_high
            while word != NO_BIT:
                lowest = word & (~word + ONE_BIT)
                word ^= lowest
                x = w * 64 + bit_place(lowest)
                ab = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
                bc = (cx - bx) * (y - by) - (cy - by) * (x - bx)
                ca = (ax - cx) * (y - cy) - (ay - cy) * (x - cx)
                if not ((ab < 0 or bc < 0 or ca < 0) and (ab > 0 or bc > 0 or ca > 0)):
                    return False
    return True


@kernel
def _toggle(x: int, y: int, occupied: NDArray[np.uint64]) -> None:
    """Set the bit of a vertex, or clear it."""
    occupied[y, x >> 6] ^= ONE_BIT << np.uint64(x & 63)


@kernel
def _sift_up(heap: NDArray[np.int64], i: int, entry: int) -> None:
    """Put ``entry`` at place ``i`` of a heap or above."""
    while i > 0:
        up = (i - 1) >> 1
        if heap[up] <= entry:
            break
        heap[i] = heap[up]
        i = up
    heap[i] = entry


@kernel
def _sift_down(heap: NDArray[np.int64], n: int, i: int, entry: int) -> None:
    """Put ``entry`` at place ``i`` of a heap of ``n`` entries or below; ``heap[n]`` is overwritten."""
    heap[n] = BEYOND
    child = 2 * i + 1
    while child < n:
        child += int(heap[child + 1] < heap[child])  # no branch: which child is smaller cannot be predicted
        if entry <= heap[child]:
            break
        heap[i] = heap[child]
        i = child
        child = 2 * i + 1
    heap[i] = entry


@kernel
def remove_bends(
    batch: NDArray[np.int64],
    cols: NDArray[np.int32],
    rows: NDArray[np.int32],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    closed: NDArray[np.bool_],
    least: NDArray[np.int8],
    most: NDArray[np.float64],
    occupied: NDArray[np.uint64],
    keep: NDArray[np.bool_],
    pending: NDArray[np.bool_],
) -> None:
    """Remove bends from arcs, one arc after the other, from each the smallest first.

    Args:
        batch: Arcs to simplify.
        cols: Columns of all vertices.
        rows: Rows of all vertices.
        first: First vertex of each arc.
        size: Vertices of each arc.
        closed: Arcs whose last vertex repeats the first.
        least: Vertices that each arc must keep.
        most: Twice the area of the largest triangle to remove from each arc, in square pixels, ``LARGEST`` at most.
        occupied: Bitmap of the vertices that are there, changed in place.
        keep: Vertices that are kept, changed in place.
        pending: Set for arcs in which a bend was blocked.
    """
    longest = 0
    for arc in batch:
        longest = max(longest, size[arc])
    x = np.empty(longest, np.int64)
    y = np.empty(longest, np.int64)
    vertex = np.empty(longest, np.int64)
    before = np.empty(longest, np.int64)
    after = np.empty(longest, np.int64)
    double_area = np.empty(longest, np.int64)
    heap = np.empty(3 * longest + 4, np.int64)
    for arc in batch:
        n = 0
        ring = closed[arc]
        for v in range(first[arc], first[arc] + size[arc] - (1 if ring else 0)):
            if keep[v]:
                vertex[n] = v
                x[n] = cols[v]
                y[n] = rows[v]
                before[n] = n - 1
                after[n] = n + 1
                n += 1
        before[0] = n - 1
        after[n - 1] = 0
        limit = most[arc]
        entries = 0
        for i in range(0 if ring else 1, n if ring else n - 1):
            double_area[i] = _double_area(x, y, before[i], i, after[i])
            if double_area[i] <= limit:
                _sift_up(heap, entries, double_area[i] << PLACE_BITS | i)
                entries += 1
        left = n
        while entries > 0 and left > least[arc]:
            entry = heap[0]
            b = entry & PLACE_MASK
            if entry >> PLACE_BITS < double_area[b] <= limit:
                _sift_down(heap, entries, 0, double_area[b] << PLACE_BITS | b)
                continue
            entries -= 1
            _sift_down(heap, entries, 0, heap[entries])
            if entry >> PLACE_BITS != double_area[b]:
                continue
            double_area[b] = -1
            a = before[b]
            c = after[b]
            _toggle(x[a], y[a], occupied)
            _toggle(x[b], y[b], occupied)
            _toggle(x[c], y[c], occupied)
            free = _is_free(x[a], y[a], x[b], y[b], x[c], y[c], occupied)
            _toggle(x[a], y[a], occupied)
            _toggle(x[c], y[c], occupied)
            if not free:
                _toggle(x[b], y[b], occupied)
                pending[arc] = True
                continue
            keep[vertex[b]] = False
            left -= 1
            after[a] = c
            before[c] = a
            for i in (a, c):
                if not ring and (i == 0 or i == n - 1):
                    continue
                old = double_area[i]
                new = _double_area(x, y, before[i], i, after[i])
                double_area[i] = new
                if new <= limit and (new < old or old < 0):
                    _sift_up(heap, entries, new << PLACE_BITS | i)
                    entries += 1


@kernel
def _double_area(x: NDArray[np.int64], y: NDArray[np.int64], a: int, b: int, c: int) -> int:
    """Return twice the area of the triangle of three vertices."""
    area: int = abs((x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a]))
    return area
