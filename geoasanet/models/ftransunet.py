"""FTransUNet: two ResNet fronts fused by channel gates, a vision transformer with cross attention, a U-Net decoder.

Idea: "A Multilevel Multimodal Fusion Transformer for Remote Sensing Semantic Segmentation", Ma, Zhang, Pun and Liu,
IEEE Transactions on Geoscience and Remote Sensing 62, 2024. Public code: https://github.com/sstary/SSRS (Apache-2.0),
after TransUNet; this module is written afresh and gives its numbers.

ImageNet-21k weights of the encoders, R50 + ViT-B/16, are Google's under Apache-2.0.

Differs from the release: the second image, there one band without channel axis, may have any number of bands, and sides
other than 256 px work if they are multiples of 16: the learned positions, 16 × 16 of them, are resampled.

Letters in names: B batch, C channels (optical bands in ``forward``) and S SAR bands, H and W height and width, K
classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from geoasanet.errors import ModelError
from geoasanet.models.blocks import resize
from geoasanet.models.fused_transformer import FusedTransformer
from geoasanet.models.gates import GatedSum
from geoasanet.models.hybrid import GROUPS, HybridEncoder
from geoasanet.models.network import Network, check_count, check_fraction
from geoasanet.models.pretrained import load_encoder_weights
from geoasanet.models.upsampled import UpsampledConv

STAGES = 3

PRETRAINED = "vit_base_r50_s16_224"
"""timm's name of the network whose ImageNet weights both sensors start from."""


class FTransUNet(Network):
    """Fusion TransUNet.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights in
            timm's layout (``vit_base_r50_s16_224``).
        width: Channels of the ResNets' first convolution, a multiple of 32.
        units: Bottlenecks of the ResNets' three stages.
        layers: Layers of the transformer; those in the middle half attend across sensors.
        hidden_channels: Width of the transformer, a multiple of ``heads``.
        heads: Attention heads.
        decoder_channels: Widths of the decoder's four steps.
        dropout: Chance of a value to be dropped in the transformer.

    Raises:
        ModelError: If an argument is impossible.
        CheckpointError: If ``encoder_weights`` cannot be read or do not fit.
    """

    size_multiple = 16

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (3, 1),
        *,
        encoder_weights: str | Path | None = None,
        width: int = 64,
        units: Sequence[int] = (3, 4, 9),
        layers: int = 12,
        hidden_channels: int = 768,
        heads: int = 12,
        decoder_channels: Sequence[int] = (256, 128, 64, 16),
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_classes, in_channels)
        _check_counts("units", units, STAGES)
        _check_counts("decoder_channels", decoder_channels, STAGES + 1)
        check_count("layers", layers, 256)
        if check_count("width", width, 1024) % GROUPS:
            raise ModelError(f"width must be a multiple of {GROUPS}, found {width}.")
        if check_count("hidden_channels", hidden_channels, 8192) % check_count("heads", heads, 256):
            raise ModelError(f"hidden_channels must be a multiple of heads ({heads}), found {hidden_channels}.")
        dropout = check_fraction("dropout", dropout)

        self.rgb_encoder = HybridEncoder(self.in_channels[0], width, units)
        self.sar_encoder = HybridEncoder(self.in_channels[1], width, units)
        dims = self.rgb_encoder.dims
        self.fusion = nn.ModuleList(GatedSum(dim, dim // 16) for dim in dims)
        self.transformer = FusedTransformer(dims[-1], hidden_channels, layers, heads, dropout)
        self.decoder = UNetDecoder(hidden_channels, dims[:STAGES], decoder_channels)
        self.classifier = nn.Conv2d(decoder_channels[-1], num_classes, 3, padding=1)
        if encoder_weights is not None:
            parts = (self.rgb_encoder, self.sar_encoder, self.transformer)
            load_encoder_weights(parts, PRETRAINED, encoder_weights)

    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W), in training mode too: there is no auxiliary head.

        Raises:
            ModelError: If the images do not fit the network or each other, or their sides are no multiples of 16.
        """
        self.check_inputs(rgb_BCHW, sar_BSHW)
        rgb, sar = self.rgb_encoder.root(rgb_BCHW), self.sar_encoder.root(sar_BSHW)
        rgb = self.fusion[0](rgb, sar)
        maps = [rgb]
        for i in range(STAGES):
            # Only the optical path goes on fused.
            sar = self.sar_encoder.stage(i, sar)
            rgb = self.fusion[i + 1](self.rgb_encoder.stage(i, rgb), sar)
            maps.append(rgb)
        maps[1] = pad(maps[1], (0, 1, 0, 1))
        result: Tensor = self.classifier(self.decoder(self.transformer(rgb, sar), maps[:STAGES]))
        return result


class UNetDecoder(nn.Module):
    """TransUNet's cascaded upsampler: four doublings, the first three with a skip connection.

    Args:
        channels: Channels of the coarsest map.
        skips: Channels of the skip connections, finest first.
        widths: Channels after each doubling.
    """

    def __init__(self, channels: int, skips: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        from segmentation_models_pytorch.base.modules import Conv2dReLU

        first = 2 * widths[0]
        self.entry = Conv2dReLU(channels, first, kernel_size=3, padding=1)
        into = zip((first, *widths), (*reversed(skips), 0), widths, strict=False)
        self.steps = nn.ModuleList(
            nn.Sequential(Conv2dReLU(below + skip, width, 3, 1), Conv2dReLU(width, width, 3, 1))
            for below, skip, width in into
        )

    def forward(self, x_BCHW: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the map at stride 1 from the one at 16 and skips at strides [2, 4, 8]."""
        x: Tensor = self.entry(x_BCHW)
        for i, step in enumerate(self.steps):
            size = [2 * side for side in x.shape[2:]]
            x = self._double(step, [x, skips[-1 - i]] if i < len(skips) else [x], size)
        return x

    def _double(self, step: nn.Module, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        enlarged, *skip = maps
        doubled: Tensor = step(torch.cat([resize(enlarged, size, align_corners=True), *skip], 1))
        return doubled

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return a decoder that, on CPU, mixes channels before it enlarges where that is less work."""
        return FrugalUNetDecoder(self) if device.type == "cpu" else self


class FrugalUNetDecoder(UNetDecoder):
    """The same, the first convolution after every doubling as :class:`UpsampledConv`.

    Args:
        plain: The decoder.
    """

    def __init__(self, plain: Any) -> None:
        nn.Module.__init__(self)
        self.entry = plain.entry
        self.steps = nn.ModuleList()
        below = self.entry[0].out_channels
        for first, second in plain.steps:
            conv, *rest = first
            shares = [below, conv.in_channels - below] if conv.in_channels > below else [below]
            skip = 1 if len(shares) > 1 else None
            self.steps.append(
                nn.ModuleList([UpsampledConv(conv, shares, skip, align_corners=True), nn.Sequential(*rest, second)])
            )
            below = conv.out_channels

    def _double(self, step: nn.Module, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        convolve, rest = step.children()
        doubled: Tensor = rest(convolve(maps, size))
        return doubled


def _check_counts(name: str, values: Sequence[int], length: int) -> None:
    if not isinstance(values, list | tuple) or len(values) != length:
        raise ModelError(f"{name} must be {length} numbers, found {values!r}.")
    for value in values:
        check_count(name, value, 8192)
