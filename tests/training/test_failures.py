"""What a training needs and does not get."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geoasanet.bands import InputBands, SensorBands
from geoasanet.config import TrainConfig
from geoasanet.errors import DeviceError
from geoasanet.training.failures import check_batch

BANDS = InputBands(SensorBands((0.0,) * 3, (1.0,) * 3), SensorBands((0.0,), (1.0,)))


def test_a_batch_larger_than_memory_is_refused_before_it_is_made() -> None:
    check_batch(TrainConfig(), BANDS, 1)
    huge = replace(TrainConfig(), batch_size=65536, crop_size=8192)
    with pytest.raises(
        DeviceError, match=r"6\.55e\+04 GiB \(batch_size 65536, crop_size 8192\), this machine has \d+ GiB"
    ):
        check_batch(huge, BANDS, 1)
