"""Where training reads its tiles: the dataset folder, or tensors in memory that all worker processes share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from geoasanet.raster.dataset import Tile, TileDataset

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # nothing is written there by name; torch's tensors lie in it


class TileSource(Protocol):
    """The tiles of one split, by position."""

    @property
    def names(self) -> Sequence[str]:
        """Their names."""

    def read(self, position: int) -> Tile:
        """Return a tile."""


@dataclass(frozen=True, slots=True)
class FolderTiles:
    """Tiles that are read from their files each time."""

    dataset: TileDataset
    names: tuple[str, ...]

    def read(self, position: int) -> Tile:
        """Return a tile.

        Raises:
            ManifestError: If a file is missing or unreadable.
            LabelError: If its label is no label.
        """
        return self.dataset.read(self.names[position])


class MemoryTiles:
    """Decoded tiles, all of one size, in shared memory.

    Args:
        names: Names of the tiles, in the order in which they will be put.
        first: Any of the tiles: it says shapes and types.
    """

    def __init__(self, names: tuple[str, ...], first: Tile) -> None:
        self.names = names
        assert first.label is not None
        parts = (first.rgb, first.sar, first.label, first.rgb_valid, first.sar_valid)
        self._parts = [torch.empty((len(names), *part.shape), dtype=_DTYPES[part.dtype]) for part in parts]
        for part in self._parts:
            part.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def put(self, position: int, tile: Tile) -> None:
        """Keep a tile."""
        assert tile.label is not None
        arrays = (tile.rgb, tile.sar, tile.label, tile.rgb_valid, tile.sar_valid)
        for kept, array in zip(self._parts, arrays, strict=True):
            kept[position].numpy()[...] = array

    def read(self, position: int) -> Tile:
        """Return a tile; its arrays are views of what is kept."""
        rgb, sar, label, rgb_valid, sar_valid = (part[position].numpy() for part in self._parts)
        return Tile(self.names[position], rgb, sar, label, rgb_valid, sar_valid)


def fits_memory(tile: Tile, count: int, share: float) -> bool:
    """Tell whether ``count`` tiles like this one take less than ``share`` of the shared memory that is free."""
    arrays = (tile.rgb, tile.sar, tile.label, tile.rgb_valid, tile.sar_valid)
    needed = count * sum(array.nbytes for array in arrays if array is not None)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if _SHARED_MEMORY.is_dir():  # containers are often given little of it
            shared = os.statvfs(_SHARED_MEMORY)
            free = min(free, shared.f_bavail * shared.f_frsize)
    except (ValueError, OSError, AttributeError):
        return False
    return needed < share * free


def can_keep(tile: Tile) -> bool:
    """Tell whether torch has a type for the tile's values."""
    return all(array.dtype in _DTYPES for array in (tile.rgb, tile.sar))


_DTYPES: dict[np.dtype[np.generic], torch.dtype] = {
    np.dtype(name): getattr(torch, name) for name in ("bool", "uint8", "uint16", "int16", "int32", "float32", "float64")
}
