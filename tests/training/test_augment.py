"""Augmentation against the original pipeline, and the laws that any of it keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoasanet.bands import InputBands, SensorBands
from geoasanet.errors import ConfigError, ManifestError
from geoasanet.raster.dataset import Tile
from geoasanet.training.augment import Augmentation, augment, normalize_tile

PLAIN = InputBands(SensorBands((0.0,) * 3, (1.0,) * 3, "raw"), SensorBands((0.0,), (1.0,), "raw"))
"""Statistics under which normalised values are grey values."""
BANDS = InputBands(SensorBands((90.0, 80.0, 70.0), (30.0, 20.0, 10.0)), SensorBands((60.0, 50.0), (40.0, 25.0)))


def make_tile(height=40, width=52, *, seed=0, dtype=np.uint8, sar_bands=2, classes=4):
    rng = np.random.default_rng(seed)
    images = [(rng.random((bands, height, width)) * 250).astype(dtype) for bands in (3, sar_bands)]
    valid = np.ones((height, width), bool)
    return Tile("t", *images, rng.integers(0, classes, (height, width), np.uint8), valid, valid.copy())


def pattern_tile(height=64, width=64, block=8):
    """A tile whose optical bands, SAR band and label are one and the same pattern of blocks, never 0."""
    rows, cols = -(-height // block), -(-width // block)
    ids = np.random.default_rng(3).integers(1, 250, (rows, cols))
    pattern = np.kron(ids, np.ones((block, block)))[:height, :width].astype(np.uint8)
    valid = np.ones((height, width), bool)
    return Tile("p", np.stack([pattern] * 3), pattern[None], pattern, valid, valid)


def run(tile, augmentation, bands=BANDS, seed=0):
    return augment(tile, augmentation, bands, np.random.default_rng(seed))


def plain(crop_size, **options):
    return replace(Augmentation.none(crop_size), **options)


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "training" / "train_resize_pad.npz") as arrays:
        return dict(arrays)


def golden_tile(golden):
    valid = np.ones((96, 128), bool)
    rgb = np.ascontiguousarray(golden["src_rgb"].transpose(2, 0, 1))
    return Tile("golden", rgb, golden["src_sar"][None], golden["src_label"], valid, valid)


@pytest.mark.parametrize("ratio", [0.5, 1.3])
def test_scaled_images_and_labels_are_those_of_the_original(golden, ratio):
    sample = run(golden_tile(golden), plain(256, resize=(ratio, ratio)), PLAIN)
    expected = golden[f"r{ratio}/label"]
    height, width = expected.shape
    assert np.array_equal(sample.label[:height, :width], expected)
    assert (sample.label[height:] == 255).all()
    assert (sample.label[:, width:] == 255).all()
    bgr = golden[f"r{ratio}/img_bgr"].astype(float)
    assert np.abs(sample.rgb[::-1, :height, :width] - bgr.transpose(2, 0, 1)).max() <= 1
    assert np.abs(sample.sar[0, :height, :width] - golden[f"r{ratio}/img2"][..., 0]).max() <= 1


def test_padding_is_that_of_the_original(golden):
    mean, std = (73.422, 89.751, 83.405, 84.869), (29.48, 26.953, 24.829, 57.769)
    bands = InputBands(SensorBands(mean[2::-1], std[2::-1]), SensorBands(mean[3:], std[3:]))
    sample = run(golden_tile(golden), plain(128, resize=(0.5, 0.5)), bands)
    expected = golden["r0.5/padded_input_norm"]
    found = np.concatenate([sample.rgb[::-1], sample.sar])[:, :96]
    grey = np.array(std)[:, None, None]
    assert np.abs((found - expected[:4]) * grey).max() <= 1
    assert np.array_equal(found == 0, expected[:4] == 0)
    assert np.array_equal(sample.label[:96], golden["r0.5/padded_label"])
    assert not sample.rgb[:, 96:].any()


@pytest.mark.parametrize(
    "options",
    [{}, {"flip": 1.0}, {"vertical_flip": 1.0}, {"flip": 0.5, "vertical_flip": 0.5, "turn": 1.0}],
    ids=["crop", "flip", "vertical flip", "turns"],
)
@pytest.mark.parametrize("seed", range(5))
def test_sensors_and_label_move_together(options, seed):
    """The released pipeline flips the optical image and the label, but not the SAR image."""
    augmentation = replace(plain(48, resize=(1.0, 1.0), random_crop=True), **options)
    sample = run(pattern_tile(80, 72), augmentation, PLAIN, seed)
    label = sample.label.astype(np.float32)
    assert np.array_equal(sample.rgb, np.stack([label] * 3))
    assert np.array_equal(sample.sar[0], label)
    assert len(np.unique(label)) > 10


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(20, 90), st.integers(20, 90)),
    st.integers(8, 80),
    st.floats(0.5, 2.0),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_sensors_and_label_move_together_at_any_scale(seed, size, crop_size, scale, dtype):
    tile = pattern_tile(*size)
    tile = replace(tile, rgb=tile.rgb.astype(dtype), sar=tile.sar.astype(dtype))
    augmentation = Augmentation(crop_size, (scale, scale), turn=0.5)
    sample = run(tile, augmentation, PLAIN, seed)
    label = sample.label.astype(np.float32)
    known = sample.label != 255
    assert np.array_equal(sample.rgb[0], sample.sar[0])
    assert np.array_equal(sample.rgb[0] != 0, known)
    # A block's inside has one value: there, interpolated images and nearest labels agree.
    flat = np.lib.stride_tricks.sliding_window_view(np.pad(label, 2, constant_values=-1), (5, 5))
    inside = (flat == label[..., None, None]).all((2, 3)) & known
    assert np.allclose(sample.rgb[0][inside], label[inside], atol=1e-3)


def test_flips_and_turns_are_those_of_numpy():
    tile = make_tile(32, 32)
    whole = normalize_tile(tile, BANDS)
    for options, expected in (
        ({"flip": 1.0}, {1: np.fliplr}),
        ({"vertical_flip": 1.0}, {1: np.flipud}),
        ({"turn": 1.0}, {k: lambda image, k=k: np.rot90(image, k) for k in (1, 2, 3)}),
    ):
        seen = set()
        for seed in range(40):
            sample = run(tile, plain(32, **options), seed=seed)
            for key, move in expected.items():
                if np.array_equal(sample.label, move(whole.label)):
                    seen.add(key)
                    assert np.allclose(sample.rgb[1], move(whole.rgb[1]), atol=1e-5)
                    assert np.allclose(sample.sar[1], move(whole.sar[1]), atol=1e-5)
                    break
            else:
                pytest.fail(f"{options}, seed {seed}: no such turn")
        assert seen == set(expected)


@pytest.mark.parametrize("name", ["flip", "vertical_flip", "turn"])
def test_chances_are_kept(name):
    tile = make_tile(16, 16)
    changed = sum(
        not np.array_equal(run(tile, plain(16, **{name: 0.25}), seed=i).label, tile.label) for i in range(800)
    )
    assert 0.19 < changed / 800 < 0.31


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_whole_tile_is_normalised_by_the_statistics(dtype):
    tile = make_tile(dtype=dtype)
    sample = normalize_tile(tile, BANDS)
    mean, std = (np.array(v)[:, None, None] for v in (BANDS.sar.mean, BANDS.sar.std))
    assert sample.rgb.dtype == sample.sar.dtype == np.float32
    np.testing.assert_allclose(sample.sar, (tile.sar - mean) / std, atol=1e-5)
    np.testing.assert_allclose(sample.rgb[2], (tile.rgb[2] - 70.0) / 10, atol=1e-5)
    assert np.array_equal(sample.label, tile.label)


def test_without_chance_the_sample_is_the_tile_whatever_the_seed():
    tile = make_tile(32, 32)
    whole = normalize_tile(tile, BANDS)
    for seed in range(5):
        sample = run(tile, Augmentation.none(32), seed=seed)
        for name in ("rgb", "sar", "label"):
            assert np.array_equal(getattr(sample, name), getattr(whole, name))
    centre = run(make_tile(40, 52), Augmentation.none(20))
    assert np.array_equal(centre.label, make_tile(40, 52).label[10:30, 16:36])


def test_what_is_not_valid_does_not_bleed_into_its_neighbours():
    tile = make_tile(sar_bands=1)
    tile.rgb_valid[5:20, 8:30] = False
    tile.sar_valid[30:, 40:] = False
    tile.rgb[:] = 100
    clean = run(tile, plain(96, resize=(1.7, 1.7)), PLAIN)
    tile.rgb[:, ~tile.rgb_valid] = 255
    dirty = run(tile, plain(96, resize=(1.7, 1.7)), PLAIN)
    assert np.array_equal(clean.rgb, dirty.rgb)
    assert set(np.unique(np.round(dirty.rgb, 3))) == {0.0, 100.0}
    # Deep inside the hole, and only near it, there is nothing.
    assert not dirty.rgb[:, 12:32, 17:48].any()
    assert dirty.rgb[:, :7, :88].all()
    assert (dirty.label[10:33, 15:50] == 255).all()


def test_images_with_and_without_a_hole_agree_elsewhere():
    whole = make_tile(60, 60)
    holed = make_tile(60, 60)
    holed.rgb_valid[:10, :10] = False
    holed.sar_valid[:10, :10] = False
    for seed in range(5):
        augmentation = Augmentation(
            64, (0.5, 2.0), turn=0.5, brightness=0.5, color=0.2, sar_contrast=0.3, cat_max_ratio=1
        )
        a, b = (run(tile, augmentation, seed=seed) for tile in (whole, holed))
        changed = (a.label != b.label).mean()
        assert changed < 0.15
        for name in ("rgb", "sar"):
            assert (np.abs(getattr(a, name) - getattr(b, name)).max(0) > 1e-4).mean() <= changed + 0.03


def test_a_crop_shows_more_than_one_class_where_there_is_such_a_crop():
    ids = np.zeros((200, 200), np.uint8)
    ids[:, 100:] = 1
    ids[:50] = 255
    tile = replace(make_tile(200, 200), label=ids)
    shares = [_share(run(tile, plain(64, random_crop=True, cat_max_ratio=0.75), seed=i).label) for i in range(60)]
    assert np.mean([share <= 0.75 for share in shares]) > 0.7
    anywhere = [_share(run(tile, plain(64, random_crop=True), seed=i).label) for i in range(60)]
    assert np.mean([share <= 0.75 for share in anywhere]) < 0.4


def _share(label):
    counts = np.bincount(label[label != 255], minlength=2)
    return counts.max() / counts.sum() if counts.sum() else math.inf


def test_a_crop_is_labelled_where_only_a_corner_is():
    ids = np.full((128, 128), 255, np.uint8)
    ids[:70, :70] = 2
    tile = replace(make_tile(128, 128), label=ids)
    assert all((run(tile, plain(64, random_crop=True, cat_max_ratio=0.75), seed=i).label == 2).any() for i in range(50))


def test_a_tile_without_label_gives_none():
    assert (run(replace(make_tile(), label=None), Augmentation(32)).label == 255).all()


def test_a_sample_depends_on_the_seed_alone():
    tile = make_tile()
    augmentation = Augmentation(32, turn=0.5, brightness=0.2, noise=0.1, sar_noise=0.2, missing_sar=0.3)
    a, b, other = (run(tile, augmentation, seed=seed) for seed in (5, 5, 6))
    for name in ("rgb", "sar", "label"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert not np.array_equal(a.rgb, other.rgb)


def test_light_leaves_the_place_as_it_was():
    tile = make_tile(90, 90)
    lit = Augmentation(40, brightness=0.2, contrast=0.3, color=0.1, sar_brightness=1, sar_contrast=0.2, noise=1)
    for seed in range(5):
        assert np.array_equal(run(tile, lit, seed=seed).label, run(tile, Augmentation(40), seed=seed).label)


def _fit(tile, seed, sensor, **options):
    """Return gain and offset of each band against the tile without them."""
    bright, usual = run(tile, plain(40, **options), seed=seed), run(tile, plain(40))
    lines = zip(getattr(usual, sensor), getattr(bright, sensor), strict=True)
    return np.array([np.polyfit(x.ravel(), y.ravel(), 1) for x, y in lines])


@pytest.mark.parametrize(
    ("sensor", "option", "gain", "offset", "alike"),
    [
        ("rgb", "brightness", 0.0, 0.4, True),
        ("rgb", "contrast", 0.4, 0.0, True),
        ("rgb", "color", 0.4, 0.4, False),
        ("sar", "sar_brightness", 0.0, 0.4, True),
        ("sar", "sar_contrast", 0.4, 0.0, True),
    ],
)
def test_light_is_a_line_within_its_bounds(sensor, option, gain, offset, alike):
    tile = make_tile(40, 40)
    fits = np.array([_fit(tile, seed, sensor, **{option: 0.4}) for seed in range(60)])
    for found, center, bound in ((fits[..., 0], 1, gain), (fits[..., 1], 0, offset)):
        reach = np.abs(found - center).max()
        assert reach == pytest.approx(bound, abs=1e-4) or 0.8 * bound < reach < bound
        assert (np.ptp(found, axis=1) < 1e-4).all() == (alike or not bound)
    other = "sar" if sensor == "rgb" else "rgb"
    assert np.allclose(_fit(tile, 1, other, **{option: 0.4}), [1, 0], atol=1e-4)


def test_noise_has_the_deviation_that_was_drawn_and_none_where_nothing_is():
    tile = make_tile(64, 64)
    tile.rgb_valid[:8] = False
    amounts = []
    for seed in range(60):
        noisy, usual = run(tile, plain(80, noise=0.5), seed=seed), run(tile, plain(80))
        difference = noisy.rgb - usual.rgb
        assert not difference[:, :8].any()
        assert not difference[:, 64:].any()
        assert not difference[:, :, 64:].any()
        assert np.array_equal(noisy.sar, usual.sar)
        amounts.append(difference[:, 8:64, :64].std())
    assert 0.45 < max(amounts) < 0.51
    assert min(amounts) < 0.06


def test_one_sensor_is_hidden_as_often_as_asked_for_and_never_both():
    tile = make_tile(16, 16)
    augmentation = plain(16, missing_rgb=0.2, missing_sar=0.3, noise=0.1, brightness=0.3)
    samples = [run(tile, augmentation, seed=i) for i in range(800)]
    no_rgb, no_sar = (np.array([not getattr(s, name).any() for s in samples]) for name in ("rgb", "sar"))
    assert not (no_rgb & no_sar).any()
    assert 0.15 < no_rgb.mean() < 0.25
    assert 0.25 < no_sar.mean() < 0.35
    assert all(np.array_equal(s.label, tile.label) for s in samples)


def test_other_band_counts_are_refused_by_name():
    with pytest.raises(ManifestError, match=r"'t' has 1 SAR bands, .* of 2"):
        run(make_tile(sar_bands=1), Augmentation(32))
    with pytest.raises(ManifestError, match=r"'t' has 1 SAR bands, .* of 2"):
        normalize_tile(make_tile(sar_bands=1), BANDS)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"crop_size": 0}, "crop_size .* 0"),
        ({"resize": (2.0, 0.5)}, r"resize .*\[2.0, 0.5\]"),
        ({"resize": (0.0, 1.0)}, r"resize .*\[0.0, 1.0\]"),
        ({"cat_max_ratio": 0.0}, "cat_max_ratio .* 0.0"),
        ({"flip": 1.5}, "flip .* 1.5"),
        ({"turn": -0.1}, "turn .* -0.1"),
        ({"noise": -1.0}, "noise .* -1.0"),
        ({"brightness": float("inf")}, "brightness .* inf"),
        ({"sar_noise": float("nan")}, "sar_noise .* nan"),
        ({"contrast": 1.0}, "contrast .* 1.0"),
        ({"missing_rgb": 0.6, "missing_sar": 0.6}, "0.6 and 0.6"),
    ],
)
def test_impossible_values_are_named(options, found):
    with pytest.raises(ConfigError, match=found):
        Augmentation(**options)
