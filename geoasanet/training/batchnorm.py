"""Batch norm whose statistics are those of all processes' samples."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from geoasanet.models.fusion import LocalBatchNorm2d

SyncBatchNorm = Literal["all", "released", "none"]
"""All batch norms; all but those of Cascade Fusion, as in the released code; or none."""


def synchronize(model: nn.Module, which: SyncBatchNorm, device: torch.device) -> nn.Module:
    """Return the model with its batch norms replaced by synchronised ones; parameters are kept, names too."""
    if which == "none":
        return model
    kind = nn.SyncBatchNorm if device.type == "cuda" else ProcessBatchNorm
    for name, child in model.named_children():
        if isinstance(child, LocalBatchNorm2d) and which == "released":
            continue
        if isinstance(child, _BatchNorm):
            setattr(model, name, _converted(child, kind))
        else:
            synchronize(child, which, device)
    return model


def _converted(norm: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    result = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(result, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(result, name, buffer)
    result.train(norm.training)
    return result


class ProcessBatchNorm(_BatchNorm):
    """Synchronised batch norm for any device; torch's own runs on GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input, shape (B, C, …) unchanged."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        x = input if input.dtype == torch.float64 else input.float()
        count = _total(torch.tensor(x.numel() / x.shape[1], dtype=x.dtype, device=x.device))
        mean = _total(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = _total(centred.square().sum(axes)) / count
        with torch.no_grad():
            self._follow(mean, variance * (count / (count - 1).clamp(min=1)))
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _total(values: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(values)
    return result
