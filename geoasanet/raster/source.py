"""One raster file, opened for reading pixels and their validity."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoasanet.errors import BandError, SceneError
from geoasanet.raster.grid import Grid, grid_of
from geoasanet.sample import BoolArray
from geoasanet.windows import Window

READ_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "VSI_CACHE": "TRUE",
}
"""GDAL settings for reading; they matter for remote files."""

STRIP_ROWS = 64
"""Rows of a scene that are read at a time, at most, when it is mapped."""

_DECODERS = str(min(8, os.cpu_count() or 1))  # threads that decode the blocks of one read, where the format can


GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises when GDAL fails; the second is not always wrapped in the first."""


class RasterSource:
    """Bands of one raster, read by window; a handle belongs to one thread at a time.

    Validity: a pixel has data where GDAL's masks (nodata value, alpha band, mask band) say so and every selected
    band is finite. For a nodata value, optical convention holds for unsigned integer rasters (invalid only where all
    selected bands hold it, since one dark band is no gap) and the strict one otherwise (invalid where any band does).

    Args:
        path: A path, URL or GDAL virtual path.
        bands: Band numbers from 1.
        role: What the raster is to the user, for messages: "RGB", "SAR", "map", …

    Raises:
        SceneError: If it cannot be opened.
        BandError: If it lacks a band, or a band is complex.
        GridError: If it has no CRS or transform.
    """

    def __init__(self, path: str | os.PathLike[str], bands: Sequence[int], role: str = "raster") -> None:
        self.path = str(path)
        self.role = role
        self.bands = tuple(bands)
        self._dataset = open_dataset(self.path, role)
        try:
            self._check_bands()
            self.grid: Grid = grid_of(self._dataset, self.path)
            with reading(self.path, role, "its header"):
                flags = [self._dataset.mask_flag_enums[b - 1] for b in self.bands]
        except BaseException:
            self._dataset.close()
            raise
        self.dtype = np.result_type(*(np.dtype(self._dataset.dtypes[b - 1]) for b in self.bands))
        self._masked = any(MaskFlags.all_valid not in f for f in flags)
        self._shared_mask = all(MaskFlags.per_dataset in f for f in flags)
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
        """Bytes of one decoded block of the bands that are read."""
        height, width = self.block_shape
        count = self._dataset.count if self._dataset.profile.get("interleave") == "pixel" else len(self.bands)
        return height * width * int(self.dtype.itemsize) * count

    @property
    def block_row_bytes(self) -> int:
        """Bytes of one full-width row of decoded blocks of the bands that are read."""
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

    def sample_pixels(self, probes: int = 7, side: int = 64) -> NDArray[Any]:
        """Return valid pixels from ``probes`` x ``probes`` windows of ``side`` pixels spread evenly over the raster.

        Returns:
            Array of shape (bands, pixels); the same for every call.

        Raises:
            SceneError: If a block cannot be read.
        """
        grid = self.grid
        height, width = min(side, grid.height), min(side, grid.width)
        rows = np.unique(np.linspace(0, grid.height - height, probes).astype(int))
        cols = np.unique(np.linspace(0, grid.width - width, probes).astype(int))
        found = []
        for row in rows:
            for col in cols:
                pixels, valid = self._read_inside(Window(int(row), int(col), height, width))
                found.append(pixels[:, valid])
        return np.concatenate(found, axis=1)

    def _read_inside(self, window: Window) -> tuple[NDArray[Any], BoolArray]:
        area = RasterioWindow(window.col, window.row, window.width, window.height)
        with reading(self.path, self.role, window):
            pixels = self._dataset.read(list(self.bands), window=area, out_dtype=self.dtype)
            valid = np.ones(pixels.shape[1:], bool)
            if self._shared_mask:
                valid = self._dataset.read_masks(self.bands[0], window=area) != 0
            elif self._masked:
                masks = self._dataset.read_masks(list(self.bands), window=area)
                valid = self._combine(masks != 0, axis=0)
        if self.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
        if not valid.all():
            pixels[:, ~valid] = 0
        return pixels, valid

    def _check_bands(self) -> None:
        count = self._dataset.count
        missing = [b for b in self.bands if not 1 <= b <= count]
        if missing or not self.bands:
            option = f"--{self.role.lower()}-bands" if self.role in ("RGB", "SAR") else "the bands"
            raise BandError(
                f"{self.role} raster {self.path} has {count} band{'s' * (count != 1)}; "
                f"band{'s' * (len(missing) != 1)} {', '.join(map(str, missing)) or 'none'} cannot be read.",
                f"Choose bands from 1 to {count} with {option}.",
            )
        for band in self.bands:
            dtype = self._dataset.dtypes[band - 1]
            if dtype.startswith("complex"):
                raise BandError(
                    f"Band {band} of {self.role} raster {self.path} is complex ({dtype}).",
                    "Convert it to intensity first (gdal_calc.py, SNAP), for instance 10·log10(|z|²).",
                )


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


def open_dataset(path: str, role: str) -> Any:
    """Return the open rasterio dataset of ``path``.

    Raises:
        SceneError: If it is missing, not a raster, or damaged.
    """
    if _is_local(path) and not Path(path).exists():
        raise SceneError(f"{role} raster {path} does not exist.", "Check the path.")
    if _is_local(path) and Path(path).is_dir():
        raise SceneError(f"{role} raster {path} is a folder.", "Give the raster file itself.")
    try:
        with quiet_georeference(), rasterio.Env(GDAL_NUM_THREADS=_DECODERS):
            dataset = rasterio.open(path)
    except (*GDAL_ERRORS, ValueError) as error:
        raise SceneError(
            f"{role} raster {path} cannot be opened: {_reason(error, path)}.",
            "Is it a GeoTIFF or another raster that gdalinfo can read, and complete?",
        ) from None
    if dataset.count == 0:
        dataset.close()
        raise SceneError(
            f"{role} raster {path} holds no bands (a container of {len(dataset.subdatasets)} subdatasets?).",
            "Give one subdataset as listed by gdalinfo.",
        )
    return dataset


@contextlib.contextmanager
def reading(path: str, role: str, what: object) -> Iterator[None]:
    """Turn GDAL's read errors into a :class:`SceneError` that names the file and ``what`` was read (a window)."""
    try:
        yield
    except GDAL_ERRORS as error:
        cause = error.__cause__ or error
        raise SceneError(
            f"{role} raster {path} is unreadable in {what}: {_reason(cause, path)}.",
            "The file is truncated or damaged; copy or make it anew.",
        ) from None
    except MemoryError:
        raise SceneError(f"{role} raster {path}: not enough memory to read {what}.", "") from None


class _Quiet:
    """Hides a kind of warning while anyone asks for it, in any thread; what Python offers is for one thread."""

    def __init__(self, category: type[Warning]) -> None:
        self._category = category
        self._lock = threading.Lock()
        self._users = 0
        self._saved = warnings.catch_warnings()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore", self._category)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._saved.__exit__(None, None, None)


quiet_georeference = _Quiet(rasterio.errors.NotGeoreferencedWarning)
"""Context manager that silences rasterio's warning on rasters without georeference; :func:`grid_of` explains better."""


def _is_local(path: str) -> bool:
    return "://" not in path and not path.startswith("/vsi") and not path.lstrip().startswith("<")


def _reason(error: BaseException, path: str) -> str:
    text = str(error).strip().rstrip(".").replace("\n", " ")
    text = text.removeprefix(f"{path}: ").removeprefix(f"'{path}' ")
    return text or type(error).__name__
