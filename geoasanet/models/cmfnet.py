"""CMFNet: two VGG encoders, attention between channels of all scales and both sensors, a decoder that unpools.

Idea: "A Crossmodal Multiscale Fusion Network for Semantic Segmentation of Remote Sensing Data", Ma, Zhang and Pun, IEEE
Journal of Selected Topics in Applied Earth Observations and Remote Sensing 15, 2022. Public code:
https://github.com/sstary/SSRS (Apache-2.0), after UCTransNet; this module is written afresh and gives its numbers.

ImageNet weights of the encoders (``encoder_weights``) are torchvision's, BSD-3-Clause; they come from blocks whose norm
stands before the ReLU, while here it stands behind.

As in the release, 8.54 of 104 million parameters never receive a gradient: per-head keys and values of which only the
first head's are used, channel gates of the first four stages, and what only serves the second sensor's result, which
nobody reads. They are kept, so that its checkpoints load and the count is the published one.

Differs from the release: logits come out where it returns their log-softmax, which leaves class ids, probabilities and
cross entropy as they are; the second image, there one band without channel axis, may have any number of bands; and
sides other than 256 px work if they are multiples of 32: the learned positions, 16 × 16 of them, are resampled.

Letters in names: B batch, C optical and S SAR bands, H and W height and width, K classes.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.blocks import Order
from geoasanet.models.channel_transformer import ChannelTransformer
from geoasanet.models.encoders import EncoderSpec
from geoasanet.models.gates import GatedSum
from geoasanet.models.network import Network, check_count, check_fraction
from geoasanet.models.pretrained import load_encoder_weights
from geoasanet.models.vgg import STAGES, STRIDE, VGGEncoder, decoder_blocks, pool, unpool

ORDER: Order = "conv-relu-bn"


class CMFNet(Network):
    """Crossmodal multiscale fusion network.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands.
        encoder: VGG size, a timm name or depths and dims of five stages; both sensors get the same, own weights.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights.
        layers: Layers of each of the two transformers.
        heads: Attention heads; must divide the channels of the first four stages.
        dropout: Chance of a value to be dropped in the transformers.

    Raises:
        ModelError: If an argument is impossible.
        CheckpointError: If ``encoder_weights`` cannot be read or do not fit.
    """

    has_unused_parameters = True
    size_multiple = STRIDE

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (3, 1),
        encoder: EncoderSpec = "vgg16_bn",
        *,
        encoder_weights: str | Path | None = None,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_classes, in_channels)
        check_count("layers", layers, 256)
        check_count("heads", heads, 256)
        dropout = check_fraction("dropout", dropout)

        self.rgb_encoder = VGGEncoder(self.in_channels[0], encoder, order=ORDER)
        self.sar_encoder = VGGEncoder(self.in_channels[1], encoder, order=ORDER)
        dims, depths = self.rgb_encoder.dims, self.rgb_encoder.depths
        if any(dim % heads for dim in dims[:-1]):
            raise ModelError(f"heads must divide the encoder's channels {list(dims[:-1])}, found {heads}.")
        self.exchange = ChannelTransformer(dims[:-1], 2, layers, heads, dropout)
        self.refine = ChannelTransformer(dims[:-1], 1, layers, heads, dropout)
        self.fusion = GatedSum(dims[-1])
        self.unused = nn.ModuleList(GatedSum(dim) for dim in dims[:-1])
        self.decoder = nn.ModuleList(
            # The classifier is the last convolution of the last stage.
            decoder_blocks(dims[i], dims[max(i - 1, 0)], depths[i] - (i == 0), bias=True, order=ORDER)
            for i in range(STAGES)
        )
        self.classifier = nn.Conv2d(dims[0], num_classes, 3, padding=1)
        if encoder_weights is not None:
            load_encoder_weights((self.rgb_encoder, self.sar_encoder), encoder, encoder_weights)

    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W), in training mode too: there is no auxiliary head.

        Raises:
            ModelError: If the images do not fit the network or each other, or their sides are no multiples of 32.
        """
        self.check_inputs(rgb_BCHW, sar_BSHW)
        rgb_maps, maxima = _encode(self.rgb_encoder, rgb_BCHW)
        sar_maps, _ = _encode(self.sar_encoder, sar_BSHW)
        exchanged, _ = self.exchange([rgb_maps[:-1], sar_maps[:-1]])
        (refined,) = self.refine([exchanged])

        coarsest = self.fusion(rgb_maps[-1], sar_maps[-1])
        x, where = pool(coarsest)
        x = self.decoder[-1](unpool(x, where) + coarsest)
        for i in reversed(range(STAGES - 1)):
            x = self.decoder[i](unpool(x, maxima[i]) + rgb_maps[i] + refined[i])
        logits_BKHW: Tensor = self.classifier(x)
        return logits_BKHW


def _encode(encoder: VGGEncoder, image_BCHW: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the maps at strides [1, 2, 4, 8, 16] and where the maxima of all but the last were."""
    maps = [encoder.stage(0, image_BCHW)]
    maxima = []
    for i in range(1, STAGES):
        x, where = pool(maps[-1])
        maxima.append(where)
        maps.append(encoder.stage(i, x))
    return maps, maxima
