"""Dataset folders whose pixels are known, and networks whose answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.models.checkpoint import Checkpoint
from tests.conftest import write_raster

NAMES = ("water", "field", "town")
RAW = InputBands(SensorBands((0, 0, 0), (1, 1, 1), "raw"), SensorBands((0,), (1,), "raw"))
GRAY = InputBands(SensorBands((100, 120, 140), (40, 30, 20)), SensorBands((80,), (50,)))


class RedNet(torch.nn.Module):
    """Maps each pixel as the class whose id is its red value, with a probability of 0.9; keeps what it saw."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classes = classes
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
        self.seen.append((rgb.clone(), sar.clone()))
        right = torch.nn.functional.one_hot(rgb[:, 0].long().clamp(0, self.classes - 1), self.classes)
        wrong = (1 - right) * 0.1 / (self.classes - 1)
        return torch.log(0.9 * right + wrong).permute(0, 3, 1, 2)


def known(
    model: torch.nn.Module | None = None,
    bands: InputBands = RAW,
    names: Sequence[str] = NAMES,
    window: int = 40,
    path: Path = Path("known.safetensors"),
) -> Checkpoint:
    """Return a checkpoint around a network that was never saved."""
    return Checkpoint(
        model=model or RedNet(len(names)),  # type: ignore[arg-type]
        classes=ClassSchema.from_names(names),
        bands=bands,
        window_size=window,
        name="known",
        arguments={"num_classes": len(names)},
        training={"data": "made <up>", "scores": {"miou": 0.5}},
        version=ga.__version__,
        sha256="ab" * 32,
        path=path,
    )


def write_tile(folder: Path, name: str, rgb: np.ndarray, sar: np.ndarray, label: np.ndarray, **options: Any) -> None:
    """Write the three files of a tile; ``mask`` goes to the optical one."""
    for kind in ("rgb", "sar", "label"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    write_raster(folder / f"rgb/{name}.tif", rgb, **options)
    write_raster(folder / f"sar/{name}.tif", sar)
    write_raster(folder / f"label/{name}.tif", label)


def write_lists(
    folder: Path, splits: Mapping[str, Sequence[str]], names: Sequence[str] | None = NAMES, **manifest: Any
) -> Path:
    """Write the lists, and a ``dataset.yaml`` with class names and more unless there are none."""
    for split, tiles in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{tile}\n" for tile in tiles))
    if names is not None:
        (folder / "dataset.yaml").write_text(yaml.safe_dump({"classes": list(names), **manifest}))
    return folder


def known_tile(folder: Path, name: str, predicted: np.ndarray, label: np.ndarray, **options: Any) -> None:
    """Write a tile that :class:`RedNet` maps as ``predicted``."""
    rgb = np.stack([predicted, predicted, predicted]).astype(np.uint8)
    write_tile(folder, name, rgb, np.full((1, *predicted.shape), 7, np.uint8), label.astype(np.uint8), **options)


def random_folder(folder: Path, sizes: Sequence[tuple[int, int]], seed: int = 0, split: str = "val") -> np.ndarray:
    """Write tiles of random classes, a tenth unlabelled; return their confusion matrix, counted pixel by pixel."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((3, 3), np.int64)
    tiles = [f"t{i}" for i in range(len(sizes))]
    for tile, size in zip(tiles, sizes, strict=True):
        predicted = rng.integers(0, 3, size)
        label = rng.choice([0, 1, 2, 255], size, p=[0.3, 0.3, 0.3, 0.1])
        known_tile(folder, tile, predicted, label)
        for truth, mapped in zip(label.ravel(), predicted.ravel(), strict=True):
            if truth != 255:
                matrix[truth, mapped] += 1
    write_lists(folder, {split: tiles})
    return matrix
