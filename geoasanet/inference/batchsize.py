"""How many windows a CUDA device takes at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

MOST_WINDOWS = 32
"""With more, a device that has the memory is no faster: starting operations no longer takes time that counts."""

_SHARE = 0.8  # of free memory; fragments take some


def fitting_batch(forward: Callable[[int], object], device: torch.device, most: int = MOST_WINDOWS) -> int:
    """Return the largest batch of windows that fits into a CUDA device's free memory: a power of 2, up to ``most``.

    Two passes, of one window and of two, tell what each more takes. What fits while they run may not later, when
    another process has taken its share; memory that runs out after all is for the caller to deal with.

    Args:
        forward: Runs the network on so many windows.
        device: Where it runs.
        most: Largest batch wanted.
    """
    peaks = []
    try:
        for windows in (1, 2):
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            forward(windows)
            peaks.append(torch.cuda.max_memory_allocated(device) - before)
    except torch.OutOfMemoryError:
        return 1
    torch.cuda.empty_cache()
    free = _SHARE * torch.cuda.mem_get_info(device)[0]
    first, more = peaks[0], max(1, peaks[1] - peaks[0])
    fits = 1 + max(0, int(free - first) // more)
    return int(2 ** (min(fits, most).bit_length() - 1))
