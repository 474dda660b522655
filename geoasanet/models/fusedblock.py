"""ConvNeXt-V2's block in fewer passes over memory, for CPUs in float32.

The block (Woo et al. 2023, arXiv 2301.00808) widens its map fourfold between two products, and there spends a fourth
of its time on what is no product: bias, GELU, energies and the response norm. Here one pass does the first three, and
the norm goes into the second product's weights where these are smaller than the map.

Letters in names: B batch, C channels, F channels of the wide map, H and W height and width, M pixels of one image.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoasanet.kernels import kernel
from geoasanet.models.products import product


class FusedBlock(nn.Module):
    """The same block for inference, equal but for rounding.

    Args:
        block: timm's ``ConvNeXtBlock``; see :func:`fuses`.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv: nn.Module = block.conv_dw
        self.norm: nn.Module = block.norm
        widen, response, narrow = block.mlp.fc1, block.mlp.grn, block.mlp.fc2
        self.eps: float = response.eps
        self.gain = response.weight
        self.widen_CF = nn.Parameter(widen.weight.detach().T.contiguous(), requires_grad=False)
        self.bias_F = widen.bias
        self.narrow_CF = narrow.weight
        constant = narrow.weight.detach() @ response.bias.detach() + narrow.bias.detach()
        self.constant_C = nn.Parameter(constant, requires_grad=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the map (B, C, H, W), channels last."""
        shortcut = x_BCHW.permute(0, 2, 3, 1)
        result = torch.add(shortcut, self.constant_C).contiguous()
        pixels = self.norm(self.conv(x_BCHW).permute(0, 2, 3, 1))
        for image_MC, sum_MC in zip(pixels.flatten(1, 2), result.flatten(1, 2), strict=True):
            wide_MF = product(image_MC, self.widen_CF)
            energies = gelu_(wide_MF, self.bias_F).sqrt().to(wide_MF.dtype)
            gains = 1 + self.gain * (energies / (energies.mean() + self.eps))
            if wide_MF.numel() < self.narrow_CF.numel():
                sum_MC.add_(product(wide_MF.mul_(gains), self.narrow_CF.T))
            else:
                sum_MC.add_(product(wide_MF, (self.narrow_CF * gains).T))
        return result.permute(0, 3, 1, 2)


def fuses(module: nn.Module) -> bool:
    """Tell whether a module is a block that :class:`FusedBlock` computes."""
    from timm.layers import GELU, GlobalResponseNormMlp
    from timm.models.convnext import ConvNeXtBlock

    return (
        isinstance(module, ConvNeXtBlock)
        and not module.use_conv_mlp
        and module.gamma is None
        and isinstance(module.shortcut, nn.Identity)
        and isinstance(module.mlp, GlobalResponseNormMlp)
        and isinstance(module.mlp.fc1, nn.Linear)
        and isinstance(module.mlp.act, GELU)
        and module.mlp.fc1.weight.dtype == torch.float32
    )


def gelu_(hidden_MF: Tensor, bias_F: Tensor) -> Tensor:
    """Replace each value by the GELU of its sum with the channel's bias, and return the channels' sums of squares.

    The normal distribution comes from a quotient of two polynomials; the result is within 1.2e-6 of the exact one, of
    which 5e-9 are the quotient's and the rest rounding, as in torch's own.

    Args:
        hidden_MF: float32, contiguous, in main memory; overwritten.
        bias_F: float32.

    Returns:
        Energies, shape (F,), float64.
    """
    energies: Tensor = torch.ops.geoasanet.gelu_(hidden_MF, bias_F)
    return energies


torch.library.define("geoasanet::gelu_", "(Tensor(a!) hidden, Tensor bias) -> Tensor")


@torch.library.impl("geoasanet::gelu_", "cpu")
def _gelu(hidden: Tensor, bias: Tensor) -> Tensor:
    energies = torch.zeros(hidden.shape[-1], dtype=torch.float64)
    _gelu_rows(hidden.numpy(), bias.numpy(), energies.numpy(), _CONSTANTS)
    return energies


@torch.library.register_fake("geoasanet::gelu_")
def _empty_energies(hidden: Tensor, bias: Tensor) -> Tensor:
    return hidden.new_empty(hidden.shape[-1], dtype=torch.float64)


_ROWS = 32
"""Rows whose squares are summed in float32."""
_CONSTANTS = tuple(
    np.float32(value)
    for value in (
        *(-5.4, 5.4),  # beyond so many deviations float32 knows no difference from certainty
        *(0.5, 1.0),
        *(0.39894223, 0.03337096, 4.6507586e-3, 1.6430684e-4, 6.359745e-6, 2.3386649e-8),
        *(0.25031468, 0.028377924, 1.8588982e-3, 7.239451e-5, 1.2165681e-6),
    )
)
"""What :func:`_gelu_rows` takes. Of (Φ(x) - 1/2) / x as a quotient of two polynomials in x², the coefficients, lowest
power first: least squares on Chebyshev's points with Lawson's weights, for the least largest error."""


@functools.partial(kernel, fastmath={"contract"})  # a product and a sum in one instruction
def _gelu_rows(rows: NDArray[Any], bias: NDArray[Any], energies: NDArray[Any], constants: Any) -> None:
    """Do what :func:`gelu_` says; constants come as an argument, so that they stay in registers."""
    count, width = rows.shape
    least, most, half, one, p0, p1, p2, p3, p4, p5, q1, q2, q3, q4, q5 = constants
    part = np.empty(width, np.float32)
    for first in range(0, count, _ROWS):
        part[:] = 0
        for i in range(first, min(first + _ROWS, count)):
            row = rows[i]
            for j in range(width):
                x = row[j] + bias[j]
                # Written so that both become one instruction each; NaN passes through `x`.
                u = x if x < most else most
                u = u if u > least else least
                t = u * u
                p = ((((p5 * t + p4) * t + p3) * t + p2) * t + p1) * t + p0
                q = ((((q5 * t + q4) * t + q3) * t + q2) * t + q1) * t + one
                value = x * (half + u * (p / q))
                row[j] = value
                part[j] += value * value
        for j in range(width):
            energies[j] += part[j]
