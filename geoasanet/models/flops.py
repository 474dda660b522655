"""What a network costs: parameters and multiply-accumulates, counted on torch's meta device, which holds no numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.models.network import Network
from geoasanet.models.registry import create_model

NUM_CLASSES, SIZE = 6, 256
"""Classes and window of the ASANet paper's comparison."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Size of a network."""

    parameters: int
    """Trainable values without those of the auxiliary head, as the papers count them; shared ones count once."""
    auxiliary_parameters: int
    """Trainable values of the auxiliary head, which only training uses; 0 where there is none."""
    macs: int
    """Multiply-accumulates for the logits of one image: convolutions and matrix products."""


def build_on_meta(
    name: str, num_classes: int = NUM_CLASSES, in_channels: Sequence[int] = (3, 1), **arguments: Any
) -> Network:
    """Return a network in evaluation mode whose tensors have shapes and no memory.

    Raises:
        ModelError: If the name or an argument is unknown or impossible.
    """
    with torch.device("meta"):
        return create_model(name, num_classes, in_channels, **arguments).eval()


def measure_cost(network: Network, size: int = SIZE) -> Cost:
    """Return what a network on the meta device costs for one image of ``size`` × ``size`` px.

    Raises:
        ModelError: If the network does not take this size.
    """
    images = (torch.empty(1, bands, size, size, device="meta") for bands in network.in_channels)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*images)
    return Cost(*count_parameters(network), counter.get_total_flops() // 2)


def count_parameters(network: Network) -> tuple[int, int]:
    """Return how many trainable values a network has without its auxiliary head, and how many that head has."""
    head = getattr(network, "auxiliary", None)
    auxiliary = 0 if head is None else sum(p.numel() for p in head.parameters())
    return sum(p.numel() for p in network.parameters()) - auxiliary, auxiliary


def cost_of(name: str, arguments: Mapping[str, Any], size: int = SIZE) -> Cost:
    """Return what a network with these arguments costs; see :func:`build_on_meta` and :func:`measure_cost`."""
    return measure_cost(build_on_meta(name, **arguments), size)
