"""``predict --gpus 2`` on two cores against one process that has one core; the maps are compared.

    python scripts/bench_workers.py

Whole commands on a synthetic scene (random texture) with the packaged checkpoint ``s1s2-10m``; once as they are, and
once less what the same command takes for a scene of two windows, which is mostly the start of the processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from bench_predict import make_scene
from numpy.typing import NDArray

from geoasanet.tools.machine import describe_machine


def predict(rgb: Path, sar: Path, out: Path, processes: int, cores: set[int]) -> float:
    """Return wall seconds of the command on ``cores``."""
    command = [sys.executable, "-m", "geoasanet", "predict", str(rgb), str(sar), "-c", "s1s2-10m", "-o", str(out)]
    command += ["--confidence", str(out.with_suffix(".confidence.tif")), "--device", "cpu", "--gpus", str(processes)]
    command += ["--precision", "fp32"]  # else a processor with bf16 instructions would spend most of the time compiling
    began = time.perf_counter()
    subprocess.run([*command, "--quiet", "--overwrite"], check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    return time.perf_counter() - began


def pixels(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096, help="side of the scene, pixels")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    machine = describe_machine(torch.device("cpu"))
    print(f"{machine.processor}, {machine.cores} cores, torch {machine.torch}, load {machine.load:.1f}")
    cores = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, two = folder / "one.tif", folder / "two.tif"
        small = make_scene(folder, 448, 256)
        start_one, start_two = predict(*small, one, 1, {cores[0]}), predict(*small, two, 2, set(cores))
        print(f"start: one process {start_one:.1f} s, two {start_two:.1f} s", flush=True)
        rgb, sar = make_scene(folder, options.side, options.side)
        ratios, without_start = [], []
        for _ in range(options.repeat):
            alone = predict(rgb, sar, one, 1, {cores[0]})
            shared = predict(rgb, sar, two, 2, set(cores))
            ratios.append(alone / shared)
            without_start.append((alone - start_one) / (shared - start_two))
            print(
                f"one process, one core {alone:.1f} s; two processes, two cores {shared:.1f} s: {ratios[-1]:.2f} x, "
                f"without the start {without_start[-1]:.2f} x",
                flush=True,
            )
        same = one.read_bytes() == two.read_bytes()
        first, second = (pixels(path.with_suffix(".confidence.tif")) for path in (one, two))
        print(f"median {np.median(ratios):.2f} x, without the start {np.median(without_start):.2f} x")
        print(f"map files {'equal' if same else 'DIFFER'} byte for byte", end="")
        print(f", confidence {'equal' if np.array_equal(first, second, equal_nan=True) else 'DIFFERS'}")


if __name__ == "__main__":
    main()
