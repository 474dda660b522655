"""Finding the few bytes of a row that are set, eight at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoasanet.kernels import kernel

NO_BIT, ONE_BIT, EVERY_BIT = np.uint64(0), np.uint64(1), np.uint64(2**64 - 1)


@kernel
def bit_place(bit: np.uint64) -> int:
    """Return the place of the only bit that is set in ``bit``, 0 for the lowest: the exponent of the same float."""
    return int(np.float64(bit).view(np.int64) >> 52) - 1023


@kernel
def set_positions(words: NDArray[np.uint64], out: NDArray[np.int32]) -> int:
    """Write the positions of all bytes that are 1 into ``out``, in order; return how many there are.

    Args:
        words: Bytes of 0 or 1, seen as little-endian words of eight.
        out: Room for all.
    """
    count = 0
    for w in range(words.size):
        word = words[w]
        while word != NO_BIT:
            lowest = word & (~word + ONE_BIT)
            word ^= lowest
            out[count] = w * 8 + (bit_place(lowest) >> 3)
            count += 1
    return count
