"""What torch says when memory or a process is gone, in words for the analyst."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from geoasanet.bands import InputBands
from geoasanet.config import TrainConfig
from geoasanet.device import device_name
from geoasanet.errors import DeviceError

_NO_MEMORY = ("can't allocate memory", "could not create a primitive", "Cannot allocate memory")
"""What torch and oneDNN say on a CPU when memory is gone."""


def check_batch(config: TrainConfig, bands: InputBands, machines: int) -> None:
    """Raise, before any of it is taken, if a batch's images alone are larger than this machine's memory.

    Args:
        config: The training.
        bands: Of the images, four bytes a value.
        machines: Among how many a batch is shared.

    Raises:
        DeviceError: If they are.
    """
    needed = 4 * (len(bands.rgb) + len(bands.sar)) * config.crop_size**2 * config.batch_size // machines
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > memory:
            raise DeviceError(
                f"The images of a batch take {needed / 2**30:.3g} GiB (batch_size {config.batch_size}, crop_size "
                f"{config.crop_size}), this machine has {memory / 2**30:.0f} GiB.",
                "Use a smaller batch_size or crop_size.",
            )


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
