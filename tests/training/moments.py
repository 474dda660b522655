"""What a training run tells its watcher, made up; light to import."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoasanet.metrics import Metrics
from geoasanet.training.watch import Beginning, Step, Validation

CLASSES = ("water", "road", "forest")


def beginning(classes: tuple[str, ...] = CLASSES, start: int = 0) -> Beginning:
    return Beginning(Path("runs/x"), "asanet, convnextv2_tiny", 82_123_456, "cpu, fp32", 2, 120, 30, classes, start, 80)


def step(iteration: int, loss: float = 0.5) -> Step:
    return Step(iteration, 80, iteration / 15, loss, 1e-4, 12.5, 3725.0)


def validation(iteration: int, hits: int, best: bool, classes: int = len(CLASSES)) -> Validation:
    matrix = np.full((classes, classes), 10) + np.diag(np.full(classes, hits))
    matrix[1], matrix[:, 1] = 0, 0  # the second class is nowhere: it has no IoU
    return Validation(iteration, Metrics.from_matrix(matrix), 0.75, best, 61.0)
