"""What is found in a strip of a map when it is read; it depends on no other strip, and on no thread or machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoasanet.raster.polygons.merging import Borders, strip_borders
from geoasanet.raster.polygons.runs import Runs, runs_of
from geoasanet.raster.polygons.source import ConfidenceReader, MapReader, Part
from geoasanet.raster.polygons.totals import strip_confidence


class StripScan(NamedTuple):
    """A strip's runs, and what is summed over its components."""

    runs: Runs
    borders: Borders | None
    confidence: tuple[NDArray[np.int64], NDArray[np.int64]] | None


Scans = Callable[[Sequence[tuple[int, int]]], Iterator[StripScan]]
"""Returns what is found in strips, given by first row and row after the last, in their order."""


def scan_strip(
    reader: MapReader | Part, confidence: ConfidenceReader | Part | None, rows: tuple[int, int], *, borders: bool
) -> StripScan:
    """Read a strip.

    Args:
        reader: The map.
        confidence: Confidence to sum over each component.
        rows: First row, and row after the last.
        borders: Whether to measure the borders between components.

    Raises:
        SceneError: If a block cannot be read.
        BandError: If a value is no class id or no confidence.
    """
    runs = runs_of(reader.read(*rows), rows[0])
    return StripScan(
        runs,
        strip_borders(runs) if borders else None,
        strip_confidence(runs, confidence.read(*rows)) if confidence else None,
    )
