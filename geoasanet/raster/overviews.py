"""Class maps at half their size, again and again: what a viewer shows from afar."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window

from geoasanet.classes import NODATA
from geoasanet.kernels import kernel

_TILE = 512
_STRIP_ROWS = 1024
"""A multiple of every level's pixel, so that levels do not depend on where strips begin."""


def halve(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the commonest class of every 2 × 2 pixels.

    Pixels without a class count only where all four have none; of equally common classes the upper left one is taken.

    Args:
        classes: Class ids of shape (height, width), 255 without a class.

    Returns:
        Shape (height / 2, width / 2), rounded up; at odd borders fewer pixels count.
    """
    height, width = classes.shape
    out = np.empty(((height + 1) // 2, (width + 1) // 2), np.uint8)
    _halve(np.ascontiguousarray(classes), out)
    return out


def write_overviews(vrt: str, folder: Path, tile: int = _TILE) -> list[Path]:
    """Write the levels of a class map, each half as large, until one fits into a tile.

    Args:
        vrt: The map, as anything that rasterio opens.
        folder: Where the files go.
        tile: Side of a tile, pixels.

    Returns:
        The files, largest first; none for a map that fits into a tile itself.

    Raises:
        RasterioError: If the map cannot be read or a file not be written.
    """
    with rasterio.open(vrt) as source:
        shape = source.shape
        shapes: list[tuple[int, int]] = []
        while max(shape) > tile and len(shapes) < _STRIP_ROWS.bit_length() - 1:
            shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
            shapes.append(shape)
        paths = [folder / f"overview-{level}.tif" for level in range(len(shapes))]
        levels = [
            _create(path, shape, source.transform @ Affine.scale(2**power))
            for power, (path, shape) in enumerate(zip(paths, shapes, strict=True), 1)
        ]
        try:
            for row in range(0, source.height if levels else 0, _STRIP_ROWS):
                rows = min(_STRIP_ROWS, source.height - row)
                strip = source.read(1, window=Window(0, row, source.width, rows))
                for power, level in enumerate(levels, 1):
                    strip = halve(strip)
                    level.write(strip, 1, window=Window(0, row >> power, *strip.shape[::-1]))
        finally:
            for level in levels:
                level.close()
    return paths


def refer_to_overviews(band: Xml.Element, paths: list[Path]) -> None:
    """Make files the overviews of a band of a virtual raster."""
    for path in paths:
        overview = Xml.SubElement(band, "Overview")
        Xml.SubElement(overview, "SourceFilename", relativeToVRT="0").text = str(path.absolute())
        Xml.SubElement(overview, "SourceBand").text = "1"


def _create(path: Path, shape: tuple[int, int], transform: Affine) -> Any:
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=shape[0],
        width=shape[1],
        dtype="uint8",
        transform=transform,
        compress="zstd",
        zstd_level=1,
        tiled=True,
        blockxsize=_TILE,
        blockysize=_TILE,
        bigtiff="if_safer",
    )


@kernel
def _halve(classes: Any, out: Any) -> None:
    height, width = classes.shape
    for y in range(out.shape[0]):
        top = classes[2 * y]
        bottom = classes[min(2 * y + 1, height - 1)]
        for x in range(out.shape[1]):
            right = min(2 * x + 1, width - 1)
            a, b, c, d = top[2 * x], top[right], bottom[2 * x], bottom[right]
            if a == b and c == d and a == c:
                out[y, x] = a
                continue
            best, most = NODATA, 0
            for value in (a, b, c, d):
                count = (a == value) + (b == value) + (c == value) + (d == value)
                if value != NODATA and count > most:
                    best, most = value, count
            out[y, x] = best
