#!/usr/bin/env python
"""Does the loader starve the network? Training steps on a dataset folder against steps on tensors made beforehand.

    python scripts/bench_train.py                        on this machine: a small ASANet on a CPU, the full one on a GPU
    python scripts/bench_train.py --config asanet --batch-size 32 --device cuda
    python scripts/bench_train.py --waits                OpenMP's threads sleep or spin, alone and beside a busy program

Both sides make the same optimiser steps with the same network in the same run, in turns of a few steps; the difference
is reading, augmenting and moving the samples. The tiles are synthetic (random, 256 px, deflate GeoTIFF).

``--waits`` compares steps on a CPU with ``OMP_WAIT_POLICY=PASSIVE``, under which OpenMP's threads sleep while they wait
for each other, with the same steps as they wait if left alone (spinning): new processes in changing order, beside no
other program and beside one that is always busy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

import geoasanet as ga
from geoasanet.config import TrainConfig, read_config
from geoasanet.device import choose_device, choose_precision, keep_freed_memory
from geoasanet.raster.dataset import open_dataset_folder
from geoasanet.tools.trainjob import loader_workers
from geoasanet.training.learner import Learner
from geoasanet.training.loop import training_batches
from geoasanet.training.processes import Processes
from geoasanet.training.survey import survey

CLASSES = 5


def make_tiles(root: Path, count: int, size: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"t{i:04d}" for i in range(count)]
    profile = {"driver": "GTiff", "height": size, "width": size, "compress": "deflate", "dtype": "uint8"}
    profile |= {"crs": "EPSG:32650", "transform": from_origin(5e5, 3e6, 10, 10)}
    for folder, bands in (("rgb", 3), ("sar", 1), ("label", 1)):
        (root / folder).mkdir(parents=True)
        for name in names:
            coarse = rng.integers(0, CLASSES if folder == "label" else 230, (bands, size // 8, size // 8))
            pixels = np.kron(coarse, np.ones((8, 8))).astype(np.uint8)
            if folder != "label":
                pixels += rng.integers(0, 25, pixels.shape, np.uint8)
            with rasterio.open(root / folder / f"{name}.tif", "w", count=bands, **profile) as file:
                file.write(pixels)
    (root / "train.txt").write_text("\n".join(names))
    (root / "val.txt").write_text(names[0])
    (root / "dataset.yaml").write_text("classes: [a, b, c, d, e]\n")


def measure(config: TrainConfig, data: Path, device: torch.device, turns: int, steps: int) -> dict[str, Any]:
    processes = Processes(device)
    found = survey(open_dataset_folder(data), cache=config.cache)
    torch.manual_seed(0)
    network = ga.create_model(config.model, CLASSES, (3, 1), config.encoder, **config.model_args)
    precision = choose_precision(config.precision, device)
    learner = Learner(network, config, None, processes, precision)
    workers = loader_workers(config, processes)
    loaded = training_batches(found, config, processes, workers, start=0)
    ready = [batch.to(device) for batch in itertools.islice(training_batches(found, config, processes, 0, start=0), 8)]
    preloaded = itertools.cycle(ready)
    iteration = 0

    def run(batches: Any) -> float:
        nonlocal iteration
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            learner.step([next(batches).to(device)], iteration)
            iteration += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    run(preloaded), run(loaded)  # warm up
    times: dict[str, list[float]] = {"loader": [], "preloaded": []}
    for _ in range(turns):
        times["preloaded"].append(run(preloaded))
        times["loader"].append(run(loaded))
    ratios = [a / b for a, b in zip(times["loader"], times["preloaded"], strict=True)]
    samples = steps * config.batch_size
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "precision": precision,
        "loader_processes": workers,
        "preloaded_samples_per_s": round(samples / min(times["preloaded"]), 2),
        "preloaded_samples_per_s_median": round(samples / statistics.median(times["preloaded"]), 3),
        "loader_samples_per_s": round(samples / min(times["loader"]), 2),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_of_best": round(min(times["loader"]) / min(times["preloaded"]), 4),
    }


def beside(busy: int, settings: dict[str, str], words: list[str]) -> float:
    """Return the samples per second of this script in a process of its own, beside ``busy`` others without a pause."""
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        command = [sys.executable, __file__, "--device", "cpu", "--tiles", "16", *words]
        said = subprocess.run(command, env={**environment, **settings}, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        for other in others:
            other.kill()
            other.wait()
    return float(json.loads(said.stdout)["preloaded_samples_per_s_median"])


def compare_waits(repeat: int, words: list[str]) -> dict[str, Any]:
    kinds = {"sleeping": {"OMP_WAIT_POLICY": "PASSIVE"}, "spinning": {}}
    result: dict[str, Any] = {"repeat": repeat}
    for busy in (0, 1):
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for turn in range(repeat):
            for kind in sorted(kinds, reverse=turn % 2 == 1):
                rates[kind].append(beside(busy, kinds[kind], words))
        pairs = zip(rates["sleeping"], rates["spinning"], strict=True)
        result[f"beside_{busy}"] = {
            **rates,
            "sleeping_faster_median": round(statistics.median(a / b for a, b in pairs), 3),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="shipped configuration [asanet_small on a CPU, asanet on a GPU]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, help="[the configuration's]")
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="optimiser steps per turn")
    parser.add_argument("--no-cache", action="store_true", help="read every tile from disk each time")
    parser.add_argument("--waits", action="store_true", help="compare OpenMP's threads sleeping and spinning")
    parser.add_argument("--repeat", type=int, default=5, help="processes of each kind under --waits")
    given = parser.parse_args()
    if given.waits:
        words = [word for word in sys.argv[1:] if word != "--waits"]
        print(json.dumps(compare_waits(given.repeat, words), indent=1))
        return
    device = choose_device(given.device)
    if device.type == "cpu":
        keep_freed_memory()
    name = given.config or ("asanet" if device.type == "cuda" else "asanet_small")
    settings = ["iterations=100000", f"cache={'false' if given.no_cache else 'auto'}"]
    settings += [f"batch_size={given.batch_size}"] if given.batch_size else []
    config = read_config(name).changed(settings)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "tiles"
        make_tiles(data, given.tiles, 256)
        result = measure(config, data, device, given.turns, given.steps)
    print(
        json.dumps({"config": name, "batch_size": config.batch_size, "cache": not given.no_cache, **result}, indent=1)
    )


if __name__ == "__main__":
    main()
