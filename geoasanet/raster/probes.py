"""Where to look at a raster to learn what its values are like, at little cost: a remote one has to be fetched."""

from __future__ import annotations

import numpy as np

from geoasanet.windows import Window

_BUDGET = 8 * 2**20
"""Bytes of decoded blocks to read, about, unless :data:`_LEAST` x :data:`_LEAST` windows take more."""
_MOST, _LEAST = 7, 3
"""Windows along each side of the raster."""
_SIDE = 64
"""Side of a window, pixels."""


def probe_windows(
    height: int, width: int, block: tuple[int, int], block_bytes: int, *, thorough: bool = False
) -> list[Window]:
    """Return windows spread evenly over a raster, the same ones for every call, each in as few blocks as can be.

    Args:
        height: Rows of the raster.
        width: Its columns.
        block: Rows and columns of the blocks that it is stored in.
        block_bytes: Bytes of a decoded block.
        thorough: Take as many windows as ever, whatever they cost.
    """
    sides = min(_SIDE, height), min(_SIDE, width)
    blocks_each = -(-sides[0] // block[0]) * -(-sides[1] // block[1])
    across = -(-height // block[0]), -(-width // block[1])

    def cost(count: int) -> int:
        return min(count, across[0]) * min(count, across[1]) * blocks_each * block_bytes

    count = next((n for n in range(_MOST, _LEAST, -1) if thorough or cost(n) <= _BUDGET), _LEAST)
    rows = _starts(height, sides[0], block[0], count)
    cols = _starts(width, sides[1], block[1], count)
    return [Window(row, col, *sides) for row in rows for col in cols]


def _starts(length: int, side: int, block: int, count: int) -> list[int]:
    starts = np.unique(np.linspace(0, length - side, count).astype(int))
    if block >= side:  # each within one block
        starts = np.unique(np.minimum(starts, starts // block * block + block - side))
    return [int(start) for start in starts]
