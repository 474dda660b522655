"""Windows as a network takes them: the same bits for any dtype and layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoasanet.bands import SensorBands
from geoasanet.inference.normalize import Normalize

CPU = torch.device("cpu")
BANDS = SensorBands(mean=(100.1, 33.3, 7.7), std=(3.3, 17.1, 0.37), scale="raw")
DTYPES = [np.uint8, np.uint16, np.int16, np.int32, np.float16, np.float32, np.float64]


def windows_of_a_row(dtype: type, count: int = 2) -> list[np.ndarray]:
    """Return overlapping windows that lie in one array, as a row of windows does."""
    row = (np.random.default_rng(0).random((3, 24, 100)) * 250).astype(dtype)
    return [row[:, :, 16 * i : 16 * i + 24] for i in range(count)]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("bands", [None, BANDS], ids=["raw", "bands"])
@pytest.mark.parametrize("contiguous", [False, True])
def test_pixels_are_float32_less_the_mean_times_the_scale(
    dtype: type, bands: SensorBands | None, contiguous: bool
) -> None:
    windows = windows_of_a_row(dtype)
    valid = [np.random.default_rng(i).random((24, 24)) > 0.1 for i in range(2)]
    given_windows = [np.ascontiguousarray(w) for w in windows] if contiguous else windows
    expected = np.stack(windows).astype(np.float32)
    if bands is not None:
        mean, scale = np.float32(bands.mean), (1 / np.float64(bands.std)).astype(np.float32)
        expected = (expected - mean[:, None, None]) * scale[:, None, None]
    expected *= np.stack(valid)[:, None]
    found = Normalize(bands, CPU)(given_windows, valid)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)


def test_devices_get_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, valid = windows_of_a_row(np.uint8), [np.ones((24, 24), bool)] * 2
    here = Normalize(BANDS, CPU)(windows, valid)
    monkeypatch.setattr(Normalize, "_computed_here", Normalize._computed_there)
    assert torch.equal(Normalize(BANDS, CPU)(windows, valid), here)


def test_the_batch_is_not_the_rasters_memory() -> None:
    """What a network does to its input must not reach the windows beside it."""
    window = np.ones((3, 8, 8), np.float32)
    Normalize(None, CPU)([window], [np.ones((8, 8), bool)]).zero_()
    assert window.all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_any_shape(bands: int, height: int, width: int, count: int) -> None:
    arrays = [np.random.default_rng(i).integers(0, 255, (bands, height, width), np.uint8) for i in range(count)]
    found = Normalize(None, CPU)(arrays, [np.ones((height, width), bool)] * count)
    np.testing.assert_array_equal(found.numpy(), np.stack(arrays).astype(np.float32))
