"""SA-Gate: two ResNets whose maps are cleaned of noise by one another and then gated per pixel, a DeepLab head.

Idea: "Bi-directional Cross-Modality Feature Propagation with Separation-and-Aggregation Gate for RGB-D Semantic
Segmentation", Chen, Lin, Wang, Qian, Wang, Li and Zeng, ECCV 2020, arXiv 2007.09183. Public code:
https://github.com/charlesCXK/RGBD_Semantic_Segmentation_PyTorch (MIT) and its port in
https://github.com/whu-pzhang/ASANet (Apache-2.0). This module is written afresh and gives the numbers of both;
``variant="official"`` is the former, with the last stage of the encoders dilated at stride 16 and a head half as wide;
the default ``"table"`` is the latter, which the ASANet paper (arXiv 2412.02044) measures.

Differs from the releases in that the SAR image may have any number of bands. Layers of the encoders come from timm
(Apache-2.0); the ImageNet weights of ResNets with this deep stem are Gluon's, Apache-2.0.

Letters in names: B batch, C channels (optical bands in ``forward``) and S SAR bands, H and W height and width, h and w
at a map's own stride, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.blocks import ConvBlock, conv_blocks, init_kaiming, refuse_single_value, resize
from geoasanet.models.encoders import STAGES, EncoderSpec
from geoasanet.models.heads import Classifier, FCNHead
from geoasanet.models.network import TwoHeadedNetwork, check_count, check_fraction
from geoasanet.models.pretrained import load_encoder_weights
from geoasanet.models.resnet import ResNetEncoder
from geoasanet.models.upsampled import UpsampledConv

Variant = Literal["table", "official"]

FINE_CHANNELS = 48
"""Channels of the finest map inside the head."""
DILATIONS = (6, 12, 18)
"""Distances between the taps of the head's pyramid, pixels at the coarsest stride."""


class SAGate(TwoHeadedNetwork):
    """Separation-and-aggregation gates between two ResNets.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands.
        encoder: ResNet size, ``"resnet50s"``, ``"resnet101s"``, ``"resnet152s"`` or depths and dims (inside the
            bottlenecks); both sensors get the same size and share the convolutions that shorten their residual paths,
            the rest is their own.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights.
        variant: ``"table"``, the network of the ASANet paper, or ``"official"``.
        dropout: Channel dropout before both classifiers.
        decoder_channels: Width of the head; ``None`` for the variant's own, 512 and 256.
        auxiliary_channels: Width of the auxiliary head.

    Raises:
        ModelError: If an argument is impossible.
        CheckpointError: If ``encoder_weights`` cannot be read or do not fit.
    """

    auxiliary_weight = 0.2
    auxiliary_stage = STAGES - 1

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (3, 1),
        encoder: EncoderSpec = "resnet101s",
        *,
        encoder_weights: str | Path | None = None,
        variant: Variant = "table",
        dropout: float = 0.1,
        decoder_channels: int | None = None,
        auxiliary_channels: int = 512,
    ) -> None:
        super().__init__(num_classes, in_channels)
        if variant not in get_args(Variant):
            raise ModelError(f"variant must be one of {', '.join(get_args(Variant))}, found {variant!r}.")
        official = variant == "official"
        dropout = check_fraction("dropout", dropout)
        if decoder_channels is None:
            decoder_channels = 256 if official else 512
        width = check_count("decoder_channels", decoder_channels, 8192)
        auxiliary_width = check_count("auxiliary_channels", auxiliary_channels, 8192)

        self.align_corners = official
        self.rgb_encoder, self.sar_encoder = (
            ResNetEncoder(encoder, bands, deep_stem=True, dilated=official) for bands in self.in_channels
        )
        for ours, theirs in zip(self.sar_encoder.layers, self.rgb_encoder.layers, strict=True):
            ours[0].downsample = theirs[0].downsample
        dims = self.rgb_encoder.dims
        self.fusion = nn.ModuleList(SeparationAggregationGate(dim) for dim in dims)
        self.head = DeepLabHead(dims[0], dims[-1], width, num_classes, dropout, align_corners=official)
        self.auxiliary = FCNHead(dims[-1], auxiliary_width, num_classes, dropout)
        if encoder_weights is not None:
            load_encoder_weights((self.rgb_encoder, self.sar_encoder), encoder, encoder_weights)

    def forward_features(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> list[Tensor]:
        """Return the merged maps at strides [4, 8, 16, 32], the last at 16 in the official variant."""
        rgb, sar = rgb_BCHW, sar_BSHW
        merged: list[Tensor] = []
        for i in range(STAGES):
            rgb = self.rgb_encoder.stage(i, rgb)
            sar = self.sar_encoder.stage(i, sar)
            merged.append(self.fusion[i](rgb, sar))
            rgb = ((rgb + merged[i]) / 2).relu()
            sar = ((sar + merged[i]) / 2).relu()
        return merged


class Propagation(nn.Module):
    """Add to a map what its guide knows, channel by channel.

    Args:
        channels: Channels of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 16)
        self.weigh = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, guide_BChw: Tensor, main_BChw: Tensor) -> Tensor:
        """Return ``main`` plus the guide, weighed per channel by what both hold over the window."""
        pooled_B2C = torch.cat([guide_BChw.mean((2, 3)), main_BChw.mean((2, 3))], 1)
        weight_BC11 = self.weigh(pooled_B2C)[:, :, None, None]
        result: Tensor = main_BChw + weight_BC11 * guide_BChw
        return result


class SeparationAggregationGate(nn.Module):
    """Clean each map with the help of the other, then choose between them pixel by pixel.

    Args:
        channels: Channels of both maps and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.propagate_rgb = Propagation(channels)
        self.propagate_sar = Propagation(channels)
        self.gate_rgb = nn.Conv2d(2 * channels, 1, 1)
        self.gate_sar = nn.Conv2d(2 * channels, 1, 1)

    def forward(self, rgb_BChw: Tensor, sar_BChw: Tensor) -> Tensor:
        """Return the merged map; the cleaned maps decide, the maps as they came are merged."""
        clean = torch.cat([self.propagate_rgb(sar_BChw, rgb_BChw), self.propagate_sar(rgb_BChw, sar_BChw)], 1)
        share_B2hw = torch.cat([self.gate_rgb(clean), self.gate_sar(clean)], 1).softmax(1)
        merged_BChw: Tensor = rgb_BChw * share_B2hw[:, :1] + sar_BChw * share_B2hw[:, 1:]
        return merged_BChw


class DilatedPyramid(nn.Module):
    """What surrounds a pixel at several distances, and the mean of the whole window (ASPP).

    Args:
        channels: Channels of the map.
        width: Channels of the result.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(channels, width, 1, bias=False),
                *(nn.Conv2d(channels, width, 3, padding=d, dilation=d, bias=False) for d in DILATIONS),
            ]
        )
        self.norm = nn.BatchNorm2d(width * len(self.branches))
        self.reduce = nn.Conv2d(width * len(self.branches), width, 1, bias=False)
        self.pooled = nn.Conv2d(channels, width, 1, bias=False)
        self.pooled_norm = nn.BatchNorm2d(width)
        self.pooled_reduce = nn.Conv2d(width, width, 1, bias=False)
        self.out_norm = nn.BatchNorm2d(width)
        self.act = nn.LeakyReLU(0.01)
        init_kaiming(self)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return the map with its surroundings.

        Raises:
            ModelError: In training with one image.
        """
        local = self.reduce(self.act(self.norm(torch.cat([branch(x_BChw) for branch in self.branches], 1))))
        pooled_BC11 = self.pooled(x_BChw.mean((2, 3), keepdim=True))
        refuse_single_value(pooled_BC11, self.pooled_norm, "The pyramid of SA-Gate's head")
        whole = self.pooled_reduce(self.act(self.pooled_norm(pooled_BC11)))
        result: Tensor = self.act(self.out_norm(local + whole))
        return result


class DeepLabHead(nn.Module):
    """DeepLabV3+ (Chen et al. 2018, arXiv 1802.02611): pyramid on the coarsest map, edges from the finest.

    Args:
        fine: Channels of the finest map.
        coarse: Channels of the coarsest map.
        width: Channels inside the head.
        num_classes: Number of classes K.
        dropout: Chance of a channel to be dropped before the classifier.
        align_corners: How maps are resampled.
    """

    def __init__(
        self, fine: int, coarse: int, width: int, num_classes: int, dropout: float, *, align_corners: bool
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.pyramid = DilatedPyramid(coarse, width)
        self.edges = ConvBlock(fine, FINE_CHANNELS, 1)
        self.blocks = conv_blocks((width + FINE_CHANNELS, width, width))
        self.classifier = Classifier(width, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, h, w) at stride 4 from maps at strides [4, …, 32]."""
        fine = self.edges(features[0])
        coarse = resize(self.pyramid(features[-1]), fine.shape[2:], align_corners=self.align_corners)
        result: Tensor = self.classifier(self.blocks(torch.cat([coarse, fine], 1)))
        return result

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return a head that, on CPU, does not enlarge the pyramid's map for the first block."""
        return FrugalDeepLabHead(self) if device.type == "cpu" else self


class FrugalDeepLabHead(nn.Module):
    """The same head, its first convolution as :class:`UpsampledConv`.

    Args:
        head: The head.
    """

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.pyramid, self.edges = head.pyramid, head.edges
        (conv, *rest), *others = head.blocks
        width = conv.in_channels - FINE_CHANNELS
        self.join = UpsampledConv(conv, (width, FINE_CHANNELS), 1, align_corners=head.align_corners)
        self.rest = nn.Sequential(*rest, *others, head.classifier)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, h, w) at stride 4 from maps at strides [4, …, 32]."""
        fine = self.edges(features[0])
        result: Tensor = self.rest(self.join([self.pyramid(features[-1]), fine], fine.shape[2:]))
        return result
