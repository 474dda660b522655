#!/usr/bin/env python
"""Train all seven networks of the paper under one budget on one dataset, and write the table.

    python scripts/compare_models.py --data tiles --work WORK --iterations 20000                 full size, on a GPU
    python scripts/compare_models.py --data tiles --work WORK --iterations 400 --small           what a CPU can do

Each network is trained with its own recipe (configs/<network>.yaml), but for the budget: iterations, batch and crop are
the same for all, and so are the tiles, their order and the augmentation. A run that was stopped goes on. The best of
ten evaluations on val is kept, test is reported. With --small every network is built small (1 to 11 M parameters) and
learns at one rate with AdamW: such a table says which design learns fastest when small, not how the published networks
compare.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from experiment import RESULTS, draw, finish, finished, machine, one_thread, spread, table, write_json

import geoasanet as ga
from geoasanet.config import TrainConfig, read_config
from geoasanet.device import choose_device, device_name

TITLES = {
    "fusenet": "FuseNet",
    "sagate": "SA-Gate",
    "afnet": "AFNet (re-implemented)",
    "cmfnet": "CMFNet",
    "cmx": "CMX",
    "ftransunet": "FTransUNet",
    "asanet": "ASANet",
}
VGG = {"depths": [2, 2, 3, 3, 3], "dims": [16, 32, 64, 96, 96]}
SMALL: dict[str, dict[str, Any]] = {
    "fusenet": {"encoder": VGG},
    "sagate": {
        "encoder": {"depths": [2, 2, 3, 2], "dims": [24, 32, 64, 96]},
        "model_args": {"decoder_channels": 48, "auxiliary_channels": 32},
    },
    "afnet": {"encoder": {"depths": [2, 2, 2, 2], "dims": [12, 24, 32, 48]}},
    "cmfnet": {"encoder": VGG, "model_args": {"layers": 2}},
    "cmx": {"encoder": "mit_b0", "model_args": {"decoder_channels": 64}},
    "ftransunet": {
        "model_args": {
            "width": 32,
            "units": [2, 2, 2],
            "layers": 12,
            "hidden_channels": 96,
            "heads": 4,
            "decoder_channels": [64, 48, 32, 16],
        }
    },
    "asanet": {
        "encoder": {"depths": [2, 2, 4, 2], "dims": [24, 48, 96, 192]},
        "model_args": {"decoder_channels": 32, "auxiliary_channels": 32, "drop_path": 0.1},
    },
}
"""Sizes that a CPU can train."""
ONE_RATE = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "layer_decay": None, "decay_all": False}
ONE_RATE |= {"power": 1.0, "min_lr": 0.0, "decay_start": None, "precision": "auto", "clip_norm": 5.0}


def configuration(name: str, given: argparse.Namespace, seed: int) -> TrainConfig:
    """Return a network's recipe with the budget of the comparison."""
    data = read_config(name).to_dict()
    if given.small:
        data |= {**ONE_RATE, **SMALL[name]}
    data |= {
        "iterations": given.iterations,
        "batch_size": given.batch_size,
        "crop_size": given.crop,
        "warmup": min(data["warmup"], given.iterations // 10) if not given.small else given.iterations // 10,
        "warmup_factor": 1e-3 if given.small else data["warmup_factor"],
        "validate_every": max(1, given.iterations // 10),
        "save_every": max(1, given.iterations // 10),
        "log_every": max(1, given.iterations // 100),
        "seed": seed,
        "classes": None if given.classes is None else given.classes.split(","),
    }
    return TrainConfig.from_mapping(data)


def speed(checkpoint: Path, device: torch.device, seconds: float = 3.0) -> float:
    """Return windows per second, one at a time, of a trained network."""
    loaded = ga.load_checkpoint(checkpoint, device)
    side, bands = loaded.window_size, len(loaded.bands.sar)
    images = torch.randn(1, 3, side, side, device=device), torch.randn(1, bands, side, side, device=device)
    with torch.inference_mode():
        for _ in range(3):
            loaded.model(*images)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            loaded.model(*images)
            if device.type == "cuda":
                torch.cuda.synchronize()
            done += 1
    return done / (time.perf_counter() - began)


def report(given: argparse.Namespace, names: list[str]) -> None:
    rows, figures = [], {}
    device = choose_device(given.device)
    runs = {name: finished(given.work, name) for name in names}
    for name, folders in runs.items():
        if not folders:
            continue
        checkpoints = [folder / "best.safetensors" for folder in folders]
        found = [ga.evaluate(checkpoint=c, data=given.data, split=given.split).metrics for c in checkpoints]
        size = sum(p.numel() for p in ga.load_checkpoint(checkpoints[0]).model.parameters())
        minutes = [ga.load_checkpoint(f / "last.safetensors").training["minutes"] for f in folders]
        columns = {
            "mIoU": [m.mean_iou for m in found],
            "OA": [m.accuracy for m in found],
            "kappa": [m.kappa for m in found],
            "mF1": [m.mean_f1 for m in found],
        }
        pace = speed(checkpoints[0], device)
        scores = [spread(values) for values in columns.values()]
        rows.append([TITLES[name], f"{size / 1e6:.2f}", *scores, f"{pace:.1f}", f"{sum(minutes) / len(minutes):.1f}"])
        figures[name] = {**columns, "parameters": size, "windows_per_second": pace, "minutes": minutes}
    draw({TITLES[name]: folders for name, folders in runs.items()}, given.title, RESULTS / f"{given.name}.png")
    head = ["network", "M parameters", "mIoU", "OA", "kappa", "mF1", "windows/s", "minutes of training"]
    sizes = "small sizes, one recipe (AdamW, 1e-3)" if given.small else "full sizes, own recipes"
    seeds = max(map(len, runs.values()))
    over = "one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"
    text = (
        f"# {given.title}: seven networks, one budget\n\n{table(head, rows)}\n"
        f"Percent, {over}, on the {given.split} tiles. "
        f"Networks in {sizes}, random weights, {given.iterations} iterations of {given.batch_size} crops of "
        f"{given.crop} px; windows of {given.crop} px one at a time on {device_name(device)}. {given.note}\n\n"
        f"Machine: {machine()}. Made with `python scripts/compare_models.py`. Curves: [{given.name}.png]"
        f"({given.name}.png); each seed: [{given.name}.json]({given.name}.json).\n"
    )
    (RESULTS / f"{given.name}.md").write_text(text)
    write_json(RESULTS / f"{given.name}.json", figures)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("tiles"), help="dataset folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--models", default=",".join(TITLES), help="networks, separated by commas")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--classes", help="class names for a folder without dataset.yaml, separated by commas")
    parser.add_argument("--split", default="test", help="split to report on")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="compare", help="name of the files under scripts/results")
    parser.add_argument("--title", default="Comparison", help="of table and figure")
    parser.add_argument("--note", default="", help="a sentence below the table")
    parser.add_argument("--report-only", action="store_true", help="write the table of the runs that are done")
    given = parser.parse_args()
    one_thread(given.threads)
    names = given.models.split(",")
    for seed in [] if given.report_only else given.seeds:
        for name in names:
            finish(given.work / "runs" / f"{name}_{seed}", configuration(name, given, seed), given.data)
    report(given, names)


if __name__ == "__main__":
    main()
