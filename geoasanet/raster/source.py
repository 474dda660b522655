"""One raster file, opened for reading pixels and their validity."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterioWindow

from geoasanet.errors import BandError
from geoasanet.raster.bandcheck import check_bands
from geoasanet.raster.faults import ReadFaults
from geoasanet.raster.grid import Grid, grid_of
from geoasanet.raster.limits import measured
from geoasanet.raster.opening import GDAL_ERRORS, open_dataset, reading, reason_of, unreadable
from geoasanet.raster.probes import probe_windows
from geoasanet.sample import BoolArray
from geoasanet.windows import Window

STRIP_ROWS = 128
"""Rows of a scene that are read at a time, at most, when it is mapped."""

_ON_ERROR_HINT = "The file is damaged; copy or make it anew, or add --on-error nodata to leave such blocks out."


class RasterSource:
    """Bands of one raster, read by window; a handle belongs to one thread at a time.

    Validity: a pixel has data where GDAL's masks (nodata value, alpha band, mask band) say so and every selected
    band holds a measurement (:func:`~geoasanet.raster.limits.measured`: finite and of sane size). For a nodata value,
    optical convention holds for unsigned integer rasters (invalid only where all selected bands hold it, since one
    dark band is no gap) and the strict one otherwise (invalid where any band does).

    Args:
        path: A path, URL or GDAL virtual path.
        bands: Band numbers from 1.
        role: What the raster is to the user, for messages: "RGB", "SAR", "map", …
        faults: Takes the blocks that cannot be read; their pixels are then not valid. None makes them an error.

    Raises:
        SceneError: If it cannot be opened.
        BandError: If it lacks a band, or a band is complex.
        GridError: If it has no CRS or transform.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        bands: Sequence[int],
        role: str = "raster",
        faults: ReadFaults | None = None,
    ) -> None:
        self.path = str(path)
        self.role = role
        self._faults = faults
        self.bands = tuple(bands)
        self._dataset = open_dataset(self.path, role)
        try:
            check_bands(self._dataset, self.bands, self.path, role)
            self.grid: Grid = grid_of(self._dataset, self.path)
            with reading(self.path, role, "its header"):
                flags = [self._dataset.mask_flag_enums[b - 1] for b in self.bands]
        except BaseException:
            self._dataset.close()
            raise
        dtypes = self._dataset.dtypes
        self.dtype = np.result_type(*(np.dtype(dtypes[b - 1]) for b in self.bands))
        self._masked = any(MaskFlags.all_valid not in f for f in flags)
        self._shared_mask = all(MaskFlags.per_dataset in f for f in flags)
        self._alpha = self._shared_mask and any(MaskFlags.alpha in f for f in flags)
        any_band_suffices = self.dtype.kind == "u"
        self._combine = np.logical_or.reduce if any_band_suffices else np.logical_and.reduce

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of the file's blocks."""
        height, width = self._dataset.block_shapes[self.bands[0] - 1]
        return int(height), int(width)

    @property
    def block_bytes(self) -> int:
        """Bytes of one decoded block of the bands that are read, and of the mask that they share."""
        height, width = self.block_shape
        together = self._dataset.profile.get("interleave") == "pixel"
        count = self._dataset.count if together else len(self.bands) + self._alpha
        return height * width * (int(self.dtype.itemsize) * count + (self._shared_mask and not self._alpha))

    @property
    def block_row_bytes(self) -> int:
        """Bytes of one full-width row of decoded blocks; see :attr:`block_bytes`."""
        return self.block_bytes * -(-self.grid.width // self.block_shape[1])

    def read(self, window: Window) -> tuple[NDArray[Any], BoolArray]:
        """Return the pixels of ``window`` and where they have data.

        The window may reach beyond the raster; what lies outside is not valid. Pixels that are not valid are 0.

        Returns:
            Array of shape (bands, height, width) in :attr:`dtype`, and boolean array of shape (height, width).

        Raises:
            SceneError: If a block cannot be read.
        """
        inside = window.intersection(self.grid.window)
        if inside == window:
            return self._read_inside(window)
        data = np.zeros((len(self.bands), window.height, window.width), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        if inside is None:
            return data, valid
        target = np.s_[
            inside.row - window.row : inside.row_stop - window.row,
            inside.col - window.col : inside.col_stop - window.col,
        ]
        pixels, has_data = self._read_inside(inside)
        data[:, target[0], target[1]] = pixels
        valid[target] = has_data
        return data, valid

    def sample_pixels(self) -> NDArray[Any]:
        """Return valid pixels of small windows that are spread evenly over the raster.

        Returns:
            Array of shape (bands, pixels); the same for every call.

        Raises:
            SceneError: If a block cannot be read.
        """
        grid, found = self.grid, np.zeros((len(self.bands), 0), self.dtype)
        for thorough in (False, True):
            windows = probe_windows(grid.height, grid.width, self.block_shape, self.block_bytes, thorough=thorough)
            parts = [self._read_inside(window) for window in windows]
            found = np.concatenate([pixels[:, valid] for pixels, valid in parts], axis=1)
            if found.shape[1]:
                break
        return found

    def _read_inside(self, window: Window) -> tuple[NDArray[Any], BoolArray]:
        """Return pixels and validity of a window inside the raster."""
        with reading(self.path, self.role, window):
            try:
                return self._read_at_once(window)
            except GDAL_ERRORS:  # which block it is will be found out
                # A handle that decodes in threads must go: such an error leaves noise in its cache as if it were read.
                self._dataset.close()
                self._dataset = open_dataset(self.path, self.role, decoders=1)
            pixels = np.zeros((len(self.bands), window.height, window.width), self.dtype)
            valid = np.zeros(pixels.shape[1:], bool)
            for block in self._blocks(window):
                self._read_block(block, window, pixels, valid)
        return pixels, valid

    def _read_at_once(self, window: Window) -> tuple[NDArray[Any], BoolArray]:
        area = RasterioWindow(window.col, window.row, window.width, window.height)
        pixels = self._dataset.read(list(self.bands), window=area, out_dtype=self.dtype)
        valid = measured(pixels)
        if self._shared_mask:
            valid &= self._dataset.read_masks(self.bands[0], window=area) != 0
        elif self._masked:
            masks = self._dataset.read_masks(list(self.bands), window=area)
            valid &= self._combine(masks != 0, axis=0)
        if not valid.all():
            pixels[:, ~valid] = 0
        return pixels, valid

    def _read_block(self, block: Window, window: Window, pixels: NDArray[Any], valid: BoolArray) -> None:
        """Read what ``window`` has of a block into its arrays, or note that the block cannot be read."""
        part = block.intersection(window)
        assert part is not None
        # A part of a virtual raster's block may be readable where the whole is not; all windows must agree.
        asked = block if self._dataset.driver == "VRT" else part
        try:
            found, has_data = self._read_at_once(asked)
        except GDAL_ERRORS as error:
            if self._faults is None:
                raise unreadable(self.path, self.role, block, error, _ON_ERROR_HINT) from None
            self._faults.add(self.path, self.role, block, reason_of(error.__cause__ or error, self.path))
            return
        source = Window(part.row - asked.row, part.col - asked.col, part.height, part.width).slices
        target = Window(part.row - window.row, part.col - window.col, part.height, part.width).slices
        pixels[:, *target] = found[:, *source]
        valid[target] = has_data[source]

    def _blocks(self, window: Window) -> Iterator[Window]:
        """Yield the file's blocks that a window touches, those at the edges cut off where the raster ends."""
        height, width = self.block_shape
        for row in range(window.row // height * height, window.row_stop, height):
            for col in range(window.col // width * width, window.col_stop, width):
                block = Window(row, col, height, width).intersection(self.grid.window)
                assert block is not None
                yield block


def default_bands(path: str | os.PathLike[str], role: str, wanted: int) -> tuple[int, ...]:
    """Return the band numbers to read where none were asked for.

    For RGB, bands whose colour interpretation is red, green and blue, else the first ``wanted``; for others the
    first ``wanted``. Alpha bands are never counted.

    Raises:
        SceneError: If the file cannot be opened.
        BandError: If it has fewer than ``wanted`` bands of data.
    """
    dataset = open_dataset(str(path), role)
    with dataset:
        interpretation = dataset.colorinterp
        data = [i + 1 for i, c in enumerate(interpretation) if c != ColorInterp.alpha]
        if role == "RGB":
            colored = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
            if all(c in interpretation for c in colored):
                return tuple(interpretation.index(c) + 1 for c in colored)
            if dataset.count and interpretation[0] == ColorInterp.palette:
                raise BandError(
                    f"{role} raster {path} is a paletted image with one band.",
                    f"Expand it to three bands first: gdal_translate -expand rgb {path} rgb.tif",
                )
    if len(data) < wanted:
        raise BandError(
            f"{role} raster {path} has {len(data)} band{'s' * (len(data) != 1)}, {wanted} are needed.",
            "Check that the rasters are in the order RGB, SAR, and that the checkpoint fits the sensor.",
        )
    return tuple(data[:wanted])
