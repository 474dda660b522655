"""The processes that train one network together: torch.distributed, or a single one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from geoasanet.device import choose_device
from geoasanet.errors import ConfigError, DeviceError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together."""

    device: torch.device
    """Where this process computes."""
    rank: int = 0
    """Its number, from 0."""
    world: int = 1
    """How many there are."""
    here: int = 1
    """How many of them run on this machine."""

    @property
    def first(self) -> bool:
        """True in the process that writes files and talks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor; the same bits everywhere."""
        if self.world > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def agree(self, values: list[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.world > 1:
            for value in values:
                dist.broadcast(value, 0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            dist.barrier()


def started_by_torchrun() -> bool:
    """Tell whether this process is one of several that torch's elastic launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Give this process's place; processes that torch's elastic launcher started find each other first.

    Args:
        device: "auto", "cpu" or "cuda"; each process on a machine takes a CUDA device of its own.

    Raises:
        DeviceError: If the device is absent, or a machine has fewer CUDA devices than processes.
        ConfigError: If one of several CUDA devices is named.
    """
    chosen = choose_device(device)
    if not started_by_torchrun():
        yield Processes(chosen)
        return
    local, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if chosen.type == "cuda":
        if ":" in device:
            raise ConfigError(f"Device {device} is one, but {here} processes run.", "Use --device cuda.")
        if torch.cuda.device_count() < here:
            raise DeviceError(
                f"{here} processes were asked for, but this machine has {torch.cuda.device_count()} CUDA device(s).",
                "Use --gpus with that number, or --device cpu.",
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // here) if "OMP_NUM_THREADS" not in os.environ else 1)
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise DeviceError(
            f"WORLD_SIZE says that {os.environ['WORLD_SIZE']} processes train together, but they do not find each "
            f"other ({' '.join(str(error).split())}).",
            "Start them with torchrun, or unset WORLD_SIZE.",
        ) from None
    try:
        yield Processes(chosen, dist.get_rank(), dist.get_world_size(), here)
    finally:
        dist.destroy_process_group()
