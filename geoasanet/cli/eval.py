"""``geoasanet eval``: accuracy of a map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console

if TYPE_CHECKING:
    from geoasanet.tools.evaluate import EvaluateResult


@click.command("eval")
@click.option("--map", "map_path", metavar="MAP", help="Class map to judge: a raster of class ids.")
@click.option(
    "--labels",
    metavar="LABELS",
    help="The truth: a raster on any grid, polygons or points in any CRS.",
)
@click.option("--class-field", metavar="NAME", help="Field with class ids or names. [default: class_name or class_id]")
@click.option(
    "--strata",
    metavar="SIZES.csv",
    help="Sizes of the strata that points were drawn from (columns stratum,size), if these are not the map's classes.",
)
@click.option(
    "--confidence-level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    metavar="P",
    help="Confidence level of the intervals.",
)
@click.option("--report", metavar="REPORT.html", help="Write tables, charts and pictures to one HTML file.")
@options.overwrite
@options.json_output
@with_console
def command(console: Console, *, map_path: str | None, labels: str | None, **arguments: Any) -> None:
    """Say how good a finished map is.

    Against a raster or polygons every pixel counts that has both a label and a class. Points are taken for a sample:
    beside the plain counts, accuracy and areas of the whole map are estimated with confidence intervals (Olofsson et
    al. 2014). Classes are matched by name where both sides have names, else by id. Areas are true ground areas.
    """
    missing = [name for name, value in (("--map", map_path), ("--labels", labels)) if value is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise click.UsageError(f"{' and '.join(missing)} {verb} needed: geoasanet eval --map MAP --labels LABELS")
    from geoasanet.tools.evaluate import evaluate

    assert map_path is not None and labels is not None
    result = evaluate(map=map_path, labels=labels, progress=console.progress, **arguments)
    console.warn(result.warnings)
    console.report(result.to_dict(), _lines(result))


def _lines(result: EvaluateResult) -> list[str]:
    metrics, counts = result.metrics, result.counts
    unit = "points" if result.kind == "points" else "pixels"
    rest = [f"{counts.unlabelled} unlabelled", f"{counts.unmapped} where the map has no class"]
    rest += [f"{counts.outside} beyond the map"] if counts.outside else []
    names = result.classes.names
    wide = max(len(name) for name in names)
    lines = [
        f"{result.map} against {result.labels}: {counts.compared} {unit} compared ({', '.join(rest)})",
        f"  overall accuracy {metrics.accuracy:.4f}   mIoU {_number(metrics.mean_iou)}   "
        f"mean F1 {_number(metrics.mean_f1)}   kappa {_number(metrics.kappa)}",
        f"  {'class':<{wide}}     IoU  precision  recall      F1",
    ]
    for i, name in enumerate(names):
        values = (metrics.iou[i], metrics.precision[i], metrics.recall[i], metrics.f1[i])
        iou, precision, recall, f1 = (_number(v) for v in values)
        lines.append(f"  {name:<{wide}}  {iou:>6}     {precision:>6}  {recall:>6}  {f1:>6}")
    lines += [f"  confusion matrix, {unit} (rows truth, columns map)"]
    numbers = max(len(str(int(metrics.matrix.max()))), 4)
    lines += [
        f"  {name:<{wide}}  " + "  ".join(f"{v:>{numbers}}" for v in row)
        for name, row in zip(names, metrics.matrix.tolist(), strict=True)
    ]
    if result.sample is not None:
        lines += _estimates(result, wide)
    if result.report is not None:
        lines.append(f"Report: {result.report}")
    return lines


def _estimates(result: EvaluateResult, wide: int) -> list[str]:
    sample = result.sample
    assert sample is not None
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
