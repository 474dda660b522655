"""``geoasanet view``: a map as a web page."""

from __future__ import annotations

from typing import Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.garbage import uncollected


@click.command("view")
@click.argument("map_path", metavar="MAP")
@click.option("--rgb", metavar="RGB.tif", help="Optical raster that the map was made from.")
@click.option("--sar", metavar="SAR.tif", help="SAR raster that the map was made from.")
@click.option("--confidence", metavar="C.tif", help="Confidence as predict --confidence writes it.")
@click.option("--polygons", metavar="P.gpkg", help="Polygons as vectorize writes them, for outlines and areas.")
@click.option("-o", "--out", metavar="PAGE.html", default="view.html", show_default=True, help="The page.")
@click.option("--rgb-bands", type=options.IntegerList(), help="Red, green, blue.  [default: the map's, else 1,2,3]")
@click.option("--sar-band", type=click.IntRange(min=1), help="Shown as grey.  [default: the map's, else 1]")
@click.option("--class-field", metavar="NAME", help="Field of the polygons with class names or ids.")
@click.option(
    "--max-side",
    type=click.IntRange(64, 8192),
    default=3072,
    show_default=True,
    metavar="PX",
    help="Longer side of the pictures; larger maps are shown coarser.",
)
@click.option("--open/--no-open", "open_page", default=False, show_default=True, help="Show it in the browser.")
@options.overwrite
@options.json_output
@with_console
def command(console: Console, *, map_path: str, open_page: bool, **arguments: Any) -> None:
    """Write one web page to look at a map, compare it with RGB, SAR and confidence, and pass it on.

    The page is a single file that works without a network: a divider between two of the pictures, legend with the area
    of each class on the ground, polygons under the pointer, scale bar.

    \b
    geoasanet view scene_rgb_landcover.tif --rgb scene_rgb.tif --sar scene_sar.tif --open
    """
    with uncollected():
        from geoasanet.tools.view import view

    result = view(map_path, open=open_page, progress=console.progress, **arguments)
    console.warn(result.warnings)
    width, height = result.pixel_m
    lines = [f"  {name}: {area / 1e6:.4g} km²" for name, area in result.class_area_m2.items()]
    console.report(
        result.to_dict(),
        [
            f"Page: {result.path} ({result.file_size / 2**20:.1f} MiB, {', '.join(result.layers)}; "
            f"{result.width} × {result.height} px of {width:.3g} × {height:.3g} m)",
            *lines,
        ],
    )
