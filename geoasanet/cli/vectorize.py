"""``geoasanet vectorize``: polygons of a class map."""

from __future__ import annotations

from typing import Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.garbage import uncollected


@click.command("vectorize")
@click.argument("map_path", metavar="[MAP]", required=False)
@click.option(
    "-o",
    "--out",
    metavar="OUT.{gpkg,fgb,parquet,geojson,shp}",
    help="Vector file to write; GeoJSON is always WGS 84. [default: the map's name with .gpkg]",
)
@click.option(
    "--min-area",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="M2",
    help="Merge regions with less ground area, in m², into the neighbour with the longest shared border.",
)
@click.option(
    "--simplify",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="METRES",
    help="Simplify shared borders, tolerance in metres on the ground (one or two pixels are usual).",
)
@click.option(
    "--smooth",
    type=click.IntRange(0, 6),
    default=0,
    show_default=True,
    metavar="N",
    help="Cut the corners of shared borders N times.",
)
@click.option("--classes", metavar="A,B", help="Write only these classes, by name or id. [default: all]")
@click.option("--confidence", metavar="C.tif", help="Write the mean of this raster, 0 to 1, over each polygon.")
@click.option(
    "--dissolve/--no-dissolve",
    default=False,
    show_default=True,
    help="Write one multipolygon for each class instead of one polygon for each region.",
)
@options.workers
@options.scheduler
@options.overwrite
@options.dry_run
@options.json_output
@with_console
def command(console: Console, *, map_path: str | None, classes: str | None, **arguments: Any) -> None:
    """Write the polygons of a class map.

    MAP is the newest *_landcover.tif of this folder if left out. The polygons cover the map without gaps or overlaps,
    also after --min-area, --simplify and --smooth, and carry class_id, class_name, area_m2 (on the ground, in any
    CRS), perimeter_m and confidence. They open in QGIS with the map's colours and names.
    """
    with uncollected():
        from geoasanet.tools.vectorize import vectorize

    chosen = None if classes is None else [name for name in classes.split(",") if name.strip()]
    outcome: Any = vectorize(map_path, classes=chosen, progress=console.progress, **arguments)
    console.warn(outcome.warnings)
    console.report(
        outcome.to_dict(), outcome.lines() if arguments["dry_run"] else _lines(outcome, dissolve=arguments["dissolve"])
    )


def _lines(result: Any, *, dissolve: bool) -> list[str]:
    parts = f" in {result.features} multipolygons" if dissolve else ""
    lines = [f"  {name}: {area / 1e6:.4g} km²" for name, area in result.class_area_m2.items()]
    return [f"Polygons: {result.path} ({result.polygons}{parts}, {result.seconds:.1f} s)", *lines]
