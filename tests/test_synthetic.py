"""What a synthetic landscape promises: repeatable, complete, and seen by two sensors as they would see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.features import shapes
from rasterio.warp import transform, transform_geom
from scipy import ndimage
from shapely.geometry import box, mapping, shape

from geoasanet.errors import ConfigError, OutputExistsError
from geoasanet.raster.synthetic_scene import write_scene
from geoasanet.synthetic import CLASSES, Landscape, SarGrid, generate_landscape, observe_sar, sar_grid
from geoasanet.synthetic.classes import BUILT_UP, FOREST, WATER
from geoasanet.synthetic.curves import Line, nearness
from geoasanet.synthetic.hydrology import drain, trace_streams, upstream
from geoasanet.synthetic.noise import blur, fractal, lattice_noise, shrink, stream, unit_hash

ARRAYS = ("elevation", "labels", "rgb", "cloud", "shadow", "sar_power")


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    return generate_landscape(3, 301, 413)


@pytest.fixture(scope="module")
def clear() -> Landscape:
    return generate_landscape(3, 301, 413, cloud_cover=0.0)


def test_same_seed_same_landscape(landscape: Landscape) -> None:
    again = generate_landscape(3, 301, 413)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(landscape, name), err_msg=name)
    grid = sar_grid(301, 413, 10.0)
    np.testing.assert_array_equal(observe_sar(again, grid), observe_sar(landscape, grid))


def test_other_seed_other_landscape(landscape: Landscape) -> None:
    other = generate_landscape(4, 301, 413)
    assert (other.labels != landscape.labels).mean() > 0.3


def test_arrays_are_what_they_say(landscape: Landscape) -> None:
    assert landscape.shape == (301, 413)
    assert landscape.rgb.shape == (3, 301, 413)
    assert landscape.rgb.dtype == landscape.labels.dtype == np.uint8
    for name in ("elevation", "cloud", "shadow", "sar_power"):
        field = getattr(landscape, name)
        assert field.shape == landscape.shape
        assert field.dtype == np.float32
        assert np.isfinite(field).all()
    assert landscape.sar_power.min() > 0
    assert 0 <= landscape.cloud.min() <= landscape.cloud.max() <= 1


@pytest.mark.parametrize(("seed", "size"), [(0, (97, 203)), (1, (256, 256)), (2, (300, 200))])
def test_every_class_is_there(seed: int, size: tuple[int, int]) -> None:
    labels = generate_landscape(seed, *size).labels
    share = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    assert len(share) == len(CLASSES)
    assert (share > 0.001).all(), dict(zip(CLASSES.names, share.round(4), strict=True))
    assert share.max() < 0.85


def test_clouds_cover_part_and_hide_it(landscape: Landscape, clear: Landscape) -> None:
    hidden = landscape.cloud > 0.98
    assert 0.02 < hidden.mean() < 0.3
    np.testing.assert_array_equal(clear.labels, landscape.labels)  # the truth lies below the clouds
    water, forest = (hidden & (clear.labels == k) for k in (WATER, FOREST))
    for rgb, apart in ((clear.rgb, True), (landscape.rgb, False)):
        means = [rgb[:, where].mean() for where in (forest, hidden & ~water & ~forest)]
        assert (abs(means[0] - means[1]) > 20) == apart
    assert landscape.rgb[:, hidden].min() > 170


def test_clouds_throw_shadows(landscape: Landscape, clear: Landscape) -> None:
    shaded = (landscape.shadow > 0.9) & (landscape.cloud < 0.02)
    assert shaded.mean() > 0.01
    assert landscape.rgb[:, shaded].mean() < 0.75 * clear.rgb[:, shaded].mean()


def test_cloud_cover_can_be_chosen() -> None:
    assert generate_landscape(5, 128, 128, cloud_cover=0.0).cloud.max() == 0
    assert (generate_landscape(5, 128, 128, cloud_cover=0.6).cloud > 0.5).mean() == pytest.approx(0.6, abs=0.1)


def test_radar_sees_water_dark_and_towns_bright(clear: Landscape) -> None:
    inner = ndimage.binary_erosion(clear.labels == WATER, iterations=2)
    assert inner.any()
    water = clear.sar_power[inner].mean()
    forest, town = (clear.sar_power[clear.labels == k].mean() for k in (FOREST, BUILT_UP))
    assert 10 * np.log10(water) < -16
    assert forest > 8 * water
    assert town > 1.3 * forest


def test_speckle_has_the_chosen_number_of_looks() -> None:
    flat = generate_landscape(6, 150, 170)
    level = np.full_like(flat.sar_power, 0.05)
    even = Landscape(6, 10.0, flat.elevation, flat.labels, flat.rgb, flat.cloud, flat.shadow, level)
    grid = sar_grid(150, 170, 10.0)
    for looks in (1.0, 4.4, 16.0):
        power = 10 ** (observe_sar(even, grid, looks) / 10)
        power = power[np.isfinite(power)].astype(np.float64)
        assert power.mean() == pytest.approx(0.05, rel=0.03)
        assert power.mean() ** 2 / power.var() == pytest.approx(looks, rel=0.08)


def test_radar_lies_on_another_smaller_turned_grid(landscape: Landscape, tmp_path: Path) -> None:
    paths = write_scene(landscape, tmp_path)
    with rasterio.open(paths.rgb) as rgb, rasterio.open(paths.sar) as sar, rasterio.open(paths.labels) as labels:
        assert rgb.crs != sar.crs
        assert rgb.res == (10, 10)
        assert sar.res == (12.5, 12.5)
        assert (labels.crs, labels.transform, labels.shape) == (rgb.crs, rgb.transform, rgb.shape)
        assert labels.nodata == 255
        np.testing.assert_array_equal(labels.read(1), landscape.labels)
        np.testing.assert_array_equal(rgb.read(), landscape.rgb)
        assert labels.colormap(1)[WATER][:3] == CLASSES.colors[WATER]
        valid = sar.read_masks(1) > 0
        np.testing.assert_array_equal(valid, np.isfinite(sar.read(1)))
        outline = next(s for s, v in shapes(valid.astype(np.uint8), transform=sar.transform) if v)
        swath = shape(transform_geom(sar.crs, rgb.crs, outline))
        ground = box(*rgb.bounds)
        assert 0.90 < swath.intersection(ground).area / ground.area < 0.98
        assert swath.area == pytest.approx(swath.intersection(ground).area, rel=1e-3)
        assert mapping(swath)["type"] == "Polygon"


def test_radar_is_placed_exactly() -> None:
    """A power that equals its own pixel position comes out at the position that pyproj gives."""
    height, width = 120, 140
    base = generate_landscape(8, height, width)
    rows, cols = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    for power, axis in ((rows + 1.0, 0), (cols + 1.0, 1)):
        marked = Landscape(
            8, 10.0, base.elevation, base.labels, base.rgb, base.cloud, base.shadow, power.astype(np.float32)
        )
        grid: SarGrid = sar_grid(height, width, 10.0)
        seen = 10 ** (observe_sar(marked, grid, looks=1e12) / 10)
        for row, col in ((30, 40), (60, 70), (80, 50)):
            a, _, c, _, e, f = grid.transform
            x, y = c + a * (col + 0.5), f + e * (row + 0.5)
            xs, ys = transform(grid.crs, "EPSG:32632", [x], [y])
            place = ((5_350_020.0 - ys[0]) / 10, (xs[0] - 699_960.0) / 10)[axis]
            assert seen[row, col] == pytest.approx(place + 0.5, abs=2e-3)


def test_an_existing_scene_is_kept(landscape: Landscape, tmp_path: Path) -> None:
    (tmp_path / "scene_sar.tif").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"scene_sar\.tif"):
        write_scene(landscape, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["scene_sar.tif"]


@pytest.mark.parametrize(
    "arguments",
    [{"height": 20}, {"width": 10_000}, {"seed": -1}, {"pixel_m": 0.0}, {"cloud_cover": 1.5}],
)
def test_impossible_landscapes_are_refused(arguments: dict) -> None:
    with pytest.raises(ConfigError, match="must be"):
        generate_landscape(**({"seed": 0, "height": 128, "width": 128} | arguments))


def test_water_runs_downhill() -> None:
    rng = np.random.default_rng(0)
    elevation = fractal(rng, (40, 53), 12)
    drainage = drain(elevation, np.zeros((40, 53), bool))
    filled, parent = drainage.filled.ravel(), drainage.parent.ravel()
    assert (filled >= elevation.ravel()).all()
    below = parent >= 0
    assert (filled[parent[below]] <= filled[below]).all()
    assert drainage.area.ravel()[~below].sum() == 40 * 53  # every cell drains through one outlet
    assert sorted(drainage.order.tolist()) == list(range(40 * 53))
    for path in trace_streams(drainage, 30):
        assert (np.diff(path[:, 2]) > 0).all()
    cell = int(np.argmax(np.where(below, drainage.area.ravel(), 0)))
    assert upstream(drainage, cell).sum() == drainage.area.ravel()[cell]


def test_hollow_fills_to_its_spill_point() -> None:
    ground = np.full((7, 9), 5.0, np.float32)
    ground[3, 4] = 1.0
    ground[0, 2] = 3.0
    ground[1:3, 2] = 4.0
    ground[3, 2:4] = 4.5
    filled = drain(ground, np.zeros((7, 9), bool)).filled
    assert filled[3, 4] == 4.5
    assert filled[0, 2] == 3.0


def test_nearness_is_the_distance_to_the_line() -> None:
    line = Line(np.stack([np.linspace(-5, 40, 451), np.full(451, 12.25)], axis=1), np.full(451, 3.0))
    near = nearness([line], (20, 30), 6.0)
    wanted = np.minimum(np.abs(np.arange(30) - 12.25), 6.0)
    np.testing.assert_allclose(near.distance_px, np.tile(wanted, (20, 1)), atol=0.01)
    np.testing.assert_allclose(near.coverage().sum(axis=1), 3.0, atol=0.05)


def test_noise_is_centred_and_scaled() -> None:
    fields = [lattice_noise(stream(seed, "test"), (200, 230), 7.3) for seed in range(4)]
    assert np.mean(fields) == pytest.approx(0, abs=0.1)
    assert np.std(fields) == pytest.approx(1, abs=0.1)


def test_hash_is_uniform_and_depends_on_every_key() -> None:
    values = unit_hash(np.arange(20_000), 7)
    assert np.histogram(values, 10, (0, 1))[0] == pytest.approx(2000, rel=0.1)
    assert abs(np.corrcoef(values, unit_hash(np.arange(20_000), 8))[0, 1]) < 0.05


def test_shrink_means_partial_blocks_and_wide_blur_keeps_level() -> None:
    field = np.arange(5 * 7, dtype=np.float32).reshape(5, 7)
    small = shrink(field, 3)
    assert small.shape == (2, 3)
    assert small[0, 0] == field[:3, :3].mean()
    assert small[1, 2] == field[3:, 6:].mean()
    rng = np.random.default_rng(1)
    noisy = lattice_noise(rng, (150, 170), 5)
    exact = ndimage.gaussian_filter(noisy, 12, mode="nearest")
    inner = np.s_[30:-30, 30:-30]
    assert np.abs(blur(noisy, 12) - exact)[inner].max() < 0.1 * np.abs(exact).max()
