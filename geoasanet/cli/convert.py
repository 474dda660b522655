"""``geoasanet convert``: a published checkpoint of the original code becomes one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.errors import ConfigError
from geoasanet.garbage import uncollected


@click.command("convert", short_help="Convert a checkpoint of the original ASANet code.")
@click.argument("official", metavar="OFFICIAL.pth", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT.safetensors",
    help="Checkpoint to write.",
)
@click.option("--model", default="asanet", show_default=True, help="Network that the file holds.")
@click.option(
    "--num-classes",
    type=click.IntRange(1, 255),
    metavar="N",
    help="Number of classes that the file must have; default: whatever it has.",
)
@click.option(
    "--channel-order",
    type=click.Choice(["bgr", "rgb"]),
    help="Optical channel order that the original was trained with; default: bgr, as the original code reads. "
    "The result always takes red, green, blue.",
)
@click.option(
    "--sar-channels",
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="1 for rasters with one SAR band; 3 keeps the original's three equal bands.",
)
@click.option(
    "--window",
    type=click.IntRange(32, 65536),
    metavar="PX",
    help="Window size; default: the training crop named in the file, else 256.",
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    metavar="SCHEMA.yaml",
    help="Class names and colours; default: those in the file.",
)
@click.option(
    "--mean",
    metavar="V,V,…",
    help="Band means, optical then SAR, in the original's channel order; default: those in the file.",
)
@click.option("--std", metavar="V,V,…", help="Band deviations, likewise.")
@options.overwrite
@options.json_output
@with_console
def command(
    console: Console,
    *,
    official: Path,
    out: Path,
    classes: Path | None,
    mean: str | None,
    std: str | None,
    sar_channels: str,
    **arguments: Any,
) -> None:
    """Convert a checkpoint of the original ASANet code (mmengine .pth) to a self-describing .safetensors.

    Nothing in the file is executed. Classes, palette, band statistics and window are taken from it. The result takes
    RGB rasters and, unless asked otherwise, one SAR band, and gives the original's numbers.
    """
    with uncollected():
        from geoasanet.tools.convert import convert
    from geoasanet.tools.schemafile import read_class_schema

    result = convert(
        official,
        out,
        classes=None if classes is None else read_class_schema(classes),
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        sar_channels=int(sar_channels),
        **arguments,
    )
    console.warn(result.warnings)
    encoder = result.arguments.get("encoder", "")
    size = encoder if isinstance(encoder, str) else f"depths {encoder['depths']}, dims {encoder['dims']}"
    console.report(
        result.to_dict(),
        [
            f"Checkpoint: {result.path}",
            f"  {result.model} ({size}), {result.parameters / 1e6:.2f} M parameters, window {result.window_size} px",
            f"  classes: {', '.join(result.classes.names)}",
        ],
    )


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} must be numbers separated by commas, found {text!r}.") from None
