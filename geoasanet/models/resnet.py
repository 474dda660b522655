"""ResNet encoders with bottleneck blocks, run stage by stage.

Layers come from timm (Apache-2.0), architecture from "Deep Residual Learning for Image Recognition" (He et al. 2016,
arXiv 1512.03385). ImageNet weights of the usual networks are timm's, those of the deep stem Gluon's, both Apache-2.0.

Letters in names: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

from torch import Tensor, nn

from geoasanet.models.encoders import STAGES, Encoder, EncoderSpec, Sizes, Weights, check_sizes

_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}


def resnet_sizes(*, deep_stem: bool) -> dict[str, Sizes]:
    """Return blocks and bottleneck channels per stage by timm name."""
    suffix = "s" if deep_stem else ""
    return {f"resnet{number}{suffix}": (depths, (64, 128, 256, 512)) for number, depths in _DEPTHS.items()}


class ResNetEncoder(Encoder):
    """Stem and four stages at strides 4, 8, 16, 32.

    Args:
        spec: Which size: a timm name, or depths and dims, where dims are those inside the bottlenecks.
        in_channels: Number of input bands.
        deep_stem: Three 3×3 convolutions instead of one 7×7.
        dilated: Whether the last stage keeps stride 16 and looks ever farther, 2, 4, 8, … pixels by block.

    Raises:
        ModelError: If the size is unknown or impossible.
    """

    def __init__(self, spec: EncoderSpec, in_channels: int, *, deep_stem: bool = False, dilated: bool = False) -> None:
        super().__init__()
        from timm.models.resnet import Bottleneck, ResNet

        depths, widths = check_sizes(spec, resnet_sizes(deep_stem=deep_stem))
        self.trunk = ResNet(
            Bottleneck,
            depths,
            num_classes=0,
            in_chans=in_channels,
            channels=widths,
            stem_width=widths[0],
            stem_type="deep" if deep_stem else "",
        )
        self.first_conv = f"trunk.conv1.{'0.' if deep_stem else ''}weight"
        self.tags = ("gluon_in1k",) if deep_stem else ("a1_in1k", "tv_in1k")
        self.dims: list[int] = [Bottleneck.expansion * width for width in widths]
        if dilated:
            _dilate(self.layers[-1])

    @property
    def layers(self) -> list[nn.Sequential]:
        """Return the blocks of every stage."""
        return [getattr(self.trunk, f"layer{i + 1}") for i in range(STAGES)]

    def stage(self, index: int, x_BCHW: Tensor) -> Tensor:
        """Return the output of stage ``index`` (0 to 3); stage 0 begins with the stem."""
        trunk = self.trunk
        if index == 0:
            x_BCHW = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(x_BCHW))))
        result: Tensor = self.layers[index](x_BCHW)
        return result

    def translate(self, weights: Weights) -> Weights:
        """Return timm's weights under our names."""
        return {f"trunk.{key}": tensor for key, tensor in weights.items()}


def _dilate(blocks: nn.Sequential) -> None:
    for j, block in enumerate(blocks):
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (2 ** (j + 1),) * 2
