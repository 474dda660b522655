"""AFNet, a re-implementation: two ResNets, attention fusion at every stride, attention refinement on the way back up.

**No official code and no weights of the AFNet in the ASANet paper's comparison (arXiv 2412.02044) exist, and which
AFNet that is the paper leaves open. Parity with that row cannot be claimed.** This network follows the parts named by
"An attention-fused network for semantic segmentation of very-high-resolution remote sensing imagery", Yang, Li, Chen,
Chanussot et al., ISPRS Journal of Photogrammetry and Remote Sensing 177, 2021, arXiv 2105.04132, the most probable one:
a multipath encoder, a multipath attention-fused block per level, refinement attention-fused blocks in the decoder.
What is inside the blocks is our own choice, calibrated so that parameters (355.7 M of 356 M) and multiply-accumulates
at 256×256 (66.3 G of 65 G) are those of the row. There is no auxiliary head.

Layers of the encoders come from timm, as do their ImageNet weights (``encoder_weights``), both Apache-2.0.

Letters in names: B batch, C channels (optical bands in ``forward``) and S SAR bands, H and W height and width, h and w
at a map's own stride, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from geoasanet.models.blocks import ConvBlock, init_kaiming, resize
from geoasanet.models.encoders import STAGES, EncoderSpec
from geoasanet.models.heads import Classifier
from geoasanet.models.network import Network, check_fraction
from geoasanet.models.pretrained import load_encoder_weights
from geoasanet.models.resnet import ResNetEncoder
from geoasanet.models.upsampled import UpsampledConv


class AFNet(Network):
    """Attention-fused network, after the published description and in the published size.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands.
        encoder: ResNet size, ``"resnet50"``, ``"resnet101"``, ``"resnet152"`` or depths and dims (inside the
            bottlenecks); both sensors get the same size, own weights.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights.
        dropout: Channel dropout before the classifier.

    Raises:
        ModelError: If an argument is impossible.
        CheckpointError: If ``encoder_weights`` cannot be read or do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (3, 1),
        encoder: EncoderSpec = "resnet50",
        *,
        encoder_weights: str | Path | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_classes, in_channels)
        dropout = check_fraction("dropout", dropout)
        self.rgb_encoder, self.sar_encoder = (ResNetEncoder(encoder, bands) for bands in self.in_channels)
        dims = self.rgb_encoder.dims
        self.fusion = nn.ModuleList(AttentionFusion(dim) for dim in dims)
        self.bridge = ConvBlock(dims[-1], dims[-1])
        self.refinement = nn.ModuleList(AttentionRefinement(dims[i], dims[i + 1]) for i in range(STAGES - 1))
        self.classifier = Classifier(dims[0], num_classes, dropout)
        if encoder_weights is not None:
            load_encoder_weights((self.rgb_encoder, self.sar_encoder), encoder, encoder_weights)

    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W), in training mode too.

        Raises:
            ModelError: If the images do not fit the network or each other.
        """
        self.check_inputs(rgb_BCHW, sar_BSHW)
        features = self.forward_features(rgb_BCHW, sar_BSHW)
        x = self.bridge(features[-1])
        for i in reversed(range(STAGES - 1)):
            x = self.refinement[i](features[i], x)
        return resize(self.classifier(x), rgb_BCHW.shape[2:])

    def forward_features(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> list[Tensor]:
        """Return the fused maps at strides [4, 8, 16, 32]."""
        rgb, sar = rgb_BCHW, sar_BSHW
        fused: list[Tensor] = []
        for i in range(STAGES):
            rgb = self.rgb_encoder.stage(i, rgb)
            sar = self.sar_encoder.stage(i, sar)
            fused.append(self.fusion[i](rgb, sar))
        return fused


class ChannelAttention(nn.Module):
    """One weight per channel from what a map holds over the whole window.

    Args:
        channels: Channels of the map.
        hidden: Channels in between.
        out_channels: Number of weights.
    """

    def __init__(self, channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, out_channels, 1), nn.Sigmoid()
        )
        init_kaiming(self)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return the weights (B, out_channels, 1, 1), between 0 and 1."""
        weight_BC11: Tensor = self.weigh(x_BChw.mean((2, 3), keepdim=True))
        return weight_BC11


class AttentionFusion(nn.Module):
    """Choose channels of both sensors, join them, then strengthen what stands out in its place.

    Args:
        channels: Channels of both maps and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_gate = ChannelAttention(2 * channels, 2 * channels, 2 * channels)
        self.join = ConvBlock(2 * channels, channels)
        self.place_gate = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Sigmoid())
        self.refine = ConvBlock(channels, channels)
        init_kaiming(self.place_gate)

    def forward(self, rgb_BChw: Tensor, sar_BChw: Tensor) -> Tensor:
        """Return the fused map."""
        both = torch.cat([rgb_BChw, sar_BChw], 1)
        joined_BChw: Tensor = self.join(both * self.channel_gate(both))
        standing_out_BChw: Tensor = self.refine(joined_BChw * self.place_gate(joined_BChw))
        return joined_BChw + standing_out_BChw


class AttentionRefinement(nn.Module):
    """Bring a coarser map to a finer one's stride, and let both say which channels of the finer one to keep.

    Args:
        channels: Channels of the finer map and of the result.
        coarse: Channels of the coarser map.
    """

    def __init__(self, channels: int, coarse: int) -> None:
        super().__init__()
        self.reduce = ConvBlock(coarse, channels)
        self.gate = ChannelAttention(2 * channels, max(1, channels // 4), channels)

    def forward(self, fine_BChw: Tensor, coarse_BDhw: Tensor) -> Tensor:
        """Return the refined map at the finer stride."""
        coarse_BChw: Tensor = self._enlarge(coarse_BDhw, fine_BChw.shape[2:])
        weight_BC11: Tensor = self.gate(torch.cat([fine_BChw, coarse_BChw], 1))
        return coarse_BChw + fine_BChw * weight_BC11

    def _enlarge(self, coarse_BDhw: Tensor, size: Sequence[int]) -> Tensor:
        enlarged_BChw: Tensor = self.reduce(resize(coarse_BDhw, size))
        return enlarged_BChw

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return a module that, on CPU, reduces the coarser map before it enlarges it."""
        return FrugalRefinement(self) if device.type == "cpu" else self


class FrugalRefinement(AttentionRefinement):
    """The same, its convolution as :class:`UpsampledConv`.

    Args:
        plain: The module.
    """

    def __init__(self, plain: AttentionRefinement) -> None:
        nn.Module.__init__(self)
        conv, *rest = plain.reduce
        assert isinstance(conv, nn.Conv2d)
        self.gate = plain.gate
        self.convolve = UpsampledConv(conv, (conv.in_channels,))
        self.rest = nn.Sequential(*rest)

    def _enlarge(self, coarse_BDhw: Tensor, size: Sequence[int]) -> Tensor:
        enlarged_BChw: Tensor = self.rest(self.convolve([coarse_BDhw], size))
        return enlarged_BChw
