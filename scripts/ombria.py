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
from pathlib import Path
from typing import Any

import numpy as np
from experiment import RESULTS, draw, finish, finished, machine, one_thread, spread, table, write_json
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
TITLES = {"asanet": "ASANet", "sum": "plain sum (no SFM, no CFM)", "rgb": "RGB only", "sar": "SAR only"}
TEXT = """# OMBRIA: flood mapping under clouds

Real data (Sentinel-2 false colour, Sentinel-1; labels of the Copernicus Emergency Management Service), small networks,
a small budget: these figures compare the variants with each other, not with what others publish.

{table}
Percent; mean ± standard deviation over seeds, on the test list (280 quarters of 128 px, 33 % of them water). {verdict}

- Networks: `configs/asanet_small.yaml`, random weights; RGB only and SAR only are UPerNet with one such encoder.
- Budget, the same for all: 1000 iterations of 8 crops of 128 px; the best of eight evaluations on val (every sixth
  tile of the train list, which training never sees) is kept.
- Neighbouring tiles may lie in the data set's train and test lists; its repository states no licence, so neither
  images nor weights are published.
- Machine: {machine}.

Made with `python scripts/ombria.py`. Curves: [ombria.png](ombria.png); each seed: [ombria.json](ombria.json).
"""


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


def train_all(work: Path, seeds: list[int]) -> None:
    from geoasanet.config import read_config

    small = read_config("asanet_small").to_dict()
    for seed in seeds:
        for name, variant in VARIANTS.items():
            arguments = {**small["model_args"], **variant.get("model_args", {})}
            config = {**small, **SETTINGS, **variant, "model_args": arguments, "seed": seed}
            finish(work / "runs" / f"{name}_{seed}", config, work / "data")


def report(work: Path) -> None:
    """Write table, curves and figures of all finished runs."""
    import geoasanet as ga

    rows, figures = [], {}
    runs = {name: finished(work, name) for name in VARIANTS}
    for name, folders in runs.items():
        results = [ga.evaluate(checkpoint=f / "best.safetensors", data=work / "data", split="test") for f in folders]
        found = [result.metrics for result in results]
        if not found:
            continue
        columns = {
            "mIoU": [m.mean_iou for m in found],
            "IoU water": [float(m.iou[1]) for m in found],
            "F1 water": [float(m.f1[1]) for m in found],
            "OA": [m.accuracy for m in found],
            "kappa": [m.kappa for m in found],
        }
        minutes = [ga.load_checkpoint(f / "last.safetensors").training["minutes"] for f in folders]
        size = sum(p.numel() for p in ga.load_checkpoint(folders[0] / "best.safetensors").model.parameters())
        rows.append([TITLES[name], str(len(found)), f"{size / 1e6:.2f}", *(spread(v) for v in columns.values())])
        figures[name] = {**columns, "seeds": len(found), "parameters": size, "minutes": minutes}
    draw({TITLES[name]: folders for name, folders in runs.items()}, "OMBRIA, flood mapping", RESULTS / "ombria.png")
    head = ["network", "seeds", "M parameters", "mIoU", "IoU water", "F1 water", "OA", "kappa"]
    (RESULTS / "ombria.md").write_text(
        TEXT.format(table=table(head, rows), machine=machine(), verdict=verdict(figures))
    )
    write_json(RESULTS / "ombria.json", figures)
    print((RESULTS / "ombria.md").read_text())


def verdict(figures: dict[str, Any]) -> str:
    """Say what the table says: by how much ASANet is ahead of the others, or behind."""
    means = {name: 100 * float(np.mean(values["mIoU"])) for name, values in figures.items()}
    sentences = []
    for other in ("rgb", "sar", "sum"):
        if "asanet" in means and other in means:
            gap = means["asanet"] - means[other]
            sentences.append(f"{abs(gap):.2f} points {'above' if gap > 0 else 'below'} {TITLES[other]}")
    return f"ASANet's mean mIoU is {', '.join(sentences)}." if sentences else ""


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
        one_thread(given.threads)
        train_all(given.work, given.seeds)
    else:
        one_thread(given.threads)
        report(given.work)


if __name__ == "__main__":
    main()
