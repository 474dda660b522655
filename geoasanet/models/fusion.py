"""ASANet's two ways of joining the sensors: Semantic Focusing and Cascade Fusion.

Both follow "ASANet: Asymmetric Semantic Aligning Network for RGB and SAR image land cover classification" (Zhang et
al., ISPRS Journal of Photogrammetry and Remote Sensing 218, 2024) and give the numbers of its public code. Letters in
names: B batch, C channels, H and W height and width; ``gate_BC11`` is one weight per channel.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from geoasanet.models.blocks import init_kaiming, refuse_single_value


class LocalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that is meant to stay per device when others become ``SyncBatchNorm``, as in the original."""


class SemanticFocusing(nn.Module):
    """Strengthen in each sensor the channels in which it exceeds the other (SFM).

    Args:
        channels: Channels of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(32, channels // 16)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps, each plus itself times its gate, shapes unchanged.

        The largest excess over the whole window decides: max(rgb − sar) for the one, max(sar − rgb) = −min(rgb − sar)
        for the other, through the same gate.
        """
        difference_BCHW = rgb_BCHW - sar_BCHW
        excess_rgb_BC11 = difference_BCHW.amax((2, 3), keepdim=True)
        excess_sar_BC11 = -difference_BCHW.amin((2, 3), keepdim=True)
        return rgb_BCHW * (1 + self.gate(excess_rgb_BC11)), sar_BCHW * (1 + self.gate(excess_sar_BC11))


class NoFocusing(nn.Module):
    """Leave both maps as they are: the ablation without SFM."""

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two maps."""
        return rgb_BCHW, sar_BCHW


class ChannelGate(nn.Module):
    """One weight per channel from the pooled map: the perceptron inside Cascade Fusion.

    Args:
        channels: Channels in and out; four times as many in between.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.expand = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), LocalBatchNorm2d(hidden))
        # On a pooled 1x1 map only the kernel's centre meets data.
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.ReLU6()
        self.reduce = nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), LocalBatchNorm2d(channels))
        init_kaiming(self)

    def forward(self, pooled_BC11: Tensor) -> Tensor:
        """Return the gate before its sigmoid, in the shape of the input.

        Raises:
            ModelError: In training with one image, for which batch statistics of a pooled map do not exist.
        """
        refuse_single_value(pooled_BC11, self.expand[1], "Cascade fusion")
        result: Tensor = self.reduce(self.act(self.depthwise(self.expand(pooled_BC11))))
        return result


class CascadeFusion(nn.Module):
    """Fuse both maps: first weigh channels, then weigh pixels' channels against one another (CFM).

    Args:
        channels: Channels of both maps and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * channels, channels, 1)
        self.gate_rgb = ChannelGate(channels)
        self.gate_sar = ChannelGate(channels)
        self.remix = nn.Conv2d(2 * channels, channels, 1)
        self.weigh_rgb = nn.Conv2d(channels, channels, 1)
        self.weigh_sar = nn.Conv2d(channels, channels, 1)

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> Tensor:
        """Return the fused map (B, C, H, W); softmax runs over channels, so values are about 1/C of the inputs'."""
        pooled_BC11 = self._pool(torch.cat([rgb_BCHW, sar_BCHW], 1))
        rgb_BCHW = rgb_BCHW * self.gate_rgb(pooled_BC11).sigmoid()
        sar_BCHW = sar_BCHW * self.gate_sar(pooled_BC11).sigmoid()
        mixed_BCHW = self.remix(torch.cat([rgb_BCHW, sar_BCHW], 1))
        share_rgb_BCHW = self._shares(self.weigh_rgb(mixed_BCHW))
        share_sar_BCHW = self._shares(self.weigh_sar(mixed_BCHW))
        fused_BCHW: Tensor = rgb_BCHW * share_rgb_BCHW + sar_BCHW * share_sar_BCHW
        return fused_BCHW

    def _pool(self, both_BCHW: Tensor) -> Tensor:
        pooled_BC11: Tensor = self.mix(both_BCHW).mean((2, 3), keepdim=True)
        return pooled_BC11

    def _shares(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.softmax(1)

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return a module that mixes the mean instead of taking the mean of what was mixed, which is the same."""
        twin = copy.copy(self)
        twin.__class__ = PooledFirst
        return twin


class PooledFirst(CascadeFusion):
    """Cascade Fusion with less to compute; the number of operations is no longer the published one."""

    def _pool(self, both_BCHW: Tensor) -> Tensor:
        pooled_BC11: Tensor = self.mix(both_BCHW.mean((2, 3), keepdim=True))
        return pooled_BC11

    def _shares(self, x_BCHW: Tensor) -> Tensor:
        # Over an axis that is not the last, softmax is slow and its result channels first, unlike all other maps.
        return x_BCHW.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)


class SumFusion(nn.Module):
    """Add the two maps: the ablation without CFM."""

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> Tensor:
        """Return the sum."""
        return rgb_BCHW + sar_BCHW
