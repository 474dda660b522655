"""A scene: an optical and a SAR raster on one reference grid, each window read on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoasanet.errors import NoOverlapError
from geoasanet.raster.faults import ReadFaults
from geoasanet.raster.grid import Grid
from geoasanet.raster.mosaic import SEPARATOR, is_mosaic
from geoasanet.raster.source import STRIP_ROWS, RasterSource, default_bands
from geoasanet.sample import BoolArray, Sample
from geoasanet.windows import Window

if TYPE_CHECKING:
    from geoasanet.raster.resample import Resampler

PathLike = str | os.PathLike[str]

_STRIP_PIXELS = 1 << 19


class Layer(Protocol):
    """A raster as it appears on the reference grid."""

    source: RasterSource

    @property
    def cache_bytes(self) -> int:
        """Bytes of decoded blocks to keep so that full-width strips, read from top to bottom, decode each only once."""

    def overlaps(self) -> bool:
        """Tell whether the raster reaches the reference grid."""

    def read(self, window: Window) -> tuple[NDArray[Any], BoolArray]:
        """Return pixels (bands, height, width) and validity (height, width) of a window of the reference grid."""


class AlignedLayer:
    """A raster whose pixels are pixels of the reference grid; read without resampling."""

    def __init__(self, source: RasterSource, grid: Grid, offset: tuple[int, int]) -> None:
        self.source = source
        self._grid = grid
        self._offset = offset

    @property
    def cache_bytes(self) -> int:
        """Bytes of the rows of blocks that a strip of :data:`STRIP_ROWS` touches."""
        height, _ = self.source.block_shape
        rows = 1 + (STRIP_ROWS - 1) // height if height < STRIP_ROWS else 1
        return int(1.05 * rows * self.source.block_row_bytes)

    def block_edges(self, start: int, stop: int, least: int) -> range:
        """Return the rows of the reference grid at which rows of blocks begin, if those have ``least`` rows or more."""
        height, _ = self.source.block_shape
        return range(start + (self._offset[0] - start) % height, stop if height >= least else start, height)

    def overlaps(self) -> bool:
        """Tell whether the raster reaches the reference grid."""
        own = Window(*self._offset, self.source.grid.height, self.source.grid.width)
        return own.intersection(self._grid.window) is not None

    def read(self, window: Window) -> tuple[NDArray[Any], BoolArray]:
        """Return the pixels of ``window`` in the raster's dtype, and their validity."""
        row, col = window.row - self._offset[0], window.col - self._offset[1]
        return self.source.read(Window(row, col, window.height, window.width))


class Scene:
    """An optical and a SAR raster over the same ground, on one reference grid.

    The reference grid is the optical raster's own unless another is given. A raster on another grid (CRS,
    resolution, rotation, offset) is warped while it is read; reading a window gives the same bits as slicing a
    larger read.
    """

    def __init__(self, rgb: Layer, sar: Layer, grid: Grid) -> None:
        self.rgb = rgb
        self.sar = sar
        self.grid = grid

    @classmethod
    def open(
        cls,
        rgb: PathLike,
        sar: PathLike,
        *,
        rgb_bands: Sequence[int] | None = None,
        sar_bands: Sequence[int] | None = None,
        sar_count: int = 1,
        grid: Grid | None = None,
        faults: ReadFaults | None = None,
        resampler: Resampler | None = None,
    ) -> Scene:
        """Open both rasters.

        Args:
            rgb: Path, URL or GDAL virtual path of the optical raster.
            sar: The same of the SAR raster.
            rgb_bands: Band numbers (from 1) of red, green and blue; by colour interpretation, else 1, 2, 3.
            sar_bands: Band numbers of the SAR raster; the first ``sar_count`` if None.
            sar_count: SAR bands that are needed.
            grid: Reference grid, if not the optical raster's own.
            faults: Takes the blocks that cannot be read, whose pixels are then without data; None makes them an error.
            resampler: What computes pixels of a raster on another grid; on the CPU if None.

        Raises:
            SceneError: If a raster cannot be opened, lacks bands or georeference, or both do not overlap.
        """
        rgb_source = RasterSource(rgb, rgb_bands or default_bands(rgb, "RGB", 3), "RGB", faults)
        try:
            sar_source = RasterSource(sar, sar_bands or default_bands(sar, "SAR", sar_count), "SAR", faults)
        except BaseException:
            rgb_source.close()
            raise
        try:
            reference = grid or rgb_source.grid
            rgb_layer, sar_layer = (layer_on(reference, source, resampler) for source in (rgb_source, sar_source))
            scene = cls(rgb_layer, sar_layer, reference)
            scene._check_overlap()
        except BaseException:
            rgb_source.close()
            sar_source.close()
            raise
        return scene

    def close(self) -> None:
        """Close both files."""
        self.rgb.source.close()
        self.sar.source.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, window: Window) -> Sample:
        """Return both sensors over ``window`` of the reference grid, which may reach beyond it.

        Raises:
            SceneError: If a block of either file cannot be read.
        """
        rgb, rgb_valid = self.read_layer(self.rgb, window)
        sar, sar_valid = self.read_layer(self.sar, window)
        return Sample(window, rgb, sar, rgb_valid, sar_valid)

    def read_layer(self, layer: Layer, window: Window) -> tuple[NDArray[Any], BoolArray]:
        """Return pixels (bands, height, width) and validity (height, width) of :attr:`rgb` or :attr:`sar`.

        The two may be read at the same time in two threads.

        Raises:
            SceneError: If a block of the file cannot be read.
        """
        data, valid = layer.read(window)
        outside = _outside(window, self.grid.window)
        if outside is not None:
            data[:, outside] = 0
            valid[outside] = False
        return data, valid

    @property
    def block_cache_bytes(self) -> int:
        """GDAL block cache (bytes) that lets rows of windows be read with every block decoded once."""
        return min((8 << 20) + self.rgb.cache_bytes + self.sar.cache_bytes, 2 << 30)

    def strips(self, start: int, stop: int) -> Iterator[range]:
        """Yield the rows from ``start`` to ``stop`` as they are best read: a few at a time.

        Few of a wide scene, for they take memory; not so where one is read in pieces. Rows that a file keeps in two
        rows of blocks are not read at once: the cache would have to hold both.
        """
        aligned = [layer for layer in (self.rgb, self.sar) if isinstance(layer, AlignedLayer)]
        step = STRIP_ROWS
        if len(aligned) == 2:
            step = min(STRIP_ROWS // 2, max(STRIP_ROWS // 8, _STRIP_PIXELS // self.grid.width))
        edges = {edge for layer in aligned for edge in layer.block_edges(start, stop, step)}
        for edge in sorted({*edges, stop}):
            while start < edge:
                end = min(start + step, edge)
                yield range(start, end)
                start = end

    def _check_overlap(self) -> None:
        if not self.sar.overlaps():
            sar = self.sar.source
            raise NoOverlapError(
                f"RGB raster {self.rgb.source.path} ({_describe(self.grid)}) and SAR raster {sar.path} "
                f"({_describe(sar.grid)}) do not overlap.",
                "Check that both show the same place and that each has its own CRS assigned.",
            )


def layer_on(grid: Grid, source: RasterSource, resampler: Resampler | None = None) -> Layer:
    """Return ``source`` as it appears on ``grid``: as it is if the pixels coincide, else warped."""
    offset = source.grid.offset_on(grid)
    if offset is not None:
        return AlignedLayer(source, grid, offset)
    from geoasanet.raster.warp import WarpedLayer  # loads numba: 100 MB that an aligned scene need not hold

    return WarpedLayer(source, grid) if resampler is None else WarpedLayer(source, grid, resampler)


def default_map_path(rgb: PathLike) -> Path:
    """Return where ``predict`` writes by default: ``<stem of rgb>_landcover.tif`` in the current folder."""
    first = str(rgb).split(SEPARATOR, 1)[0].strip().rstrip("/")
    name = Path(first.rsplit("/", 1)[-1].split("?", 1)[0]).stem if "://" in first else Path(first).stem
    if is_mosaic(first):  # a pattern: what it begins with, or the folder's name
        name = name.split("*", 1)[0].split("?", 1)[0].rstrip("_-. ") or Path(first).absolute().parent.name
    return Path(f"{name or 'scene'}_landcover.tif")


def _outside(window: Window, area: Window) -> BoolArray | None:
    inside = window.intersection(area)
    if inside == window:
        return None
    outside = np.ones((window.height, window.width), bool)
    if inside is not None:
        outside[
            inside.row - window.row : inside.row_stop - window.row,
            inside.col - window.col : inside.col_stop - window.col,
        ] = False
    return outside


def _describe(grid: Grid) -> str:
    left, bottom, right, top = grid.bounds
    name = grid.crs.to_string()
    name = name if len(name) < 24 else (grid.crs.to_dict().get("proj") or "custom CRS")
    return f"{name}, {left:.6g} {bottom:.6g} {right:.6g} {top:.6g}"
