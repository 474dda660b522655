"""Compiled functions work where nothing can be cached."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core import caching

from geoasanet.kernels import kernel


def test_a_kernel_works_where_no_cache_folder_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    @kernel
    def twice(values: np.ndarray) -> np.ndarray:
        return values * 2

    assert twice(np.arange(3)).tolist() == [0, 2, 4]
