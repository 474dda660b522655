"""Which ground is for training, validation and test: whole blocks, every class in train.

Pure numbers: no raster is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoasanet.errors import ConfigError
from geoasanet.windows import Window

_STARTS = 4
_MOST_SWAPS = 96
"""Blocks up to which exchanging two of them is tried as well."""
_NO_CLASS_IN_TRAIN, _EMPTY_SPLIT, _NO_CLASS_ELSEWHERE = 1000.0, 100.0, 1.0


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Square tiles in square blocks over a grid; tiles overlap inside a block, never across blocks.

    Tiles at the right and lower edge may reach beyond the grid.

    Raises:
        ConfigError: If a number is out of range.
    """

    height: int
    """Rows of the grid."""
    width: int
    """Columns of the grid."""
    size: int
    """Side of a tile, pixels."""
    overlap: int
    """Overlap of neighbouring tiles of a block, pixels."""
    block: int
    """Tiles on a side of a block."""

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ConfigError(f"--size must be at least 8 pixels, found {self.size}.", "256 is usual.")
        if not 0 <= self.overlap < self.size:
            raise ConfigError(f"--overlap must be 0 to {self.size - 1} for tiles of {self.size}, found {self.overlap}.")
        if self.block < 1:
            raise ConfigError(f"--block must be at least 1 tile, found {self.block}.")

    @property
    def pitch(self) -> int:
        """Pixels from one block to the next, which is also a block's side."""
        return (self.block - 1) * (self.size - self.overlap) + self.size

    def starts(self, length: int) -> tuple[int, ...]:
        """Return the first pixel of each tile along an axis of ``length`` pixels."""
        found = []
        for origin in range(0, length, self.pitch):
            for k in range(self.block):
                start = origin + k * (self.size - self.overlap)
                # A tile is needed if it starts inside and the one before it in the block leaves pixels uncovered.
                if start < length and (k == 0 or start + self.overlap < length):
                    found.append(start)
        return tuple(found)

    @property
    def rows(self) -> tuple[int, ...]:
        """First row of each row of tiles."""
        return self.starts(self.height)

    @property
    def cols(self) -> tuple[int, ...]:
        """First column of each column of tiles."""
        return self.starts(self.width)

    def block_of(self, window: Window) -> tuple[int, int]:
        """Return the block (row, column) that a tile belongs to."""
        return window.row // self.pitch, window.col // self.pitch

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.height // self.pitch) * -(-self.width // self.pitch)


def assign_blocks(
    amounts: NDArray[np.float64], fractions: Sequence[float], seed: int, fixed: Sequence[int | None] | None = None
) -> NDArray[np.intp]:
    """Return the split (0 train, 1 val, 2 test) of each block.

    Every class is present in train. As far as blocks allow, no split with a fraction above 0 is empty, each split has
    its fraction of every class and of all pixels, and no class is absent from val and test. Blocks start out at
    random and are moved, or exchanged, one by one as long as that helps.

    Args:
        amounts: Pixels of each class in each block, shape (blocks, classes); the last column counts all pixels.
        fractions: Wanted share of train, val and test; they sum to 1.
        seed: Decides among equally good splits.
        fixed: Splits that are given, None for a block that may go anywhere.
    """
    count = len(amounts)
    given = np.array([-1 if f is None else f for f in (fixed or [None] * count)], np.intp)
    free = np.flatnonzero(given < 0)
    totals = amounts.sum(axis=0)
    used = totals > 0
    share = amounts[:, used] / totals[used]
    wanted = np.asarray(fractions, np.float64)
    allowed = np.flatnonzero(wanted > 0)
    best, best_cost = given, np.inf
    for start in range(_STARTS):
        rng = np.random.default_rng([seed, start])
        splits = given.copy()
        splits[free] = rng.choice(allowed, size=len(free), p=wanted[allowed] / wanted[allowed].sum())
        splits, cost = _improve(splits, rng.permutation(free), share, wanted, allowed)
        if cost < best_cost - 1e-12:
            best, best_cost = splits, cost
    return best


def _improve(
    splits: NDArray[np.intp],
    order: NDArray[np.intp],
    share: NDArray[np.float64],
    wanted: NDArray[np.float64],
    allowed: NDArray[np.intp],
) -> tuple[NDArray[np.intp], float]:
    """Move and exchange blocks until nothing helps; return the splits and their cost."""
    held = np.zeros((3, share.shape[1]))
    np.add.at(held, splits, share)
    members = np.bincount(splits, minlength=3)
    cost = _cost(held, members, wanted)
    improved = True
    while improved:
        improved = False
        for k in order:
            for to in allowed:
                home = splits[k]
                if to == home:
                    continue
                new_held, new_members = held.copy(), members.copy()
                _shift(new_held, new_members, share[k], home, to)
                new_cost = _cost(new_held, new_members, wanted)
                if new_cost < cost - 1e-12:
                    held, members, cost, splits[k], improved = new_held, new_members, new_cost, to, True
        if improved or len(order) > _MOST_SWAPS:
            continue
        for i, k in enumerate(order):
            for m in order[i + 1 :]:
                first, second = splits[k], splits[m]
                if first == second:
                    continue
                new_held = held.copy()
                new_held[first] += share[m] - share[k]
                new_held[second] += share[k] - share[m]
                new_cost = _cost(new_held, members, wanted)
                if new_cost < cost - 1e-12:
                    held, cost, improved = new_held, new_cost, True
                    splits[k], splits[m] = second, first
    return splits, float(cost)


def _shift(
    held: NDArray[np.float64], members: NDArray[np.intp], share: NDArray[np.float64], home: int, to: int
) -> None:
    held[home] -= share
    held[to] += share
    members[home] -= 1
    members[to] += 1


def _cost(held: NDArray[np.float64], members: NDArray[np.intp], wanted: NDArray[np.float64]) -> float:
    off = held - wanted[:, None]
    absent = held < 1e-12
    cost = float((off * off).sum()) + len(wanted) * float((off[:, -1] ** 2).sum())
    cost += _NO_CLASS_IN_TRAIN * int(absent[0].sum())
    cost += _EMPTY_SPLIT * int(((members == 0) & (wanted > 0)).sum())
    cost += _NO_CLASS_ELSEWHERE * int((absent[1:] & (wanted[1:, None] > 0)).sum())
    return cost
