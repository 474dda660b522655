"""Small parts that several networks share.

Letters in names: B batch, C channels, K classes, H and W height and width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from geoasanet.errors import ModelError

Order = Literal["conv-bn-relu", "conv-relu-bn"]
"""Which of the three layers of a block follows which."""


class ConvBlock(nn.Sequential):
    """Convolution, batch norm and ReLU, the size of the map unchanged.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Side of the kernel, pixels, odd.
        bias: Whether the convolution has a bias.
        order: Which layer follows which.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        bias: bool = False,
        order: Order = "conv-bn-relu",
    ) -> None:
        layers: dict[str, nn.Module] = {
            "conv": nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias),
            "bn": nn.BatchNorm2d(out_channels),
            "relu": nn.ReLU(inplace=True),
        }
        super().__init__(OrderedDict((name, layers[name]) for name in order.split("-")))
        init_kaiming(self)


def conv_blocks(channels: Sequence[int], *, bias: bool = False, order: Order = "conv-bn-relu") -> nn.Sequential:
    """Return 3×3 blocks one after the other; ``channels`` are those of the input and of every block's output."""
    return nn.Sequential(*(ConvBlock(a, b, bias=bias, order=order) for a, b in pairwise(channels)))


def resize(x_BChw: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Return a map resampled bilinearly to ``size`` (height, width)."""
    return interpolate(x_BChw, size=tuple(size), mode="bilinear", align_corners=align_corners)


def pad_to_multiple(x_BCHW: Tensor, multiple: int) -> Tensor:
    """Return an image with zeros added below and to the right until both sides are multiples of ``multiple``."""
    height, width = x_BCHW.shape[2:]
    return pad(x_BCHW, (0, -width % multiple, 0, -height % multiple))


def refuse_single_value(x_BC11: Tensor, norm: nn.Module, what: str) -> None:
    """Raise if ``norm`` is about to take statistics of one value per channel.

    Args:
        x_BC11: Pooled maps of a batch.
        norm: The batch norm that they are given to; one that several processes share is never refused.
        what: Name of the part, for the message.

    Raises:
        ModelError: In training with one image, for which batch statistics of a pooled map do not exist.
    """
    if x_BC11.shape[0] == 1 and norm.training and isinstance(norm, nn.BatchNorm2d):
        raise ModelError(
            f"{what} cannot train on a batch of one: its batch norms see one value per channel.",
            "Use a batch size of at least 2 on every device.",
        )


def init_kaiming(module: nn.Module) -> None:
    """Draw every convolution below ``module`` from a normal of variance 2 / fan-out and zero its bias."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
