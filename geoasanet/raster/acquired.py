"""When a raster was taken, by what its file says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from geoasanet.raster.opening import open_dataset

_KEYS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),
    (None, "DATATAKE_1_DATATAKE_SENSING_START"),
    (None, "PRODUCT_START_TIME"),
    (None, "ACQUISITION_START_TIME"),
    (None, "FIRST_LINE_TIME"),
    (None, "ACQUISITIONDATETIME"),
    (None, "ACQUISITION_DATETIME"),
    (None, "TIFFTAG_DATETIME"),
)
"""Metadata domains and items in which GDAL's drivers and Sentinel's tools keep the time, the surest first.

The last one is the time of the image by the TIFF standard; some programs write there when they wrote the file.
"""
_TIME = re.compile(
    r"(?P<year>\d{4})[-:/](?P<month>\d\d)[-:/](?P<day>\d\d)(?:[T ](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d))?"
)
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]


def acquired(path: str, role: str) -> datetime | None:
    """Return when a raster was taken, in UTC; None if its file does not say.

    Raises:
        SceneError: If it cannot be opened.
    """
    with open_dataset(path, role) as dataset:
        return _of_tags(dataset)


def parse_time(text: str) -> datetime | None:
    """Return the time in a text such as ``2024-05-01T10:20:30.123Z``, ``2024:05:01 10:20:30`` or ``01-MAY-2024``."""
    named = re.match(r"(\d\d)-([A-Z]{3})-(\d{4})(.*)", text.strip().upper())
    if named and named[2] in _MONTHS:
        text = f"{named[3]}-{_MONTHS.index(named[2]) + 1:02d}-{named[1]}{named[4]}"
    found = _TIME.match(text.strip())
    if not found:
        return None
    try:
        return datetime(*(int(found[name] or 0) for name in _TIME.groupindex), tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:
        return None


def _of_tags(dataset: Any) -> datetime | None:
    for domain, key in _KEYS:
        time = parse_time(dataset.tags(ns=domain).get(key, "") if domain else dataset.tags().get(key, ""))
        if time is not None:
            return time
    return None
