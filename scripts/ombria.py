#!/usr/bin/env python
"""Flood mapping under clouds (OMBRIA): ASANet, each sensor alone, and a plain sum, trained alike, on real data.

    python scripts/ombria.py prepare --source OMBRIA --work WORK    128 px quarters; val set aside from train
    python scripts/ombria.py train   --work WORK --seeds 0 1 2      every variant and seed; goes on where it stopped
    python scripts/ombria.py report  --work WORK                    accuracy on the test list → scripts/results

The data has no licence: only figures are published, no image and no weights. Each tile is cut into four quarters of
128 px, so that a CPU can train twelve networks; val is every sixth tile of the train list, whole. Neighbouring tiles
may lie in its train and its test list.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VARIANTS: dict[str, dict[str, Any]] = {
    "asanet": {"model": "asanet"},
    "sum": {"model": "asanet", "model_args": {"sfm": False, "fusion": "sum"}},
    "rgb": {"model": "upernet", "model_args": {"inputs": "rgb"}},
    "sar": {"model": "upernet", "model_args": {"inputs": "sar"}},
}
"""ASANet; no SFM and no CFM; one encoder on one sensor. Size, recipe and number of steps are the same."""

SETTINGS: dict[str, Any] = {
    "crop_size": 128,
    "batch_size": 8,
    "iterations": 1000,
    "missing_sar": 0.0,
    "validate_every": 125,
    "save_every": 125,
    "classes": [{"name": "other", "color": [120, 120, 120]}, {"name": "water", "color": [38, 112, 184]}],
}
SIDE = 128


def prepare(source: Path, data: Path) -> None:
    """Cut every tile into quarters; the quarters of every sixth train tile become val."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for folder in ("rgb", "sar", "label"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    for given in ("train", "test"):
        for number, name in enumerate((source / f"{given}.txt").read_text().split()):
            split = "val" if given == "train" and number % 6 == 5 else given
            for folder in ("rgb", "sar", "label"):
                suffix = ".png" if folder == "label" else ".jpg"
                pixels = np.asarray(Image.open(source / folder / f"{name}{suffix}"))
                pixels = pixels[..., 0] if folder == "sar" and pixels.ndim == 3 else pixels
                for row in range(2):
                    for col in range(2):
                        part = pixels[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]
                        Image.fromarray(part).save(data / folder / f"{name}_{row}{col}.png")
            lists[split] += [f"{name}_{row}{col}" for row in range(2) for col in range(2)]
    for split, names in lists.items():
        (data / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    print({split: len(names) for split, names in lists.items()})


def train_all(work: Path, seeds: list[int], threads: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    import torch

    from geoasanet.config import read_config
    from geoasanet.tools.train import train

    torch.set_num_threads(threads)
    small = read_config("asanet_small").to_dict()
    for seed in seeds:
        for name, variant in VARIANTS.items():
            out = work / "runs" / f"{name}_{seed}"
            if (out / "done").exists():
                continue
            print(f"{name} seed {seed}", flush=True)
            if (out / "state.pt").exists():
                result = train(resume=out)
            else:
                arguments = {**small["model_args"], **variant.get("model_args", {})}
                config = {**small, **SETTINGS, **variant, "model_args": arguments, "seed": seed}
                result = train(config, data=work / "data", out=out, overwrite=True)
            assert result.metrics is not None
            print(f"  val mIoU {result.metrics.mean_iou:.4f} in {result.seconds / 60:.1f} min", flush=True)
            (out / "done").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["prepare", "train", "report"])
    parser.add_argument("--source", type=Path, default=Path("../shared/data/ombria"), help="folder of the data set")
    parser.add_argument("--work", type=Path, required=True, help="folder for tiles and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    given = parser.parse_args()
    if given.task == "prepare":
        prepare(given.source, given.work / "data")
    elif given.task == "train":
        train_all(given.work, given.seeds, given.threads)


if __name__ == "__main__":
    main()
