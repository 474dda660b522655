"""Scenes: one grid, the same bits for any reading pattern, one validity mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine, from_origin
from rasterio.vrt import WarpedVRT

from geoasanet.errors import BandError, GridError, NoOverlapError, SceneError
from geoasanet.raster.grid import Grid
from geoasanet.raster.scene import AlignedLayer, Scene, default_map_path
from geoasanet.raster.source import RasterSource, default_bands
from geoasanet.raster.warp import MAX_ERROR_PX, CoordinateMap, WarpedLayer
from geoasanet.windows import Window
from tests.conftest import UTM, write_raster

HEIGHT, WIDTH = 96, 128

SAR_GRIDS = {
    "shifted by half a pixel": ("EPSG:32650", from_origin(500_005, 2_999_995, 10, 10)),
    "coarser": ("EPSG:32650", from_origin(499_990, 3_000_010, 12.5, 12.5)),
    "finer": ("EPSG:32650", from_origin(500_000, 3_000_000, 3, 3)),
    "neighbouring zone": ("EPSG:32649", None),
    "geographic": ("EPSG:4326", None),
    "rotated": ("EPSG:32650", Affine.translation(499_600, 2_999_900) @ Affine.rotation(-33) @ Affine.scale(13, -13)),
    "south-up": ("EPSG:32650", Affine(10, 0, 500_003, 0, 10, 2_999_000)),
}


def sar_transform(crs: str, transform: Affine | None, height: int, width: int) -> Affine:
    if transform is not None:
        return transform
    project = pyproj.Transformer.from_crs("EPSG:32650", crs, always_xy=True)
    xs, ys = project.transform(
        [500_000, 500_000 + 10 * WIDTH, 500_000, 500_000 + 10 * WIDTH],
        [3_000_000, 3_000_000, 3_000_000 - 10 * HEIGHT, 3_000_000 - 10 * HEIGHT],
    )
    left, right, bottom, top = min(xs), max(xs), min(ys), max(ys)
    return from_origin(left, top, (right - left) / width, (top - bottom) / height)


def open_pair(folder: Path, kind: str, dtype: str = "float32") -> Scene:
    crs, transform = SAR_GRIDS[kind]
    rng = np.random.default_rng(3)
    height, width = {"finer": (300, 400), "neighbouring zone": (80, 100)}.get(kind, (140, 170))
    sar = (rng.random((2, height, width)) * 200).astype(dtype)
    rgb = rng.integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    mask = np.where(rng.random((height, width)) < 0.05, 0, 255).astype(np.uint8)
    write_raster(folder / "rgb.tif", rgb)
    write_raster(folder / "sar.tif", sar, crs=crs, transform=sar_transform(crs, transform, height, width), mask=mask)
    return Scene.open(folder / "rgb.tif", folder / "sar.tif", sar_count=2)


@pytest.mark.parametrize("kind", sorted(SAR_GRIDS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_window_reads_the_same_bits_as_a_slice_of_the_whole(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    with open_pair(tmp_path, kind) as scene:
        assert isinstance(scene.sar, WarpedLayer)
        whole = scene.read(scene.grid.window)
        assert whole.sar_valid.any() and not whole.sar_valid.all()
        row, col = data.draw(st.integers(-20, HEIGHT - 1)), data.draw(st.integers(-20, WIDTH - 1))
        window = Window(row, col, data.draw(st.integers(1, 120)), data.draw(st.integers(1, 150)))
        part = scene.read(window)
        inside = window.intersection(scene.grid.window)
        if inside is None:
            assert not part.rgb_valid.any() and not part.sar_valid.any()
            return
        cut = np.s_[
            inside.row - window.row : inside.row_stop - window.row,
            inside.col - window.col : inside.col_stop - window.col,
        ]
        for name in ("rgb", "sar"):
            pixels, valid = getattr(part, name), getattr(part, f"{name}_valid")
            np.testing.assert_array_equal(pixels[:, *cut], getattr(whole, name)[:, *inside.slices])
            np.testing.assert_array_equal(valid[cut], getattr(whole, f"{name}_valid")[inside.slices])
            outside = np.ones(valid.shape, bool)
            outside[cut] = False
            assert not valid[outside].any() and not pixels[:, outside].any()


@pytest.mark.parametrize("kind", ["shifted by half a pixel", "coarser", "neighbouring zone", "rotated", "south-up"])
def test_bilinear_values_agree_with_gdal(kind: str, tmp_path: Path) -> None:
    """Where a target pixel spans no more than a source pixel, GDAL's own bilinear warp gives the same values."""
    with open_pair(tmp_path, kind) as scene, rasterio.open(tmp_path / "sar.tif") as dataset:
        whole = scene.read(scene.grid.window)
        assert isinstance(scene.sar, WarpedLayer)
        assert scene.sar.coordinates.shrink == (1, 1)
        grid = scene.grid
        options = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
        with WarpedVRT(dataset, resampling=rasterio.enums.Resampling.bilinear, tolerance=0.0001, **options) as warped:
            expected, valid = warped.read(), warped.dataset_mask() != 0
    # Compare where all source pixels around are valid: at gaps the two weigh differently.
    solid = valid & whole.sar_valid
    difference = np.abs(expected - whole.sar)[:, solid]
    assert solid.mean() > 0.15
    assert np.percentile(difference, 80) < 0.05


def interpolated(pixels: np.ndarray, valid: np.ndarray, row: float, col: float) -> tuple[np.ndarray, float]:
    """Return values at a position of the source by the rule as it is written down, and the weight of valid pixels."""
    total, seen = np.zeros(len(pixels)), 0.0
    for k in (int(np.floor(row)), int(np.floor(row)) + 1):
        for m in (int(np.floor(col)), int(np.floor(col)) + 1):
            weight = (1 - abs(k - row)) * (1 - abs(m - col))
            if 0 <= k < valid.shape[0] and 0 <= m < valid.shape[1] and valid[k, m]:
                total += weight * pixels[:, k, m]
                seen += weight
    return total / max(seen, 1e-9), seen


@pytest.mark.parametrize("kind", ["shifted by half a pixel", "coarser", "neighbouring zone", "rotated", "south-up"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_bilinear_values_are_those_of_the_rule_at_exact_positions(kind: str, dtype: str, tmp_path: Path) -> None:
    """At gaps and at the raster's edges, too."""
    with open_pair(tmp_path, kind, dtype) as scene:
        layer = scene.sar
        assert isinstance(layer, WarpedLayer)
        found, valid = layer.read(scene.grid.window)
        pixels, has_data = layer.source.read(layer.source.grid.window)
        rows, cols = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
        places = np.stack(layer.coordinates.exact(rows, cols)) - 0.5
    compared = 0
    for r, c in np.argwhere(np.isfinite(places).all(axis=0)):
        values, seen = interpolated(pixels, has_data, *places[:, r, c])
        if abs(seen - 0.5) < 0.01:
            continue  # which side of one half a pixel falls on is decided by the last digit of its position
        assert valid[r, c] == (seen > 0.5)
        if valid[r, c]:
            np.testing.assert_allclose(found[:, r, c], values, atol=0.1)
            compared += seen < 0.999
    assert compared > 100


def test_a_ramp_is_resampled_exactly(tmp_path: Path) -> None:
    """A linear ramp has one right answer at any position: its value at the pixel's centre on the ground."""
    rows, cols = np.mgrid[0:140, 0:170]
    transform = from_origin(499_900, 3_000_100, 12.5, 12.5)
    write_raster(tmp_path / "sar.tif", (cols * 12.5 + rows * 25).astype(np.float32)[None], transform=transform)
    write_raster(tmp_path / "rgb.tif", np.zeros((3, HEIGHT, WIDTH), np.uint8))
    with Scene.open(tmp_path / "rgb.tif", tmp_path / "sar.tif") as scene:
        found = scene.read(scene.grid.window)
    r, c = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    east, south = 100 + 10 * c - 6.25, 100 + 10 * r - 6.25
    assert found.sar_valid.all()
    np.testing.assert_allclose(found.sar[0], east + 2 * south, rtol=1e-6)


def test_coarsening_averages(tmp_path: Path) -> None:
    """A checkerboard of one-pixel squares, read at a quarter of its resolution, is grey, not a pattern of picks."""
    board = (np.indices((400, 400)).sum(axis=0) % 2 * 100).astype(np.float32)
    write_raster(tmp_path / "sar.tif", board[None], transform=from_origin(500_000, 3_000_000, 2.5, 2.5))
    write_raster(tmp_path / "rgb.tif", np.zeros((3, 90, 90), np.uint8))
    with Scene.open(tmp_path / "rgb.tif", tmp_path / "sar.tif") as scene:
        found = scene.read(Window(2, 2, 80, 80))
    np.testing.assert_allclose(found.sar, 50, atol=1)


@pytest.mark.parametrize("kind", sorted(SAR_GRIDS))
def test_interpolated_coordinates_keep_their_error_bound(kind: str, tmp_path: Path) -> None:
    with open_pair(tmp_path, kind) as scene:
        layer = scene.sar
        assert isinstance(layer, WarpedLayer)
        rows, cols = np.mgrid[0:HEIGHT:3, 0:WIDTH:3] + 0.5
        exact = layer.coordinates.exact(rows, cols)
        node_rows, node_cols, row0, col0 = layer.coordinates.nodes(scene.grid.window)
        s = layer.coordinates.spacing
        i, j = ((rows - row0) // s).astype(int), ((cols - col0) // s).astype(int)
        v, u = (rows - row0) / s - i, (cols - col0) / s - j
        for nodes, truth in ((node_rows, exact[0]), (node_cols, exact[1])):
            guess = (1 - v) * ((1 - u) * nodes[i, j] + u * nodes[i, j + 1])
            guess += v * ((1 - u) * nodes[i + 1, j] + u * nodes[i + 1, j + 1])
            assert np.abs(guess - truth).max() <= MAX_ERROR_PX


def test_the_control_lattice_is_refined_where_the_projection_bends() -> None:
    """A polar grid against a geographic one bends within a few pixels of the pole."""
    polar = Grid(rasterio.crs.CRS.from_epsg(3995), from_origin(-2_000_000, 2_000_000, 10_000, 10_000), 400, 400)
    globe = Grid(rasterio.crs.CRS.from_epsg(4326), from_origin(-180, 90, 0.1, 0.1), 1800, 3600)
    assert CoordinateMap(polar, globe).spacing < 64


def test_rasters_on_one_lattice_are_read_without_resampling(make_raster: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, 50, 60), dtype=np.uint8)
    sar = rng.integers(0, 256, (1, 40, 45), dtype=np.uint8)
    moved = UTM @ Affine.translation(7, 4)
    with Scene.open(make_raster("rgb.tif", rgb), make_raster("sar.tif", sar, transform=moved)) as scene:
        assert isinstance(scene.sar, AlignedLayer)
        found = scene.read(scene.grid.window)
    assert found.sar.dtype == np.uint8
    np.testing.assert_array_equal(found.sar[:, 4:44, 7:52], sar)
    assert found.sar_valid.sum() == 40 * 45


VALIDITY = {
    "nodata of bytes: all bands must hold it": ({"nodata": 0}, "uint8", lambda p: (p != 0).any(axis=0)),
    "nodata of floats: any band may hold it": ({"nodata": -9999}, "float32", lambda p: (p != -9999).all(axis=0)),
    "NaN": ({}, "float32", lambda p: np.isfinite(p).all(axis=0)),
    "NaN as nodata": ({"nodata": float("nan")}, "float32", lambda p: np.isfinite(p).all(axis=0)),
}


@pytest.mark.parametrize("kind", sorted(VALIDITY))
def test_validity(kind: str, make_raster: Callable[..., Path]) -> None:
    options, dtype, expected = VALIDITY[kind]
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 3, (3, 20, 30)).astype(dtype)
    if dtype == "float32":
        gap = np.nan if "NaN" in kind else -9999
        pixels[rng.random(pixels.shape) < 0.1] = gap
        pixels[0, 0, 0] = np.inf
    source = RasterSource(make_raster("a.tif", pixels, **options), (1, 2, 3), "RGB")
    found, valid = source.read(source.grid.window)
    truth = expected(pixels) & np.isfinite(pixels).all(axis=0)
    np.testing.assert_array_equal(valid, truth)
    assert 0 < truth.sum() < truth.size
    np.testing.assert_array_equal(found[:, valid], pixels[:, valid])
    assert not found[:, ~valid].any()


def test_alpha_and_mask_bands_are_validity(make_raster: Callable[..., Path]) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(1, 256, (4, 20, 30), dtype=np.uint8)
    pixels[3] = np.where(rng.random((20, 30)) < 0.3, 0, 200)
    alpha = make_raster("alpha.tif", pixels, photometric="RGB", alpha="YES")
    assert default_bands(alpha, "RGB", 3) == (1, 2, 3)
    masked = make_raster("masked.tif", pixels[:3], mask=pixels[3])
    for path in (alpha, masked):
        _, valid = RasterSource(path, (1, 2, 3), "RGB").read(Window(0, 0, 20, 30))
        np.testing.assert_array_equal(valid, pixels[3] > 0)


def test_bands_are_found_by_colour(make_raster: Callable[..., Path], tmp_path: Path) -> None:
    path = make_raster("bgr.tif", np.zeros((4, 5, 5), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        kinds = rasterio.enums.ColorInterp
        dataset.colorinterp = [kinds.blue, kinds.green, kinds.red, kinds.undefined]
    assert default_bands(path, "RGB", 3) == (3, 2, 1)


def test_inputs_are_not_touched(scene_files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    rgb, sar = scene_files()
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with Scene.open(rgb, sar) as scene:
        scene.read(scene.grid.window)
        scene.rgb.source.sample_pixels()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_real_scenes_on_different_grids(shared: Path) -> None:
    for folder, rgb, sar in (
        ("los_angeles", "la_rgb.tif", "la_sar.tif"),
        ("spacenet6", "rgb_unmasked.tif", "sar_masked.tif"),
    ):
        with Scene.open(shared / "data" / folder / rgb, shared / "data" / folder / sar) as scene:
            assert isinstance(scene.sar, WarpedLayer)
            middle = scene.grid.height // 2
            wide = scene.read(Window(middle - 40, 0, 80, scene.grid.width))
            narrow = scene.read(Window(middle, scene.grid.width // 2, 1, 1))
            np.testing.assert_array_equal(narrow.sar[:, 0, 0], wide.sar[:, 40, scene.grid.width // 2])
            assert 0.1 < wide.sar_valid.mean() <= 1


class TestErrors:
    """What is refused, and what the message says."""

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(SceneError, match=r"RGB raster .*nothing\.tif does not exist"):
            Scene.open(tmp_path / "nothing.tif", tmp_path / "sar.tif")

    def test_text_file(self, tmp_path: Path) -> None:
        (tmp_path / "text.tif").write_text("not a raster")
        with pytest.raises(SceneError, match=r"text\.tif cannot be opened"):
            Scene.open(tmp_path / "text.tif", tmp_path / "text.tif")

    def test_no_crs(self, make_raster: Callable[..., Path]) -> None:
        path = make_raster("a.tif", np.zeros((3, 9, 9), np.uint8), crs=None)
        with pytest.raises(GridError, match=r"no coordinate reference system.*gdal_edit"):
            Scene.open(path, path)

    def test_no_overlap(self, make_raster: Callable[..., Path]) -> None:
        rgb = make_raster("rgb.tif", np.zeros((3, 9, 9), np.uint8))
        far = from_origin(800_000, 4_000_000, 10, 10)
        for crs in ("EPSG:32650", "EPSG:32633"):
            sar = make_raster("sar.tif", np.zeros((1, 9, 9), np.uint8), transform=far, crs=crs)
            with pytest.raises(NoOverlapError, match="do not overlap"):
                Scene.open(rgb, sar)

    def test_too_few_bands(self, make_raster: Callable[..., Path]) -> None:
        path = make_raster("gray.tif", np.zeros((1, 9, 9), np.uint8))
        with pytest.raises(BandError, match=r"gray\.tif has 1 band, 3 are needed"):
            Scene.open(path, path)

    def test_band_out_of_range(self, make_raster: Callable[..., Path]) -> None:
        path = make_raster("a.tif", np.zeros((3, 9, 9), np.uint8))
        with pytest.raises(BandError, match=r"has 3 bands; band 7 cannot be read.*--sar-bands"):
            Scene.open(path, path, sar_bands=[7])

    def test_complex_values(self, make_raster: Callable[..., Path]) -> None:
        rgb = make_raster("rgb.tif", np.zeros((3, 9, 9), np.uint8))
        sar = make_raster("slc.tif", np.zeros((1, 9, 9), np.complex64))
        with pytest.raises(BandError, match="complex"):
            Scene.open(rgb, sar)

    def test_truncated_file(self, make_raster: Callable[..., Path]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (3, 300, 300), dtype=np.uint8)
        path = make_raster("cut.tif", pixels)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with (
            pytest.raises(SceneError, match=r"cut\.tif (is unreadable in rows|cannot be opened)"),
            Scene.open(path, path) as scene,
        ):
            scene.read(scene.grid.window)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ("data/scene_rgb.tif", "scene_rgb_landcover.tif"),
        ("https://host/a/b.tif?token=x", "b_landcover.tif"),
        ("/vsizip/x.zip/scene.vrt", "scene_landcover.tif"),
    ],
)
def test_default_name_of_the_map(rgb: str, expected: str) -> None:
    assert default_map_path(rgb) == Path(expected)
