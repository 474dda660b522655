"""Opening rasters, and errors of GDAL in our words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from geoasanet.errors import SceneError
from geoasanet.raster.limits import check_openable, check_size
from geoasanet.raster.mosaic import Header, is_mosaic, mosaic_members, mosaic_vrt
from geoasanet.raster.quiet import quiet_georeference, quiet_hdf5
from geoasanet.raster.remote import INTERRUPTED_HINT, UNREACHABLE_HINT, is_remote, open_options, refusal

_DECODERS = min(8, os.cpu_count() or 1)  # threads that decode the blocks of one read, where the format can

GDAL_ERRORS = (RasterioError, CPLE_BaseError, SystemError)
"""What rasterio raises when GDAL fails; the second is not always wrapped in the first, and the third is what it raises
where GDAL fails without saying why."""

_NO_RASTER_HINT = "Is it a GeoTIFF or another raster that gdalinfo can read, and complete?"
_DAMAGED_HINT = "The file is truncated or damaged; copy or make it anew."


def open_dataset(path: str, role: str, decoders: int = _DECODERS) -> Any:
    """Return the open rasterio dataset of ``path``, whose blocks ``decoders`` threads decode.

    Raises:
        SceneError: If it is missing, not a raster, damaged, or declares more than can be read.
    """
    if is_mosaic(path):
        return _open_mosaic(path, role, decoders)
    check_openable(path, role)
    return _open(path, path, role, decoders)


def _open_mosaic(path: str, role: str, decoders: int) -> Any:
    """Open several files as one virtual raster."""
    headers = []
    for name in mosaic_members(path, role):
        with open_dataset(name, role) as dataset:
            headers.append(Header.of(dataset))
    return _open(mosaic_vrt(headers, path, role), path, role, decoders)


def _open(what: str, path: str, role: str, decoders: int) -> Any:
    """Open ``what``, which messages call ``path``."""
    try:
        options = open_options(path)
        with quiet_georeference(), quiet_hdf5(what):
            with rasterio.Env(GDAL_NUM_THREADS=str(decoders), **options):
                dataset = rasterio.open(what)
            plain = dataset.driver == "GTiff" and dataset.compression is None
            if plain and decoders > 1 and not is_remote(path):
                dataset.close()  # nothing to decode: handing blocks to threads costs more than copying them
                with rasterio.Env(GDAL_NUM_THREADS="1", **options):
                    dataset = rasterio.open(what)
    except (*GDAL_ERRORS, ValueError) as error:
        reason = (is_remote(path) and refusal(path)) or reason_of(error, path)
        hint = UNREACHABLE_HINT if is_remote(path) else _NO_RASTER_HINT
        raise SceneError(f"{role} raster {path} cannot be opened: {reason}.", hint) from None
    if dataset.count == 0:
        dataset.close()
        raise SceneError(
            f"{role} raster {path} holds no bands (a container of {len(dataset.subdatasets)} subdatasets?).",
            "Give one subdataset as listed by gdalinfo.",
        )
    try:
        with reading(path, role, "its header"):  # what GDAL puts off until it is asked for
            _ = dataset.crs, dataset.transform, dataset.colorinterp, dataset.tags()
        check_size(dataset, path, role)
    except SceneError:
        dataset.close()
        raise
    return dataset


@contextlib.contextmanager
def reading(path: str, role: str, what: object) -> Iterator[None]:
    """Turn GDAL's read errors into a :class:`SceneError` that names the file and ``what`` was read (a window)."""
    try:
        yield
    except GDAL_ERRORS as error:
        raise unreadable(path, role, what, error, _DAMAGED_HINT) from None
    except MemoryError:
        raise SceneError(f"{role} raster {path}: not enough memory to read {what}.", "") from None


def unreadable(path: str, role: str, what: object, error: BaseException, hint: str) -> SceneError:
    """Return the error for ``what`` of a raster that GDAL could not read."""
    hint = INTERRUPTED_HINT if is_remote(path) else hint
    return SceneError(
        f"{role} raster {path} is unreadable in {what}: {reason_of(error.__cause__ or error, path)}.", hint
    )


def reason_of(error: BaseException, path: str) -> str:
    """Return why GDAL failed, in one line that does not name the file again."""
    text = str(error).strip().rstrip(".").replace("\n", " ")
    text = text.removeprefix(f"{path}: ").removeprefix(f"'{path}' ")
    return text or type(error).__name__
