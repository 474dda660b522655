"""Weighted sums of overlapping windows on the network's device; only finished rows cross to the host."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoasanet.classes import NODATA
from geoasanet.inference.spans import Span
from geoasanet.sample import BoolArray

FloatArray = NDArray[np.float32]

_GROUP = 32  # windows summed at a time


class DeviceSums:
    """Sums of one row of windows after the other, in tensors; see :class:`geoasanet.inference.hostsums.HostSums`.

    Args:
        device: Where the sums are held and the classes found.
        num_classes: Classes of the network.
        size: Side of the windows, pixels.
        carried: Most rows that the next row of windows touches again.
        width: Columns that the windows span.
        row_weights: Shape (rows of windows, size).
        col_weights: Shape (columns of windows, size).
        logits: Whether windows come as logits, of which the softmax is still to be taken.
    """

    def __init__(
        self,
        device: torch.device,
        num_classes: int,
        size: int,
        carried: int,
        width: int,
        row_weights: FloatArray,
        col_weights: FloatArray,
        logits: bool,
    ) -> None:
        self._device = device
        self._logits = logits
        self._row_weights = torch.from_numpy(row_weights).to(device)
        self._col_weights = torch.from_numpy(col_weights).to(device)
        self._carry = torch.zeros(num_classes, carried, width, device=device)
        self._nothing = torch.zeros(num_classes, size, 0, device=device)

    def add_row(self, index: int, windows: Iterable[tuple[Span, Tensor | None]], carried: int, out: DeviceRows) -> None:
        """Add a row of windows; see :meth:`geoasanet.inference.hostsums.HostSums.add_row`.

        Some are summed at a time: to start one operation more takes a device longer than to work on a window.
        """
        remaining, side = iter(windows), self._nothing
        while group := list(itertools.islice(remaining, _GROUP)):
            side = self._add(index, group, side, carried, out)

    def _add(
        self, index: int, group: Sequence[tuple[Span, Tensor | None]], side: Tensor, carried: int, out: DeviceRows
    ) -> Tensor:
        """Add neighbouring windows, and ``side``, which the windows before leave; return what these leave."""
        first, last = group[0][0], group[-1][0]
        num_classes, size = side.shape[:2]
        sums = side.new_zeros(num_classes, size, last.start + size - first.start)
        sums[:, :, : side.shape[2]] = side
        weights = self._row_weights[index, :, None] * self._col_weights[first.column : last.column + 1, None, :]
        for weight, (span, prediction) in zip(weights, group, strict=True):
            if prediction is not None:
                probabilities = torch.softmax(prediction, 0) if self._logits else prediction
                start = span.start - first.start
                sums[:, :, start : start + size].addcmul_(probabilities, weight)
        taken, carry = sums[:, :, : last.stop - first.start], self._carry[:, :, first.start : last.stop]
        if carried:
            taken[:, :carried] += carry[:, :carried]
        out.put(first.start, taken[:, : out.height])
        rest = min(size - out.height, carry.shape[1])
        if rest > 0:
            carry[:, :rest] = taken[:, out.height : out.height + rest]
        return sums[:, :, last.stop - first.start :].clone()

    def rows(self, valid: BoolArray, confidence: bool, probabilities: bool) -> DeviceRows:
        """Return tensors for finished rows."""
        return DeviceRows(valid, len(self._carry), self._device, confidence, probabilities)


class DeviceRows:
    """Finished rows in the making.

    Args:
        valid: Where the map is wanted, shape (rows, columns).
        num_classes: Classes of the network.
        device: Where the sums are.
        confidence: Whether the probability of the class is kept.
        probabilities: Whether every class's probability is kept.
    """

    def __init__(
        self, valid: BoolArray, num_classes: int, device: torch.device, confidence: bool, probabilities: bool
    ) -> None:
        self.height, width = valid.shape
        self._invalid = ~torch.from_numpy(valid).to(device)
        self._classes = torch.empty(self.height, width, dtype=torch.uint8, device=device)
        self._confidence = torch.empty(self.height, width, device=device) if confidence else None
        self._probabilities = torch.empty(num_classes, self.height, width, device=device) if probabilities else None

    def put(self, start: int, sums: Tensor) -> None:
        """Decide the class of the columns from ``start`` on, given sums of shape (classes, rows, columns)."""
        columns = slice(start, start + sums.shape[2])
        classes = self._classes[:, columns]
        classes.zero_()
        best = sums[0].clone()
        for k in range(1, len(sums)):
            classes.masked_fill_(sums[k] > best, k)
            torch.maximum(best, sums[k], out=best)
        if self._confidence is not None:
            self._confidence[:, columns] = best
        if self._probabilities is not None:
            self._probabilities[:, :, columns] = sums

    def result(self) -> tuple[NDArray[np.uint8], FloatArray | None, FloatArray | None]:
        """Return classes, confidence and probabilities on the host; None for what is not kept."""
        self._classes.masked_fill_(self._invalid, NODATA)
        for part in (self._confidence, self._probabilities):
            if part is not None:
                part.masked_fill_(self._invalid, torch.nan)
        confidence, probabilities = self._confidence, self._probabilities
        return (
            self._classes.cpu().numpy(),
            None if confidence is None else confidence.cpu().numpy(),
            None if probabilities is None else probabilities.cpu().numpy(),
        )
