"""Speed and memory of ``geoasanet predict`` on this machine.

    python scripts/bench_predict.py              everything
    python scripts/bench_predict.py memory       peak memory for 20,000 x 20,000 and 20,000 x 40,000 pixels
    python scripts/bench_predict.py ratio        whole command against the forward passes alone, ASANet

Blending and writing with a trivial network is measured against other tools by ``bench_blend.py``.

Scenes are synthetic (random texture); the trivial network is a 1x1 convolution. Figures are printed as JSON lines and
as text, with the machine named; nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

CLASSES = ["water", "forest", "field", "built-up", "road", "bare"]


def make_scene(folder: Path, height: int, width: int) -> tuple[Path, Path]:
    """Write an RGB (uint8) and a SAR (float32) GeoTIFF of random texture, 512 px tiles, ZSTD."""
    rng = np.random.default_rng(0)
    rgb_tile = rng.integers(0, 255, (3, 512, 512), dtype=np.uint8) // 8 * 8
    sar_tile = rng.gamma(4, 0.05, (1, 512, 512)).astype(np.float32)
    paths = []
    for name, tile in (("rgb", rgb_tile), ("sar", sar_tile)):
        path = folder / f"{name}_{height}x{width}.tif"
        profile = {
            "driver": "GTiff",
            "height": height,
            "width": width,
            "count": tile.shape[0],
            "dtype": tile.dtype,
            "crs": "EPSG:32650",
            "transform": from_origin(500000, 3000000, 10, 10),
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "zstd",
            "zstd_level": 1,
            "interleave": "pixel",
            "BIGTIFF": "IF_SAFER",
        }
        with rasterio.open(path, "w", **profile) as dataset:
            for row in range(0, height, 512):
                for col in range(0, width, 512):
                    h, w = min(512, height - row), min(512, width - col)
                    dataset.write(tile[:, :h, :w], window=Window(col, row, w, h))
        paths.append(path)
    return paths[0], paths[1]


def predict_trivial(rgb: str, sar: str, out: str) -> None:
    """Map a scene with a 1x1 convolution (run in a process of its own) and print what it took."""
    import torch

    from geoasanet.tools.machine import peak_memory_bytes
    from geoasanet.tools.predict import predict

    torch.manual_seed(0)

    class Trivial(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(4, len(CLASSES), 1)

        def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.cat([rgb / 255, sar], 1))

    before = peak_memory_bytes()
    cpu = time.process_time()
    result = predict(rgb, sar, model=Trivial(), classes=CLASSES, out=out, overwrite=True)
    usage = {
        "imports_mb": round(before / 1e6),
        "peak_mb": round(peak_memory_bytes() / 1e6),
        "seconds": round(result.seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    print(json.dumps(usage))


def in_process(*arguments: str) -> dict[str, float]:
    """Run this script in a fresh process and return what it prints."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def bench_memory(folder: Path, width: int) -> None:
    peaks = []
    for height in (width, 2 * width):
        rgb, sar = make_scene(folder, height, width)
        usage = in_process("_trivial", str(rgb), str(sar), str(folder / "map.tif"))
        peaks.append(usage["peak_mb"])
        rate = height * width / usage["seconds"] / 1e6
        print(
            f"memory  {height} x {width}: peak {usage['peak_mb']} MB (of which imports {usage['imports_mb']} MB), "
            f"{usage['seconds']} s, {rate:.1f} Mpx/s, CPU {usage['cpu_seconds']} s",
            flush=True,
        )
        rgb.unlink(), sar.unlink()
    print(f"memory  twice the height / once: {peaks[1] / peaks[0]:.3f}")


def bench_ratio(folder: Path, side: int, encoder: str) -> None:
    """Time the whole command and the forward passes alone on the same windows, interleaved in one run."""
    import torch

    import geoasanet as ga
    from geoasanet.device import choose_device
    from geoasanet.tools.predict import predict
    from geoasanet.windows import Tiling

    device = choose_device("auto")
    cuda = device.type == "cuda"
    batch = 32 if cuda else 1
    rgb, sar = make_scene(folder, side, side)
    torch.manual_seed(0)
    model = ga.create_model("asanet", num_classes=len(CLASSES), in_channels=(3, 1), encoder=encoder).eval().to(device)
    tiling = Tiling.over(side, side, size=256, overlap=64)
    x, y = torch.rand(batch, 3, 256, 256, device=device), torch.rand(batch, 1, 256, 256, device=device)

    def settle() -> None:
        if cuda:
            torch.cuda.synchronize()

    def forward_all() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            for _ in tiling.rows:
                for start in range(0, len(tiling.cols), batch):
                    count = min(batch, len(tiling.cols) - start)
                    model(x[:count], y[:count])
        settle()

    small = folder / "warm.tif"
    forward_all()
    predict(rgb, sar, model=model, classes=CLASSES, out=small, bbox=(500000, 2999000, 501000, 3000000))
    alone, whole, inside = [], [], []
    forward = model.forward

    def timed(*tensors: torch.Tensor) -> torch.Tensor:
        started = time.perf_counter()
        logits = forward(*tensors)
        settle()
        inside[-1] += time.perf_counter() - started
        return logits

    for repeat in range(3):
        started = time.perf_counter()
        forward_all()
        alone.append(time.perf_counter() - started)
        inside.append(0.0)
        model.forward = timed  # type: ignore[method-assign]
        started = time.perf_counter()
        predict(rgb, sar, model=model, classes=CLASSES, out=folder / "map.tif", overwrite=True)
        whole.append(time.perf_counter() - started)
        model.forward = forward  # type: ignore[method-assign]
        print(
            f"ratio   {device}, {encoder}, {side} x {side}, {len(tiling)} windows: predict {whole[-1]:.2f} s, "
            f"forward passes alone {alone[-1]:.2f} s, within predict {inside[-1]:.2f} s (repeat {repeat + 1})",
            flush=True,
        )
    print(f"ratio   predict / forward passes alone, best of each: {min(whole) / min(alone):.3f}")
    within = sorted(w / i for w, i in zip(whole, inside, strict=True))
    print(f"ratio   predict / forward passes within it, median: {within[1]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "memory", "ratio", "_trivial"])
    parser.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, default=20000, help="scene width of the memory figures")
    parser.add_argument("--side", type=int, default=1216, help="scene side of the ratio")
    parser.add_argument("--encoder", default="convnextv2_tiny")
    arguments = parser.parse_args()
    if arguments.what == "_trivial":
        predict_trivial(*arguments.paths)
        return
    import torch

    from geoasanet.tools.machine import describe_machine

    machine = describe_machine(torch.device("cpu"))
    print(f"machine {machine.processor}, {machine.cores} cores, load {machine.load}, torch {machine.torch}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.what in ("all", "ratio"):
            bench_ratio(folder, arguments.side, arguments.encoder)
        if arguments.what in ("all", "memory"):
            bench_memory(folder, arguments.width)


if __name__ == "__main__":
    main()
