"""The resampling of :mod:`geoasanet.raster.resample` on the network's device: the same values, bit for bit."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoasanet.raster.resample import Place, resample
from geoasanet.sample import BoolArray

_MOST_SHRINK = (
    4.0  # source pixels per target pixel: beyond it, hundreds of operations for each block; the host is faster
)
_FAR = 1e9  # pixels; no raster is as large
_KINDS = {np.dtype(kind): kind for kind in (np.uint8, np.int16, np.int32, np.float32, np.float64)}


class DeviceResampler:
    """Resamples on a device; takes the place of :func:`geoasanet.raster.resample.resample`.

    Args:
        device: Where to compute. It must know float64.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # What is fetched waits for its stream: not for that of the network.
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def __call__(
        self,
        data: NDArray[Any],
        valid: BoolArray,
        place: Place,
        out: NDArray[np.float32],
        out_valid: BoolArray,
        at: tuple[int, int],
    ) -> None:
        """Write resampled source pixels; see :func:`geoasanet.raster.resample.resample`."""
        if max(place.shrink) > _MOST_SHRINK:
            resample(data, valid, place, out, out_valid, at)
            return
        with torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext():
            values, mask = self._resample(data, valid, place)
        target = np.s_[at[0] : at[0] + mask.shape[0], at[1] : at[1] + mask.shape[1]]
        np.copyto(out[:, *target], values, where=mask)
        out_valid[target] |= mask

    def _resample(self, data: NDArray[Any], valid: BoolArray, place: Place) -> tuple[NDArray[np.float32], BoolArray]:
        window, nodes, spacing, shrink, corner = place
        # Types that torch does not gather become ones that hold the same numbers.
        pixels = self._send(data.astype(_KINDS.get(data.dtype, np.float64), copy=False))
        source = _Source(pixels, self._send(valid), corner)
        rows = _Lattice(window.row - nodes.row, window.height, spacing, self._device)
        cols = _Lattice(window.col - nodes.col, window.width, spacing, self._device)
        lattices = self._send(nodes.rows), self._send(nodes.cols)
        if shrink == (1.0, 1.0):
            y, x = (_along_rows(lattice, rows, cols) for lattice in lattices)
            values, known = _bilinear(source, y, x)
        else:
            y, x = (_between(lattice, rows, cols) for lattice in lattices)
            values, known = _triangle(source, y, x, shrink)
        return values.cpu().numpy(), known.cpu().numpy()

    def _send(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class _Lattice:
    """Target pixels along one axis, and the control points around each."""

    def __init__(self, first: int, count: int, spacing: int, device: torch.device) -> None:
        pixels = torch.arange(first, first + count, device=device)
        self.cells = pixels // spacing
        """Control point at or before each pixel."""
        self.steps = (pixels - self.cells * spacing).double() + 0.5
        """Target pixels from there to the pixel's centre."""
        self.spacing = spacing


class _Source:
    """Source pixels that may be asked for at any place.

    Args:
        pixels: Shape (bands, rows, columns).
        valid: Shape (rows, columns).
        corner: Row and column of the first pixel.
    """

    def __init__(self, pixels: Tensor, valid: Tensor, corner: tuple[int, int]) -> None:
        self._height, self._width = valid.shape
        self._pixels, self._valid, self._corner = pixels.flatten(1), valid.flatten(), corner

    def at(self, rows: Tensor, cols: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels (bands, …) at whole rows and columns, and where there are valid ones."""
        rows, cols = rows - self._corner[0], cols - self._corner[1]
        inside = (rows >= 0) & (rows < self._height) & (cols >= 0) & (cols < self._width)
        places = rows.clamp(0, self._height - 1) * self._width + cols.clamp(0, self._width - 1)
        return self._pixels[:, places], inside & self._valid[places]


def _along_rows(lattice: Tensor, rows: _Lattice, cols: _Lattice) -> Tensor:
    """Return source coordinates of pixel centres, less half a pixel, linear along each row of a cell."""
    v = (rows.steps / rows.spacing)[:, None]
    edges = (1 - v) * lattice[rows.cells] + v * lattice[rows.cells + 1] - 0.5
    start = edges[:, cols.cells]
    slope = (edges[:, cols.cells + 1] - start) / cols.spacing
    return start + slope * cols.steps


def _between(lattice: Tensor, rows: _Lattice, cols: _Lattice) -> Tensor:
    """Return source coordinates of pixel centres."""
    v, u = (rows.steps / rows.spacing)[:, None], cols.steps / cols.spacing
    above, below = lattice[rows.cells], lattice[rows.cells + 1]
    place = (1 - v) * (1 - u) * above[:, cols.cells] + (1 - v) * u * above[:, cols.cells + 1]
    return place + (v * (1 - u) * below[:, cols.cells] + v * u * below[:, cols.cells + 1])


def _bilinear(source: _Source, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate between the four pixels around each position; return values (bands, …) and where there are any."""
    defined = (y.abs() < _FAR) & (x.abs() < _FAR)  # not so where undefined
    y, x = torch.where(defined, y, -_FAR), torch.where(defined, x, -_FAR)
    top, left = y.floor(), x.floor()
    fy, fx = (y - top).float(), (x - left).float()
    corners = [source.at(top.long() + k, left.long() + m) for k, m in itertools.product((0, 1), repeat=2)]
    (nw, ne, sw, se) = (pixels.float() for pixels, _ in corners)
    upper, lower = nw + (ne - nw) * fx, sw + (se - sw) * fx
    values = upper + (lower - upper) * fy
    complete = torch.stack([known for _, known in corners]).all(0)
    known = complete & defined
    if not complete.all():
        wy, wx = (1 - fy.double(), fy.double()), (1 - fx.double(), fx.double())
        weights = [
            wy[k] * wx[m] * found
            for (k, m), (_, found) in zip(itertools.product((0, 1), repeat=2), corners, strict=True)
        ]
        seen = _sum(weights)
        total = _sum([weight * pixels for weight, (pixels, _) in zip(weights, corners, strict=True)])
        values = torch.where(complete, values, (total / seen).float())
        known = defined & (seen >= 0.5)
    return values, known


def _triangle(source: _Source, y: Tensor, x: Tensor, shrink: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Average under a triangle; return values (bands, …) and where enough of its weight has data."""
    defined = (y.abs() < _FAR) & (x.abs() < _FAR)  # not so where undefined
    y, x = torch.where(defined, y - 0.5, -_FAR), torch.where(defined, x - 0.5, -_FAR)
    (first_row, weights_y), (first_col, weights_x) = (_weights(c, r) for c, r in zip((y, x), shrink, strict=True))
    seen, sums = torch.zeros_like(y), torch.zeros_like(y)
    for (k, weight_y), (m, weight_x) in itertools.product(enumerate(weights_y), enumerate(weights_x)):
        pixels, known = source.at(first_row + k, first_col + m)
        weight = weight_y * weight_x * known
        seen += weight
        sums = sums + weight * pixels
    known = defined & (seen > 0) & (seen >= 0.5 * _sum(weights_y) * _sum(weights_x))
    return (sums / seen).float(), known


def _weights(center: Tensor, reach: float) -> tuple[Tensor, list[Tensor]]:
    """Return the first pixel under a triangle around each centre, and the weights of it and of those that follow."""
    first = (center - reach).floor().long() + 1
    weights = [(1.0 - (first + k - center).abs() / reach).clamp(min=0.0) for k in range(int(2 * reach) + 2)]
    return first, weights


def _sum(parts: Sequence[Tensor]) -> Tensor:
    """Add one after the other, as the CPU's kernels do."""
    return functools.reduce(torch.add, parts)
