"""Optimisers: which parameters decay, and at which learning rate each layer learns."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.optim import SGD, AdamW, Optimizer

from geoasanet.errors import ConfigError
from geoasanet.models.network import Network

OptimizerKind = Literal["adamw", "sgd"]


def parameter_groups(
    model: Network, *, lr: float, weight_decay: float, layer_decay: float | None = None, decay_all: bool = False
) -> list[dict[str, Any]]:
    """Return the parameters that learn, grouped by layer and weight decay, in the order of the network.

    Each group holds ``params``, ``param_names``, ``lr``, ``weight_decay``, ``lr_scale`` (share of ``lr`` that its layer
    gets) and ``name``, such as ``layer_0_decay`` or ``no_decay``. Parameters that two modules share come once.

    Args:
        model: The network.
        lr: Learning rate of the last layer.
        weight_decay: Weight decay of the parameters that decay.
        layer_decay: Factor by which the rate falls from a layer to the one before it; ``None`` for one rate. After
            "BEiT" (Bao et al. 2021, arXiv 2106.08254), stage-wise as the ConvNeXts are tuned.
        decay_all: Whether norms and biases (parameters of one dimension) decay, too, as where plain SGD is used.

    Raises:
        ConfigError: If a number is impossible.
        ModelError: If ``layer_decay`` is asked for and the network does not tell layers apart.
    """
    if not lr > 0:
        raise ConfigError(f"lr must be above 0, found {lr}.")
    if not weight_decay >= 0:
        raise ConfigError(f"weight_decay must be 0 or more, found {weight_decay}.")
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay must be above 0 and at most 1, found {layer_decay}.")
    groups: dict[str, dict[str, Any]] = {}
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = decay_all or parameter.ndim > 1
        scale, prefix = 1.0, ""
        if layer_decay is not None:
            layer = model.layer_index(parameter_name)
            scale, prefix = layer_decay ** (model.layer_count - 1 - layer), f"layer_{layer}_"
        name = prefix + ("decay" if decays else "no_decay")
        group = groups.setdefault(
            name,
            {
                "params": [],
                "param_names": [],
                "lr": lr * scale,
                "weight_decay": weight_decay if decays else 0.0,
                "lr_scale": scale,
                "name": name,
            },
        )
        group["params"].append(parameter)
        group["param_names"].append(parameter_name)
    return list(groups.values())


def build_optimizer(
    groups: list[dict[str, Any]],
    kind: OptimizerKind = "adamw",
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum: float = 0.9,
) -> Optimizer:
    """Return the optimiser of :func:`parameter_groups`; on CUDA one that updates all parameters in one kernel.

    Args:
        groups: What to optimise.
        kind: ``"adamw"``, or ``"sgd"`` with momentum, whose weight decay is an L2 penalty.
        betas: AdamW's running averages.
        momentum: SGD's momentum.

    Raises:
        ConfigError: If ``kind`` is unknown or a number is impossible.
    """
    if not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"betas must be from 0 to below 1, found {betas}.")
    if not 0 <= momentum < 1:
        raise ConfigError(f"momentum must be from 0 to below 1, found {momentum}.")
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"]) or None
    first_lr = groups[0]["lr"]
    if kind == "adamw":
        return AdamW(groups, first_lr, betas, fused=fused)
    if kind == "sgd":
        return SGD(groups, first_lr, momentum, fused=fused)
    raise ConfigError(f"Optimizer {kind!r} is unknown; one of adamw, sgd is needed.")


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of ``lr``, the rate of the last layer in the step that follows."""
    for group in optimizer.param_groups:
        rate = lr * group["lr_scale"]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
