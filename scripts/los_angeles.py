#!/usr/bin/env python
"""Land cover of western Los Angeles (Sentinel-1/2, 10 m): how the packaged checkpoint s1s2-10m is made and judged.

    python scripts/los_angeles.py tile   --source LOS_ANGELES --work WORK    tiles, split by blocks of 2 x 2 tiles
    python scripts/los_angeles.py train  --work WORK --seeds 0 1 2           configs/asanet_small.yaml, each seed
    python scripts/los_angeles.py report --source LOS_ANGELES --work WORK    held-out blocks and points → results
    python scripts/los_angeles.py ship   --work WORK                         the best on val → geoasanet/checkpoints/

The scene's own grid, its labels and points are described in its README. Training sees 70 % of the blocks, the choice of
checkpoint 15 %, the figures come from the other 15 % and from points that were read without the labels.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def tile(source: Path, tiles: Path) -> None:
    import geoasanet as ga

    labels = source / "la_labels.tif"
    result = ga.tile(
        source / "la_rgb.tif",
        source / "la_sar.tif",
        labels=labels,
        out=tiles,
        classes=source / "classes.yaml",
        block=2,
        overwrite=True,
    )
    print(result)


def train_all(work: Path, seeds: list[int], threads: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    import torch

    from geoasanet.tools.train import train

    torch.set_num_threads(threads)
    for seed in seeds:
        out = work / "runs" / f"asanet_{seed}"
        if (out / "done").exists():
            continue
        print(f"seed {seed}", flush=True)
        if (out / "state.pt").exists():
            result = train(resume=out)
        else:
            result = train("asanet_small", data=work / "tiles", out=out, settings=[f"seed={seed}"], overwrite=True)
        assert result.metrics is not None
        print(f"  val mIoU {result.metrics.mean_iou:.4f} in {result.seconds / 60:.1f} min", flush=True)
        (out / "done").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["tile", "train", "report", "ship"])
    parser.add_argument("--source", type=Path, default=Path("../shared/data/los_angeles"), help="folder of the scene")
    parser.add_argument("--work", type=Path, required=True, help="folder for tiles and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    given = parser.parse_args()
    if given.task == "tile":
        tile(given.source, given.work / "tiles")
    elif given.task == "train":
        train_all(given.work, given.seeds, given.threads)


if __name__ == "__main__":
    main()
