"""What it costs to cut, blend and write, with a network that costs next to nothing, against other tools.

    python scripts/bench_blend.py                    blending alone, and file to file, at 4096 x 4096
    python scripts/bench_blend.py --geoai-python VENV/bin/python     also geoai's predict_geotiff, from its own venv

Windows of 256 pixels that overlap by 64, 6 classes, one thread for the network. The scene is synthetic: smooth fields
of a few dozen pixels with a little noise, uint8, tiled 512, ZSTD; ``--noise`` gives random bytes instead, of which no
prediction is smooth. ``predict`` reads three bands and one from two files, the others the same four from one.

"blend": predictions are there already (the same 8 windows over and over); what is measured is their way to a map on
disk: MONAI's ``sliding_window_inference``, argmax, and a GeoTIFF written with rasterio, against ``RowBlender`` and
the rows that ``predict`` spools.

"file": from the raster to the map with a 1x1 convolution: ``predict`` (softmax, every check, and a Cloud Optimized
GeoTIFF with overviews), geoai (argmax of the blended logits, plain GeoTIFF), MONAI with rasterio around it, and the
plain loop of reading, mapping and writing a window after the other, which blends nothing and does not overlap.

Every measurement is a process of its own, runs of all tools alternate, medians are printed: wall and CPU time without
imports and the loading of machine code, and peak memory above what the process held before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMES = ["water", "forest", "field", "built-up", "road", "bare"]
SIZE, OVERLAP, CLASSES = 256, 64, len(NAMES)

Job = Callable[[], None]


def peak_mb() -> float:
    """Return the largest resident memory of this process so far, in megabytes (10^6 bytes)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def write_scene(path: Path, side: int, noise: bool) -> None:
    """Write four bands to ``path``, and the first three and the last to ``rgb.tif`` and ``sar.tif`` beside it."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    tiles = [random_bytes(rng) if noise else smooth_bytes(rng) for _ in range(4)]
    for name, bands in ((path, slice(0, 4)), (path.with_name("rgb.tif"), slice(0, 3)), (sar_path(path), slice(3, 4))):
        with rasterio.open(name, "w", **map_profile(side) | {"count": tiles[0][bands].shape[0]}) as dataset:
            for number in range((side // 512) ** 2):
                row, col = divmod(number, side // 512)
                dataset.write(tiles[(row + col) % 4][bands], window=Window(col * 512, row * 512, 512, 512))


def random_bytes(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 255, (4, 512, 512), dtype=np.uint8) // 8 * 8


def smooth_bytes(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return fields of about 32 pixels with noise of a few grey levels."""
    import numpy as np
    import torch

    coarse = torch.from_numpy(rng.normal(128, 50, (1, 4, 16, 16)))
    fields = torch.nn.functional.interpolate(coarse, size=512, mode="bicubic")[0].numpy()
    return np.clip(fields + rng.normal(0, 2, fields.shape), 0, 255).astype(np.uint8)


def sar_path(scene: Path) -> Path:
    return scene.with_name("sar.tif")


def map_profile(side: int) -> dict[str, object]:
    import rasterio

    return {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32650",
        "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 3_000_000),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "zstd",
        "zstd_level": 1,
        "interleave": "pixel",
    }


def write_map(path: Path, classes: object, side: int) -> None:
    import rasterio

    with rasterio.open(path, "w", **map_profile(side)) as dataset:
        dataset.write(classes, 1)


def predictions() -> object:
    import torch

    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.randn(8, CLASSES, 16, 16), size=SIZE, mode="bilinear")
    return torch.softmax(4 * smooth, 1)


def convolution(scale: float) -> object:
    """Return the network for pixels that were multiplied by ``1 / (255 * scale)``: the same answers for any scale."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Conv2d(4, CLASSES, 1).eval()
    with torch.no_grad():
        network.weight.mul_(8 * scale)
    return network


def blend_ours(scene: Path, out: Path, side: int) -> Job:
    import numpy as np
    import rasterio

    from geoasanet.inference.blend import RowBlender
    from geoasanet.raster.cog import RowSpool
    from geoasanet.raster.grid import Grid
    from geoasanet.sample import RowBand
    from geoasanet.windows import Tiling, Window

    profile = map_profile(side)
    grid = Grid(rasterio.crs.CRS.from_string(profile["crs"]), profile["transform"], side, side)
    plan = Tiling.over(side, side, size=SIZE, overlap=OVERLAP).touching(Window(0, 0, side, side))
    windows = predictions()

    single = Tiling.over(SIZE, SIZE, size=SIZE, overlap=OVERLAP).touching(Window(0, 0, SIZE, SIZE))
    RowBlender(single, CLASSES, "hann").add_row(0, windows[:1], np.ones((SIZE, SIZE), bool))  # loads machine code

    def run() -> None:
        blender, spool = RowBlender(plan, CLASSES, "hann"), RowSpool(out.with_suffix(".rows"), grid)
        for index in plan.rows:
            finished = plan.tiling.finished_rows(index)
            valid, row = np.ones((len(finished), side), bool), [windows[j % 8] for j in plan.columns]
            classes, _, _ = blender.add_row(index, row, valid)
            spool.write(RowBand(finished.start, classes))

    return run


def blend_monai(scene: Path, out: Path, side: int) -> Job:
    import torch
    from monai.inferers import sliding_window_inference

    windows, image = predictions(), torch.zeros(1, 4, side, side)

    def run() -> None:
        with torch.inference_mode():
            blended = sliding_window_inference(
                image, SIZE, 8, lambda x: windows[: len(x)], overlap=OVERLAP / SIZE, mode="gaussian"
            )
        write_map(out, blended[0].argmax(0).byte().numpy(), side)

    return run


def file_ours(scene: Path, out: Path, side: int) -> Job:
    import torch

    from geoasanet.tools.predict import predict

    class Pair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = convolution(1 / 255)

        def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.cat([rgb, sar], 1))

    def run(**area: object) -> None:
        rgb, sar = scene.with_name("rgb.tif"), sar_path(scene)
        predict(rgb, sar, model=Pair(), classes=NAMES, out=out, overwrite=True, **area)

    run(bbox=(500_000, 2_999_000, 501_000, 3_000_000))  # loads machine code
    return run


def file_geoai(scene: Path, out: Path, side: int) -> Job:
    # geoai's package imports leafmap, which predict_geotiff does not use and which brings a hundred packages along.
    sys.modules["leafmap"] = types.ModuleType("leafmap")
    import geoai.utils  # noqa: F401  # imported by predict_geotiff when it is called
    from geoai.inference import predict_geotiff

    return lambda: predict_geotiff(
        convolution(1),  # it divides by 255 itself
        str(scene),
        str(out),
        tile_size=SIZE,
        overlap=OVERLAP,
        num_classes=CLASSES,
        output_dtype="uint8",
        output_nodata=255,
        postprocess_fn=lambda logits: logits.argmax(0).astype("uint8"),
        device="cpu",
        verbose=False,
    )


def file_monai(scene: Path, out: Path, side: int) -> Job:
    import rasterio
    import torch
    from monai.inferers import sliding_window_inference

    def run() -> None:
        with rasterio.open(scene) as dataset:
            image = torch.from_numpy(dataset.read().astype("float32"))[None]
        with torch.inference_mode():
            blended = sliding_window_inference(
                image, SIZE, 1, convolution(1 / 255), overlap=OVERLAP / SIZE, mode="gaussian"
            )
        write_map(out, blended[0].argmax(0).byte().numpy(), side)

    return run


def file_loop(scene: Path, out: Path, side: int) -> Job:
    import rasterio
    import torch
    from rasterio.windows import Window

    def run() -> None:
        network = convolution(1 / 255)
        with (
            rasterio.open(scene) as source,
            rasterio.open(out, "w", **map_profile(side)) as target,
            torch.inference_mode(),
        ):
            for row in range(0, side, SIZE):
                for col in range(0, side, SIZE):
                    window = Window(col, row, SIZE, SIZE)
                    pixels = torch.from_numpy(source.read(window=window).astype("float32"))[None]
                    target.write(network(pixels)[0].argmax(0).byte().numpy(), 1, window=window)

    return run


RUNS = {
    "blend": {"geoasanet": blend_ours, "MONAI": blend_monai},
    "file": {"geoasanet": file_ours, "geoai": file_geoai, "MONAI": file_monai, "window loop": file_loop},
}


def measure_here(kind: str, name: str, scene: str, out: str, side: int) -> None:
    """Run one job in this process and print what it took."""
    import torch

    torch.set_num_threads(1)
    run = RUNS[kind][name](Path(scene), Path(out), side)
    before, cpu, wall = peak_mb(), time.process_time(), time.perf_counter()
    run()
    figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "mb": peak_mb() - before}
    print(json.dumps(figures))


def measure(python: str, *arguments: str) -> dict[str, float]:
    """Run one job in a process of its own."""
    command = [python, __file__, "--run", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(kind: str, side: int, figures: dict[str, list[dict[str, float]]]) -> None:
    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in figures.items()
    }
    ours = middle["geoasanet"]
    print(f"\n{kind}, {side} x {side}, median of {len(figures['geoasanet'])}")
    print("| | CPU ns/px | / ours | wall s | / ours | MB | / ours |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name, run in middle.items():
        cells = [f"{run['cpu'] / side**2 * 1e9:.0f}", f"{run['cpu'] / ours['cpu']:.1f}", f"{run['wall']:.2f}"]
        cells += [f"{run['wall'] / ours['wall']:.1f}", f"{run['mb']:.0f}", f"{run['mb'] / ours['mb']:.1f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", default="all", choices=["all", *RUNS])
    parser.add_argument("--side", type=int, default=4096, help="rows and columns of the scene, a multiple of 512")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--noise", action="store_true", help="a scene of random bytes")
    parser.add_argument("--geoai-python", help="interpreter that has geoai-py, rasterio and torch")
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        kind, name, scene, out, side = options.run
        measure_here(kind, name, scene, out, int(side))
        return
    import torch

    from geoasanet.tools.machine import describe_machine

    machine = describe_machine(torch.device("cpu"))
    print(f"machine {machine.processor}, {machine.cores} cores, load {machine.load}, torch {machine.torch}")
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.tif"
        write_scene(scene, options.side, options.noise)
        for kind in RUNS if options.kind == "all" else [options.kind]:
            pythons = {name: sys.executable if name != "geoai" else options.geoai_python for name in RUNS[kind]}
            figures: dict[str, list[dict[str, float]]] = {name: [] for name, python in pythons.items() if python}
            for _ in range(options.repeat):
                for name, runs in figures.items():
                    with tempfile.TemporaryDirectory(dir=folder) as out:
                        arguments = kind, name, str(scene), f"{out}/map.tif", str(options.side)
                        runs.append(measure(pythons[name], *arguments))
            report(kind, options.side, figures)


if __name__ == "__main__":
    main()
