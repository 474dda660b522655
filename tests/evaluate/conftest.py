"""Small maps and the labels they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from geoasanet.errors import GeoASANetError
from geoasanet.tools.evaluate import evaluate
from tests.vectorize.conftest import NAMES, landscape, write_map

MAP_CRS = "EPSG:32650"
MakeVector = Callable[..., Path]


@pytest.fixture
def make_map(tmp_path: Path) -> Callable[..., Path]:
    """Write a class map called ``name`` into the test's folder."""

    def make(classes: np.ndarray, name: str = "map.tif", **options: Any) -> Path:
        return write_map(tmp_path / name, classes, **options)

    return make


@pytest.fixture
def make_vector(tmp_path: Path) -> MakeVector:
    """Write features in the pixel coordinates of a map that begins at 500000, 3000000, with 10 m pixels."""

    def make(
        geometry: Sequence[Any], name: str = "labels.gpkg", crs: str | None = "EPSG:4326", **fields: Sequence[Any]
    ) -> Path:
        ground = shapely.transform(np.array(list(geometry), object), lambda p: p * (10, -10) + (500_000, 3_000_000))
        frame = geopandas.GeoDataFrame(fields, geometry=ground, crs=MAP_CRS)
        frame = frame.to_crs(crs) if crs is not None else frame.set_crs(None, allow_override=True)
        frame.to_file(tmp_path / name)
        return tmp_path / name

    return make


def centres(rows: Sequence[int], cols: Sequence[int]) -> list[Any]:
    """Return points a little off the centres of pixels."""
    return [shapely.Point(c + 0.4, r + 0.7) for r, c in zip(rows, cols, strict=True)]


def pixel_boxes(rows: Sequence[int], cols: Sequence[int], size: int = 1) -> list[Any]:
    """Return squares of ``size`` pixels."""
    return [shapely.box(c, r, c + size, r + size) for r, c in zip(rows, cols, strict=True)]


def refused(error: type[GeoASANetError], pattern: str, folder: Path, **options: Any) -> None:
    """Check that evaluate raises one readable error and leaves the folder as it was."""
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(error, match=pattern) as caught:
        evaluate(**options)
    assert "\n" not in str(caught.value)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


__all__ = ["NAMES", "centres", "landscape", "pixel_boxes", "refused"]
