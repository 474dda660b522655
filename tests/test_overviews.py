"""Class maps at half their size."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoasanet.classes import NODATA
from geoasanet.raster.overviews import halve, write_overviews

maps = arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([0, 1, 2, NODATA]))


@given(maps)
@settings(deadline=None)
def test_the_commonest_class_of_four_pixels_stays(classes: np.ndarray) -> None:
    found = halve(classes)
    assert found.shape == tuple(-(-side // 2) for side in classes.shape)
    for (y, x), value in np.ndenumerate(found):
        four = classes[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
        counts = Counter(v for v in four if v != NODATA)
        assert value == (counts.most_common(1)[0][0] if counts else NODATA)


@pytest.mark.parametrize("shape", [(2500, 1300), (1025, 3), (1024, 2049), (64, 64)])
def test_levels_are_those_of_the_whole_map(tmp_path: Path, shape: tuple[int, int]) -> None:
    classes = np.random.default_rng(0).choice([0, 1, 2, NODATA], shape).astype(np.uint8)
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", transform=rasterio.Affine(10, 0, 0, 0, -10, 0), **profile) as dataset:
        dataset.write(classes, 1)
    files = write_overviews(str(path), tmp_path, tile=64)
    expected = classes
    for level, file in enumerate(files, 1):
        expected = halve(expected)
        with rasterio.open(file) as dataset:
            assert np.array_equal(dataset.read(1), expected)
            assert dataset.transform.a == 10 * 2**level
    assert max(expected.shape) <= 64
