"""ASANet: two ConvNeXt-V2 encoders that focus on their differences, cascaded fusion per stage, UPerNet head.

Idea: "ASANet: Asymmetric Semantic Aligning Network for RGB and SAR image land cover classification", Zhang, Peng, Lu,
Huang and Liu, ISPRS Journal of Photogrammetry and Remote Sensing 218, 2024, doi 10.1016/j.isprsjprs.2024.09.025, arXiv
2412.02044. Public code: https://github.com/whu-pzhang/ASANet (Apache-2.0); this module is written afresh and gives its
numbers. Blocks of the encoders come from timm (Apache-2.0), parts of the head from segmentation-models-pytorch (MIT).

Differs from the release in what it takes: optical bands in the order red, green, blue (there blue first), SAR images of
any number of bands (there one, repeated three times; ``geoasanet convert`` sums its weights), encoders of any size, and
the ablations by arguments.

ImageNet weights of the encoders (``encoder_weights``) are published by Meta under CC BY-NC 4.0: networks trained from
them may not be used commercially.

Letters in names: B batch, C optical and S SAR bands, H and W height and width, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.encoders import STAGE_LAYERS, STAGES, ConvNeXtEncoder, EncoderSpec, stage_layer
from geoasanet.models.fusion import CascadeFusion, NoFocusing, SemanticFocusing, SumFusion
from geoasanet.models.heads import FCNHead, UPerHead
from geoasanet.models.network import TwoHeadedNetwork, check_count, check_fraction
from geoasanet.models.pretrained import load_encoder_weights

Fusion = Literal["cfm", "sum"]
"""Cascade Fusion, or the plain sum of the ablation."""


class ASANet(TwoHeadedNetwork):
    """Asymmetric Semantic Aligning Network.

    Args:
        num_classes: Number of classes K.
        in_channels: Optical and SAR bands.
        encoder: ConvNeXt-V2 size, a timm name or depths and dims; both sensors get the same size, own weights.
        encoder_weights: ``None`` for random weights, ``"imagenet"``, or the path of a file of ImageNet weights.
        drop_path: Stochastic depth of the last block of each encoder.
        dropout: Channel dropout before both classifiers.
        sfm: Whether to use Semantic Focusing; false is the paper's ablation.
        fusion: ``"cfm"`` or, as the paper's ablation, ``"sum"``.
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
        encoder_weights: str | Path | None = None,
        drop_path: float = 0.4,
        dropout: float = 0.1,
        sfm: bool = True,
        fusion: Fusion = "cfm",
        decoder_channels: int = 256,
        auxiliary_channels: int = 128,
    ) -> None:
        super().__init__(num_classes, in_channels)
        if fusion not in get_args(Fusion):
            raise ModelError(f"fusion must be one of {', '.join(get_args(Fusion))}, found {fusion!r}.")
        if not isinstance(sfm, bool):
            raise ModelError(f"sfm must be true or false, found {sfm!r}.")
        drop_path = check_fraction("drop_path", drop_path)
        dropout = check_fraction("dropout", dropout)
        width = check_count("decoder_channels", decoder_channels, 8192)
        auxiliary_width = check_count("auxiliary_channels", auxiliary_channels, 8192)

        self.rgb_encoder = ConvNeXtEncoder(encoder, self.in_channels[0], drop_path)
        self.sar_encoder = ConvNeXtEncoder(encoder, self.in_channels[1], drop_path)
        dims = self.rgb_encoder.dims
        self.focusing = nn.ModuleList(SemanticFocusing(dim) if sfm else NoFocusing() for dim in dims)
        self.fusion = nn.ModuleList(CascadeFusion(dim) if fusion == "cfm" else SumFusion() for dim in dims)
        self.head = UPerHead(dims, width, num_classes, dropout)
        self.auxiliary = FCNHead(dims[self.auxiliary_stage], auxiliary_width, num_classes, dropout)
        if encoder_weights is not None:
            load_encoder_weights((self.rgb_encoder, self.sar_encoder), encoder, encoder_weights)

    def layer_index(self, parameter_name: str) -> int:
        """Return the layer for stage-wise decay; see :func:`geoasanet.models.encoders.stage_layer`."""
        return stage_layer(parameter_name)

    def forward_features(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> list[Tensor]:
        """Return the fused maps at strides [4, 8, 16, 32]."""
        rgb, sar = rgb_BCHW, sar_BSHW
        fused: list[Tensor] = []
        for i in range(STAGES):
            rgb = self.rgb_encoder.stage(i, rgb)
            sar = self.sar_encoder.stage(i, sar)
            # The sensors exchange before the norm, and what is normed also feeds the next stage.
            rgb, sar = self.focusing[i](rgb, sar)
            rgb = self.rgb_encoder.norms[i](rgb)
            sar = self.sar_encoder.norms[i](sar)
            fused.append(self.fusion[i](rgb, sar))
        return fused
