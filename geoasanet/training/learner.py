"""The network with everything that changes while it learns, and one optimiser step of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from geoasanet.config import TrainConfig
from geoasanet.device import DTYPES
from geoasanet.errors import NonFiniteError
from geoasanet.models.checkpoint import unwrap
from geoasanet.models.network import Network
from geoasanet.training.batchnorm import synchronize
from geoasanet.training.losses import SegmentationLoss, count_valid
from geoasanet.training.optim import build_optimizer, parameter_groups, set_learning_rate
from geoasanet.training.processes import Processes
from geoasanet.training.samples import Batch
from geoasanet.training.schedule import Schedule

_SMALL_BIAS = 0.02


@dataclass(frozen=True, slots=True)
class StepResult:
    """One optimiser step."""

    loss: float
    """Loss of the batch over all processes."""
    gradient_norm: float
    """Norm of the gradient before clipping."""
    lr: float
    """Base learning rate."""


class Learner:
    """A network in training.

    Args:
        network: As :func:`geoasanet.create_model` made it.
        config: The recipe.
        class_weights: Weight of each class in the cross entropy, None for equal ones.
        processes: Who trains together.
        precision: "fp32", "bf16" or "fp16".
    """

    def __init__(
        self,
        network: Network,
        config: TrainConfig,
        class_weights: Sequence[float] | None,
        processes: Processes,
        precision: str,
    ) -> None:
        self.config = config
        self.processes = processes
        device = processes.device
        groups = parameter_groups(
            network,
            lr=config.lr,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
            decay_all=config.decay_all,
        )
        if processes.world > 1:
            synchronize(network, config.sync_batchnorm, device)
        self.network: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = precision
        self.criterion = SegmentationLoss(
            network.num_classes,
            class_weights=class_weights,
            label_smoothing=config.label_smoothing,
            dice=config.dice,
            lovasz=config.lovasz,
            auxiliary_weight=network.auxiliary_weight if config.auxiliary_weight is None else config.auxiliary_weight,
        ).to(device)
        self.optimizer = build_optimizer(groups, config.optimizer, betas=config.betas, momentum=config.momentum)
        self.schedule = schedule_of(config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.average = None if config.ema is None else _average(self.network, config.ema)
        model: nn.Module = self.network
        if config.compile:
            model.compile(dynamic=False)
        if processes.world > 1:
            model = DistributedDataParallel(
                model,
                device_ids=[device] if device.type == "cuda" else None,
                find_unused_parameters=self.network.has_unused_parameters,
                gradient_as_bucket_view=True,
            )
        self._model = model.train()

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated and saved: the average of the weights where one is kept."""
        if self.average is None:
            return self.network
        return unwrap(self.average.module)

    def step(self, parts: Sequence[Batch], iteration: int) -> StepResult:
        """Make optimiser step ``iteration`` (from 0) with one batch, given in parts.

        The loss is the mean over all labelled pixels of the whole batch, however it is shared among processes and
        parts.

        Raises:
            NonFiniteError: If loss or gradient are NaN or infinite; the weights are as before the step.
            ModelError: If a part is too small for batch norm.
        """
        lr = self.config.lr * self.schedule.factor(iteration)
        set_learning_rate(self.optimizer, lr)
        torch.manual_seed(_seed_of(self.config.seed, iteration, self.processes.rank))
        valid = self.processes.sum(torch.stack([count_valid(part.label) for part in parts]).sum())
        share = valid / self.processes.world  # gradients are averaged over processes
        total = torch.zeros((), device=self.processes.device)
        for number, part in enumerate(parts):
            wait = number + 1 < len(parts)
            with self._model.no_sync() if wait and self.processes.world > 1 else contextlib.nullcontext():  # type: ignore[operator]
                loss = self._loss(part, share)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += loss.detach()
        loss_value = float(self.processes.sum(total)) / self.processes.world  # waits for the device
        norm = self._update(loss_value, parts)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return StepResult(loss_value, norm, lr)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, for :meth:`load_state_dict`."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where the arithmetic was another
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Give the arithmetic of the run."""
        device = self.processes.device.type
        return torch.autocast(device, DTYPES[self.precision], enabled=self.precision != "fp32")

    def _loss(self, part: Batch, valid_count: Tensor) -> Tensor:
        rgb, sar = (image.contiguous(memory_format=torch.channels_last) for image in (part.rgb, part.sar))
        with self.autocast():
            outputs = self._model(rgb, sar)
        loss: Tensor = self.criterion(outputs, part.label, valid_count)
        return loss

    def _update(self, loss: float, parts: Sequence[Batch]) -> float:
        """Clip and apply the gradient, if loss and gradient are finite; return the gradient's norm."""
        self.scaler.unscale_(self.optimizer)
        limit = self.config.clip_norm or float("inf")
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        finite = math.isfinite(loss)
        overflow = self.scaler.is_enabled() and finite and self.scaler.get_scale() > 1  # too large a scale: skipped
        if not finite or (not math.isfinite(norm) and not overflow):
            self.optimizer.zero_grad(set_to_none=True)
            what = f"The loss became {loss}" if not finite else f"The gradient's norm became {norm}"
            names = ", ".join(name for part in parts for name in part.names[:8])
            raise NonFiniteError(
                f"{what} with the tiles {names}.",
                "The weights of the last saved state are intact. Use a smaller lr, clip_norm or precision fp32, and "
                "check these tiles for extreme values.",
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


def stir_biases(network: nn.Module) -> None:
    """Give convolutions whose biases are all 0 small random ones, for training with hidden sensors.

    A hidden image is 0 everywhere and, without biases, stays 0 through the encoder: every layer norm then divides by
    the root of its epsilon, and the gradient overflows after a few of them.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None and not module.bias.detach().any():
            nn.init.normal_(module.bias, std=_SMALL_BIAS)


def schedule_of(config: TrainConfig) -> Schedule:
    """Return the learning rate's course."""
    return Schedule(
        iterations=config.iterations,
        warmup=config.warmup,
        warmup_factor=config.warmup_factor,
        decay_start=config.decay_start,
        power=config.power,
        min_lr_ratio=config.min_lr / config.lr,
    )


def _average(network: Network, decay: float) -> AveragedModel:
    """Return a moving average of the weights, which forgets its start quickly."""

    def update(averages: Any, values: Any, count: Any) -> None:
        rate = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, values, strict=True):
            average.lerp_(value, rate)

    return AveragedModel(network, multi_avg_fn=update)


def _seed_of(seed: int, iteration: int, rank: int) -> int:
    """Return a seed for dropout in one step of one process; nothing of it needs to be saved."""
    return (seed * 1_000_003 + iteration) * 4_099 + rank
