"""The stream of training samples: which tile comes when, and how it is augmented, in any number of processes.

Sample p of the stream is tile ``order(epoch)[p % n]`` of epoch ``p // n``, augmented with random numbers that depend on
the seed and on p alone. Whoever prepares it, and wherever a run was interrupted, it is the same.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geoasanet.bands import InputBands
from geoasanet.errors import GeoASANetError
from geoasanet.orphans import end_with_parent
from geoasanet.training.augment import Augmentation, TrainingSample, augment, normalize_tile
from geoasanet.training.tiles import TileSource

_ORDER, _AUGMENTATION = 1, 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples as the network takes them."""

    rgb: Tensor
    """Float32 (B, 3, H, W), normalised."""
    sar: Tensor
    """Float32 (B, S, H, W), normalised."""
    label: Tensor
    """uint8 (B, H, W), 255 where there is none."""
    names: tuple[str, ...]
    """Names of the tiles."""

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory."""
        return Batch(self.rgb.pin_memory(), self.sar.pin_memory(), self.label.pin_memory(), self.names)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        rgb, sar, label = (t.to(device, non_blocking=True) for t in (self.rgb, self.sar, self.label))
        return Batch(rgb, sar, label, self.names)


class TrainingStream(Dataset[Any]):
    """Augmented samples by their position in the endless stream.

    Args:
        tiles: The tiles of the train split.
        augmentation: What is varied.
        bands: Statistics for normalisation.
        seed: Decides order and augmentation.
    """

    def __init__(self, tiles: TileSource, augmentation: Augmentation, bands: InputBands, seed: int) -> None:
        self._tiles = tiles
        self._augmentation = augmentation
        self._bands = bands
        self._seed = seed
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)

    def tile_of(self, position: int) -> int:
        """Return which tile sample ``position`` of the stream shows."""
        epoch, place = divmod(position, len(self._tiles.names))
        if epoch != self._epoch:
            rng = np.random.default_rng((self._seed, _ORDER, epoch))
            self._epoch, self._order = epoch, rng.permutation(len(self._tiles.names))
        return int(self._order[place])

    def __getitem__(self, position: int) -> tuple[str, TrainingSample] | GeoASANetError:
        rng = np.random.default_rng((self._seed, _AUGMENTATION, position))
        try:
            tile = self._tiles.read(self.tile_of(position))
            return tile.name, augment(tile, self._augmentation, self._bands, rng)
        except GeoASANetError as error:
            return error  # raised where the batch is wanted: a traceback through processes is unreadable


class WholeTiles(Dataset[Any]):
    """Tiles as they are, by position."""

    def __init__(self, tiles: TileSource, bands: InputBands) -> None:
        self._tiles = tiles
        self._bands = bands

    def __getitem__(self, position: int) -> tuple[str, TrainingSample] | GeoASANetError:
        try:
            tile = self._tiles.read(position)
            return tile.name, normalize_tile(tile, self._bands)
        except GeoASANetError as error:
            return error


def collate(items: Sequence[tuple[str, TrainingSample] | GeoASANetError]) -> Batch | GeoASANetError:
    """Return a batch of samples, or the first error among them."""
    samples: list[TrainingSample] = []
    names: list[str] = []
    for item in items:
        if isinstance(item, GeoASANetError):
            return item
        names.append(item[0])
        samples.append(item[1])
    stack = [
        torch.from_numpy(np.stack(parts)) for parts in zip(*((s.rgb, s.sar, s.label) for s in samples), strict=True)
    ]
    return Batch(stack[0], stack[1], stack[2], tuple(names))


def stream_positions(
    start: int, stop: int, batch_size: int, accumulate: int, rank: int, world: int
) -> Iterator[list[int]]:
    """Yield the stream positions of each micro-batch that one process runs in iterations ``start`` to ``stop - 1``.

    Iteration k takes positions k·B to (k + 1)·B - 1 whatever the number of processes; each process takes an equal
    consecutive part of them, in ``accumulate`` micro-batches.
    """
    share = batch_size // world
    micro = share // accumulate
    for iteration in range(start, stop):
        first = iteration * batch_size + rank * share
        for part in range(accumulate):
            begin = first + part * micro
            yield list(range(begin, begin + micro))


def whole_positions(count: int, batch_size: int, rank: int, world: int) -> Iterator[list[int]]:
    """Yield positions of all tiles in batches, each tile in one process only."""
    mine = list(range(rank, count, world))
    for begin in range(0, len(mine), batch_size):
        yield mine[begin : begin + batch_size]


class _Plan:
    """What torch's loader takes for a batch sampler: lists of positions, made anew each time."""

    def __init__(self, batches: Iterable[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


def load(
    samples: Dataset[Any], positions: Iterable[list[int]], *, workers: int, pin_memory: bool
) -> Generator[Batch, None, None]:
    """Yield batches in the order of ``positions``.

    Args:
        samples: Where samples come from.
        positions: Positions of each batch.
        workers: Processes that prepare samples ahead; 0 prepares them in this one.
        pin_memory: Put batches into page-locked memory, from which a GPU copies faster.

    Raises:
        GeoASANetError: What preparing a sample raised.
        RuntimeError: If a process that prepares samples died, which torch may raise anywhere else, too; see
            :func:`geoasanet.training.failures.plain_failures`.
    """
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=_Plan(positions),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_start_worker if workers else None,
    )
    for batch in loader:
        if isinstance(batch, GeoASANetError):
            raise batch
        yield batch


def _start_worker(number: int) -> None:
    for asking in (signal.SIGINT, signal.SIGTERM):  # every process of a terminal or a job gets them
        signal.signal(asking, signal.SIG_IGN)  # the training saves its state first, then ends its workers
    end_with_parent()
    torch.set_num_threads(1)
