"""Rings as well-known binary (WKB)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel
from geoasanet.raster.polygons.arcs import Arcs
from geoasanet.raster.polygons.rings import Rings

WKB_POLYGON, WKB_MULTIPOLYGON = 3, 6


def polygons_wkb(
    arcs: Arcs,
    rings: Rings,
    offsets: NDArray[np.int64],
    multi: bool,
    transform: tuple[float, ...],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return geometries as little-endian WKB.

    Args:
        arcs: The borders.
        rings: The rings of the regions, concatenated geometry by geometry.
        offsets: Regions of geometry i are the offsets[i]-th … (offsets[i + 1] - 1)-th of ``rings``, at least one.
        multi: Make multipolygons; else polygons, of one region each.
        transform: GDAL geotransform: x = [0] + col · [1] + row · [2], y = [3] + col · [4] + row · [5].

    Returns:
        Byte offsets of the geometries, and the bytes. Shells are counter-clockwise in the CRS.
    """
    polygons = 9 + 4 * np.diff(rings.of_region) + 16 * np.diff(rings.points[rings.of_region])
    sizes = np.add.reduceat(polygons, offsets[:-1]) if len(polygons) else np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes + (9 if multi else 0))]).astype(np.int64)
    data = np.empty(starts[-1], np.uint8)
    flip = transform[1] * transform[5] - transform[2] * transform[4] > 0
    _write_wkb(
        arcs.cols,
        arcs.rows,
        arcs.first,
        arcs.size,
        rings.sides,
        rings.offsets,
        rings.of_region,
        rings.points,
        offsets,
        multi,
        np.array(transform, np.float64),
        flip,
        data,
    )
    return starts, data


@kernel
def _put_uint32(data: NDArray[np.uint8], at: int, value: int) -> int:
    for k in range(4):
        data[at + k] = (value >> (8 * k)) & 255
    return at + 4


@kernel
def _put_double(data: NDArray[np.uint8], at: int, value: float) -> int:
    bits = np.float64(value).view(np.int64)
    for k in range(8):
        data[at + k] = (bits >> (8 * k)) & 255
    return at + 8


@kernel
def _write_wkb(
    cols: NDArray[Any],
    rows: NDArray[Any],
    first: NDArray[np.int64],
    size: NDArray[np.int32],
    sides: NDArray[np.int32],
    ring_offsets: NDArray[np.int64],
    of_region: NDArray[np.int64],
    points: NDArray[np.int64],
    group_offsets: NDArray[np.int64],
    multi: bool,
    transform: NDArray[np.float64],
    flip: bool,
    data: NDArray[np.uint8],
) -> None:
    at = 0
    for group in range(group_offsets.size - 1):
        if multi:
            data[at] = 1
            at = _put_uint32(data, at + 1, WKB_MULTIPOLYGON)
            at = _put_uint32(data, at, group_offsets[group + 1] - group_offsets[group])
        for k in range(group_offsets[group], group_offsets[group + 1]):
            data[at] = 1
            at = _put_uint32(data, at + 1, WKB_POLYGON)
            at = _put_uint32(data, at, of_region[k + 1] - of_region[k])
            for ring in range(of_region[k], of_region[k + 1]):
                count = points[ring + 1] - points[ring]
                at = _put_uint32(data, at, count)
                begin = at
                p = count - 1 if flip else 0
                for s in range(ring_offsets[ring], ring_offsets[ring + 1]):
                    arc = sides[s] // 2
                    forward = sides[s] % 2 == 0
                    for t in range(size[arc] - 1):
                        v = first[arc] + t if forward else first[arc] + size[arc] - 1 - t
                        x = transform[0] + cols[v] * transform[1] + rows[v] * transform[2]
                        y = transform[3] + cols[v] * transform[4] + rows[v] * transform[5]
                        _put_double(data, begin + 16 * p, x)
                        _put_double(data, begin + 16 * p + 8, y)
                        p += -1 if flip else 1
                at = begin + 16 * count
                repeat, source = (begin, at - 16) if flip else (at - 16, begin)
                for b in range(16):
                    data[repeat + b] = data[source + b]
