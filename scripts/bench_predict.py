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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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


def bench_ratio(folder: Path, side: int, encoder: str, repeats: int) -> None:
    """Time the whole function and its forward passes alone, in turns; which is first changes from pair to pair.

    The forward passes run as `predict` runs them: the network in its form for inference, on a CPU in lanes, on windows
    that are in memory already. CPU time counts all threads; other programs lengthen wall time only.
    """
    import torch

    import geoasanet as ga
    from geoasanet.device import choose_device, choose_precision, computing_in
    from geoasanet.inference.lanes import LanePlan, Lanes
    from geoasanet.models.accelerate import accelerate
    from geoasanet.windows import Tiling

    device = choose_device("auto")
    cuda = device.type == "cuda"
    batch = 32 if cuda else 1
    rgb, sar = make_scene(folder, side, side)
    torch.manual_seed(0)
    model = ga.create_model("asanet", num_classes=len(CLASSES), in_channels=(3, 1), encoder=encoder).eval().to(device)
    windows = len(Tiling.over(side, side, size=256, overlap=64))
    x, y = (torch.rand(batch, bands, 256, 256, device=device) for bands in (3, 1))
    x, y = (image.to(memory_format=torch.channels_last) for image in (x, y))
    precision = choose_precision("auto", device)
    network = accelerate(model, device, precision).to(device)

    @torch.inference_mode()
    def forward(count: int) -> None:
        with computing_in(precision, device):
            network(x[:count], y[:count])

    def forward_all() -> None:
        with Lanes(None if cuda else LanePlan.of_machine()) as lanes:
            running = [lanes.submit(forward, min(batch, windows - start)) for start in range(0, windows, batch)]
            for call in running:
                call.result()
        if cuda:
            torch.cuda.synchronize()

    def predict_all() -> None:
        ga.predict(rgb, sar, model=model, classes=CLASSES, out=folder / "map.tif", overwrite=True)

    def timed(run: Callable[[], None]) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        return time.perf_counter() - wall, time.process_time() - cpu

    forward(batch)
    ga.predict(rgb, sar, model=model, classes=CLASSES, out=folder / "map.tif", bbox=(500000, 2999000, 501000, 3000000))
    ratios = []
    for pair in range(repeats):
        # A machine that slows down or speeds up by and by would favour whichever is always first, or last.
        taken = {run: timed(run) for run in (forward_all, predict_all)[:: -1 if pair % 2 else 1]}
        (alone, alone_cpu), (whole, whole_cpu) = taken[forward_all], taken[predict_all]
        ratios.append((whole / alone, whole_cpu / alone_cpu))
        print(
            f"ratio   {device}, {encoder}, {side} x {side}, {windows} windows: predict {whole:.2f} s (CPU "
            f"{whole_cpu:.2f} s), forward passes alone {alone:.2f} s (CPU {alone_cpu:.2f} s)",
            flush=True,
        )
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"ratio   predict / forward passes alone, median: {wall:.3f} wall, {cpu:.3f} CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "memory", "ratio", "_trivial"])
    parser.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, default=20000, help="scene width of the memory figures")
    parser.add_argument("--side", type=int, default=1216, help="scene side of the ratio")
    parser.add_argument("--encoder", default="convnextv2_tiny")
    parser.add_argument("--repeat", type=int, default=6, help="pairs of the ratio; the median is printed")
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
            bench_ratio(folder, arguments.side, arguments.encoder, arguments.repeat)
        if arguments.what in ("all", "memory"):
            bench_memory(folder, arguments.width)


if __name__ == "__main__":
    main()
