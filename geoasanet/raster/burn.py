"""Polygons as pixels: a pixel belongs to a polygon if its centre does.

A centre on a border belongs to the polygon on its right, or below it, so polygons that share borders leave no pixel
between them and share none. Cost grows with the number of border crossings, not with vertices times rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Ints = NDArray[np.int64]


class PolygonBurner:
    """Draws polygons into arrays of pixels, in order: where they overlap, the last one stays.

    Args:
        geometry: Polygons or multipolygons, valid, x = column and y = row (integers are pixel corners); shape (n,).
        values: Value of each polygon, shape (n,).
    """

    def __init__(self, geometry: NDArray[Any], values: NDArray[np.uint8]) -> None:
        parts, owner = shapely.get_parts(geometry, return_index=True)
        inner, place = shapely.get_parts(parts, return_index=True)
        flat = shapely.get_dimensions(inner) == 2
        rings, polygon = shapely.get_rings(inner[flat], return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        follows = ring[1:] == ring[:-1]
        edges = np.hstack([points[:-1][follows], points[1:][follows]])
        of_feature = owner[place[flat]][polygon][ring[:-1][follows]]
        self._edges: FloatArray = np.ascontiguousarray(edges)
        self._starts: Ints = np.searchsorted(of_feature, np.arange(len(geometry) + 1)).astype(np.int64)
        self._values = values
        self._tree = shapely.STRtree(geometry)

    def reaches(self, height: int, width: int) -> bool:
        """Return whether a polygon's bounding box meets the first ``height`` rows and ``width`` columns."""
        return len(self._tree.query(shapely.box(0, 0, width, height))) > 0

    def burn(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Draw the polygons into ``pixels``, shape (rows, columns), whose first row is ``row``."""
        height, width = pixels.shape
        hits = np.sort(self._tree.query(shapely.box(0, row, width, row + height))).astype(np.int64)
        _burn(self._edges, self._starts, hits, self._values, row, pixels)


@njit(cache=True, nogil=True)
def _burn(
    edges: FloatArray, starts: Ints, features: Ints, values: NDArray[np.uint8], first: int, pixels: NDArray[np.uint8]
) -> None:
    """Fill ``pixels`` with the values of some features, by scan lines through the pixel centres (even-odd rule)."""
    height, width = pixels.shape
    begins = np.empty(height + 1, np.int64)
    for feature in features:
        low, high = starts[feature], starts[feature + 1]
        begins[:] = 0
        for e in range(low, high):
            top, bottom = _rows(edges[e, 1], edges[e, 3], first, height)
            for r in range(top, bottom):
                begins[r + 1] += 1
        for r in range(height):
            begins[r + 1] += begins[r]
        crossings = np.empty(begins[height], np.float64)
        filled = begins[:-1].copy()
        for e in range(low, high):
            x0, y0, x1, y1 = edges[e]
            if y0 > y1:  # the same arithmetic for both polygons that share the edge
                x0, y0, x1, y1 = x1, y1, x0, y0
            top, bottom = _rows(y0, y1, first, height)
            for r in range(top, bottom):
                crossings[filled[r]] = x0 + (first + r + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
                filled[r] += 1
        for r in range(height):
            line = np.sort(crossings[begins[r] : begins[r + 1]])
            for k in range(0, len(line) - 1, 2):
                left = max(0.0, np.ceil(line[k] - 0.5))
                right = min(float(width), np.ceil(line[k + 1] - 0.5))
                for c in range(int(left), int(right)):
                    pixels[r, c] = values[feature]


@njit(cache=True, nogil=True)
def _rows(y0: float, y1: float, first: int, height: int) -> tuple[int, int]:
    """Return the rows, counted from ``first`` and within ``height``, whose centres lie between two ordinates."""
    top = np.ceil(min(y0, y1) - 0.5) - first
    bottom = np.ceil(max(y0, y1) - 0.5) - first
    return int(max(0.0, min(top, float(height)))), int(max(0.0, min(bottom, float(height))))
