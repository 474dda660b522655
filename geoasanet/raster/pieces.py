"""Finished rows of a map as small files, made in one place and kept in another."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geoasanet.classes import NODATA
from geoasanet.raster.faults import ReadFaults
from geoasanet.raster.grid import Grid
from geoasanet.raster.readback import count_values
from geoasanet.sample import RowBand

COUNTS_TAG = "GEOASANET_COUNTS"
"""Tag of a piece of classes: its pixels of each value, and those mapped without SAR."""
PRODUCTS = ("confidence", "probabilities", "classes")
"""What rows consist of. Classes come last: rows count as finished when those are there."""
STRIP_ROWS = 16


def piece_name(product: str, row: int, rows: int) -> str:
    """Return the file name of a piece: its product, first row (of the output) and number of rows."""
    return f"{product}-{row:08d}-{rows:04d}.tif"


def encode_rows(band: RowBand, grid: Grid, first_row: int) -> dict[str, bytes]:
    """Return the files that hold finished rows, by name, in the order in which they are to be kept.

    Args:
        band: The rows.
        grid: The output's grid.
        first_row: Row of the scene that is the output's first.
    """
    counts = np.zeros(NODATA + 1, np.int64)
    count_values(band.classes, counts)
    tags = {COUNTS_TAG: json.dumps({"classes": counts.tolist(), "filled": band.filled})}
    parts: dict[str, NDArray[Any] | None] = {
        "confidence": band.confidence,
        "probabilities": band.probabilities,
        "classes": band.classes,
    }
    files = {}
    for product in PRODUCTS:
        pixels = parts[product]
        if pixels is not None:
            stacked = pixels[None] if pixels.ndim == 2 else pixels
            name = piece_name(product, band.row - first_row, stacked.shape[1])
            files[name] = _encode(stacked, grid, tags if product == "classes" else {})
    return files


def encode_faults(row: int, faults: ReadFaults) -> dict[str, bytes]:
    """Return the file that tells, from output row ``row`` on, what could not be read so far; none without faults."""
    found = faults.to_dicts()
    return {f"faults-{row:08d}.json": json.dumps(found).encode()} if found else {}


class PieceBox:
    """Holds finished rows in memory, to be sent elsewhere; takes rows as :class:`geoasanet.raster.cog.RowSpool` does.

    Args:
        grid: The output's grid.
        first_row: Row of the scene that is the output's first.
    """

    def __init__(self, grid: Grid, first_row: int) -> None:
        self.files: dict[str, bytes] = {}
        self._grid, self._first_row = grid, first_row

    def write(self, band: RowBand) -> None:
        """Keep finished rows."""
        self.files.update(encode_rows(band, self._grid, self._first_row))

    def keep_faults(self, row: int, faults: ReadFaults) -> None:
        """Keep what could not be read so far."""
        self.files.update(encode_faults(row - self._first_row, faults))


def _encode(stacked: NDArray[Any], grid: Grid, tags: dict[str, str]) -> bytes:
    profile = {
        "driver": "GTiff",
        "count": stacked.shape[0],
        "height": stacked.shape[1],
        "width": stacked.shape[2],
        "dtype": stacked.dtype,
        "transform": grid.transform,  # the reference system is the whole map's; written and read here, it takes time
        "compress": "zstd",
        "zstd_level": 1,
        "interleave": "band",
        "blockysize": min(STRIP_ROWS, stacked.shape[1]),
    }
    if stacked.dtype.kind == "f":
        profile["predictor"] = 2
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(stacked)
            dataset.update_tags(**tags)
        return bytes(memory.getbuffer())
