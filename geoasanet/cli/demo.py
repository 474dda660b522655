"""``geoasanet demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.garbage import uncollected

if TYPE_CHECKING:
    from geoasanet.tools.demo import DemoResult


@click.command("demo")
@click.option(
    "-o", "--out", type=options.PATH, default="geoasanet-demo", show_default=True, help="Folder for all outputs."
)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Which landscape.")
@click.option(
    "--size", type=click.IntRange(256, 4096), default=1024, show_default=True, help="Height and width, pixels of 10 m."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@options.overwrite
@options.json_output
@with_console
def command(console: Console, *, out: Path, seed: int, size: int, device: str, overwrite: bool) -> None:
    """Make a synthetic scene with known labels and run the whole chain on it.

    Needs no file from anywhere. Writes an optical and a SAR image with clouds over part of the ground, maps them with
    a small bundled checkpoint, compares the map with the labels, turns it into polygons, and draws a picture of it
    all. Scene and checkpoint are synthetic: the figures say nothing about real scenes.
    """
    with uncollected():
        from geoasanet.tools.demo import demo

    result = demo(out, seed=seed, size=size, device=device, overwrite=overwrite, progress=console.progress)
    console.warn(result.warnings)
    console.report(result.to_dict(), _lines(result))


def _lines(result: DemoResult) -> list[str]:
    from geoasanet.synthetic import CLASSES
    from geoasanet.tools.demo import NOTE

    metrics = result.metrics
    width = max(map(len, CLASSES.names))
    lines = [NOTE, "", f"mIoU {metrics.mean_iou:.3f}, overall accuracy {metrics.accuracy:.3f}"]
    if result.cloud_share > 0 and result.cloud_accuracy == result.cloud_accuracy:
        lines.append(
            f"Clouds hide {100 * result.cloud_share:.0f} % of the ground; accuracy there {result.cloud_accuracy:.3f}"
        )
    lines += [f"  {name:<{width}}  IoU {iou:.3f}" for name, iou in zip(CLASSES.names, metrics.iou, strict=True)]
    outputs = {"Scene": result.scene.rgb, "": result.scene.sar, "Truth": result.scene.labels}
    lines += ["", *(f"{label + ':' if label else '':<10}{path}" for label, path in outputs.items())]
    outputs = {"Map": result.map, "Polygons": result.polygons, "Picture": result.picture}
    lines += [f"{label + ':':<10}{path}" for label, path in outputs.items()]
    return [*lines, f"Done in {result.seconds:.0f} s"]
