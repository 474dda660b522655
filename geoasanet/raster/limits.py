"""What a raster may be, checked before memory is taken for it, and which of its values are measurements."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.bands import LARGEST
from geoasanet.errors import ManifestError, SceneError
from geoasanet.sample import BoolArray

LARGEST_SIDE = 2**24
"""Most rows or columns of a raster: four times the equator in pixels of 10 m. A file may declare up to 2³¹."""
LARGEST_PIXELS = 2**42
"""Most pixels of a raster: the Earth's surface in pixels of 11 m."""
LARGEST_BLOCK = 2 * 2**30
"""Most bytes of one decoded block, which GDAL holds in memory as a whole."""
LARGEST_IMAGE = 2 * 2**30
"""Most bytes of an image that is read as a whole: a tile, or a scene of a published archive."""
LARGEST_VALUE = LARGEST
"""Largest magnitude of a measurement. What is larger, such as -3.4e38 or 1e300, marks missing data that the file does
not declare, and would overflow in a network."""


def check_openable(path: str, role: str) -> None:
    """Raise unless ``path`` is a file, or something that only GDAL can look for.

    Opening a named pipe or a device would wait, or read, forever.

    Raises:
        SceneError: If it does not exist, or is a folder or no regular file.
    """
    if "://" in path or path.startswith("/vsi") or path.lstrip().startswith("<"):
        return
    try:
        local = Path(path)
        if not local.exists():
            raise SceneError(f"{role} raster {path} does not exist.", "Check the path.")
        if local.is_dir():
            raise SceneError(f"{role} raster {path} is a folder.", "Give the raster file itself.")
        if not local.is_file():
            raise SceneError(f"{role} raster {path} is a pipe or device, no file.", "Give a raster file.")
    except SceneError:
        raise
    except (OSError, ValueError) as error:  # a name too long, links in a circle, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise SceneError(f"{role} raster {path!r} cannot be looked up ({reason}).", "Check the path.") from None


def check_size(dataset: Any, path: str, role: str) -> None:
    """Raise for an open rasterio dataset that declares more than can be worked on.

    Raises:
        SceneError: If it has too many pixels, or a block that is too large to be held.
    """
    height, width = dataset.height, dataset.width
    if max(height, width) > LARGEST_SIDE or height * width > LARGEST_PIXELS:
        raise SceneError(
            f"{role} raster {path} declares {height} x {width} pixels (rows x columns); at most {LARGEST_SIDE} on a "
            f"side and {LARGEST_PIXELS} in all are read.",
            "Is its header damaged? If not, cut it into parts with gdal_translate -srcwin.",
        )
    rows, cols = dataset.block_shapes[0]
    interleaved = str(dataset.profile.get("interleave", "")).lower() == "pixel"
    itemsize = max(_itemsize(dtype) for dtype in dataset.dtypes)
    block = rows * cols * itemsize * (dataset.count if interleaved else 1)
    if block > LARGEST_BLOCK:
        raise SceneError(
            f"{role} raster {path} is stored in blocks of {rows} x {cols} pixels, {block / 2**30:.1f} GiB each when "
            f"decoded; at most {LARGEST_BLOCK // 2**30} GiB are read at a time.",
            f"Rewrite it in tiles: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE {path} tiled.tif",
        )


def check_whole(dataset: Any, path: Path, what: str) -> None:
    """Raise for an open rasterio dataset that cannot be read as a whole.

    Raises:
        ManifestError: If a band is complex, it has no bands, or is larger than :data:`LARGEST_IMAGE`.
    """
    height, width, count = dataset.height, dataset.width, dataset.count
    if not count or any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise ManifestError(
            f"{what} {path} holds {', '.join(sorted(set(dataset.dtypes))) or 'no bands'}; real numbers are needed.",
            "Convert complex SAR to intensity first.",
        )
    size = height * width * sum(_itemsize(dtype) for dtype in dataset.dtypes)
    if size > LARGEST_IMAGE:
        raise ManifestError(
            f"{what} {path} declares {height} x {width} pixels (rows x columns) in {count} bands, "
            f"{size / 2**30:.3g} GiB; at most {LARGEST_IMAGE // 2**30} GiB are read as a whole.",
            "Is its header damaged? Whole scenes are cut by geoasanet tile.",
        )


def measured(pixels: NDArray[Any]) -> BoolArray:
    """Tell which pixels hold a measurement in every band.

    Args:
        pixels: Shape (bands, height, width), any dtype; floats may be NaN, infinite or larger than
            :data:`LARGEST_VALUE`, which are none.

    Returns:
        Shape (height, width).
    """
    if pixels.dtype.kind != "f":
        return np.ones(pixels.shape[1:], bool)
    largest = min(LARGEST_VALUE, float(np.finfo(pixels.dtype).max))
    if pixels.size and -largest <= pixels.min() and pixels.max() <= largest:  # both are NaN where one value is
        return np.ones(pixels.shape[1:], bool)
    sane = np.abs(pixels) <= largest
    return np.asarray(sane[0] if len(sane) == 1 else sane.all(axis=0))


def _itemsize(dtype: str) -> int:
    """Return the bytes of a value of a type in rasterio's words; complex_int16 is none of numpy's."""
    return 4 if dtype == "complex_int16" else math.ceil(np.dtype(dtype).itemsize)
