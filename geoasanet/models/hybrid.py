"""The convolutional front of a hybrid vision transformer: ResNet-50 V2 weights, run with activations last.

"Big Transfer" (Kolesnikov et al. 2020, arXiv 1912.11370) gives weight-standardised convolutions and group norms;
TransUNet (Chen et al. 2021, arXiv 2102.04306) puts the first three stages before its transformer and moves each
activation behind its convolution.

Letters in names: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from geoasanet.models.encoders import Encoder, Weights
from geoasanet.models.renaming import rename

GROUPS = 32
"""Groups of every norm but those of projections; all widths are multiples."""

TIMM_RULES = (
    (r"^patch_embed\.backbone\.", ""),
    (r"^stem\.conv\.", "root.0."),
    (r"^stem\.norm\.", "root.1."),
    (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
    *((rf"\.conv{i + 1}\.", f".residual.{3 * i}.") for i in range(3)),
    *((rf"\.norm{i + 1}\.", f".residual.{3 * i + 1}.") for i in range(3)),
    (r"\.downsample\.conv\.", ".shortcut.0."),
    (r"\.downsample\.norm\.", ".shortcut.1."),
)
"""timm's names to those here."""


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters are brought to mean 0 and variance 1 before use."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the convolved map."""
        return conv2d(x_BCHW, self._standardised(), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return the convolution that this is while weights do not change."""
        conv: nn.Conv2d = copy.copy(self)
        conv.__class__ = nn.Conv2d
        conv._parameters = {**self._parameters, "weight": nn.Parameter(self._standardised())}
        return conv

    def _standardised(self) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        return (self.weight - mean) * torch.rsqrt(variance + 1e-5)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution around a shortcut, which is projected where the shape changes.

    Args:
        in_channels: Channels in.
        out_channels: Channels out; a quarter of them in between.
        stride: Stride of the 3×3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        middle = out_channels // 4
        self.residual = nn.Sequential(
            StandardisedConv2d(in_channels, middle, 1, bias=False),
            nn.GroupNorm(GROUPS, middle, eps=1e-6),
            nn.ReLU(inplace=True),
            StandardisedConv2d(middle, middle, 3, stride, padding=1, bias=False),
            nn.GroupNorm(GROUPS, middle, eps=1e-6),
            nn.ReLU(inplace=True),
            StandardisedConv2d(middle, out_channels, 1, bias=False),
            nn.GroupNorm(GROUPS, out_channels, eps=1e-6),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Sequential(
                StandardisedConv2d(in_channels, out_channels, 1, stride, bias=False),
                # One group per channel, unlike everywhere else.
                nn.GroupNorm(out_channels, out_channels, eps=1e-5),
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the next map."""
        result: Tensor = (self.shortcut(x_BCHW) + self.residual(x_BCHW)).relu()
        return result


class HybridEncoder(Encoder):
    """Root convolution and three stages of bottlenecks.

    The caller runs them one by one, because fusion happens in between: ``x = encoder.root(x)``, then
    ``x = encoder.stage(i, x)``; stage 0 begins with the pooling.

    Args:
        in_channels: Number of input bands.
        width: Channels of the root, a multiple of 32; the stages have 4, 8 and 16 times as many.
        units: Bottlenecks of each stage.
    """

    first_conv = "root.0.weight"
    tags = ("orig_in21k",)

    def __init__(self, in_channels: int, width: int, units: Sequence[int]) -> None:
        super().__init__()
        self.dims = [width, *(width * 4 * 2**i for i in range(len(units)))]
        self.root = nn.Sequential(
            StandardisedConv2d(in_channels, width, 7, 2, padding=3, bias=False),
            nn.GroupNorm(GROUPS, width, eps=1e-6),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.MaxPool2d(3, 2)
        self.stages = nn.ModuleList()
        for i, count in enumerate(units):
            first = Bottleneck(self.dims[i], self.dims[i + 1], stride=1 if i == 0 else 2)
            rest = (Bottleneck(self.dims[i + 1], self.dims[i + 1]) for _ in range(count - 1))
            self.stages.append(nn.Sequential(first, *rest))

    def stage(self, index: int, x_BCHW: Tensor) -> Tensor:
        """Return the output of stage ``index`` (0 to 2).

        At sides that are multiples of 16 the strides are 4, 8 and 16; the unpadded pooling leaves stage 0 one pixel
        short at the right and bottom.
        """
        result: Tensor = self.stages[index](self.pool(x_BCHW) if index == 0 else x_BCHW)
        return result

    def translate(self, weights: Weights) -> Weights:
        """Return the ResNet's part of timm's hybrid weights under our names."""
        return {rename(TIMM_RULES, key): weights[key] for key in weights if key.startswith("patch_embed.backbone.")}
