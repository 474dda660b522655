"""Rows of windows mapped anywhere: the finished pieces come back as bytes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from geoasanet.device import Precision
from geoasanet.errors import CheckpointError
from geoasanet.inference.lanes import MOST_LANES, LanePlan
from geoasanet.inference.mapping import MapJob, map_into, runs
from geoasanet.inference.predictor import Predictor
from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.raster.grid import Grid
from geoasanet.raster.pieces import PieceBox


@dataclass(frozen=True, slots=True)
class BlockNetwork:
    """The network that maps blocks, and how."""

    checkpoint: str
    """Path of the file; the same for all workers."""
    sha256: str
    """What it must be."""
    device: str
    threads: int
    """Threads for each window on a CPU: the same everywhere, for with another number sums are rounded differently."""
    precision: Precision
    batch_size: int | None
    """None for "auto"."""
    tta: bool
    compile: bool


@dataclass(frozen=True, slots=True)
class MapBlock:
    """A run of rows of windows."""

    job: MapJob
    grid: Grid
    """The output's grid."""
    first_row: int
    """Row of the scene that is the output's first."""
    rows: range
    """Rows of windows."""
    network: BlockNetwork


@dataclass(frozen=True, slots=True)
class MappedBlock:
    """What came of a block."""

    files: dict[str, bytes]
    """Finished pieces by file name, in the order in which they are to be kept."""
    warnings: tuple[str, ...]


def blocks_of(pending: Sequence[range], size: int) -> list[range]:
    """Cut runs of rows of windows into blocks of at most ``size``, of nearly equal length."""
    blocks = []
    for run in pending:
        count = -(-len(run) // size)
        bounds = [len(run) * i // count for i in range(count + 1)]
        blocks += [part for i in range(count) for part in runs(run[bounds[i] : bounds[i + 1]])]
    return blocks


def map_block(block: MapBlock, cores: int) -> MappedBlock:
    """Map a block; a process maps one after the other, and keeps the network for the next.

    Args:
        block: What to map.
        cores: Cores of a CPU that may be used.

    Raises:
        CheckpointError: If the checkpoint is another one here.
        GeoASANetError: If a file cannot be read, or the network fails.
    """
    with _one_at_a_time:
        predictor = _predictor(block.network, cores)
        before = len(predictor.warnings)
        box = PieceBox(block.grid, block.first_row)
        map_into(box, block.job, predictor, [block.rows], lambda windows: None)
        return MappedBlock(box.files, tuple(predictor.warnings[before:]))


_one_at_a_time = threading.Lock()
_latest: dict[tuple[BlockNetwork, int], Predictor] = {}


def _predictor(network: BlockNetwork, cores: int) -> Predictor:
    key = network, cores
    if key not in _latest:
        _latest.clear()
        loaded = load_checkpoint(network.checkpoint)
        if loaded.sha256 != network.sha256:
            raise CheckpointError(
                f"Checkpoint {network.checkpoint} is another one on a worker ({loaded.sha256[:12]}…, not "
                f"{network.sha256[:12]}…).",
                "All workers must see the same files.",
            )
        device = torch.device(network.device)
        lanes = LanePlan(max(1, min(MOST_LANES, cores // network.threads)), network.threads)
        _latest[key] = Predictor(
            loaded.calibrated,
            loaded.bands,
            len(loaded.classes),
            device=device,
            precision=network.precision,
            batch_size="auto" if network.batch_size is None else network.batch_size,
            tta=network.tta,
            compile=network.compile,
            leave_softmax=True,
            lanes=lanes if device.type == "cpu" else None,
        )
    return _latest[key]
