"""One large scene on one process, on two, and on a Dask cluster that loses a worker: are the maps the same bytes?

    python scripts/scale.py --side 12000

The scene is synthetic and the network a small untrained ASANet: what is shown is that nothing is lost or changed on
the way, not how fast a real network is. The cluster is a scheduler and two workers in processes of their own on this
machine; one is killed when a third of the windows is done.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def write_scene(folder: Path, side: int) -> None:
    """Write ``rgb.tif`` and ``sar.tif``: blocks of smooth fields with speckle, repeated."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    fields = [np.kron(rng.normal(size=(16, 16)), np.ones((32, 32))) for _ in range(4)]
    rgb = [(128 + 50 * f + rng.normal(0, 8, (3, 512, 512))).clip(0, 255).astype(np.uint8) for f in fields]
    sar = [(0.2 * np.exp(0.5 * f) * rng.gamma(4, 0.25, f.shape))[None].astype(np.float32) for f in fields]
    profile = {
        "driver": "GTiff", "height": side, "width": side, "crs": "EPSG:32650", "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "zstd", "transform": rasterio.Affine(10, 0, 400_000, 0, -10, 3_000_000),
    }  # fmt: skip
    for name, parts in (("rgb.tif", rgb), ("sar.tif", sar)):
        more = {"count": parts[0].shape[0], "dtype": parts[0].dtype}
        with rasterio.open(folder / name, "w", **profile, **more) as dataset:
            for row in range(0, side, 512):
                for col in range(0, side, 512):
                    rows, cols = min(512, side - row), min(512, side - col)
                    part = parts[(row // 512 * 3 + col // 512) % 4][:, :rows, :cols]
                    dataset.write(part, window=Window(col, row, cols, rows))


def write_checkpoint(path: Path) -> None:
    """Write a small ASANet with random weights."""
    import torch

    import geoasanet as ga
    from geoasanet.bands import InputBands, SensorBands
    from geoasanet.classes import ClassSchema

    torch.manual_seed(0)
    encoder = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
    model = ga.create_model("asanet", 6, (3, 1), encoder, decoder_channels=16, auxiliary_channels=8)
    bands = InputBands(SensorBands((128.0,) * 3, (50.0,) * 3), SensorBands((0.2,), (0.1,), "linear"))
    classes = ClassSchema.from_names(["water", "forest", "field", "town", "bare", "road"])
    ga.save_checkpoint(path, model, classes=classes, bands=bands, window_size=256)


class Cluster:
    """A scheduler and workers in processes of their own."""

    def __init__(self, folder: Path, workers: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.address = f"tcp://127.0.0.1:{port}"
        self._log = (folder / "cluster.log").open("wb")
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._processes = [self._start("dask_scheduler", "--host", "127.0.0.1", "--port", port)]
        self.workers = [
            self._start("dask_worker", self.address, "--no-nanny", "--nthreads", "1") for _ in range(workers)
        ]
        self._processes += self.workers

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *arguments, "--no-dashboard"]
        return subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log)

    def stop(self) -> None:
        """End all of them."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=12_000)
    options = parser.parse_args()
    import geoasanet as ga

    with tempfile.TemporaryDirectory(prefix="geoasanet-scale-") as name:
        folder = Path(name)
        write_scene(folder, options.side)
        write_checkpoint(folder / "small.safetensors")
        digests: dict[str, str] = {}

        def run(label: str, **how: Any) -> None:
            out, confidence = folder / f"{label}.tif", folder / f"{label}_confidence.tif"
            begun = time.perf_counter()
            done = ga.predict(
                folder / "rgb.tif", folder / "sar.tif", checkpoint=folder / "small.safetensors", device="cpu",
                precision="fp32", out=out, confidence=confidence, **how,
            )  # fmt: skip
            seconds = time.perf_counter() - begun
            digests[label] = hashlib.sha256(out.read_bytes() + confidence.read_bytes()).hexdigest()
            print(f"| {label} | {done.windows} | {seconds:.0f} s | {digests[label][:16]} |", flush=True)

        print(f"{options.side} x {options.side} px, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print("| run | windows | time | SHA-256 of map and confidence |\n| --- | --- | --- | --- |", flush=True)
        run("1 process")
        run("2 processes", gpus=2)
        cluster = Cluster(folder, 2)
        try:
            run("cluster, a worker killed", scheduler=cluster.address, progress=_killing(cluster))
        finally:
            cluster.stop()
    same = len(set(digests.values())) == 1
    print(f"\n{'The same bytes.' if same else 'NOT the same bytes.'}")
    sys.exit(not same)


def _killing(cluster: Cluster) -> Callable[[str, float, float, str], None]:
    def progress(task: str, done: float, total: float, unit: str = "") -> None:
        if task == "Mapping" and done > total / 3 and cluster.workers[0].poll() is None:
            cluster.workers[0].send_signal(signal.SIGKILL)
            cluster.workers[0].wait()

    return progress


if __name__ == "__main__":
    main()
