"""Segmentation heads: UPerNet and a small FCN for the auxiliary loss.

Decoder parts come from segmentation-models-pytorch (MIT); UPerNet is "Unified Perceptual Parsing" (Xiao et al. 2018,
arXiv 1807.10221). Letters in names: B batch, C channels, K classes, h and w at the map's own stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoasanet.models.blocks import init_kaiming
from geoasanet.models.upsampled import UpsampledConv


class UPerHead(nn.Module):
    """Pyramid pooling on the coarsest map, feature pyramid above it, class logits at stride 4.

    Args:
        channels: Channels of the four maps, finest first.
        width: Channels inside the head.
        num_classes: Number of classes K.
        dropout: Chance of a channel to be dropped before the classifier.
    """

    def __init__(self, channels: Sequence[int], width: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        # smp counts [1, 1/2, 1/4, …] and never looks at the first two.
        self.decoder = UPerNetDecoder((0, 0, *channels), encoder_depth=len(channels) + 1, decoder_channels=width)
        # smp norms its inputs; ours arrive normed, and the original head adds none.
        self.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in channels)
        init_kaiming(self.decoder)
        self.classifier = Classifier(width, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, h, w) at stride 4 from maps at strides [4, 8, 16, 32]."""
        finest = features[0]
        result: Tensor = self.classifier(self.decoder([finest, finest, *features]))
        return result

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return a head that, on CPU, never enlarges the coarser maps for its last convolution."""
        return nn.Sequential(FrugalDecoder(self.decoder), self.classifier) if device.type == "cpu" else self


class FrugalDecoder(nn.Module):
    """UPerNet's decoder with a third of its multiplications.

    Its last convolution takes all maps at the finest size, three of them enlarged. As both steps are linear, they may
    trade places.

    Args:
        decoder: A decoder of segmentation-models-pytorch without norms of its inputs.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.psp = decoder.psp
        self.laterals = decoder.fpn_lateral_blocks
        self.convs = decoder.fpn_conv_blocks
        conv, *rest = decoder.fusion_block
        count = len(self.convs) + 1
        self.fuse = UpsampledConv(conv, [conv.in_channels // count] * count, 0)
        self.rest = nn.Sequential(*rest)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the map that the classifier takes, at stride 4, from maps at strides [4, 8, 16, 32]."""
        *finer, coarsest = features
        maps = [self.psp(coarsest)]
        for lateral, x in zip(self.laterals, reversed(finer), strict=True):
            maps.append(lateral(maps[-1], x))
        smoothed = [conv(x) for conv, x in zip(self.convs, maps[1:], strict=True)]
        result: Tensor = self.rest(self.fuse([*reversed(smoothed), maps[0]], features[0].shape[2:]))
        return result


class FCNHead(nn.Module):
    """One 3×3 convolution and a classifier.

    Args:
        channels: Channels of the map.
        width: Channels inside the head.
        num_classes: Number of classes K.
        dropout: Chance of a channel to be dropped before the classifier.
    """

    def __init__(self, channels: int, width: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        from segmentation_models_pytorch.base.modules import Conv2dReLU

        self.conv = Conv2dReLU(channels, width, kernel_size=3, padding=1)
        init_kaiming(self.conv)
        self.classifier = Classifier(width, num_classes, dropout)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return logits (B, K, h, w) at the map's own stride."""
        result: Tensor = self.classifier(self.conv(x_BChw))
        return result


class Classifier(nn.Sequential):
    """Channel dropout and a 1×1 convolution to class logits.

    Args:
        channels: Channels in.
        num_classes: Number of classes K.
        dropout: Chance of a channel to be dropped.
    """

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        conv = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(conv.weight, std=0.01)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        super().__init__(nn.Dropout2d(dropout), conv)
