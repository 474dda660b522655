"""``geoasanet export``: a checkpoint for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.garbage import uncollected


class Batch(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A positive whole number, or ``dynamic``."""

    name = "dynamic|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number or "dynamic"."""
        if value == "dynamic":
            return "dynamic"
        return click.IntRange(min=1).convert(value, param, ctx)


@click.command("export", short_help="Write a checkpoint as ONNX or .pt2, or its STAC Item.")
@options.checkpoint
@click.option(
    "--to",
    type=click.Choice(["onnx", "pt2", "stac"]),
    default="onnx",
    show_default=True,
    help="Format; stac: a STAC Item.",
)
@click.option("-o", "--out", type=options.PATH, help="The file.  [default: <checkpoint>.onnx, .pt2 or .stac.json]")
@click.option(
    "--form",
    type=click.Choice(["stacked", "separate"]),
    help="stacked: one input of all bands, probabilities out, as QGIS Deepness takes it; separate: inputs rgb and sar, "
    "logits out.  [default: stacked for onnx, separate for pt2]",
)
@click.option("--window", type=click.IntRange(min=32), metavar="PX", help="Window side.  [default: the checkpoint's]")
@click.option("--batch", type=Batch(), default="dynamic", show_default=True, help="Windows at a time.")
@click.option(
    "--resolution",
    type=click.FloatRange(0, min_open=True),
    metavar="METRES",
    help="Pixel side that the network was trained on, for Deepness.",
)
@options.overwrite
@options.json_output
@with_console
def command(console: Console, *, out: Path | None, **arguments: Any) -> None:
    """Write a checkpoint's network as ONNX, or as a .pt2 of torch.export, and compare it with the network.

    The file takes pixel values as they are (8-bit grey values, dB, … as the checkpoint says), NaN where there is no
    data, and carries classes, bands and statistics; predict, eval and info take it like a checkpoint. An ONNX file in
    stacked form runs in QGIS with the plugin Deepness on a layer of red, green, blue and SAR bands. --to stac writes
    an Item that describes the checkpoint (extension MLM) for a STAC catalog.

    \b
    geoasanet export -c asanet.safetensors --to onnx --resolution 10
    geoasanet predict scene_rgb.tif scene_sar.tif -c asanet.onnx
    """
    with uncollected():
        from geoasanet.tools.export import export

    console.progress("Exporting", 0, 1)
    result = export(out=out, **arguments)
    console.progress("Exporting", 1, 1)
    console.warn(result.warnings)
    if result.format == "stac":
        console.report(result.to_dict(), [f"STAC Item: {result.path}"])
        return
    said = "not compared with the network"
    if result.difference is not None:
        said = f"logits differ from the network's by at most {result.difference:.1g}"
    console.report(
        result.to_dict(),
        [
            f"Exported: {result.path} ({result.file_size / 2**20:.1f} MiB, {result.form})",
            *(f"  input  {name} {_shape(shape)}, pixel values" for name, shape in result.inputs.items()),
            *(f"  output {name} {_shape(shape)}, {said}" for name, shape in result.output.items()),
        ],
    )


def _shape(shape: tuple[int | str, ...]) -> str:
    return "×".join(str(side) for side in shape)
