"""Reading a class map, and the confidence beside it, strip by strip from many threads."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterioWindow

from geoasanet.classes import NODATA
from geoasanet.errors import BandError, GridError
from geoasanet.raster.grid import Grid, grid_of
from geoasanet.raster.opening import open_dataset, reading
from geoasanet.windows import Window

STRIP_PIXELS = 1 << 22
"""Pixels of a strip, about."""
LEAST_CACHE_MB = 64
"""Size of GDAL's block cache while strips are read, at least; its default would keep most of the map."""


class _Reader:
    """One band of a raster with a handle for each thread.

    Raises:
        SceneError: If it cannot be opened.
        GridError: If it has no CRS or transform.
        BandError: If it has more than one band besides alpha.
    """

    role: ClassVar[str]

    def __init__(self, path: str, handles: int) -> None:
        self.path = path
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._open: list[Any] = []
        try:
            for _ in range(handles):
                dataset = open_dataset(path, self.role)
                self._idle.put(dataset)
                self._open.append(dataset)
            self.dataset = self._open[0]
            self.grid: Grid = grid_of(self.dataset, path)
            self._check()
        except BaseException:
            self.close()
            raise
        flags = self.dataset.mask_flag_enums[0]
        self._masked = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
        self._nodata = self.dataset.nodata

    def close(self) -> None:
        """Close all handles; one that a thread reads with, when it has read."""
        for dataset in [self._idle.get() for _ in self._open]:
            dataset.close()
            self._idle.put(dataset)  # a thread that comes later is told that it is closed

    @property
    def cache_mb(self) -> int:
        """Megabytes of block cache that threads need to decode every block once, if they read full rows."""
        rows = int(self.dataset.block_shapes[0][0])
        row_bytes = self.grid.width * np.dtype(self.dataset.dtypes[0]).itemsize * self.dataset.count
        return LEAST_CACHE_MB + int(2 * len(self._open) * rows * row_bytes >> 20)

    def _check(self) -> None:
        data = [c for c in self.dataset.colorinterp if c != ColorInterp.alpha]
        if len(data) != 1:
            raise BandError(
                f"The {self.role} raster {self.path} has {len(data)} bands, one is needed.",
                f"Extract one: gdal_translate -b 1 {self.path} one_band.tif",
            )

    def _pixels(self, row: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return the pixels of some rows, and True where a mask says that there is no data."""
        window = Window(row, 0, stop - row, self.grid.width)
        area = RasterioWindow(0, row, window.width, window.height)
        with self._handle() as dataset, reading(self.path, self.role, window):
            pixels = dataset.read(1, window=area)
            hidden = dataset.read_masks(1, window=area) == 0 if self._masked else None
        return pixels, hidden

    @contextlib.contextmanager
    def _handle(self) -> Iterator[Any]:
        dataset = self._idle.get()
        try:
            yield dataset
        finally:
            self._idle.put(dataset)


class MapReader(_Reader):
    """A class map: integers below 255, nodata and 255 where there is no class.

    Raises:
        SceneError: If it cannot be opened.
        GridError: If it has no CRS or transform.
        BandError: If it has several bands, or no integers.
    """

    role = "map"

    def _check(self) -> None:
        super()._check()
        dtype = self.dataset.dtypes[0]
        if not dtype.startswith(("uint", "int")):  # numpy does not know all of GDAL's types
            raise BandError(
                f"The map {self.path} holds {dtype} values; class ids must be integers.",
                f"If they are whole numbers 0 to 254, convert it: gdal_translate -ot Byte {self.path} map.tif",
            )

    def strips(self, rows: int | None = None) -> list[tuple[int, int]]:
        """Return (first row, row after the last) of consecutive strips; ``rows`` each, or as many as suit the file."""
        if rows is None:
            block = int(self.dataset.block_shapes[0][0])
            wanted = max(1, STRIP_PIXELS // self.grid.width)
            rows = wanted // block * block if block <= wanted else wanted
        return [(row, min(row + rows, self.grid.height)) for row in range(0, self.grid.height, rows)]

    def read(self, row: int, stop: int) -> NDArray[np.uint8]:
        """Return the classes of some rows, uint8 of shape (rows, columns), 255 where there is none.

        Raises:
            SceneError: If a block cannot be read.
            BandError: If a value is no class id.
        """
        pixels, hidden = self._pixels(row, stop)
        if self._nodata is not None and self._nodata != NODATA:
            empty = pixels == self._nodata
            hidden = empty if hidden is None else hidden | empty
        if hidden is not None and hidden.any():
            pixels[hidden] = 0
        if pixels.dtype != np.uint8:
            odd = (pixels < 0) | (pixels > NODATA)
            if odd.any():
                i, j = (int(v[0]) for v in np.nonzero(odd))
                raise BandError(
                    f"The map {self.path} has value {pixels[i, j]} at row {row + i}, column {j}; "
                    f"class ids are 0 to {NODATA - 1}, {NODATA} is nodata.",
                    "Renumber the classes, or set the nodata value: gdal_edit.py -a_nodata VALUE FILE",
                )
            pixels = pixels.astype(np.uint8)
        if hidden is not None:
            pixels[hidden] = NODATA
        return pixels


class ConfidenceReader(_Reader):
    """Confidence of each pixel's class on the map's grid: floats 0..1, or integers with a scale.

    Args:
        path: The raster.
        handles: How many threads read it.
        grid: The map's grid.
        map_path: The map, for messages.

    Raises:
        SceneError: If it cannot be opened.
        GridError: If it is not on the map's grid.
        BandError: If it has several bands, or integers without a scale.
    """

    role = "confidence"

    def __init__(self, path: str, handles: int, grid: Grid, map_path: str) -> None:
        super().__init__(path, handles)
        own = self.grid
        if (own.height, own.width) != (grid.height, grid.width) or own.offset_on(grid) != (0, 0):
            self.close()
            raise GridError(
                f"The confidence raster {path} is on another grid ({_describe(own)}) than the map {map_path} "
                f"({_describe(grid)}).",
                "Give the one that was written with the map, or warp it onto the map's grid with gdalwarp.",
            )
        self._scale, self._offset = self.dataset.scales[0], self.dataset.offsets[0]

    def _check(self) -> None:
        super()._check()
        dtype = self.dataset.dtypes[0]
        kind = "c" if dtype.startswith("complex") else np.dtype(dtype).kind  # numpy has no complex integers
        if kind not in "uif":
            raise BandError(
                f"The confidence raster {self.path} holds {self.dataset.dtypes[0]} values; 0 to 1 is needed.",
                "Give the one that predict --confidence wrote.",
            )
        if kind in "ui" and self.dataset.scales[0] == 1:
            raise BandError(
                f"The confidence raster {self.path} holds integers ({self.dataset.dtypes[0]}) without a scale.",
                "Say what they mean, for instance for 0..255: gdal_edit.py -scale 0.00392156862745098 FILE",
            )

    def read(self, row: int, stop: int) -> NDArray[np.float32]:
        """Return the confidence of some rows, float32 of shape (rows, columns), NaN where there is none.

        Raises:
            SceneError: If a block cannot be read.
            BandError: If a value is not within 0..1.
        """
        pixels, hidden = self._pixels(row, stop)
        with np.errstate(over="ignore"):  # infinity is refused below
            result = np.asarray(pixels * self._scale + self._offset, np.float32)
        if self._nodata is not None:
            result[pixels == self._nodata] = np.nan
        if hidden is not None:
            result[hidden] = np.nan
        odd = (result < -1e-6) | (result > 1 + 1e-6)
        if odd.any():
            i, j = (int(v[0]) for v in np.nonzero(odd))
            raise BandError(
                f"The confidence raster {self.path} has value {result[i, j]:g} at row {row + i}, column {j}; "
                "0 to 1 is needed.",
                "Give the one that predict --confidence wrote, or set the band's scale with gdal_edit.py -scale.",
            )
        return result


class Part:
    """Some rows of a map or a confidence raster, to be read as if they were all.

    Args:
        reader: The whole.
        row: First row.
        stop: Row after the last.
    """

    def __init__(self, reader: MapReader | ConfidenceReader, row: int, stop: int) -> None:
        self._reader, self._row = reader, row
        self.grid: Grid = reader.grid.crop(Window(row, 0, stop - row, reader.grid.width))
        self.cache_mb = reader.cache_mb

    def strips(self, rows: int | None = None) -> list[tuple[int, int]]:
        """Return all rows as one strip, or ``rows`` each."""
        height = self.grid.height
        return [(row, min(row + (rows or height), height)) for row in range(0, height, rows or height)]

    def read(self, row: int, stop: int) -> NDArray[Any]:
        """Return the pixels of some of these rows, counted from their first."""
        return self._reader.read(self._row + row, self._row + stop)


def _describe(grid: Grid) -> str:
    west, _, _, north = grid.bounds
    width, height = grid.resolution
    crs = grid.crs.to_string()
    crs = crs if len(crs) < 40 else "a CRS of its own"
    return f"{grid.height} × {grid.width} px of {width:g} × {height:g} from {west:.10g}, {north:.10g} in {crs}"
