"""Small class maps with known content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rasterio.transform import from_origin

from geoasanet.classes import ClassSchema
from geoasanet.raster.polygons.coverage import Coverage, Outline, cover
from geoasanet.raster.polygons.source import MapReader

METRES = from_origin(500_000, 3_000_000, 10, 10)
NAMES = ("water", "forest", "field & <meadow>")
COLORS = ((10, 60, 200), (20, 120, 40), (220, 200, 90))
SCHEMA = ClassSchema(NAMES, COLORS)


def random_maps(most: int = 12) -> st.SearchStrategy[NDArray[np.uint8]]:
    """Maps of three classes and nodata, any shape."""
    shape = st.tuples(st.integers(1, most), st.integers(1, most))
    return arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 2, 255]))


def landscape(height: int, width: int, seed: int = 0, salt: float = 0.01) -> NDArray[np.uint8]:
    """Patches of three classes with ragged edges, single odd pixels, and a corner without data."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    total = np.zeros((3, height, width))
    for k in range(3):
        for period in (60, 25, 11, 5):
            phase = rng.uniform(0, 2 * np.pi, 2)
            angle = rng.uniform(0, np.pi)
            along = np.cos(angle) * rows + np.sin(angle) * cols
            across = np.cos(angle) * cols - np.sin(angle) * rows
            total[k] += period * np.sin(2 * np.pi * along / period + phase[0]) * np.cos(across / period + phase[1])
    classes = total.argmax(axis=0).astype(np.uint8)
    odd = rng.random(classes.shape) < salt
    classes[odd] = (classes[odd] + 1) % 3
    classes[(rows + 2 * cols) < height // 3] = 255
    return classes


def write_map(
    path: Path,
    classes: NDArray[Any],
    *,
    crs: str | None = "EPSG:32650",
    transform: Any = METRES,
    schema: ClassSchema | None = SCHEMA,
    nodata: float | None = 255,
    **profile: Any,
) -> Path:
    """Write a map as GeoTIFF, with the class schema that predict writes."""
    classes = classes if classes.ndim == 3 else classes[None]
    count, height, width = classes.shape
    options = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": classes.dtype}
    with rasterio.open(path, "w", crs=crs, transform=transform, nodata=nodata, **options, **profile) as dataset:
        dataset.write(classes)
        if schema is not None:
            dataset.update_tags(GEOASANET_CLASSES=json.dumps(schema.to_dict()))
    return path


@pytest.fixture
def make_map(tmp_path: Path) -> Callable[..., Path]:
    """Write a map called ``name`` into the test's folder."""

    def make(classes: NDArray[Any], name: str = "scene_landcover.tif", **options: Any) -> Path:
        return write_map(tmp_path / name, classes, **options)

    return make


@pytest.fixture(scope="session")
def cover_array(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Coverage]:
    """Return the coverage of an array of class ids."""
    folder = tmp_path_factory.mktemp("maps")

    def make(
        classes: NDArray[np.uint8],
        outline: Outline | None = None,
        *,
        strip_rows: int | None = None,
        workers: int = 1,
        **options: Any,
    ) -> Coverage:
        reader = MapReader(str(write_map(folder / "map.tif", classes, **options)), workers)
        try:
            return cover(reader, outline or Outline(), workers=workers, strip_rows=strip_rows)
        finally:
            reader.close()

    return make


def wkb_list(coverage: Coverage, workers: int = 1) -> list[bytes]:
    """Return the polygons' WKB in order."""
    regions = coverage.chosen(range(255))
    batches = list(coverage.features(regions, workers))
    return [b.wkb[i:j].tobytes() for b in batches for i, j in zip(b.offsets[:-1], b.offsets[1:], strict=True)]


def polygons_of(coverage: Coverage) -> NDArray[Any]:
    """Return the polygons in order."""
    polygons: NDArray[Any] = shapely.from_wkb(np.array(wkb_list(coverage), object))
    return polygons


def assert_covers(coverage: Coverage) -> NDArray[Any]:
    """Check that polygons are valid and leave neither gap nor overlap between them; return them."""
    polygons = polygons_of(coverage)
    assert shapely.is_valid(polygons).all(), shapely.is_valid_reason(polygons)
    assert shapely.coverage_is_valid(polygons)
    return polygons
