"""A vision transformer for two sensors, whose middle layers also attend across (FTransUNet's FVit).

Letters in names: B batch, C channels, H and W height and width of a map, N tokens of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from geoasanet.models.encoders import Encoder, Weights
from geoasanet.models.renaming import rename
from geoasanet.models.tokens import perceptron, resample_positions, split_heads, to_map, to_tokens

GRID = 16
"""Side of the grid of learned positions: a 256 px window at stride 16."""

TIMM_RULES = (
    (r"^patch_embed\.proj\.", "embed_{sensor}."),
    (r"^norm\.", "norm_{sensor}."),
    (r"^blocks\.(\d+)\.", r"layers.\1.{sensor}."),
    (r"\.norm1\.", ".norm."),
    (r"\.attn\.proj\.", ".out."),
    (r"\.norm2\.", ".perceptron.0."),
    (r"\.mlp\.fc1\.", ".perceptron.1."),
    (r"\.mlp\.fc2\.", ".perceptron.4."),
)
"""timm's names to those here."""


class FusedTransformer(Encoder):
    """Two maps to tokens, layers of attention, the sum of both streams back as a map.

    Args:
        in_channels: Channels of both maps.
        channels: Width of the tokens.
        layers: Number of layers; those in the middle half attend across sensors.
        heads: Attention heads.
        dropout: Chance of a value to be dropped.
    """

    first_conv = ""
    tags = ("orig_in21k",)

    def __init__(self, in_channels: int, channels: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed_rgb = nn.Conv2d(in_channels, channels, 1)
        self.embed_sar = nn.Conv2d(in_channels, channels, 1)
        self.positions = nn.Parameter(torch.zeros(1, GRID * GRID, channels))
        self.dropout = nn.Dropout(dropout)
        quarter = layers // 4
        self.layers = nn.ModuleList(
            FusedLayer(channels, heads, dropout, across=quarter <= i < layers - quarter) for i in range(layers)
        )
        self.norm_rgb = nn.LayerNorm(channels, eps=1e-6)
        self.norm_sar = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> Tensor:
        """Return the fused map (B, C, H, W)."""
        size = rgb_BCHW.shape[2:]
        positions = resample_positions(self.positions, size)
        rgb = self.dropout(to_tokens(self.embed_rgb(rgb_BCHW)) + positions)
        sar = self.dropout(to_tokens(self.embed_sar(sar_BCHW)) + positions)
        for layer in self.layers:
            rgb, sar = layer(rgb, sar)
        return to_map(self.norm_rgb(rgb) + self.norm_sar(sar), size)

    def translate(self, weights: Weights) -> Weights:
        """Return the transformer's part of timm's hybrid weights under our names, the same for both sensors."""
        found = {key: tensor for key, tensor in self.state_dict().items() if ".share_" in key}
        for key, tensor in weights.items():
            if key == "pos_embed":
                # The first position is the class token's.
                found["positions"] = resample_positions(tensor[:, 1:], (GRID, GRID))
            elif ".qkv." in key:
                for name, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    found.update(_for_both(rename(TIMM_RULES, key.replace("attn.qkv", name)), part))
            else:
                found.update(_for_both(rename(TIMM_RULES, key), tensor))
        return found


class FusedLayer(nn.Module):
    """One layer of both streams: attention, then a perceptron, each behind a norm and beside a shortcut.

    Args:
        channels: Width of the tokens.
        heads: Attention heads.
        dropout: Chance of a value to be dropped.
        across: Whether each stream also attends to the other.
    """

    def __init__(self, channels: int, heads: int, dropout: float, *, across: bool) -> None:
        super().__init__()
        self.across = across
        self.rgb = Stream(channels, heads, dropout)
        self.sar = Stream(channels, heads, dropout)
        # Shares of [own, other] in each stream's attention.
        self.share_rgb, self.share_sar = (
            nn.ParameterList(torch.full((1,), 0.5) for _ in range(2 if across else 0)) for _ in range(2)
        )

    def forward(self, rgb_BNC: Tensor, sar_BNC: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams after the layer, (B, N, C) each."""
        rgb_qkv, sar_qkv = self.rgb.ask(rgb_BNC), self.sar.ask(sar_BNC)
        rgb = self.rgb.attend(rgb_qkv, rgb_qkv)
        sar = self.sar.attend(sar_qkv, sar_qkv)
        if self.across:
            rgb = self.share_rgb[0] * rgb + self.share_rgb[1] * self.rgb.attend(rgb_qkv, sar_qkv)
            sar = self.share_sar[0] * sar + self.share_sar[1] * self.sar.attend(sar_qkv, rgb_qkv)
        return self.rgb.perceive(rgb_BNC + rgb), self.sar.perceive(sar_BNC + sar)


class Stream(nn.Module):
    """One sensor's weights in a layer.

    Args:
        channels: Width of the tokens; four times as much inside the perceptron.
        heads: Attention heads.
        dropout: Chance of a value to be dropped in the perceptron.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.perceptron = perceptron(channels, dropout)

    def ask(self, x_BNC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value of the normed tokens, each (B, heads, N, C/heads)."""
        x = self.norm(x_BNC)
        query, key, value = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        return query, key, value

    def attend(self, own: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
        """Return what the own queries find in the other's keys and values, (B, N, C)."""
        found = scaled_dot_product_attention(own[0], other[1], other[2])
        result: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return result

    def perceive(self, x_BNC: Tensor) -> Tensor:
        """Return the tokens plus the perceptron's answer."""
        result: Tensor = x_BNC + self.perceptron(x_BNC)
        return result


def _for_both(key: str, tensor: Tensor) -> Weights:
    """Return a layer's weight under the names it has in the two streams."""
    return {key.replace("{sensor}", sensor): tensor for sensor in ("rgb", "sar")}
