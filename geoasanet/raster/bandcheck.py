"""Whether the bands that are asked for can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geoasanet.errors import BandError

MOST_BANDS = 1024
"""Most bands that are read at a time."""


def check_bands(dataset: Any, bands: Sequence[int], path: str, role: str) -> None:
    """Raise unless an open rasterio dataset has these bands, of real numbers.

    Args:
        dataset: The raster.
        bands: Band numbers from 1.
        path: Its path, for messages.
        role: What it is to the user.

    Raises:
        BandError: If it lacks a band, none or more than :data:`MOST_BANDS` are asked for, or one is complex.
    """
    count = dataset.count
    if len(bands) > MOST_BANDS:
        raise BandError(
            f"{len(bands)} bands of {role} raster {path} are to be read; {MOST_BANDS} are possible.",
            f"Choose some with --{role.lower()}-bands.",
        )
    missing = [b for b in bands if not 1 <= b <= count]
    if missing or not bands:
        option = f"--{role.lower()}-bands" if role in ("RGB", "SAR") else "the bands"
        raise BandError(
            f"{role} raster {path} has {count} band{'s' * (count != 1)}; "
            f"band{'s' * (len(missing) != 1)} {', '.join(map(str, missing)) or 'none'} cannot be read.",
            f"Choose bands from 1 to {count} with {option}.",
        )
    dtypes = dataset.dtypes
    for band in bands:
        dtype = dtypes[band - 1]
        if dtype.startswith("complex"):
            raise BandError(
                f"Band {band} of {role} raster {path} is complex ({dtype}).",
                "Convert it to intensity first (gdal_calc.py, SNAP), for instance 10·log10(|z|²).",
            )
