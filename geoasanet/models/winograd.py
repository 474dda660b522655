"""3×3 convolutions with fewer than half of the multiplications, for CPUs.

Winograd's minimal filtering for 2 × 2 outputs, F(2×2, 3×3) of "Fast Algorithms for Convolutional Neural Networks"
(Lavin and Gray 2016, arXiv 1509.09308): four outputs take 16 multiplications a channel rather than 36. Its transforms
add and subtract only, and sums run over channels alone, so rounding errors in float32 are of the size of the plain
convolution's: smaller than those of torch's kernels for AVX2, up to twice those of its kernels for AVX-512. (Larger
outputs would save more and round worse.)

Letters in names: B batch, C channels in, D channels out, H and W height and width, h and w counts of 2 × 2 outputs.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from geoasanet.kernels import kernel
from geoasanet.models.products import product

_NARROWEST = 40.0
"""Channels at which it pays, those in and out joined as C·D / (C + D); measured."""
_AT_ONCE = 64
"""Input channels whose kernels are transformed at a time: those of large networks take gigabytes in float64."""
_MOST_VALUES = 1 << 21
"""Transformed values at hand at a time (8 MB in float32), so that wide maps need little memory."""
_FEW_VALUES = 1 << 18
"""As many kernels stay in a core's cache (1 MB in float32); then so should the values, with more strips; measured."""


class WinogradConv(nn.Module):
    """The same convolution as a 3×3 one with stride 1 and padding 1, equal but for rounding.

    Args:
        conv: The convolution; see :func:`suits`.
    """

    weight: Tensor
    """Transformed kernels, shape (16, C, D)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.new_empty(4, 4, conv.in_channels, conv.out_channels)
        for taps, part in zip(
            torch.split(conv.weight.detach(), _AT_ONCE, 1), torch.split(weight, _AT_ONCE, 2), strict=True
        ):
            for row, rows in zip(part, _sides(taps.permute(2, 3, 1, 0).double()), strict=True):
                for target, values in zip(row, _sides(rows), strict=True):
                    target.copy_(values)
        self.register_buffer("weight", weight.flatten(0, 1))
        self.bias = conv.bias

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the convolved map (B, D, H, W), channels last."""
        channels, height, width = x_BCHW.shape[1:]
        h, w, out_channels = -(-height // 2), -(-width // 2), self.weight.shape[2]
        padded = pad(x_BCHW.permute(0, 2, 3, 1), (0, 0, 1, 1 + width % 2, 1, 1 + height % 2)).contiguous()
        result = padded.new_empty(len(padded), 2 * h, 2 * w, out_channels)
        most_values = _FEW_VALUES if self.weight.numel() <= _FEW_VALUES else _MOST_VALUES
        step = 2 * max(1, most_values // (16 * w * max(channels, out_channels)))
        for image, target in zip(padded, result, strict=True):
            for first in range(0, 2 * h, step):
                seen = torch.ops.geoasanet.winograd_seen(image[first : first + step + 2])
                mixed = product(seen, self.weight)
                torch.ops.geoasanet.winograd_outputs(mixed, self.bias, target[first : first + step])
        return result[:, :height, :width].permute(0, 3, 1, 2)


def _sides(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four transformed values of a kernel's three, ``kernel[:3]``."""
    first, middle, last = kernel
    ends, middle = (first + last) / 2, middle / 2
    return first, ends + middle, ends - middle, last


torch.library.define("geoasanet::winograd_seen", "(Tensor pixels) -> Tensor")
torch.library.define("geoasanet::winograd_outputs", "(Tensor(a!) mixed, Tensor? bias, Tensor(b!) result) -> ()")


@torch.library.impl("geoasanet::winograd_seen", "cpu")
def _seen(pixels: Tensor) -> Tensor:
    """Return the transformed values (16, h·w, C) of pixels (2h + 2, 2w + 2, C)."""
    seen: Tensor = _empty_seen(pixels)
    _see(pixels.numpy(), seen.numpy())
    return seen


@torch.library.register_fake("geoasanet::winograd_seen")
def _empty_seen(pixels: Tensor) -> Tensor:
    height, width, channels = pixels.shape
    seen: Tensor = pixels.new_empty(16, (height // 2 - 1) * (width // 2 - 1), channels)
    return seen


@torch.library.impl("geoasanet::winograd_outputs", "cpu")
def _outputs(mixed: Tensor, bias: Tensor | None, result: Tensor) -> None:
    """Write the outputs (2h, 2w, D) of mixed values (16, h·w, D), which it uses up."""
    if bias is not None:
        mixed[5] += bias  # reaches each of the four outputs once
    _sum(mixed.numpy(), result.numpy())


@torch.library.register_fake("geoasanet::winograd_outputs")
def _no_outputs(mixed: Tensor, bias: Tensor | None, result: Tensor) -> None:
    pass


@kernel
def _see(pixels: NDArray[Any], seen: NDArray[Any]) -> None:
    across, channels = pixels.shape[1] // 2 - 1, pixels.shape[2]
    line = np.empty((4, channels), pixels.dtype)
    for tile in range(seen.shape[1]):
        y, x = 2 * (tile // across), 2 * (tile % across)
        for row, (upper, lower) in enumerate(((0, 2), (1, 2), (2, 1), (1, 3))):
            for column in range(4):
                a, b, t = pixels[y + upper, x + column], pixels[y + lower, x + column], line[column]
                if row == 1:
                    for c in range(channels):
                        t[c] = a[c] + b[c]
                else:
                    for c in range(channels):
                        t[c] = a[c] - b[c]
            for column, (left, right) in enumerate(((0, 2), (1, 2), (2, 1), (1, 3))):
                a, b, t = line[left], line[right], seen[4 * row + column, tile]
                if column == 1:
                    for c in range(channels):
                        t[c] = a[c] + b[c]
                else:
                    for c in range(channels):
                        t[c] = a[c] - b[c]


@kernel
def _sum(mixed: NDArray[Any], result: NDArray[Any]) -> None:
    across, channels = result.shape[1] // 2, result.shape[2]
    line = np.empty((2, 4, channels), mixed.dtype)
    for tile in range(mixed.shape[1]):
        y, x = 2 * (tile // across), 2 * (tile % across)
        for column in range(4):
            upper, lower = line[0, column], line[1, column]
            _add_four(
                mixed[column, tile],
                mixed[4 + column, tile],
                mixed[8 + column, tile],
                mixed[12 + column, tile],
                upper,
                lower,
            )
        for row in range(2):
            _add_four(
                line[row, 0], line[row, 1], line[row, 2], line[row, 3], result[y + row, x], result[y + row, x + 1]
            )


@kernel
def _add_four(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any], first: NDArray[Any], second: NDArray[Any]
) -> None:
    """Write the two outputs of four mixed values."""
    for i in range(len(a)):
        first[i] = a[i] + b[i] + c[i]
    for i in range(len(a)):
        second[i] = b[i] - c[i] - d[i]


def suits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Tell whether a module is a convolution that :class:`WinogradConv` computes faster."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.stride == module.dilation == module.padding == (1, 1)
        and module.padding_mode == "zeros"
        and module.groups == 1
        and 1 / (1 / module.in_channels + 1 / module.out_channels) >= _NARROWEST
    )
