"""CMX: two Mix Transformers that rectify one another, cross-attention fusion per stage, a perceptron head.

Idea: "CMX: Cross-Modal Fusion for RGB-X Semantic Segmentation with Transformers", Zhang, Liu, Yang, Hu, Liu and
Stiefelhagen, IEEE Transactions on Intelligent Transportation Systems 24(12), 2023, arXiv 2203.04838. Public code:
https://github.com/huaaaliu/RGBX_Semantic_Segmentation (MIT) and its port in https://github.com/whu-pzhang/ASANet
(Apache-2.0), which are the same network; this module is written afresh and gives their numbers.

Layers and ImageNet weights of the encoders are NVIDIA's (see :mod:`geoasanet.models.mit`): non-commercial use only.

Differs from the releases in two ways. The SAR image may have any number of bands. Stochastic depth grows linearly over
all blocks, where the releases give the blocks of one stage a common rate; only training sees it.

Letters in names: B batch, C channels (optical bands in ``forward``) and S SAR bands, H and W height and width, N pixels
of a map, K classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from geoasanet.models.blocks import resize
from geoasanet.models.encoders import STAGES
from geoasanet.models.mit import MixTransformerEncoder, PerceptronHead, init_transformer
from geoasanet.models.network import Network, check_count, check_fraction
from geoasanet.models.pretrained import load_encoder_weights
from geoasanet.models.tokens import split_heads, to_map, to_tokens


class CMX(Network):
    """Cross-modal fusion of RGB and another image.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands.
        encoder: Mix Transformer size, ``"mit_b0"`` to ``"mit_b5"``; both sensors get the same, own weights.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights.
        drop_path: Stochastic depth of the last block of each encoder.
        dropout: Channel dropout before the classifier.
        decoder_channels: Width of the head.

    Raises:
        ModelError: If an argument is impossible.
        CheckpointError: If ``encoder_weights`` cannot be read or do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (3, 1),
        encoder: str = "mit_b2",
        *,
        encoder_weights: str | Path | None = None,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        decoder_channels: int = 512,
    ) -> None:
        super().__init__(num_classes, in_channels)
        drop_path = check_fraction("drop_path", drop_path)
        dropout = check_fraction("dropout", dropout)
        width = check_count("decoder_channels", decoder_channels, 8192)

        self.rgb_encoder = MixTransformerEncoder(encoder, self.in_channels[0], drop_path)
        self.sar_encoder = MixTransformerEncoder(encoder, self.in_channels[1], drop_path)
        dims, heads = self.rgb_encoder.dims, self.rgb_encoder.heads
        self.rectification = nn.ModuleList(FeatureRectification(dim) for dim in dims)
        self.fusion = nn.ModuleList(map(FeatureFusion, dims, heads))
        init_transformer(self.rectification)
        init_transformer(self.fusion)
        self.head = PerceptronHead(dims, width, num_classes, dropout)
        if encoder_weights is not None:
            load_encoder_weights((self.rgb_encoder, self.sar_encoder), encoder, encoder_weights)

    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W), in training mode too: there is no auxiliary head.

        Raises:
            ModelError: If the images do not fit the network or each other.
        """
        self.check_inputs(rgb_BCHW, sar_BSHW)
        return resize(self.head(self.forward_features(rgb_BCHW, sar_BSHW)), rgb_BCHW.shape[2:])

    def forward_features(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> list[Tensor]:
        """Return the fused maps at strides [4, 8, 16, 32]."""
        rgb, sar = rgb_BCHW, sar_BSHW
        fused: list[Tensor] = []
        for i in range(STAGES):
            # What is rectified also feeds the next stage.
            rgb, sar = self.rectification[i](self.rgb_encoder.stage(i, rgb), self.sar_encoder.stage(i, sar))
            fused.append(self.fusion[i](rgb, sar))
        return fused


class FeatureRectification(nn.Module):
    """Add to each map what the other sees, weighed per channel and per pixel (CM-FRM, paper section III-B).

    Args:
        channels: Channels of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        both = 2 * channels
        self.weigh_channels = nn.Sequential(
            nn.Linear(2 * both, 2 * both), nn.ReLU(inplace=True), nn.Linear(2 * both, both), nn.Sigmoid()
        )
        self.weigh_pixels = nn.Sequential(
            nn.Conv2d(both, channels, 1), nn.ReLU(inplace=True), nn.Conv2d(channels, 2, 1), nn.Sigmoid()
        )

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps, each plus the other weighed by the other's own weights."""
        both = torch.cat([rgb_BCHW, sar_BCHW], 1)
        pooled = torch.cat([both.mean((2, 3)), both.amax((2, 3))], 1)
        channel_rgb_BC11, channel_sar_BC11 = self.weigh_channels(pooled)[:, :, None, None].chunk(2, 1)
        pixel_rgb_B1HW, pixel_sar_B1HW = self.weigh_pixels(both).chunk(2, 1)
        from_sar = 0.5 * (channel_sar_BC11 + pixel_sar_B1HW) * sar_BCHW
        from_rgb = 0.5 * (channel_rgb_BC11 + pixel_rgb_B1HW) * rgb_BCHW
        return rgb_BCHW + from_sar, sar_BCHW + from_rgb


class FeatureFusion(nn.Module):
    """Let each map attend to the other's context, then mix both (FFM, paper section III-C).

    Args:
        channels: Channels of both maps and of the result.
        heads: Attention heads; must divide ``channels``.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.rgb = ContextAttention(channels, heads)
        self.sar = ContextAttention(channels, heads)
        self.residual = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, rgb_BCHW: Tensor, sar_BCHW: Tensor) -> Tensor:
        """Return the fused map (B, C, H, W)."""
        rgb_BNC, sar_BNC = to_tokens(rgb_BCHW), to_tokens(sar_BCHW)
        (rgb_kept, rgb_asked), (sar_kept, sar_asked) = self.rgb.split(rgb_BNC), self.sar.split(sar_BNC)
        rgb_context, sar_context = self.rgb.context(rgb_asked), self.sar.context(sar_asked)
        rgb_BNC = self.rgb(rgb_BNC, rgb_kept, rgb_asked, sar_context)
        sar_BNC = self.sar(sar_BNC, sar_kept, sar_asked, rgb_context)
        both = to_map(torch.cat([rgb_BNC, sar_BNC], 2), rgb_BCHW.shape[2:])
        result: Tensor = self.norm(self.residual(both) + self.mix(both))
        return result


class ContextAttention(nn.Module):
    """One sensor's half of the cross attention, linear in the number of pixels.

    A sensor's context is K\u1d40V, a small matrix per head without any pixel in it; the other sensor's pixels are
    multiplied with it. The softmax runs over the context's rows.

    Args:
        channels: Channels C of the map.
        heads: Attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(channels, 2 * channels)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.merge = nn.Linear(2 * channels, channels)
        self.norm = nn.LayerNorm(channels)

    def split(self, x_BNC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the part that is kept and the part that asks for context, both (B, N, C)."""
        kept, asked = self.project(x_BNC).relu().chunk(2, 2)
        return kept, asked

    def context(self, asked_BNC: Tensor) -> Tensor:
        """Return what this sensor offers the other, (B, heads, C/heads, C/heads)."""
        key, value = (split_heads(x, self.heads) for x in self.key_value(asked_BNC).chunk(2, 2))
        similarity: Tensor = key.transpose(2, 3) @ value * key.shape[3] ** -0.5
        return similarity.softmax(2)

    def forward(self, x_BNC: Tensor, kept_BNC: Tensor, asked_BNC: Tensor, context: Tensor) -> Tensor:
        """Return the map (B, N, C) with the other sensor's ``context`` added and normed."""
        answered_BNC = (split_heads(asked_BNC, self.heads) @ context).transpose(1, 2).flatten(2)
        result: Tensor = self.norm(x_BNC + self.merge(torch.cat([kept_BNC, answered_BNC], 2)))
        return result
