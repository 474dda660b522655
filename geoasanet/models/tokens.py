"""Maps as lists of tokens, one a pixel, and back; the perceptron of a transformer's layer.

Letters in names: B batch, C channels, H and W height and width, N = H × W tokens, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate


def to_tokens(x_BCHW: Tensor) -> Tensor:
    """Return a map's pixels as tokens (B, N, C)."""
    return x_BCHW.flatten(2).transpose(1, 2)


def to_map(x_BNC: Tensor, size: Sequence[int]) -> Tensor:
    """Return tokens as a map (B, C, H, W) of ``size`` (H, W)."""
    batch, _, channels = x_BNC.shape
    return x_BNC.transpose(1, 2).reshape(batch, channels, *size)


def split_heads(x_BNC: Tensor, heads: int) -> Tensor:
    """Return tokens with their channels dealt out to attention heads, (B, heads, N, C/heads)."""
    batch, tokens, channels = x_BNC.shape
    return x_BNC.reshape(batch, tokens, heads, channels // heads).transpose(1, 2)


def resample_positions(positions_1NC: Tensor, size: Sequence[int]) -> Tensor:
    """Return learned positions of a square grid for a map of ``size`` (H, W), (1, H × W, C).

    Corners stay corners, as where original codes adapt published positions to their windows.
    """
    side = round(positions_1NC.shape[1] ** 0.5)
    if tuple(size) == (side, side):
        return positions_1NC
    grid_1Chw = to_map(positions_1NC, (side, side))
    return to_tokens(interpolate(grid_1Chw, size=tuple(size), mode="bilinear", align_corners=True))


def perceptron(channels: int, dropout: float) -> nn.Sequential:
    """Return a norm and two linear layers, four times as wide in between, for tokens (B, N, C)."""
    layers = nn.Sequential(
        nn.LayerNorm(channels, eps=1e-6),
        nn.Linear(channels, 4 * channels),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(4 * channels, channels),
        nn.Dropout(dropout),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)
    return layers
