"""What a training run tells whoever watches it. The library itself neither prints nor draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from geoasanet.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Beginning:
    """Said once, before the first step."""

    out: Path
    """Folder of the run."""
    model: str
    """Network and encoder, in words."""
    parameters: int
    """Number of trained values."""
    device: str
    """Where it trains, and in which arithmetic, in words."""
    processes: int
    train_tiles: int
    val_tiles: int
    classes: tuple[str, ...]
    start: int
    """Iterations done before; 0 for a new run."""
    iterations: int
    """Iterations in all."""


@dataclass(frozen=True, slots=True)
class Step:
    """Said after every optimiser step."""

    iteration: int
    """Steps done, from 1."""
    iterations: int
    """Steps in all."""
    epoch: float
    """Passes over the train split."""
    loss: float
    """Loss of this step's batch, over all processes."""
    lr: float
    """Base learning rate of this step."""
    samples_per_second: float
    """Over the last steps, over all processes."""
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Validation:
    """Said after every evaluation on the val split."""

    iteration: int
    metrics: Metrics
    loss: float
    """Mean cross entropy of the val split."""
    best: bool
    """True if it is the best so far."""
    seconds: float


class Watch(Protocol):
    """Receives what happens in a run; called in the first process only."""

    def begin(self, beginning: Beginning) -> None:
        """Take note of the run."""

    def stepped(self, step: Step) -> None:
        """Take note of a step."""

    def validated(self, validation: Validation) -> None:
        """Take note of an evaluation."""

    def progress(self, task: str, done: float, total: float, unit: str = "") -> None:
        """Take note of how far a task before the first step is."""

    def note(self, message: str) -> None:
        """Take a remark."""


class Silent:
    """Watches without a word."""

    def begin(self, beginning: Beginning) -> None:
        """Do nothing."""

    def stepped(self, step: Step) -> None:
        """Do nothing."""

    def validated(self, validation: Validation) -> None:
        """Do nothing."""

    def progress(self, task: str, done: float, total: float, unit: str = "") -> None:
        """Do nothing."""

    def note(self, message: str) -> None:
        """Do nothing."""
