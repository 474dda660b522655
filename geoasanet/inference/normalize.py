"""Windows as a network takes them: stacked, float32, with its own mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoasanet.bands import SensorBands
from geoasanet.sample import BoolArray

_SENT_AS = {np.bool_: torch.bool, np.uint8: torch.uint8}


class Normalize:
    """Stacks windows of one sensor into a normalised float32 batch on the device; 0 where there is no data.

    Args:
        bands: Statistics of the model's input; None leaves pixels as they are.
        device: Where the batch goes.
    """

    def __init__(self, bands: SensorBands | None, device: torch.device) -> None:
        self._device = device
        self._mean = self._scale = np.zeros(0, np.float32)
        if bands is not None:
            self._mean = np.array(bands.mean, np.float32)
            self._scale = (1 / np.array(bands.std, np.float64)).astype(np.float32)
        self._on_device = [torch.from_numpy(v).to(device).view(1, -1, 1, 1) for v in (self._mean, self._scale)]

    def __call__(self, arrays: Sequence[NDArray[Any]], valid: Sequence[BoolArray]) -> Tensor:
        """Return a batch that shares no memory with ``arrays``, which may be parts of larger ones.

        Args:
            arrays: Pixels of each window, shape (bands, height, width).
            valid: Where they have data, shape (height, width).

        Returns:
            float32 tensor of shape (windows, bands, height, width) on the device.
        """
        x = self._computed_here(arrays) if self._device.type == "cpu" else self._computed_there(arrays)
        if not all(v.all() for v in valid):
            x *= self._send(valid)[:, None]
        return x

    def _computed_here(self, arrays: Sequence[NDArray[Any]]) -> Tensor:
        from geoasanet.inference.hostpixels import normalize  # loads numba, which a device does not need

        batch = torch.empty((len(arrays), *arrays[0].shape))
        for array, target in zip(arrays, batch.numpy(), strict=True):
            pixels = array.astype(np.float32) if array.dtype == np.float16 else array  # numba knows no float16
            normalize(pixels, self._mean, self._scale, target)
        return batch

    def _computed_there(self, arrays: Sequence[NDArray[Any]]) -> Tensor:
        x = self._send(arrays).float()
        mean, scale = self._on_device
        return (x - mean) * scale if len(self._mean) else x

    def _send(self, arrays: Sequence[NDArray[Any]]) -> Tensor:
        """Return arrays one above the other on the device: bool, uint8, else float32.

        For CUDA they are gathered in memory that is copied from while the host goes on.
        """
        kind = _SENT_AS.get(arrays[0].dtype.type, torch.float32)
        on_cuda = self._device.type == "cuda"
        gathered = torch.empty((len(arrays), *arrays[0].shape), dtype=kind, pin_memory=on_cuda)
        np.stack(arrays, out=gathered.numpy())
        return gathered.to(self._device, non_blocking=on_cuda)
