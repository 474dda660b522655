"""FuseNet: two VGG encoders, fusion at every stage, a decoder that unpools to where the optical maxima were.

Two networks go by that name. ``variant="sf5"`` is the one of "FuseNet: Incorporating Depth into Semantic Segmentation
via Fusion-based CNN Architecture", Hazirbas, Ma, Domokos and Cremers, ACCV 2016, after the description of its Caffe
model (https://github.com/tum-vision/fusenet, modifications under GPLv3) and a PyTorch port (GPLv3).
``variant="vfusenet"`` is what the ASANet paper (arXiv 2412.02044) compares with under this name: two encoders that do
not see each other and a residual convolution that fuses them, akin to V-FuseNet of "Beyond RGB: Very High Resolution
Urban Remote Sensing With Multimodal Deep Networks", Audebert, Le Saux and Lefèvre, ISPRS Journal of Photogrammetry and
Remote Sensing 140, 2018, arXiv 1711.08681, which has a third encoder for the fusion. Its code is in
https://github.com/whu-pzhang/ASANet (Apache-2.0). This module is written afresh and gives the numbers of both.

Differs from the releases: in that code no stage of the decoder takes what the stage before it made, so that the
prediction depends on the first stage of each encoder only. ``decoder="unchained"`` is that network, for its
checkpoints; it leaves out what cannot reach the result, while the paper's count of operations has it. The default
``"chained"`` has the same weights, and every stage of the decoder takes the result of the one before plus the fused map
of its stride. Images of any size from 32 px are filled up with zeros below and to the right to multiples of 32, so that
every pixel is seen at every stride, and the logits are cut back.

ImageNet weights of the encoders (``encoder_weights``) are torchvision's, BSD-3-Clause.

Letters in names: B batch, C channels (optical bands in ``forward``) and S SAR bands, H and W height and width, h and w
at a map's own stride, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.blocks import ConvBlock, pad_to_multiple, resize
from geoasanet.models.encoders import EncoderSpec
from geoasanet.models.heads import FCNHead
from geoasanet.models.network import Network, check_fraction
from geoasanet.models.pretrained import load_encoder_weights
from geoasanet.models.vgg import STAGES, STRIDE, VGGEncoder, decoder_blocks, pool, unpool

Variant = Literal["vfusenet", "sf5"]
Decoder = Literal["chained", "unchained"]

AUXILIARY_STAGE = 1
FIRST_DROPPED_STAGE = 2
"""From this stage on, ``sf5`` drops values after pooling and, in the decoder, after the blocks."""


class FuseNet(Network):
    """Fusion of two VGG encoders with an unpooling decoder.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands.
        encoder: VGG size, a timm name such as ``"vgg16_bn"`` or depths and dims of five stages; both sensors get the
            same size, own weights.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights.
        variant: ``"vfusenet"``, the network of the ASANet paper, or ``"sf5"``, the one of Hazirbas et al.; only the
            former has an auxiliary head.
        decoder: ``"chained"``, or ``"unchained"`` as released with the ASANet paper; ``"sf5"`` is always chained.
        dropout: Chance of a value to be dropped; ``None`` for the variant's own, 0.5 between the stages of ``"sf5"``
            and 0 before the classifiers of ``"vfusenet"``, where whole channels are dropped.

    Raises:
        ModelError: If an argument is impossible.
        CheckpointError: If ``encoder_weights`` cannot be read or do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (3, 1),
        encoder: EncoderSpec = "vgg16_bn",
        *,
        encoder_weights: str | Path | None = None,
        variant: Variant = "vfusenet",
        decoder: Decoder = "chained",
        dropout: float | None = None,
    ) -> None:
        super().__init__(num_classes, in_channels)
        if variant not in get_args(Variant):
            raise ModelError(f"variant must be one of {', '.join(get_args(Variant))}, found {variant!r}.")
        if decoder not in get_args(Decoder):
            raise ModelError(f"decoder must be one of {', '.join(get_args(Decoder))}, found {decoder!r}.")
        sf5 = variant == "sf5"
        if sf5 and decoder == "unchained":
            raise ModelError("Variant sf5 has no unchained decoder.", "Leave decoder away, or take variant vfusenet.")
        rate = (0.5 if sf5 else 0.0) if dropout is None else check_fraction("dropout", dropout)

        self.is_sf5 = sf5
        self.is_chained = decoder == "chained"
        self.has_unused_parameters = not self.is_chained
        self.rgb_encoder = VGGEncoder(self.in_channels[0], encoder)
        self.sar_encoder = VGGEncoder(self.in_channels[1], encoder)
        depths, dims = self.rgb_encoder.depths, self.rgb_encoder.dims
        self.fusion = nn.ModuleList(() if sf5 else (ResidualFusion(dim) for dim in dims))
        self.dropout = nn.Dropout(rate if sf5 else 0.0)
        # The first stage ends in the head, which stands for one of its convolutions.
        self.decoder = nn.ModuleList(
            decoder_blocks(dims[i], dims[max(0, i - 1)], depths[i] if i else max(1, depths[0] - 1), bias=sf5)
            for i in range(STAGES)
        )
        self.head: nn.Module
        self.auxiliary: nn.Module | None = None
        if sf5:
            self.head = nn.Conv2d(dims[0], num_classes, 3, padding=1)
        else:
            width = max(1, dims[0] // 4)
            self.head = FCNHead(dims[0], width, num_classes, rate)
            self.auxiliary = FCNHead(dims[0], width, num_classes, rate)
        if encoder_weights is not None:
            load_encoder_weights((self.rgb_encoder, self.sar_encoder), encoder, encoder_weights)

    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (B, K, H, W); in training mode, where there is an auxiliary head, also its, same shape.

        Raises:
            ModelError: If the images do not fit the network or each other.
        """
        self.check_inputs(rgb_BCHW, sar_BSHW)
        height, width = rgb_BCHW.shape[2:]
        rgb_BCHW, sar_BSHW = pad_to_multiple(rgb_BCHW, STRIDE), pad_to_multiple(sar_BSHW, STRIDE)
        features = self.decode(*self.encode(rgb_BCHW, sar_BSHW))
        logits_BKHW: Tensor = self.head(features[0])[..., :height, :width]
        if not self.training or self.auxiliary is None:
            return logits_BKHW
        auxiliary = resize(self.auxiliary(features[AUXILIARY_STAGE]), rgb_BCHW.shape[2:])
        return logits_BKHW, auxiliary[..., :height, :width]

    def encode(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the fused maps at strides [2, 4, 8, 16, 32] and where the optical maxima of each were.

        An unchained network gives those that reach its heads only.
        """
        rgb, sar = rgb_BCHW, sar_BSHW
        fused: list[Tensor] = []
        indices: list[Tensor] = []
        for i in range(self._needed_stages()):
            rgb = self.rgb_encoder.stage(i, rgb)
            sar = self.sar_encoder.stage(i, sar)
            if self.is_sf5:
                rgb = rgb + sar
            rgb, where = pool(rgb)
            sar, _ = pool(sar)
            if self.is_sf5 and i >= FIRST_DROPPED_STAGE:
                rgb, sar = self.dropout(rgb), self.dropout(sar)
            indices.append(where)
            fused.append(rgb if self.is_sf5 else self.fusion[i](rgb, sar))
        return fused, indices

    def decode(self, fused: list[Tensor], indices: list[Tensor]) -> list[Tensor]:
        """Return the decoder's maps at strides [1, 2, 4, 8, 16], from those of :meth:`encode`."""
        features: list[Tensor] = []
        x = fused[-1]
        for i in reversed(range(len(fused))):
            if not self.is_chained:
                x = fused[i]
            elif features and not self.is_sf5:
                x = x + fused[i]
            x = self.decoder[i](unpool(x, indices[i]))
            if self.is_sf5 and i >= FIRST_DROPPED_STAGE:
                x = self.dropout(x)
            features.insert(0, x)
        return features

    def _needed_stages(self) -> int:
        if self.is_chained:
            return STAGES
        return AUXILIARY_STAGE + 1 if self.training else 1


class ResidualFusion(nn.Module):
    """Add what a convolution over both maps finds to their sum.

    Args:
        channels: Channels of both maps and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = ConvBlock(2 * channels, channels)

    def forward(self, rgb_BChw: Tensor, sar_BChw: Tensor) -> Tensor:
        """Return the fused map."""
        residual: Tensor = self.mix(torch.cat([rgb_BChw, sar_BChw], 1))
        return rgb_BChw + sar_BChw + residual
