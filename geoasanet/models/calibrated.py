"""Temperature scaling: a network whose probabilities mean what they say.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599), section 4.2: all logits are divided
by one number T, fitted on a validation split. The order of the classes at a pixel does not change.
"""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from typing import Any, TypeVar

from torch import Tensor, nn

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def calibrated(network: AnyNetwork, temperature: float) -> AnyNetwork:
    """Return a network that gives the logits of ``network`` divided by ``temperature``, float32.

    It is of the same class and shares all weights, so that whatever makes ``network`` faster does so with it.

    Args:
        network: Gives logits in evaluation mode; it stays as it is.
        temperature: Above 1 it makes probabilities less extreme, below 1 more.
    """
    twin = copy.copy(network)
    twin._forward_hooks = OrderedDict(network._forward_hooks)
    twin.register_forward_hook(functools.partial(_divide, 1 / temperature))
    return twin


def _divide(factor: float, network: nn.Module, inputs: Any, logits_BKHW: Tensor) -> Tensor:
    return logits_BKHW.float() * factor
