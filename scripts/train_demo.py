#!/usr/bin/env python
"""Train the demo's checkpoint on synthetic landscapes, on CPU, from the seeds in scripts/train_demo.yaml.

    python scripts/train_demo.py -o geoasanet/checkpoints/demo.safetensors

The SAR image goes the way that it goes in predict: observed with speckle on its own grid, then warped (bilinear) onto
the optical one. The best weights so far are saved at every validation. At the end it prints how much the SAR image
helps under clouds.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.warp
import yaml

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve on a shared machine
import torch
from rasterio.transform import Affine
from torch.nn.functional import cross_entropy

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.metrics import Metrics, confusion
from geoasanet.synthetic import CLASSES, generate_landscape, observe_sar, sar_grid
from geoasanet.synthetic.sensor import RGB_CRS, rgb_transform

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Views:
    """One landscape as the network is to see it."""

    rgb: np.ndarray
    """uint8 (3, height, width)."""
    sar: np.ndarray
    """dB on the optical grid, float32 (1, height, width), NaN where missing."""
    labels: np.ndarray
    """uint8 (height, width)."""
    cloud: np.ndarray
    """Opacity (height, width)."""


def make_views(seed: int, size: int, cache: Path | None) -> Views:
    """Return a landscape's views, from the folder ``cache`` if they are there already."""
    if cache is None:
        return observe(seed, size)
    stored = cache / f"{seed}_{size}.npz"
    if not stored.exists():
        np.savez(stored, **vars(observe(seed, size)))
    with np.load(stored) as arrays:
        return Views(**arrays)


def observe(seed: int, size: int) -> Views:
    landscape = generate_landscape(seed, size, size)
    grid = sar_grid(size, size, landscape.pixel_m)
    sar = np.full((size, size), np.nan, np.float32)
    rasterio.warp.reproject(
        observe_sar(landscape, grid),
        sar,
        src_transform=Affine(*grid.transform),
        src_crs=grid.crs,
        src_nodata=np.nan,
        dst_transform=Affine(*rgb_transform(landscape.pixel_m)),
        dst_crs=RGB_CRS,
        dst_nodata=np.nan,
        resampling=rasterio.warp.Resampling.bilinear,
        tolerance=0.001,
    )
    return Views(landscape.rgb, sar[None], landscape.labels, landscape.cloud)


def statistics(scenes: list[Views]) -> InputBands:
    rgb = np.concatenate([scene.rgb.reshape(3, -1)[:, ::7] for scene in scenes], axis=1).astype(np.float64)
    sar = np.concatenate([scene.sar.ravel()[::7] for scene in scenes]).astype(np.float64)
    return InputBands(
        SensorBands(rounded(rgb.mean(axis=1)), rounded(rgb.std(axis=1)), "uint8", ("red", "green", "blue")),
        SensorBands(rounded([np.nanmean(sar)]), rounded([np.nanstd(sar)]), "db", ("sigma0",)),
    )


def rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)


def normalise(rgb: np.ndarray, sar: np.ndarray, bands: InputBands) -> tuple[np.ndarray, np.ndarray]:
    """Return (raw − mean) / std of both images; missing pixels get the mean, 0."""
    result = []
    for raw, sensor in ((rgb, bands.rgb), (sar, bands.sar)):
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (sensor.mean, sensor.std))
        result.append(np.nan_to_num((raw.astype(np.float32) - mean) / std, nan=0.0))
    return result[0], result[1]


def draw_window(rng: np.random.Generator, scenes: list[Views], bands: InputBands, config: dict[str, Any]) -> Any:
    scene, size = scenes[rng.integers(len(scenes))], config["window_size"]
    row, col = (rng.integers(n - size + 1) for n in scene.labels.shape)
    box = np.s_[row : row + size, col : col + size]
    rgb, sar = normalise(scene.rgb[:, *box], scene.sar[:, *box], bands)
    sar += (rng.normal(0, config["sar_noise_db"]) / bands.sar.std[0]) * (sar != 0)
    rgb = rgb * rng.normal(1, config["brightness"]) + rng.normal(0, config["brightness"], (3, 1, 1))
    if rng.random() < config["sar_missing"]:
        cut = rng.integers(size // 4, size)
        np.moveaxis(sar, 1 + rng.integers(2), 0)[:cut] = 0
    turns, flip = rng.integers(4), rng.random() < 0.5
    images = [np.rot90(image, turns, axes=(-2, -1)) for image in (rgb, sar, scene.labels[box])]
    return [np.ascontiguousarray(image[..., ::-1] if flip else image) for image in images]


def predict_classes(model: torch.nn.Module, scene: Views, bands: InputBands, size: int, blind: bool) -> np.ndarray:
    """Return class ids from windows side by side; ``blind`` hides the SAR image."""
    rgb, sar = normalise(scene.rgb, scene.sar, bands)
    height, width = scene.labels.shape
    result = np.zeros((height, width), np.uint8)
    with torch.inference_mode():
        for row in [*range(0, height - size, size), height - size]:
            for col in [*range(0, width - size, size), width - size]:
                box = np.s_[row : row + size, col : col + size]
                pair = [torch.from_numpy(image[:, *box].astype(np.float32))[None] for image in (rgb, sar * (not blind))]
                result[box] = model(*pair)[0].argmax(0).numpy()
    return result


def score(model: torch.nn.Module, scenes: list[Views], bands: InputBands, size: int, where: str = "all") -> Metrics:
    """Return metrics with both sensors; ``where`` may be "all", "cloud", or "cloud without SAR"."""
    total = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for scene in scenes:
        found = predict_classes(model, scene, bands, size, blind=where.endswith("without SAR"))
        seen = np.isfinite(scene.sar[0]) & ((scene.cloud > 0.9) | (where == "all"))
        total += confusion(np.where(seen, scene.labels, CLASSES.ignore_index), found, len(CLASSES))
    return Metrics.from_matrix(total)


def train(config: dict[str, Any], out: Path, workers: int, cache: Path | None) -> None:
    torch.manual_seed(config["seed"])
    rng = np.random.Generator(np.random.PCG64(config["seed"]))
    started = time.monotonic()
    seeds = [*range(*config["train_seeds"]), *range(*config["val_seeds"])]
    with ProcessPoolExecutor(workers) as pool:
        make = functools.partial(make_views, size=config["scene_size"], cache=cache)
        views = list(pool.map(make, seeds))
    count = len(range(*config["train_seeds"]))
    scenes, held_out = views[:count], views[count:]
    bands = statistics(scenes)
    print(f"{len(scenes)} + {len(held_out)} landscapes in {time.monotonic() - started:.0f} s; {bands}", flush=True)

    names = ("encoder", "decoder_channels", "auxiliary_channels", "drop_path", "dropout")
    arguments = {name: config[name] for name in names}
    model = ga.create_model(config["model"], num_classes=len(CLASSES), in_channels=(3, 1), **arguments)
    model = model.to(memory_format=torch.channels_last)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config["lr"])
    best, losses = -1.0, []
    for step in range(config["iterations"]):
        rise = min(1.0, (step + 1) / config["warmup"])
        rate = config["lr"] * rise * (1 - step / config["iterations"]) ** config["power"]
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [draw_window(rng, scenes, bands, config) for _ in range(config["batch_size"])]
        rgb, sar, labels = (torch.from_numpy(np.stack(part)) for part in zip(*batch, strict=True))
        logits, auxiliary = model(rgb.float(), sar.float())
        target = labels.long()
        loss = cross_entropy(logits, target) + config["auxiliary_weight"] * cross_entropy(auxiliary, target)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SystemExit(f"Loss is {value} at step {step}.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(value)
        done = step + 1
        if done % 25 == 0:
            print(f"{done:5d} loss {np.mean(losses[-25:]):.4f} {time.monotonic() - started:.0f} s", flush=True)
        if done % config["validate_every"] and done != config["iterations"]:
            continue
        model.eval()
        found = score(model, held_out, bands, config["window_size"])
        print(f"{done:5d} val mIoU {found.mean_iou:.4f} IoU {np.round(found.iou, 3).tolist()}", flush=True)
        if found.mean_iou > best:
            best = found.mean_iou
            save(out, model, config, bands, done, found)
        model.train()
    report(out, held_out, time.monotonic() - started)


def save(out: Path, model: Any, config: dict[str, Any], bands: InputBands, done: int, found: Metrics) -> None:
    summary = {
        "data": "synthetic landscapes made by geoasanet (no real scene)",
        "license": "Apache-2.0",
        "seeds": config["train_seeds"],
        "iterations": done,
        "val_miou": round(found.mean_iou, 4),
        "val_iou": {name: round(float(v), 4) for name, v in zip(CLASSES.names, found.iou, strict=True)},
    }
    size = config["window_size"]
    ga.save_checkpoint(out, model, classes=CLASSES, bands=bands, window_size=size, training=summary, dtype="fp16")


def report(out: Path, held_out: list[Views], seconds: float) -> None:
    """Print what the saved checkpoint reaches on held-out seeds, and what the SAR image adds under clouds."""
    checkpoint = ga.load_checkpoint(out)
    size = checkpoint.window_size
    results = {"minutes": round(seconds / 60, 1), "bytes": out.stat().st_size}
    for where in ("all", "cloud", "cloud without SAR"):
        found = score(checkpoint.model, held_out, checkpoint.bands, size, where)
        iou = dict(zip(CLASSES.names, np.round(found.iou, 3).tolist(), strict=True))
        results[where] = {"miou": round(found.mean_iou, 4), "oa": round(found.accuracy, 4), "iou": iou}
    print(json.dumps(results, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "geoasanet/checkpoints/demo.safetensors")
    parser.add_argument("--config", type=Path, default=ROOT / "scripts/train_demo.yaml")
    parser.add_argument("--iterations", type=int, help="other than the configuration's")
    parser.add_argument("--threads", type=int, default=1, help="of the network; one is fastest on a busy machine")
    parser.add_argument("--cache", type=Path, help="folder that keeps the landscapes for the next run")
    given = parser.parse_args()
    config = yaml.safe_load(given.config.read_text())
    config["iterations"] = given.iterations or config["iterations"]
    torch.set_num_threads(given.threads)
    if given.cache is not None:
        given.cache.mkdir(parents=True, exist_ok=True)
    train(config, given.out, workers=os.cpu_count() or 1, cache=given.cache)


if __name__ == "__main__":
    main()
