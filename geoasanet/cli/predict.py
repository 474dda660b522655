"""``geoasanet predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.errors import GeoASANetError
from geoasanet.garbage import uncollected

_FAILURES = 3
"""Scenes whose reasons are told when several have failed."""


@click.command("predict")
@click.argument("rgb", required=False)
@click.argument("sar", required=False)
@options.checkpoint
@click.option(
    "-o",
    "--out",
    type=options.PATH,
    help="The map, or with --scenes a folder.  [default: <RGB stem>_landcover.tif; maps]",
)
@click.option("--scenes", type=options.PATH, help="Map many: a CSV file (rgb,sar) or a STAC ItemCollection (.json).")
@click.option(
    "--rgb-asset", "rgb_assets", multiple=True, help="Key of optical assets in --scenes.  [default: visual, …]"
)
@click.option("--sar-asset", "sar_assets", multiple=True, help="Key of SAR assets in --scenes.  [default: sar, vv, …]")
@click.option("--window", type=click.IntRange(min=32), help="Window side in pixels.  [default: the checkpoint's]")
@click.option("--overlap", type=click.IntRange(min=0), help="Overlap of windows in pixels.  [default: 64]")
@click.option(
    "--blend", type=click.Choice(["hann", "gaussian", "flat"]), default="hann", show_default=True, help="Window weight."
)
@click.option("--batch-size", type=options.AutoInteger(), default="auto", show_default=True, help="Windows at a time.")
@options.device
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@options.scheduler
@options.precision
@options.compile_network
@options.tta
@click.option("--aoi", type=options.PATH, help="Map only inside these polygons (any vector file, any CRS).")
@click.option("--bbox", type=float, nargs=4, metavar="L B R T", help="Map only this box: left bottom right top.")
@click.option("--bbox-crs", metavar="CRS", help="CRS of --bbox, such as EPSG:4326.  [default: the RGB raster's]")
@click.option("--probabilities", type=options.PATH, help="Also write every class's probability.")
@click.option("--confidence", type=options.PATH, help="Also write the probability of the mapped class.")
@click.option("--rgb-bands", type=options.IntegerList(), help="Red, green and blue band.  [default: 1,2,3]")
@click.option("--sar-bands", type=options.IntegerList(), help="SAR bands.  [default: the first ones]")
@click.option(
    "--sar-scale",
    type=click.Choice(["auto", "linear", "db", "none"]),
    default="auto",
    show_default=True,
    help="What the SAR values are.",
)
@click.option(
    "--missing-sar",
    type=click.Choice(["mask", "fill"]),
    default="mask",
    show_default=True,
    help="Pixels without SAR: nodata, or mapped from RGB alone.",
)
@options.on_error
@click.option("--vectorize", type=options.PATH, metavar="OUT.gpkg", help="Also write polygons.")
@click.option("--quicklook", type=options.PATH, metavar="OUT.png", help="Also draw RGB, SAR, map and confidence.")
@click.option("--stac", is_flag=True, help="Also write a STAC Item of the outputs beside the map.")
@options.resume
@options.overwrite
@options.dry_run
@options.json_output
@with_console
def command(
    console: Console, *, rgb: str | None, sar: str | None, scenes: Path | None, bbox: tuple[float, ...] | None,
    rgb_assets: tuple[str, ...], sar_assets: tuple[str, ...], **arguments: Any
) -> None:  # fmt: skip
    """Map a scene: RGB and SAR raster in, land-cover GeoTIFF out.

    The map is a Cloud Optimized GeoTIFF on the RGB raster's grid, with class names, colours and overviews. The SAR
    raster may have another CRS, resolution and extent.

    \b
    geoasanet predict scene_rgb.tif scene_sar.tif -c asanet.safetensors
    geoasanet predict rgb.vrt sar.tif -c runs/latest --aoi city.gpkg --vectorize city_landcover.gpkg
    geoasanet predict province_rgb.vrt province_sar.vrt --dry-run
    geoasanet predict "s2/*_TCI.tif" "s1/*_VV.tif"   # several files as one raster
    geoasanet predict --scenes list.csv -o maps --vectorize "maps/{}.gpkg"
    """
    if arguments["gpus"] > 1 and arguments["scheduler"] is None and not arguments["dry_run"]:
        from geoasanet.inference.starting import prepare_workers

        prepare_workers(arguments["device"])
    chosen = tuple(bbox) if bbox else None
    if scenes is not None:
        if rgb is not None:
            raise click.UsageError("--scenes names all files; RGB and SAR do not go with it.")
        _map_scenes(console, scenes, {"rgb_assets": rgb_assets, "sar_assets": sar_assets, "bbox": chosen, **arguments})
        return
    if rgb is None or sar is None:
        raise click.UsageError("RGB and SAR raster are needed: geoasanet predict RGB SAR, or --scenes LIST.")
    with uncollected():
        from geoasanet.tools.predict import predict

    outcome: Any = predict(rgb, sar, bbox=chosen, progress=console.progress, **arguments)  # type: ignore[call-overload]
    console.warn(outcome.warnings)
    console.report(outcome.to_dict(), outcome.lines() if arguments["dry_run"] else _lines(outcome))


def _map_scenes(console: Console, scenes: Path, arguments: dict[str, Any]) -> None:
    with uncollected():
        from geoasanet.tools.predictmany import REPORT, predict_scenes

    given = {name: value for name, value in arguments.items() if value not in (None, ())}
    result = predict_scenes(scenes, progress=console.progress, **given)
    console.warn(result.warnings)
    for scene in result.scenes:
        console.warn([f"{scene.name}: {warning}" for warning in scene.warnings])
    made = len(result.scenes) - result.failed
    lines = [
        f"{scene.map}{' (from an earlier run)' if scene.earlier else ''}" for scene in result.scenes if not scene.error
    ]
    console.report(
        result.to_dict(), [*lines, f"{made} of {len(result.scenes)} scenes mapped in {result.seconds:.1f} s"]
    )
    if result.failed:
        failures = [f"{scene.name}: {scene.error}" for scene in result.scenes if scene.error]
        if len(failures) > _FAILURES:
            failures[_FAILURES:] = [f"All reasons are in {result.folder / REPORT}."]
        raise GeoASANetError(
            f"{result.failed} of {len(result.scenes)} scenes of {scenes} have no map. {' '.join(failures)}"
        )


def _lines(result: Any) -> list[str]:
    total = sum(result.class_pixels.values())
    width = max(map(len, result.class_pixels))
    lines = [f"Classes by {result.checkpoint}:"]
    for name, pixels in result.class_pixels.items():
        share = 100 * pixels / total if total else 0.0
        lines.append(f"  {name:<{width}}  {share:5.1f} %  {pixels} px")
    if result.nodata_pixels:
        lines.append(f"  {'(nodata)':<{width}}           {result.nodata_pixels} px")
    outputs = {
        "Map": result.map,
        "Confidence": result.confidence,
        "Probabilities": result.probabilities,
        "Polygons": result.polygons,
        "Quicklook": result.quicklook,
        "STAC Item": result.stac,
    }
    lines += [f"{label}: {path}" for label, path in outputs.items() if path is not None]
    return [*lines, f"{result.windows} windows in {result.seconds:.1f} s"]
