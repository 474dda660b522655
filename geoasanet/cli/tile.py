"""``geoasanet tile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.garbage import uncollected


class Shares(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Two or three shares separated by commas: ``0.7,0.15,0.15``."""

    name = "TRAIN,VAL,TEST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of shares such as 0.7,0.15,0.15.", param, ctx)


@click.command("tile")
@click.argument("rgb", required=False)
@click.argument("sar", required=False)
@click.option("--labels", metavar="PATH", help="Raster of class ids or polygons, on any grid, in any CRS.")
@click.option("-o", "--out", type=options.PATH, default=Path("tiles"), show_default=True, help="The dataset folder.")
@click.option("--size", type=click.IntRange(min=8), default=256, show_default=True, help="Tile side in pixels.")
@click.option("--overlap", type=click.IntRange(min=0), default=0, show_default=True, help="Tile overlap in pixels.")
@click.option(
    "--format", type=click.Choice(["tif", "png"]), default="tif", show_default=True, help="Image format of the tiles."
)
@click.option(
    "--split", type=Shares(), default="0.7,0.15,0.15", show_default=True, help="Shares of train, val and test."
)
@click.option(
    "--block",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Side, in tiles, of the blocks of ground that go to one split.",
)
@click.option(
    "--min-valid",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Leave out tiles with data of both sensors on less than this share of their pixels.",
)
@click.option("--class-field", metavar="NAME", help="Attribute of polygons that holds class ids or names.")
@click.option("--classes", metavar="schema.yaml", help="Class names and colours.  [default: from the labels]")
@click.option("--scenes", metavar="list.csv", help="Many scenes: a CSV file with columns rgb,sar,labels[,split].")
@click.option(
    "--layout",
    type=click.Choice(["whu-opt-sar", "pie-rgb-sar", "ddhr-sk"]),
    help="Turn the unpacked folder of a published data set into the same layout.",
)
@click.option("--rgb-bands", type=options.IntegerList(), help="Red, green and blue band.  [default: 1,2,3]")
@click.option("--sar-bands", type=options.IntegerList(), help="SAR bands.  [default: all]")
@click.option(
    "--sar-scale",
    type=click.Choice(["auto", "linear", "db", "none"]),
    default="auto",
    show_default=True,
    help="What the SAR values are; linear power is written in decibel, none takes them as they come.",
)
@options.on_error
@options.workers
@options.scheduler
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws another split.")
@options.resume
@options.dry_run
@options.overwrite
@options.json_output
@with_console
def command(console: Console, *, rgb: str | None, sar: str | None, **arguments: Any) -> None:
    """Cut scenes and labels into a dataset to train on.

    Tiles lie on the RGB raster's grid. Whole blocks of ground go to train, val or test, so that neighbours do not
    leak; every class is in train. Band statistics and class weights are in dataset.yaml, outlines with the share of
    each class in tiles.gpkg.

    \b
    geoasanet tile scene_rgb.tif scene_sar.tif --labels labels.gpkg
    geoasanet tile --scenes list.csv --classes schema.yaml --size 512
    geoasanet tile --scenes list.csv --dry-run
    geoasanet tile --scenes list.csv --scheduler tcp://host:8786
    geoasanet tile --layout whu-opt-sar WHU-OPT-SAR -o whu --size 512
    """
    with uncollected():
        from geoasanet.tools.tile import tile

    result = tile(rgb, sar, progress=console.progress, **arguments)
    if arguments["dry_run"]:
        console.warn(result.warnings)
        console.report(result.to_dict(), result.lines())
        return
    for note in result.notes:
        console.note(note)
    console.warn(result.warnings)
    console.report(result.to_dict(), _lines(result))


def _lines(result: Any) -> list[str]:
    tiles = ", ".join(f"{count} {split}" for split, count in result.tiles.items())
    lines = [f"Dataset: {result.path} ({tiles} tiles, {result.seconds:.1f} s)"]
    lines += [f"  left out: {count} windows with {why}" for why, count in result.left_out.items() if count]
    if result.classes is not None:
        width = max(map(len, result.classes.names))
        lines.append(f"  {'share of labels':<{max(width, 15)}}  " + "  ".join(f"{split:>6}" for split in result.tiles))
        for name in result.classes.names:
            shares = []
            for pixels in result.class_pixels.values():
                total = sum(pixels.values())
                shares.append(f"{100 * pixels[name] / total:5.1f}%" if total else "     –")
            lines.append(f"  {name:<{max(width, 15)}}  " + "  ".join(shares))
    return lines
