"""Memory that a network gives back and takes again for every window stays with the process.

glibc returns large blocks to the system as soon as they are free, and the system clears them each time they are asked
for anew: 9,000 page faults for every window of ASANet, 3 to 8 % of its time.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of these settings in glibc's malloc.h."""
_KEPT_BYTES = 1 << 28
_LARGEST_BLOCK = 1 << 25
"""glibc's own limit; larger blocks go back at once."""


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of freed memory; return whether that could be set (Linux with glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
    return False
