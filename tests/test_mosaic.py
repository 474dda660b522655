"""Several files as one raster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geoasanet.errors import SceneError
from geoasanet.raster.mosaic import is_mosaic, mosaic_members
from geoasanet.raster.scene import default_map_path
from geoasanet.raster.source import RasterSource
from geoasanet.tools.journal import file_stamp
from geoasanet.tools.predict import predict
from tests.conftest import UTM, PixelNet, write_raster

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a raster whose upper left pixel lies at (col, row) of a common grid."""

    def write(name: str, pixels: np.ndarray, col: float = 0, row: float = 0, **options: Any) -> Path:
        return write_raster(tmp_path / name, pixels, transform=UTM @ UTM.translation(col, row), **options)

    return write


def read(path: str, bands: tuple[int, ...] = (1,)) -> tuple[np.ndarray, np.ndarray, RasterSource]:
    source = RasterSource(path, bands, "RGB")
    pixels, valid = source.read(source.grid.window)
    source.close()
    return pixels, valid, source


def test_files_lie_where_they_belong_and_the_last_is_on_top(make: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(1, 255, (3, 20, 30), np.uint8) for _ in range(2))
    first, second = make("a.tif", a, 5, 7), make("b.tif", b, 25, 17)
    pixels, valid, source = read(f"{first};{second}", (1, 2, 3))
    expected, covered = np.zeros((3, 30, 50), np.uint8), np.zeros((30, 50), bool)
    for part, col, row in ((a, 0, 0), (b, 20, 10)):
        expected[:, row : row + 20, col : col + 30], covered[row : row + 20, col : col + 30] = part, True
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(valid, covered)
    assert source.grid.transform.almost_equals(UTM @ UTM.translation(5, 7))
    swapped, _, _ = read(f"{second};{first}", (1, 2, 3))
    np.testing.assert_array_equal(swapped[:, :20, :30], a)


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("float32", np.nan), ("float32", -9999.0), ("uint8", 0), ("int16", -32768)]
)
def test_below_a_pixel_without_data_another_file_shows(make: Make, dtype: str, nodata: float) -> None:
    low = np.full((1, 8, 8), 7, dtype)
    high = np.full((1, 8, 8), 9, dtype)
    high[0, :, 4:] = nodata
    low[0, 0] = nodata
    paths = make("low.tif", low, nodata=nodata), make("high.tif", high, nodata=nodata)
    pixels, valid, _ = read(f"{paths[0]};{paths[1]}")
    assert (pixels[0, :, :4] == 9).all() and (pixels[0, 1:, 4:] == 7).all()
    assert not valid[0, 4:].any() and valid[1:].all()


def test_alpha_bands_work_on(make: Make) -> None:
    pixels = np.full((4, 8, 8), 200, np.uint8)
    pixels[3] = 255
    pixels[3, 2] = 0
    options: dict[str, Any] = {"photometric": "RGB", "alpha": "YES"}
    paths = make("a.tif", pixels, **options), make("b.tif", pixels, 12, 0, **options)
    _, valid, _ = read(f"{paths[0]};{paths[1]}", (1, 2, 3))
    expected = np.ones((8, 20), bool)
    expected[2], expected[:, 8:12] = False, False
    np.testing.assert_array_equal(valid, expected)


def test_the_map_of_a_mosaic_is_that_of_the_whole_file(make: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (3, 150, 140), np.uint8)
    sar = rng.gamma(4, 0.05, (1, 150, 140)).astype(np.float32)
    (tmp_path / "parts").mkdir()
    for number, (rows, cols) in enumerate([(slice(0, 80), slice(0, 140)), (slice(80, 150), slice(0, 60))]):
        make(f"parts/rgb_{number}.tif", rgb[:, rows, cols], cols.start, rows.start)
    make("parts/rgb_2.tif", rgb[:, 80:, 60:], 60, 80)
    whole = make("rgb.tif", rgb), make("sar.tif", sar)
    options: dict[str, Any] = {"model": PixelNet(), "classes": list("abcde"), "window": 64}
    expected = predict(*whole, out=tmp_path / "whole.tif", **options)
    done = predict(str(tmp_path / "parts" / "rgb_*.tif"), whole[1], out=tmp_path / "map.tif", **options)
    with rasterio.open(done.map) as found, rasterio.open(expected.map) as wanted:
        np.testing.assert_array_equal(found.read(), wanted.read())
        assert found.transform == wanted.transform


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crs": "EPSG:32651"}, "has CRS EPSG:32651"),
        ({"col": 10.5}, "do not lie on those of"),
        ({"dtype": "int16"}, "has data type int16"),
        ({"nodata": 3}, "has nodata value 3.0"),
        ({"bands": 2}, "has bands 2"),
        ({"col": 3e7}, "lie too far apart"),
    ],
)
def test_files_that_do_not_fit_are_named(make: Make, change: dict[str, Any], message: str) -> None:
    first = make("a.tif", np.ones((1, 8, 8), np.uint8))
    bands, dtype, col = change.pop("bands", 1), change.pop("dtype", "uint8"), change.pop("col", 0)
    second = make("b.tif", np.ones((bands, 8, 8), dtype), col, 0, **change)
    with pytest.raises(SceneError, match=message):
        read(f"{first};{second}")


def test_what_names_several_files(make: Make, tmp_path: Path) -> None:
    paths = [make(f"s_{n}.tif", np.ones((1, 8, 8), np.uint8)) for n in (2, 0, 1)]
    pattern = str(tmp_path / "s_*.tif")
    assert is_mosaic(pattern) and is_mosaic("a.tif;b.tif") and is_mosaic("/vsicurl/x;y")
    assert not is_mosaic("a.tif") and not is_mosaic("https://x/y.tif?a=b*") and not is_mosaic("<VRTDataset>;")
    assert mosaic_members(f"{pattern}; other.tif", "RGB") == [*map(str, sorted(paths)), "other.tif"]
    odd = make("a;b*.tif", np.ones((1, 8, 8), np.uint8))
    assert not is_mosaic(str(odd))
    with pytest.raises(SceneError, match="no file matches"):
        mosaic_members("nothing_*.tif", "RGB")
    assert default_map_path(pattern).name == "s_landcover.tif"
    assert default_map_path("north.tif;south.tif").name == "north_landcover.tif"
    assert default_map_path(str(tmp_path / "*.tif")).name == f"{tmp_path.name}_landcover.tif"
    assert [stamp["path"] for stamp in file_stamp(pattern)["files"]] == [str(p) for p in sorted(paths)]


def test_a_damaged_member_is_named(make: Make, tmp_path: Path) -> None:
    first = make("a.tif", np.ones((1, 8, 8), np.uint8))
    (tmp_path / "b.tif").write_text("no raster")
    with pytest.raises(SceneError, match=r"b\.tif cannot be opened"):
        read(f"{first};{tmp_path / 'b.tif'}")
    with pytest.raises(SceneError, match=r"c\.tif does not exist"):
        read(f"{first};{tmp_path / 'c.tif'}")
