"""Labels as they appear on a map's grid, read by rows in bounded memory."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.errors import BandError, NoOverlapError
from geoasanet.raster.burn import PolygonBurner
from geoasanet.raster.crosswalk import LookupTable, MapClasses
from geoasanet.raster.features import LabelFeatures
from geoasanet.raster.grid import Grid
from geoasanet.raster.opening import open_dataset
from geoasanet.raster.polygons.legend import legend_of
from geoasanet.raster.source import RasterSource, default_bands
from geoasanet.raster.warp import CoordinateMap
from geoasanet.windows import Window

_BLOCK = 1024
_CORNER = 1e-6
"""Pixels by which a place is moved before its pixel is taken, so that a corner always falls to the same one."""


class Reference(Protocol):
    """Labels on the map's grid."""

    def read(self, row: int, stop: int) -> NDArray[np.uint8]:
        """Return the map's class ids for some rows, shape (rows, columns), 255 where there is no label."""

    def close(self) -> None:
        """Close files."""


class RasterLabels:
    """A label raster; as it is if its pixels are the map's, else the label under each pixel's centre.

    Coordinates are those of :class:`geoasanet.raster.warp.CoordinateMap`: good to 0.01 label pixels, and the same
    however the map is read.

    Args:
        path: One band of integers; values as in the map, or other ids with names that match the map's.
        grid: The map's grid.
        classes: The map's classes.

    Raises:
        SceneError: If it cannot be opened, or has no CRS or transform.
        BandError: If it has several bands, or no integers.
        NoOverlapError: If it does not reach the map.
    """

    def __init__(self, path: str, grid: Grid, classes: MapClasses) -> None:
        with open_dataset(path, "label") as dataset:
            self.names = _names(dataset)
            count = dataset.count
        bands = default_bands(path, "label", 1)
        self._source = RasterSource(path, bands, "label")
        try:
            self._check(path, count)
            self._table: LookupTable = classes.table(self.names, path)
            self._grid = grid
            self._offset = self._source.grid.offset_on(grid)
            self._coordinates = None
            if self._offset is None:
                self._coordinates = CoordinateMap(grid, self._source.grid, path)
                overlaps = self._coordinates.reaches_source()
            else:
                own = Window(*self._offset, self._source.grid.height, self._source.grid.width)
                overlaps = own.intersection(grid.window) is not None
            if not overlaps:
                raise NoOverlapError(
                    f"The labels {path} and the map {classes.path} do not overlap.",
                    "Check that both show the same place and that each has its own CRS assigned.",
                )
        except BaseException:
            self._source.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def read(self, row: int, stop: int) -> NDArray[np.uint8]:
        """Return the map's class ids for some rows, shape (rows, columns), 255 where there is no label.

        Raises:
            SceneError: If a block cannot be read.
            LabelError: If a value is no class of the map.
        """
        if self._offset is not None:
            first, col = self._offset
            pixels, valid = self._source.read(Window(row - first, -col, stop - row, self._grid.width))
            return self._table.apply(pixels[0], valid)
        assert self._coordinates is not None
        side = int(max(16, min(_BLOCK, 4 * _BLOCK / max(self._coordinates.shrink))))
        result = np.full((stop - row, self._grid.width), NODATA, np.uint8)
        for top in range(row, stop, side):
            for left in range(0, self._grid.width, side):
                block = Window(top, left, min(side, stop - top), min(side, self._grid.width - left))
                result[top - row : top - row + block.height, left : left + block.width] = self._nearest(block)
        return result

    def _nearest(self, block: Window) -> NDArray[np.uint8]:
        coordinates = self._coordinates
        assert coordinates is not None
        nodes = coordinates.nodes(block)
        needed = coordinates.source_window(nodes)
        result = np.full((block.height, block.width), NODATA, np.uint8)
        if needed is None:
            return result
        places = [_between(values, nodes[2], nodes[3], coordinates.spacing, block) for values in nodes[:2]]
        with np.errstate(invalid="ignore"):
            rows, cols = (np.floor(p + _CORNER) for p in places)
            inside = (rows >= needed.row) & (rows < needed.row_stop) & (cols >= needed.col) & (cols < needed.col_stop)
        if not inside.any():
            return result
        pixels, valid = self._source.read(needed)
        at = rows[inside].astype(np.int64) - needed.row, cols[inside].astype(np.int64) - needed.col
        result[inside] = self._table.apply(pixels[0][at], valid[at])
        return result

    def _check(self, path: str, count: int) -> None:
        if count > 2 or self._source.dtype.kind not in "ui":
            raise BandError(
                f"The labels {path} have {count} band{'s' * (count != 1)} of {self._source.dtype}; "
                "one band of whole numbers is needed.",
                f"Convert it: gdal_translate -b 1 -ot Byte {path} labels.tif",
            )


class PolygonLabels:
    """Label polygons: the class of a pixel is that of the polygon in which its centre lies, the last one if several.

    Args:
        features: The polygons.
        grid: The map's grid.
        map_path: The map, for messages.

    Raises:
        NoOverlapError: If no polygon reaches the map.
    """

    def __init__(self, features: LabelFeatures, grid: Grid, map_path: str) -> None:
        self._width = grid.width
        self._burner = PolygonBurner(features.geometry, features.ids)
        if not self._burner.reaches(grid.height, grid.width):
            raise NoOverlapError(
                f"The polygons of {features.path} and the map {map_path} do not overlap.",
                "Check that both show the same place and that each has its own CRS assigned.",
            )

    def close(self) -> None:
        """Nothing is open."""

    def read(self, row: int, stop: int) -> NDArray[np.uint8]:
        """Return the map's class ids for some rows, shape (rows, columns), 255 where there is no label."""
        pixels = np.full((stop - row, self._width), NODATA, np.uint8)
        self._burner.burn(row, pixels)
        return pixels


def _between(values: NDArray[np.float64], row0: int, col0: int, spacing: int, block: Window) -> NDArray[np.float64]:
    """Return control points' values at the pixel centres of ``block``, bilinear; shape (height, width)."""

    def weights(first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        place = (np.arange(count) + first + 0.5) / spacing
        index = place.astype(np.int64)
        return index, place - index

    i, down = weights(block.row - row0, block.height)
    j, across = weights(block.col - col0, block.width)
    with np.errstate(invalid="ignore"):
        lines = values[i] * (1 - down)[:, None] + values[i + 1] * down[:, None]
        return np.asarray(lines[:, j] * (1 - across) + lines[:, j + 1] * across)


def _names(dataset: Any) -> dict[int, str]:
    """Return the names that a label raster gives its ids; empty if none."""
    return {i: name for i, name in enumerate(legend_of(dataset, []).names) if name != f"class {i}"}
