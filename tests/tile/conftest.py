"""Small scenes with labels whose content is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from tests.conftest import UTM, write_raster

NAMES = ("water", "field", "town")
HEIGHT, WIDTH, SIZE = 100, 150, 16


def label_array(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Class ids in 5 x 7 pixel patches, some of them unlabelled."""
    rng = np.random.default_rng(7)
    patches = rng.choice([0, 1, 2, 255], (height // 5 + 1, width // 7 + 1), p=[0.3, 0.3, 0.3, 0.1])
    return np.kron(patches, np.ones((5, 7)))[:height, :width].astype(np.uint8)


def label_polygons(labels: np.ndarray, crs: str = "EPSG:32650") -> geopandas.GeoDataFrame:
    """One square for each labelled pixel run of a row of patches, with ids and names."""
    shapes, ids = [], []
    for row in range(0, labels.shape[0], 5):
        for col in range(0, labels.shape[1], 7):
            value = int(labels[row, col])
            if value != 255:
                left, top = UTM @ (col, row)
                right, bottom = UTM @ (min(col + 7, labels.shape[1]), min(row + 5, labels.shape[0]))
                shapes.append(shapely.box(left, bottom, right, top))
                ids.append(value)
    columns = {"note": "x", "class_id": ids, "class_name": [NAMES[i] for i in ids]}
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32650").to_crs(crs)


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Write rgb.tif, sar.tif and labels.tif into a folder; return the arguments of ``tile`` for them."""

    def make(folder: Path | None = None, *, seed: int = 0, masked: bool = False, **options: Any) -> dict[str, Any]:
        place = folder or tmp_path / "scene"
        place.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        rgb = rng.integers(1, 256, (3, HEIGHT, WIDTH), np.uint8)
        sar = rng.integers(1, 256, (1, HEIGHT, WIDTH), np.uint8)
        if masked:
            rgb[:, :40, :50] = 0
            rgb[:, rng.random((HEIGHT, WIDTH)) < 0.02] = 0
            sar[:, 60:, 120:] = 0
        nodata = {"nodata": 0} if masked else {}
        write_raster(place / "rgb.tif", rgb, **nodata, **options)
        write_raster(place / "sar.tif", sar, **nodata, **options)
        write_raster(place / "labels.tif", label_array(), nodata=255, **options)
        return {"rgb": place / "rgb.tif", "sar": place / "sar.tif", "labels": place / "labels.tif"}

    return make
