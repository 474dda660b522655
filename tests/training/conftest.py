"""Small datasets that a tiny network can learn in a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_raster

TINY: dict[str, Any] = {
    "model": "asanet",
    "encoder": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
    "model_args": {"decoder_channels": 8, "auxiliary_channels": 8, "drop_path": 0.1, "dropout": 0.1},
    "crop_size": 32,
    "iterations": 6,
    "batch_size": 4,
    "lr": 3e-3,
    "layer_decay": None,
    "warmup": 2,
    "log_every": 1,
    "validate_every": 3,
    "save_every": 2,
    "seed": 1,
}
"""A configuration whose steps take milliseconds."""

NO_CHANCE: dict[str, Any] = {
    "model_args": {**TINY["model_args"], "drop_path": 0.0, "dropout": 0.0},
    "resize": None,
    "random_crop": False,
    "cat_max_ratio": 1.0,
    "flip": 0.0,
    "vertical_flip": 0.0,
}
"""Settings that leave nothing but the order of the tiles to chance."""


def make_tile(seed: int, size: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return optical and SAR bands and a label that follows from them."""
    rng = np.random.default_rng(seed)
    label = np.kron(rng.integers(0, 3, (size // 8, size // 8)), np.ones((8, 8))).astype(np.uint8)
    noise = rng.integers(0, 40, (4, size, size))
    rgb = np.stack([label == k for k in range(3)]) * 120 + 60 + noise[:3]
    sar = label[None] * 60.0 + 20 + noise[3:]
    label[rng.random(label.shape) < 0.05] = 255
    return rgb.astype(np.uint8), sar.astype(np.uint8), label


@pytest.fixture
def tiles(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset folder of synthetic tiles with three classes."""

    def make(train: int = 9, val: int = 3, size: int = 32, name: str = "tiles", classes: str | None = None) -> Path:
        root = tmp_path / name
        for folder in ("rgb", "sar", "label"):
            (root / folder).mkdir(parents=True)
        names = [f"t{i:02d}" for i in range(train + val)]
        for i, tile in enumerate(names):
            rgb, sar, label = make_tile(i, size)
            write_raster(root / "rgb" / f"{tile}.tif", rgb)
            write_raster(root / "sar" / f"{tile}.tif", sar)
            write_raster(root / "label" / f"{tile}.tif", label)
        (root / "train.txt").write_text("\n".join(names[:train]))
        (root / "val.txt").write_text("\n".join(names[train:]))
        (root / "dataset.yaml").write_text(classes or "classes: [water, field, town]\n")
        return root

    return make
