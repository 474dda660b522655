"""``geoasanet eval``: accuracy of a checkpoint on tiles, or of a map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.garbage import uncollected

if TYPE_CHECKING:
    from geoasanet.tools.evaluate_reliability import Calibration
    from geoasanet.tools.evaluate_result import DatasetEvaluation, EvaluateResult, MapEvaluation
    from geoasanet.tools.sample import SampleAccuracy


@click.command("eval")
@options.checkpoint
@click.option("--data", metavar="DATASET", help="Dataset folder.  [default: tiles]")
@click.option("--split", type=click.Choice(["val", "test", "train"]), help="Whose tiles to look at.  [default: val]")
@options.tta
@options.device
@click.option("--batch-size", type=options.AutoInteger(), default="auto", show_default=True, help="Tiles at a time.")
@options.precision
@click.option(
    "--calibrate",
    metavar="OUT.safetensors",
    help="Fit the checkpoint's temperature on these tiles, write it with it, and judge that one.",
)
@click.option("--map", metavar="MAP", help="Judge a finished map instead: a raster of class ids.")
@click.option(
    "--labels",
    metavar="LABELS",
    help="The truth for the map: a raster on any grid, polygons or points in any CRS.",
)
@click.option("--class-field", metavar="NAME", help="Field with class ids or names.  [default: class_name or class_id]")
@click.option(
    "--strata",
    metavar="SIZES.csv",
    help="Sizes of the strata that points were drawn from (columns stratum,size), if these are not the map's classes.",
)
@click.option(
    "--confidence-level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Confidence level of the intervals.  [default: 0.95]",
)
@click.option("--report", metavar="REPORT.html", help="Write tables, charts and pictures to one HTML file.")
@options.overwrite
@options.json_output
@with_console
def command(console: Console, **arguments: Any) -> None:
    """Say how good a checkpoint is on labelled tiles, or how good a finished map is.

    A checkpoint is run over the tiles of a split that was held back (val, or test); every labelled pixel with data of
    both sensors counts once. The report shows the best and worst tiles.

    With --map, the map is compared with labels: against a raster or polygons every pixel counts that has both a label
    and a class. Points are taken for a sample: beside the plain counts, accuracy and areas of the whole map are
    estimated with confidence intervals (Olofsson et al. 2014). Areas are true ground areas.

    Classes are matched by name where both sides have names, else by id.

    \b
    geoasanet eval
    geoasanet eval -c asanet.safetensors --data tiles --split test --report report.html
    geoasanet eval -c old.safetensors --calibrate calibrated.safetensors
    geoasanet eval --map scene_rgb_landcover.tif --labels points.gpkg
    """
    from geoasanet.errors import ConfigError

    with uncollected():
        from geoasanet.tools.evaluate import evaluate, half_of

    try:
        half_of(arguments)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    result = evaluate(**arguments, progress=console.progress)
    console.warn(result.warnings)
    console.report(result.to_dict(), _lines(result))


def _lines(result: EvaluateResult) -> list[str]:
    from geoasanet.tools.evaluate_result import DatasetEvaluation, MapEvaluation

    metrics, counts = result.metrics, result.counts
    names = result.classes.names
    wide = max(len("class"), *(len(name) for name in names))
    lines = [
        f"{result.title}: {counts.compared:,} {result.unit} compared ({counts.left_out})",
        f"  overall accuracy {metrics.accuracy:.4f}   mIoU {_number(metrics.mean_iou)}   "
        f"mean F1 {_number(metrics.mean_f1)}   kappa {_number(metrics.kappa)}",
        f"  {'class':<{wide}}     IoU  precision  recall      F1",
    ]
    for i, name in enumerate(names):
        values = (metrics.iou[i], metrics.precision[i], metrics.recall[i], metrics.f1[i])
        iou, precision, recall, f1 = (_number(v) for v in values)
        lines.append(f"  {name:<{wide}}  {iou:>6}     {precision:>6}  {recall:>6}  {f1:>6}")
    lines += [f"  confusion matrix, {result.unit} (rows truth, columns {result.judged})"]
    numbers = max(len(str(int(metrics.matrix.max()))), 4)
    lines += [
        f"  {name:<{wide}}  " + "  ".join(f"{v:>{numbers}}" for v in row)
        for name, row in zip(names, metrics.matrix.tolist(), strict=True)
    ]
    if isinstance(result, DatasetEvaluation):
        lines += [*_calibration(result.calibration), *_extremes(result)]
        if result.calibrated is not None:
            lines.append(f"Calibrated checkpoint: {result.calibrated}")
    elif isinstance(result, MapEvaluation) and result.sample is not None:
        lines += _estimates(result, result.sample, wide)
    if result.report is not None:
        lines.append(f"Report: {result.report}")
    return lines


def _calibration(calibration: Calibration) -> list[str]:
    kinds = [(f"temperature {calibration.temperature:.4g}", calibration.found), ("temperature 1", calibration.without)]
    return [
        f"  confidence, {name}: ECE {_number(found.ece)}   cross entropy {_number(found.cross_entropy)}   "
        f"Brier {_number(found.brier)}"
        for name, found in kinds
        if found is not None
    ]


def _extremes(result: DatasetEvaluation) -> list[str]:
    return [
        f"{title} by their own overall accuracy: " + ", ".join(f"{score.name} {score.accuracy:.4f}" for score in scores)
        for title, scores in (("Worst tiles", result.worst), ("Best tiles", result.best))
        if scores
    ]


def _estimates(result: MapEvaluation, sample: SampleAccuracy, wide: int) -> list[str]:
    found, (unit, size) = sample.estimates, result.area_unit
    mapped, area = f"mapped {unit}", f"area {unit}"
    lines = [
        f"Estimated for the whole map, {100 * sample.level:g} % confidence; points {sample.design}",
        f"  overall accuracy {_number(found.overall.value)} ± {_number(found.overall.margin)}",
        f"  {'class':<{wide}}  {'user’s accuracy':>15}  {'producer’s':>15}  {mapped:>10}  {area:>17}",
    ]
    for k, name in enumerate(result.classes.names):
        users, producers = (f"{_number(e.value)} ± {_number(e.margin)}" for e in (found.users[k], found.producers[k]))
        areas = " ± ".join(_area(value / size) for value in sample.area_m2(k))
        lines.append(
            f"  {name:<{wide}}  {users:>15}  {producers:>15}  {_area(sample.mapped_m2[k] / size):>10}  {areas:>17}"
        )
    return lines


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _area(area: float) -> str:
    return "–" if math.isnan(area) else f"{area:.4g}"
