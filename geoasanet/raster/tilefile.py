"""The image files of one tile: GeoTIFF, PNG or JPEG, with or without georeference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geoasanet.classes import NODATA, Color
from geoasanet.errors import ManifestError, OutputError
from geoasanet.raster.grid import Grid, grid_of
from geoasanet.raster.limits import check_whole, measured
from geoasanet.raster.opening import GDAL_ERRORS
from geoasanet.raster.quiet import quiet_georeference
from geoasanet.sample import BoolArray


def read_image(path: Path) -> tuple[NDArray[Any], BoolArray]:
    """Return the bands but alpha, shape (bands, height, width), and validity, shape (height, width).

    Pixels that are not valid (nodata value, alpha, mask band, no measurement) are 0.

    Raises:
        ManifestError: If the file is missing or unreadable.
    """
    if not path.is_file():
        raise ManifestError(f"Tile file {path} does not exist.", "Add it, or take its name out of the lists.")
    with _opened(path, "Tile file") as dataset:
        alpha = [c == ColorInterp.alpha for c in dataset.colorinterp]
        bands = [i + 1 for i, is_alpha in enumerate(alpha) if not is_alpha]
        pixels = dataset.read(bands)
        if all(MaskFlags.all_valid in dataset.mask_flag_enums[b - 1] for b in bands):
            valid = np.ones(pixels.shape[1:], bool)
        else:
            masks = dataset.read_masks(bands) != 0
            valid = masks.any(axis=0) if pixels.dtype.kind == "u" else masks.all(axis=0)
    valid &= measured(pixels)
    if not valid.all():
        pixels[:, ~valid] = 0
    return pixels, valid


def read_plain(path: Path, most: int) -> tuple[NDArray[Any], Grid | None]:
    """Return the first ``most`` bands at most, shape (bands, height, width), and where they are, if the file says.

    Nodata values, masks and alpha are passed over: the near infrared band of a four-band image is often marked as
    alpha, which it is not.

    Raises:
        ManifestError: If the file is unreadable or holds what is no measurement.
    """
    with _opened(path, "Image") as dataset:
        pixels = dataset.read(list(range(1, min(most, dataset.count) + 1)))
        placed = dataset.crs is not None and not dataset.transform.is_identity
        if not measured(pixels).all():
            raise ManifestError(
                f"Image {path} holds NaN, infinity or absurdly large values.", "Is it a file of the published archive?"
            )
        return pixels, grid_of(dataset, str(path)) if placed else None


@contextlib.contextmanager
def _opened(path: Path, what: str) -> Iterator[Any]:
    """Give the open dataset of an image that is read as a whole.

    Raises:
        ManifestError: If it is unreadable, complex, or declares more than fits into memory; ``what`` names it.
    """
    try:
        with quiet_georeference(), rasterio.open(path) as dataset:
            check_whole(dataset, path, what)
            yield dataset
    except ManifestError:
        raise
    except (*GDAL_ERRORS, ValueError) as error:
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise ManifestError(f"{what} {path} cannot be read: {reason}.", "Copy or make it anew.") from None


def as_gray(sar: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return one band of a grey picture that was saved as three equal ones (JPEG writers do that)."""
    if path.suffix.lower() in (".jpg", ".jpeg", ".png") and sar.shape[0] == 3:
        near = max(np.abs(sar[0].astype(np.int32) - sar[k]).max() for k in (1, 2))
        if near <= 2:
            return np.ascontiguousarray(sar[:1])
    return sar


Save = Callable[[Path, bytes], None]
"""Takes a finished file's path and content; called by several threads."""


def save_bytes(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when whole.

    Raises:
        OutputError: If the disk is full or not writable.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free space on that disk; the same command goes on where it stopped.",
        ) from error


def write_image(path: Path, pixels: NDArray[Any], valid: BoolArray, grid: Grid | None, save: Save = save_bytes) -> None:
    """Write the bands of one sensor.

    Pixels that are not valid get the mean of the valid ones, so that programs that know no masks see something
    neutral; which they are is kept in a mask inside a GeoTIFF, or in the alpha channel of a PNG. The surrounding
    ``rasterio.Env`` must hold :data:`WRITE_OPTIONS`.

    Args:
        path: A ``.tif`` or ``.png`` file.
        pixels: Shape (bands, height, width); changed in place where not valid.
        valid: Shape (height, width); at least one pixel is True.
        grid: Where the pixels are on the ground.
        save: Takes the file, and the sidecar of a PNG that has a place.

    Raises:
        OutputError: If it cannot be written.
    """
    whole = bool(valid.all())
    if not whole:
        mean = pixels[:, valid].mean(axis=1, dtype=np.float64)
        fill = mean if pixels.dtype.kind == "f" else np.rint(mean)
        pixels[:, ~valid] = fill.astype(pixels.dtype)[:, None]
    png = path.suffix == ".png"
    if png and not whole:
        opaque = np.where(valid, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
        pixels = np.concatenate([pixels, opaque[None]])
    options = {} if png else {"interleave": "pixel"}
    with _created(path, pixels, grid, options, save) as dataset:
        dataset.write(pixels)
        if not png and not whole:
            dataset.write_mask(valid)


def write_label(
    path: Path, label: NDArray[np.uint8], grid: Grid | None, palette: Mapping[int, Color], save: Save = save_bytes
) -> None:
    """Write class ids; a GeoTIFF also gets the colours and 255 as nodata, a PNG stays plain grey values.

    Raises:
        OutputError: If it cannot be written.
    """
    png = path.suffix == ".png"
    options = {} if png else {"compress": "deflate", "zlevel": 1, "nodata": NODATA}
    with _created(path, label[None], grid, options, save) as dataset:
        dataset.write(label, 1)
        if not png and palette:
            dataset.write_colormap(1, {i: (*color, 255) for i, color in palette.items()})


WRITE_OPTIONS = {"GDAL_TIFF_INTERNAL_MASK": True}
"""GDAL settings for writing tiles."""


@contextlib.contextmanager
def _created(path: Path, pixels: NDArray[Any], grid: Grid | None, options: dict[str, Any], save: Save) -> Iterator[Any]:
    """Give a new raster in memory, which is saved at the end: GDAL itself may pass over a write that fails."""
    png = path.suffix == ".png"
    place = {} if grid is None or png else {"crs": grid.crs, "transform": grid.transform}
    if not png:
        options = {**options, "blockysize": pixels.shape[1]}  # one strip: the whole tile is always read
    try:
        with MemoryFile() as memory:
            with (
                contextlib.nullcontext() if place else quiet_georeference(),
                memory.open(
                    driver="PNG" if png else "GTiff",
                    count=pixels.shape[0],
                    height=pixels.shape[1],
                    width=pixels.shape[2],
                    dtype=pixels.dtype,
                    **place,
                    **options,
                ) as dataset,
            ):
                yield dataset
            data = memory.read()
    except RasterioError as error:
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise OutputError(f"{path} cannot be made: {reason}.", "Is there enough memory?") from error
    save(path, data)
    if png and grid is not None:
        save(path.with_name(f"{path.name}.aux.xml"), _sidecar(grid))


def _sidecar(grid: Grid) -> bytes:
    """Return GDAL's sidecar file that says where an image is."""
    root = Xml.Element("PAMDataset")
    Xml.SubElement(root, "SRS").text = grid.crs.to_wkt()  # without axis mapping: x before y
    Xml.SubElement(root, "GeoTransform").text = ", ".join(repr(float(v)) for v in grid.transform.to_gdal())
    Xml.indent(root)
    return bytes(Xml.tostring(root)) + b"\n"
