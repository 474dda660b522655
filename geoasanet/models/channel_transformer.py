"""Attention between channels of several scales, for one sensor or across two (CMFNet).

After "UCTransNet" (Wang et al. 2022, arXiv 2109.04335): every scale's channels ask all scales' channels, with what the
window's tokens hold as the vectors that are compared.

Letters in names: B batch, C channels of one scale and A of all together, H and W height and width, N tokens, h heads, c
and a channels of one head. Lists hold one entry a scale, finest first; lists of lists one such list a sensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm

from geoasanet.models.tokens import perceptron, resample_positions, split_heads, to_map, to_tokens

PATCH = 16
"""Side of a patch, pixels of the image."""
GRID = 16
"""Side of the grid of learned positions: a 256 px window in such patches."""


class ChannelTransformer(nn.Module):
    """Maps to patches of 16 px, layers of attention between channels, and back onto the maps.

    Args:
        channels: Channels of the maps at strides [1, 2, 4, 8].
        sensors: 1 for attention within a sensor, 2 for attention across two.
        layers: Number of layers.
        heads: Attention heads; must divide every number of channels.
        dropout: Chance of a value to be dropped.
    """

    def __init__(self, channels: Sequence[int], sensors: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(PatchEmbedding(channels, dropout) for _ in range(sensors))
        self.layers = nn.ModuleList(ChannelLayer(channels, sensors, heads, dropout) for _ in range(layers))
        # Both sensors share these.
        self.norms = nn.ModuleList(nn.LayerNorm(c, eps=1e-6) for c in channels)
        self.restores = nn.ModuleList(Reconstruction(channels) for _ in range(sensors))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, maps: list[list[Tensor]]) -> list[list[Tensor]]:
        """Return the maps of every sensor, in their shapes, each plus what the transformer makes of it."""
        tokens = [embed(own) for embed, own in zip(self.embeds, maps, strict=True)]
        for layer in self.layers:
            tokens = layer(tokens)
        normed = [[norm(x) for norm, x in zip(self.norms, own, strict=True)] for own in tokens]
        return [restore(x, own) for restore, x, own in zip(self.restores, normed, maps, strict=True)]


class PatchEmbedding(nn.Module):
    """One sensor's maps to tokens.

    Args:
        channels: Channels of the maps at strides [1, 2, 4, 8].
        dropout: Chance of a value to be dropped.
    """

    def __init__(self, channels: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, c, PATCH // 2**i, PATCH // 2**i) for i, c in enumerate(channels))
        self.positions = nn.ParameterList(torch.zeros(1, GRID * GRID, c) for c in channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the tokens (B, N, C) of every map."""
        patches = [conv(x_BCHW) for conv, x_BCHW in zip(self.convs, maps, strict=True)]
        positions = [resample_positions(own, x.shape[2:]) for own, x in zip(self.positions, patches, strict=True)]
        return [self.dropout(to_tokens(x) + own) for x, own in zip(patches, positions, strict=True)]


class Reconstruction(nn.Module):
    """One sensor's tokens back onto its maps.

    Args:
        channels: Channels of the maps at strides [1, 2, 4, 8].
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=PATCH // 2**i), nn.Conv2d(c, c, 1), nn.BatchNorm2d(c), nn.ReLU(inplace=True)
            )
            for i, c in enumerate(channels)
        )

    def forward(self, tokens: list[Tensor], maps: list[Tensor]) -> list[Tensor]:
        """Return the maps plus what their tokens now hold."""
        height, width = maps[0].shape[2:]
        size = height // PATCH, width // PATCH
        return [scale(to_map(x, size)) + own for scale, x, own in zip(self.scales, tokens, maps, strict=True)]


class ChannelLayer(nn.Module):
    """One layer: attention between channels, then a perceptron per scale, each behind a norm and beside a shortcut.

    With two sensors, each asks the other's channels for its own values.

    Args:
        channels: Channels of every scale.
        sensors: Number of sensors, 1 or 2.
        heads: Attention heads.
        dropout: Chance of a value to be dropped.
    """

    def __init__(self, channels: Sequence[int], sensors: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.offers = nn.ModuleList(JointChannels(channels, heads) for _ in range(sensors))
        self.sensors = nn.ModuleList(SensorLayer(channels, heads, dropout) for _ in range(sensors))

    def forward(self, tokens: list[list[Tensor]]) -> list[list[Tensor]]:
        """Return the tokens of every sensor after the layer, in their shapes."""
        offered = [offer(own) for offer, own in zip(self.offers, tokens, strict=True)]
        result = []
        for i, (sensor, own) in enumerate(zip(self.sensors, tokens, strict=True)):
            key, value = offered[-1 - i][0], offered[i][1]
            result.append(sensor(own, key, value))
        return result


class JointChannels(nn.Module):
    """What one sensor offers in a layer: the channels of all its scales together.

    Args:
        channels: Channels of every scale.
        heads: Attention heads.
    """

    def __init__(self, channels: Sequence[int], heads: int) -> None:
        super().__init__()
        total = sum(channels)
        self.heads = heads
        self.norm = nn.LayerNorm(total, eps=1e-6)
        # The release uses the first head's for all; the others are kept for its checkpoints.
        self.keys = HeadProjections(total // heads, heads)
        self.values = HeadProjections(total // heads, heads)

    def forward(self, tokens: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return key and value, (B, h, N, a) each."""
        together_BNA = self.norm(torch.cat(tokens, 2))
        scales = together_BNA.split([x.shape[2] for x in tokens], 2)
        by_head_BhNa = torch.cat([split_heads(x, self.heads) for x in scales], 3)
        return self.keys[0](by_head_BhNa), self.values[0](by_head_BhNa)


class SensorLayer(nn.Module):
    """One sensor's weights in a layer.

    Args:
        channels: Channels of every scale.
        heads: Attention heads.
        dropout: Chance of a value to be dropped.
    """

    def __init__(self, channels: Sequence[int], heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = sum(channels) ** -0.5
        self.norms = nn.ModuleList(nn.LayerNorm(c, eps=1e-6) for c in channels)
        self.queries = nn.ModuleList(HeadProjections(c // heads, heads) for c in channels)
        self.outs = nn.ModuleList(nn.Linear(c, c, bias=False) for c in channels)
        self.dropout = nn.Dropout(dropout)
        self.perceptrons = nn.ModuleList(perceptron(c, dropout) for c in channels)

    def forward(self, tokens: list[Tensor], key_BhNa: Tensor, value_BhNa: Tensor) -> list[Tensor]:
        """Return the tokens of every scale after attention and perceptron, in their shapes."""
        result = []
        for i, x_BNC in enumerate(tokens):
            query_BhNc = self.queries[i](split_heads(self.norms[i](x_BNC), self.heads))
            found_BhcN = self._attend(query_BhNc, key_BhNa, value_BhNa)
            # Heads are the inner index of the channels that come out.
            attended_BNC = x_BNC + self.dropout(self.outs[i](found_BhcN.permute(0, 3, 2, 1).flatten(2)))
            result.append(attended_BNC + self.perceptrons[i](attended_BNC))
        return result

    def _attend(self, query_BhNc: Tensor, key_BhNa: Tensor, value_BhNa: Tensor) -> Tensor:
        similarity_Bhca = query_BhNc.transpose(2, 3) @ key_BhNa * self.scale
        share_Bhca: Tensor = self.dropout(instance_norm(similarity_Bhca).softmax(3))
        return share_Bhca @ value_BhNa.transpose(2, 3)


class HeadProjections(nn.ModuleList):
    """One linear layer a head.

    Args:
        channels: Channels of one head, in and out.
        heads: Number of heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(nn.Linear(channels, channels, bias=False) for _ in range(heads))

    def forward(self, x_BhNc: Tensor) -> Tensor:
        """Return every head's tokens through its own layer, same shape."""
        return torch.stack([layer(x) for layer, x in zip(self, x_BhNc.unbind(1), strict=True)], 1)
