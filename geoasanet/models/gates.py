"""Fusion by weighing channels: squeeze and excitation.

Letters in names: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

from torch import Tensor, nn


class GatedSum(nn.Module):
    """The sum of two maps, each weighed per channel by its own mean over the window.

    Args:
        channels: Channels of both maps.
        hidden: Channels inside the gate; ``None`` for a single layer.
    """

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        self.rgb = _gate(channels, hidden)
        self.sar = _gate(channels, hidden)

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> Tensor:
        """Return the fused map (B, C, H, W)."""
        fused: Tensor = rgb_BCHW * self.rgb(rgb_BCHW) + sar_BCHW * self.sar(sar_BCHW)
        return fused


def _gate(channels: int, hidden: int | None) -> nn.Sequential:
    squeeze: list[nn.Module] = []
    if hidden is not None:
        squeeze = [nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True)]
    last = nn.Conv2d(hidden or channels, channels, 1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), *squeeze, last, nn.Sigmoid())
