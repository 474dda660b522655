"""UPerNet on one ConvNeXt-V2 encoder: the baselines that networks for two sensors are measured against.

Encoder: "ConvNeXt V2", Woo et al. 2023, arXiv 2301.00808; head: "Unified Perceptual Parsing", Xiao et al. 2018, arXiv
1807.10221. With one sensor this is the single-modality row of the ASANet paper (arXiv 2412.02044); with both it is
early fusion, the two images stacked before the first convolution. The original code configures the former through
mmsegmentation; no weights of either are published.

ImageNet weights of the encoder (``encoder_weights``) are published by Meta under CC BY-NC 4.0: networks trained from
them may not be used commercially.

Letters in names: B batch, C optical and S SAR bands, H and W height and width, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from geoasanet.errors import ModelError
from geoasanet.models.encoders import STAGE_LAYERS, STAGES, ConvNeXtEncoder, EncoderSpec, stage_layer
from geoasanet.models.heads import FCNHead, UPerHead
from geoasanet.models.network import TwoHeadedNetwork, check_count, check_fraction
from geoasanet.models.pretrained import load_encoder_weights

Inputs = Literal["rgb", "sar", "both"]
"""One sensor, or both stacked."""


class UPerNet(TwoHeadedNetwork):
    """One encoder for one sensor, or for both stacked.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands that the network is given.
        encoder: ConvNeXt-V2 size, a timm name or depths and dims.
        inputs: Which of the two images is looked at: ``"rgb"``, ``"sar"`` or ``"both"``.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights.
        drop_path: Stochastic depth of the last block of the encoder.
        dropout: Channel dropout before both classifiers.
        decoder_channels: Width of the UPerNet head.
        auxiliary_channels: Width of the auxiliary head.

    Raises:
        ModelError: If an argument is impossible.
        CheckpointError: If ``encoder_weights`` cannot be read or do not fit.
    """

    layer_count = STAGE_LAYERS

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int] = (3, 1),
        encoder: EncoderSpec = "convnextv2_tiny",
        *,
        inputs: Inputs = "both",
        encoder_weights: str | Path | None = None,
        drop_path: float = 0.4,
        dropout: float = 0.1,
        decoder_channels: int = 256,
        auxiliary_channels: int = 128,
    ) -> None:
        super().__init__(num_classes, in_channels)
        if inputs not in get_args(Inputs):
            raise ModelError(f"inputs must be one of {', '.join(get_args(Inputs))}, found {inputs!r}.")
        drop_path = check_fraction("drop_path", drop_path)
        dropout = check_fraction("dropout", dropout)
        width = check_count("decoder_channels", decoder_channels, 8192)
        auxiliary_width = check_count("auxiliary_channels", auxiliary_channels, 8192)

        self.inputs = inputs
        rgb_channels, sar_channels = self.in_channels
        channels = {"rgb": rgb_channels, "sar": sar_channels, "both": rgb_channels + sar_channels}[inputs]
        self.encoder = ConvNeXtEncoder(encoder, channels, drop_path)
        dims = self.encoder.dims
        self.head = UPerHead(dims, width, num_classes, dropout)
        self.auxiliary = FCNHead(dims[self.auxiliary_stage], auxiliary_width, num_classes, dropout)
        if encoder_weights is not None:
            load_encoder_weights((self.encoder,), encoder, encoder_weights)

    def layer_index(self, parameter_name: str) -> int:
        """Return the layer for stage-wise decay; see :func:`geoasanet.models.encoders.stage_layer`."""
        return stage_layer(parameter_name)

    def forward_features(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> list[Tensor]:
        """Return the normed maps at strides [4, 8, 16, 32]."""
        if self.inputs == "both":
            x = torch.cat([rgb_BCHW, sar_BSHW], 1)
        else:
            x = rgb_BCHW if self.inputs == "rgb" else sar_BSHW
        features: list[Tensor] = []
        for i in range(STAGES):
            x = self.encoder.stage(i, x)
            # Unlike in ASANet, what is normed is for the heads only.
            features.append(self.encoder.norms[i](x))
        return features
