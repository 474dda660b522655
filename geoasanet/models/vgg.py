"""VGG encoders that remember where each maximum was, and the decoders that put it back there.

Architecture from "Very Deep Convolutional Networks for Large-Scale Image Recognition" (Simonyan and Zisserman 2015,
arXiv 1409.1556) with batch norms; unpooling from "SegNet" (Badrinarayanan et al. 2017, arXiv 1511.00561). ImageNet
weights are torchvision's (BSD-3-Clause).

Letters in names: B batch, C channels, H and W height and width, h and w half of them.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, max_unpool2d

from geoasanet.models.blocks import Order, conv_blocks
from geoasanet.models.encoders import Encoder, EncoderSpec, Sizes, Weights, check_sizes

SIZES: dict[str, Sizes] = {
    name: (depths, (64, 128, 256, 512, 512))
    for name, depths in {
        "vgg11_bn": (1, 1, 2, 2, 2),
        "vgg13_bn": (2, 2, 2, 2, 2),
        "vgg16_bn": (2, 2, 3, 3, 3),
        "vgg19_bn": (2, 2, 4, 4, 4),
    }.items()
}
"""Blocks and channels per stage by timm name."""

STAGES = 5
STRIDE = 2**STAGES
"""Stride after the last pooling."""


class VGGEncoder(Encoder):
    """Five stages of 3×3 blocks; the caller pools between them with :func:`pool`.

    Args:
        in_channels: Number of input bands.
        spec: Which size: a timm name or depths and dims of five stages.
        order: Which layer of a block follows which.

    Raises:
        ModelError: If the size is unknown or impossible.
    """

    first_conv = "stages.0.0.conv.weight"
    tags = ("tv_in1k",)

    def __init__(self, in_channels: int, spec: EncoderSpec = "vgg16_bn", *, order: Order = "conv-bn-relu") -> None:
        super().__init__()
        self.depths, self.dims = check_sizes(spec, SIZES, STAGES)
        widths = (in_channels, *self.dims)
        self.stages = nn.ModuleList(
            conv_blocks((widths[i], *[self.dims[i]] * self.depths[i]), bias=True, order=order) for i in range(STAGES)
        )

    def stage(self, index: int, x_BCHW: Tensor) -> Tensor:
        """Return the output of stage ``index`` (0 to 4) before pooling, at stride 1, 2, 4, 8, 16."""
        result: Tensor = self.stages[index](x_BCHW)
        return result

    def translate(self, weights: Weights) -> Weights:
        """Return torchvision's weights under our names."""
        found: Weights = {}
        position = 0
        for i, depth in enumerate(self.depths):
            for j in range(depth):
                # A convolution, its norm and its ReLU are numbered through, and so is the pooling after a stage.
                for offset, layer in enumerate(("conv", "bn")):
                    prefix = f"features.{position + offset}."
                    for key in weights:
                        if key.startswith(prefix):
                            found[f"stages.{i}.{j}.{layer}.{key.removeprefix(prefix)}"] = weights[key]
                position += 3
            position += 1
        return found


def decoder_blocks(
    channels: int,
    out_channels: int,
    depth: int,
    *,
    bias: bool = False,
    order: Order = "conv-bn-relu",
) -> nn.Sequential:
    """Return the mirror of an encoder stage: ``depth`` 3×3 blocks, the last of which changes the channels."""
    return conv_blocks((*[channels] * depth, out_channels), bias=bias, order=order)


def pool(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 2×2 maxima (B, C, h, w) and where they were (int64, positions in H × W, same shape)."""
    pooled, indices = max_pool2d(x_BCHW, 2, return_indices=True)
    return pooled, indices


def unpool(x_BChw: Tensor, indices_BChw: Tensor) -> Tensor:
    """Return a map twice as high and wide, with every value where the maximum was and zero elsewhere."""
    return max_unpool2d(x_BChw, indices_BChw, (2, 2))
