"""What torch says when memory or a process is gone, in words for the analyst."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from geoasanet.config import TrainConfig
from geoasanet.device import device_name
from geoasanet.errors import DeviceError

_NO_MEMORY = ("can't allocate memory", "could not create a primitive", "Cannot allocate memory")
"""What torch and oneDNN say on a CPU when memory is gone."""


@contextlib.contextmanager
def plain_failures(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Turn what torch raises for want of memory, or when a process that prepares samples died, into an error of ours.

    Both are plain runtime errors on a CPU, and the second is raised wherever the training happens to be.

    Raises:
        DeviceError: Instead of these.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if text.startswith("DataLoader worker"):
            raise DeviceError(
                f"One of the processes that prepare samples died ({text.splitlines()[0].rstrip('. ')}).",
                "Memory, or a container's shared memory, may have run out: use fewer workers (0 for none).",
            ) from None
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
            raise DeviceError(
                f"The memory of {device_name(device)} is too small for batch_size {config.batch_size} with crop_size "
                f"{config.crop_size} and this network.",
                "Use a smaller batch_size or crop_size, accumulate, a smaller encoder, or more processes.",
            ) from None
        raise
