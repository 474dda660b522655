"""The same network with less to compute: what only training needs is dropped, what is constant is worked out once.

Results equal the network's own but for rounding. Nothing here is learnt from a device or a data set; what a compiler
can do besides is left to :func:`torch.compile`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geoasanet.models.winograd import WinogradConv, suits


@runtime_checkable
class HasInferenceForm(Protocol):
    """A module that knows a faster one with the same results."""

    def for_inference(self, device: torch.device) -> nn.Module:
        """Return it, or this one where it would be slower on ``device``; it may share weights with this one."""
        ...


def accelerate(network: nn.Module, device: torch.device, precision: str = "fp32") -> nn.Module:
    """Return a network that gives the results of ``network.eval()`` faster, for inference.

    Batch norms are folded into the convolutions before them, convolutions hold their weights channels last, and
    modules that know a form for inference (:class:`HasInferenceForm`) take it. The auxiliary head is dropped. On a CPU,
    in fp32, wide 3×3 convolutions take fewer multiplications (:class:`~geoasanet.models.winograd.WinogradConv`) and
    ConvNeXt's blocks fewer passes over memory (:class:`~geoasanet.models.fusedblock.FusedBlock`).

    Args:
        network: Any network; it stays as it is, and whatever is not changed is shared with the result.
        device: Where the result is to run; the caller moves it there.
        precision: Arithmetic that it is to run in (:data:`geoasanet.device.Precision`, not "auto").
    """
    twin = _share(network, {})
    twin._modules.pop("auxiliary", None)
    _transform(twin, device)
    if device.type == "cpu" and precision == "fp32":
        _replace(twin, _faster_on_cpu, {})
    for module in twin.modules():
        layout = torch.channels_last if isinstance(module, nn.Conv2d) else torch.preserve_format
        for name, parameter in module._parameters.items():
            if parameter is not None:
                value = parameter.detach()
                if value.ndim == 4:
                    value = value.to(memory_format=layout)
                module._parameters[name] = nn.Parameter(value, requires_grad=False)
    return twin.eval()


def _share(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    """Return a tree of new modules that hold the same tensors; modules that occur twice do so again."""
    if id(module) not in made:
        made[id(module)] = twin = copy.copy(module)
        twin.__dict__["_parameters"] = dict(module._parameters)
        twin.__dict__["_buffers"] = dict(module._buffers)
        twin.__dict__["_modules"] = {
            name: None if child is None else _share(child, made) for name, child in module._modules.items()
        }
    return made[id(module)]


def _transform(module: nn.Module, device: torch.device) -> None:
    from timm.layers.grn import GlobalResponseNorm

    for name, child in list(module.named_children()):
        _transform(child, device)
        if isinstance(child, HasInferenceForm):
            setattr(module, name, child.for_inference(device))
        elif isinstance(child, GlobalResponseNorm):
            setattr(module, name, ResponseNorm(child))
    for conv_name, norm_name in _pairs(module):
        conv, norm = module._modules[conv_name], module._modules[norm_name]
        if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            module._modules[conv_name] = fuse_conv_bn_eval(conv.eval(), norm.eval())
            module._modules[norm_name] = nn.Identity()


def _replace(module: nn.Module, faster: Callable[[nn.Module], nn.Module | None], made: dict[int, nn.Module]) -> None:
    """Replace the modules below that have a faster form; those that occur twice do so again."""
    for name, child in module._modules.items():
        if child is None:
            continue
        if id(child) not in made:
            form = faster(child)
            if form is None:
                _replace(child, faster, made)
            made[id(child)] = child if form is None else form
        module._modules[name] = made[id(child)]


def _faster_on_cpu(module: nn.Module) -> nn.Module | None:
    """Return the form that a module takes on a CPU in fp32, if it is one that has such a form."""
    from geoasanet.models.fusedblock import FusedBlock, fuses  # loads numba, which a device does not need

    if suits(module):
        return WinogradConv(module)
    return FusedBlock(module) if fuses(module) else None


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Return the names of children of which the first feeds the second and nothing else."""
    names = list(module._modules)
    if isinstance(module, nn.Sequential):
        return list(itertools.pairwise(names))
    if type(module).__module__ == "timm.models.resnet":
        return [(name, name.replace("conv", "bn")) for name in names if name.replace("conv", "bn") in names]
    return []


class ResponseNorm(nn.Module):
    """Global response normalisation (Woo et al. 2023, arXiv 2301.00808, algorithm 1) in one pass over the map.

    Args:
        norm: timm's layer, channels last.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.spatial, self.channel, self.shape = norm.spatial_dim, norm.channel_dim, norm.wb_shape

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, each channel scaled by its share in the energy of all, shape unchanged."""
        energy = x.square().sum(self.spatial, keepdim=True).sqrt()
        share = energy / (energy.mean(self.channel, keepdim=True) + self.eps)
        return torch.addcmul(self.bias.view(self.shape), x, 1 + self.weight.view(self.shape) * share)
