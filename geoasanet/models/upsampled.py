"""A convolution over maps of several sizes, without enlarging them first.

Letters in names: B batch, C channels in, D channels out, H and W the result's height and width, h and w a map's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad

from geoasanet.models.blocks import resize
from geoasanet.models.products import product

TAPS = 3
"""Side of the kernel, pixels."""
_GAIN = 0.6
"""A map is enlarged all the same unless this share of the multiplications suffices without."""


class UpsampledConv(nn.Module):
    """``conv(cat(maps, each resampled bilinearly to one size))``: the same numbers but for rounding, in less work.

    Resampling and the places of the kernel's taps act on space, the kernel's weights on channels, and the two
    commute: channels are mixed for each of the nine taps at a map's own size, and the outcome is enlarged and moved by
    a pixel in one step, a product with a small matrix along each axis. A map of half the size takes about a quarter
    of the multiplications.

    Args:
        conv: 3×3 convolution with padding 1.
        channels: How many of its input channels each map has.
        finest: Which map has the result's size already; None if none has.
        align_corners: How maps are resampled.
    """

    def __init__(
        self, conv: nn.Conv2d, channels: Sequence[int], finest: int | None = None, *, align_corners: bool = False
    ) -> None:
        super().__init__()
        assert conv.kernel_size == (TAPS, TAPS) and conv.padding == (1, 1) and conv.groups == 1
        self.finest = finest
        self.align_corners = align_corners
        parts = list(torch.split(conv.weight.detach(), list(channels), dim=1))
        self.plain: nn.Module | None = None if finest is None else _with_weight(conv, parts.pop(finest))
        self.bias = conv.bias if finest is None else None
        # For every other map (taps across, taps down, D, C).
        self.weights = nn.ParameterList(
            nn.Parameter(w.permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format), requires_grad=False)
            for w in parts
        )

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return the convolved map (B, D, H, W) from maps (B, C, h, w) and ``size`` (H, W)."""
        height, width = size
        result: Tensor | None = None
        if self.plain is not None and self.finest is not None:
            result = self.plain(resize(maps[self.finest], (height, width), align_corners=self.align_corners))
        others = [x for i, x in enumerate(maps) if i != self.finest]
        for x, weight in zip(others, self.weights, strict=True):
            if _pays(x.shape, height, width):
                part = self._mixed_first(x, weight, height, width)
            else:
                enlarged = resize(x, (height, width), align_corners=self.align_corners)
                part = conv2d(enlarged, weight.permute(2, 3, 1, 0), padding=1)
            result = part if result is None else result.add_(part)
        assert result is not None
        return result if self.bias is None else result.add_(self.bias[:, None, None])

    def _mixed_first(self, x_BChw: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
        """Return one map's share of the result, (B, D, height, width)."""
        count, channels, h, w = x_BChw.shape
        pixels = x_BChw.permute(0, 2, 3, 1).reshape(-1, channels)
        mixed = product(pixels, weight.view(-1, channels).T).view(count * h, w * TAPS, -1)
        across = product(self._taps(w, width, x_BChw), mixed).view(count, h, width, TAPS, -1)
        down = across.transpose(2, 3).reshape(count, h * TAPS, -1)
        down = product(self._taps(h, height, x_BChw), down)
        return down.view(count, height, width, -1).permute(0, 3, 1, 2)

    def _taps(self, size: int, target: int, like: Tensor) -> Tensor:
        """Return (target, size * TAPS): what the taps see at every place of a line enlarged from ``size``."""
        line = torch.eye(size, dtype=like.dtype, device=like.device)[None]
        enlarged = interpolate(line, size=target, mode="linear", align_corners=self.align_corners)[0]
        enlarged = pad(enlarged, (1, 1))
        return torch.stack([enlarged[:, k : k + target] for k in range(TAPS)], 1).flatten(0, 1).T.contiguous()


def _with_weight(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """Return a convolution with the bias of ``conv`` and another weight."""
    plain = nn.Conv2d(1, 1, TAPS, padding=1, bias=False, device="meta")
    plain.in_channels, plain.out_channels = weight.shape[1], weight.shape[0]
    plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), conv.bias
    return plain


def _pays(shape: Sequence[int], height: int, width: int) -> bool:
    """Whether mixing channels first takes clearly fewer multiplications; counted per channel of the result."""
    _, channels, h, w = shape
    enlarged_first = TAPS**2 * channels * height * width
    mixed_first = TAPS**2 * channels * h * w + TAPS**2 * width * w * h + TAPS * height * h * width
    return mixed_first < _GAIN * enlarged_first
