"""Reading finished files once more: GDAL does not always say when a disk was full at a file's last bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from geoasanet.errors import GeoASANetError, OutputError
from geoasanet.kernels import kernel
from geoasanet.raster.opening import GDAL_ERRORS

_ROWS = 512


def check_whole(path: Path, counts: NDArray[np.int64] | None = None) -> None:
    """Raise unless every block of a raster and of its overviews can be read.

    Args:
        path: A file that was just written.
        counts: Pixels of each value 0..255 that its first band must hold; None for any.

    Raises:
        OutputError: If a block is missing or damaged, or pixels are not those that were written.
    """
    found = np.zeros(256, np.int64)
    # Threads halve the time of floats. Blocks of classes are decoded before a thread has taken them up.
    options = {"num_threads": "all_cpus"} if counts is None else {}
    try:
        with rasterio.open(path, **options) as dataset:
            levels = len(dataset.overviews(1))
            for strip in _strips(dataset):
                if counts is not None:
                    count_values(strip[0], found)
        for level in range(levels):
            with rasterio.open(path, overview_level=level, **options) as dataset:
                for _ in _strips(dataset):
                    pass
    except GDAL_ERRORS:
        raise OutputError(f"{path.name} could not be written as a whole.", "Is the disk full?") from None
    if counts is not None and not np.array_equal(found, counts):
        raise OutputError(f"{path.name} does not hold what was written to it.", "Check the disk for errors.")


@contextlib.contextmanager
def written(out: Path, consolation: str = "") -> Iterator[None]:
    """Say in words what hinders the writing of ``out``.

    Args:
        out: The file, for the message.
        consolation: What follows the advice.

    Raises:
        OutputError: In place of what GDAL and the system raise.
    """
    try:
        yield
    except OutputError as error:
        name = "" if out.name in str(error.args[0]) else f"{out} cannot be written: "
        hint = error.hint if consolation in error.hint else f"{error.hint} {consolation}"
        raise OutputError(f"{name}{error.args[0]}", hint) from None
    except (*GDAL_ERRORS, OSError) as error:
        if isinstance(error, GeoASANetError):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise OutputError(f"{out} cannot be written: {reason}.", f"Is the disk full? {consolation}".strip()) from None


def count_values(classes: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    """Add the number of pixels of each value to ``counts`` (256)."""
    _count(np.ascontiguousarray(classes).ravel(), counts)


def _strips(dataset: Any) -> Any:
    for row in range(0, dataset.height, _ROWS):
        yield dataset.read(window=Window(0, row, dataset.width, min(_ROWS, dataset.height - row)))


@kernel
def _count(values: Any, counts: Any) -> None:
    # Four tables, so that equal neighbours do not wait for one another.
    parts = np.zeros((4, 256), np.int64)
    whole = values.size // 4 * 4
    for i in range(0, whole, 4):
        parts[0, values[i]] += 1
        parts[1, values[i + 1]] += 1
        parts[2, values[i + 2]] += 1
        parts[3, values[i + 3]] += 1
    for i in range(whole, values.size):
        parts[0, values[i]] += 1
    for value in range(256):
        counts[value] += parts[0, value] + parts[1, value] + parts[2, value] + parts[3, value]
