"""3×3 convolutions with fewer than half of the multiplications, for CPUs.

Winograd's minimal filtering for 2 × 2 outputs, F(2×2, 3×3) of "Fast Algorithms for Convolutional Neural Networks"
(Lavin and Gray 2016, arXiv 1509.09308): four outputs take 16 multiplications a channel rather than 36. Its transforms
add and subtract only, and sums run over channels alone, so rounding errors in float32 are no larger than those of the
plain convolution. (Larger outputs would save more and round worse.)

Letters in names: B batch, C channels in, D channels out, H and W height and width, h and w counts of 2 × 2 outputs.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_NARROWEST = 40.0
"""Channels at which it pays, those in and out joined as C·D / (C + D); measured."""
_AT_ONCE = 64
"""Input channels whose kernels are transformed at a time: those of large networks take gigabytes in float64."""
_MOST_VALUES = 1 << 21
"""Transformed values at hand at a time (8 MB in float32), so that wide maps need little memory."""


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
        for kernel, part in zip(
            torch.split(conv.weight.detach(), _AT_ONCE, 1), torch.split(weight, _AT_ONCE, 2), strict=True
        ):
            for row, rows in zip(part, _sides(kernel.permute(2, 3, 1, 0).double()), strict=True):
                for target, values in zip(row, _sides(rows), strict=True):
                    target.copy_(values)
        self.register_buffer("weight", weight.flatten(0, 1))
        self.bias = conv.bias

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the convolved map (B, D, H, W), channels last."""
        count, channels, height, width = x_BCHW.shape
        h, w, out_channels = -(-height // 2), -(-width // 2), self.weight.shape[2]
        padded = pad(x_BCHW.permute(0, 2, 3, 1), (0, 0, 1, 1 + width % 2, 1, 1 + height % 2))
        result = x_BCHW.new_empty(count, 2 * h, 2 * w, out_channels)
        step = max(1, _MOST_VALUES // (16 * count * w * max(channels, out_channels)))
        for first in range(0, h, step):
            rows = slice(2 * first, 2 * min(first + step, h))
            self._outputs(padded[:, rows.start : rows.stop + 2], result[:, rows])
        return result[:, :height, :width].permute(0, 3, 1, 2)

    def _outputs(self, padded: Tensor, result: Tensor) -> None:
        """Write the outputs (B, 2h, 2w, D) of padded pixels (B, 2h + 2, 2w + 2, C)."""
        count, height, width, out_channels = result.shape
        tiles = count, height // 2, width // 2
        rows = padded.new_empty(4, count, height // 2, *padded.shape[2:])
        seen = padded.new_empty(4, 4, *tiles, padded.shape[-1])
        _differences(padded, 1, rows)
        for part, target in zip(rows, seen, strict=True):
            _differences(part, 2, target)
        mixed = torch.bmm(seen.view(16, -1, padded.shape[-1]), self.weight).view(4, 4, *tiles, out_channels)
        if self.bias is not None:
            mixed[1, 1] += self.bias  # reaches each of the four outputs once
        down = mixed.new_empty(2, *mixed.shape[1:])
        _sums(mixed, (down[0], down[1]))
        for row, part in enumerate(down):
            _sums(part, (result[:, row::2, ::2], result[:, row::2, 1::2]))


def _sides(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four transformed values of a kernel's three, ``kernel[:3]``."""
    first, middle, last = kernel
    ends, middle = (first + last) / 2, middle / 2
    return first, ends + middle, ends - middle, last


def _differences(x: Tensor, axis: int, out: Tensor) -> None:
    """Write the four transformed values of every four pixels in a line, which begin two apart, to ``out[:4]``."""
    count = x.shape[axis] - 3
    a, b, c, d = (x.narrow(axis, i, count)[(slice(None),) * axis + (slice(None, None, 2),)] for i in range(4))
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(b, d, out=out[3])


def _sums(x: Tensor, out: tuple[Tensor, Tensor]) -> None:
    """Write the two outputs of every four mixed values ``x[:4]``."""
    a, b, c, d = x
    out[0].copy_((a + b).add_(c))
    out[1].copy_((b - c).sub_(d))


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
