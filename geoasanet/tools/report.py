"""An evaluation as one HTML file that needs nothing else: tables, charts, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoasanet import __version__
from geoasanet.classes import NODATA, ClassSchema, Color
from geoasanet.design import Estimate
from geoasanet.errors import OutputError
from geoasanet.files import atomic_output
from geoasanet.metrics import Metrics
from geoasanet.raster.features import LabelFeatures
from geoasanet.raster.figure import BLANK, colorize
from geoasanet.raster.tally import Tally
from geoasanet.tools.charts import Interval, bars, intervals, picture, swatch
from geoasanet.tools.reportstyle import CSS
from geoasanet.tools.sample import SampleAccuracy

if TYPE_CHECKING:
    from geoasanet.tools.evaluate import EvaluateResult

_AGREE, _DIFFER = (214, 218, 214), (206, 52, 52)


def write_report(result: EvaluateResult, found: Tally, points: LabelFeatures | None, out: Path) -> None:
    """Write the report of an evaluation; it appears under its name when whole.

    Args:
        result: What was found.
        found: The pass over the map, with small pictures.
        points: The reference points, where the labels are points.
        out: The HTML file.

    Raises:
        OutputError: If it cannot be written.
    """
    unit = "points" if result.kind == "points" else "pixels"
    names, schema = result.classes.names, result.classes
    sections = [
        _section("", _cards(result, unit) + _notes(result.warnings)),
        _section("Map and labels", _pictures(found, points, schema)),
        _section(
            "Accuracy by class",
            _class_table(result.metrics, schema) + _class_bars(result.metrics, schema),
            f"Over the {unit} compared, each counting once. Precision is the user's accuracy, recall the producer's.",
        ),
        _section(
            "Confusion matrix",
            confusion_table(result.metrics.matrix, schema, unit),
            f"Rows are truth, columns the map. Each cell: {unit}, and their share of the row.",
        ),
    ]
    if result.sample is not None:
        sections += _sample(result.sample, schema, *result.area_unit)
    else:
        area_unit, size = result.area_unit
        areas = [[_label(n, c), _area(result.class_area_m2[n] / size)] for n, c in _classes(schema)]
        sections.append(_section("Mapped area", _table(["class", f"{area_unit} on the ground"], areas)))
    sections.append(_section("Provenance", _provenance(result, names)))
    title = f"Accuracy of {Path(result.map).name}"
    text = page(title, f"against {Path(result.labels).name} ({result.kind})", sections)
    try:
        with atomic_output(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Report {out} cannot be written ({error.strerror or error}).") from error


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """Return a whole HTML page.

    Args:
        title: Headline.
        subtitle: Line below it.
        sections: HTML of the sections.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n"
        + "\n".join(sections)
        + "</main></body></html>\n"
    )


def confusion_table(matrix: NDArray[np.int64], schema: ClassSchema, unit: str) -> str:
    """Return a confusion matrix, rows truth, shaded by the share of each row."""
    totals = matrix.sum(axis=1)
    head = "".join(f"<th>{_label(n, c)}</th>" for n, c in _classes(schema))
    rows = []
    for i, (name, color) in enumerate(_classes(schema)):
        cells = []
        for j, count in enumerate(matrix[i].tolist()):
            share = count / totals[i] if totals[i] else 0.0
            tint = "36,128,84" if i == j else "196,62,52"
            strength = min(0.85, 0.06 + 0.75 * share) if count else 0.0
            ink = ' class="light"' if strength > 0.55 else ""
            percent = f"<small>{100 * share:.1f} %</small>" if totals[i] else "<small>–</small>"
            cells.append(f'<td{ink} style="background:rgba({tint},{strength:.3f})">{count:,}{percent}</td>')
        total = f"<td class='sum'>{int(totals[i]):,}</td>"
        rows.append(f"<tr><th>{_label(name, color)}</th>{''.join(cells)}{total}</tr>")
    sums = "".join(f"<td class='sum'>{v:,}</td>" for v in [*matrix.sum(axis=0).tolist(), int(matrix.sum())])
    return (
        f'<div class="scroll"><table class="heat"><thead><tr><th>truth \\ map, {escape(unit)}</th>{head}<th>total</th>'
        f"</tr></thead><tbody>{''.join(rows)}<tr><th>total</th>{sums}</tr></tbody></table></div>"
    )


def _section(title: str, body: str, note: str = "") -> str:
    head = f"<h2>{escape(title)}</h2>" if title else ""
    return f"<section>{head}{f'<p class=note>{escape(note)}</p>' if note else ''}{body}</section>"


def _cards(result: EvaluateResult, unit: str) -> str:
    metrics, counts = result.metrics, result.counts
    cards = [
        (f"overall accuracy, {unit}", f"{metrics.accuracy:.3f}"),
        ("mIoU", _number(metrics.mean_iou)),
        ("mean F1", _number(metrics.mean_f1)),
        ("kappa", _number(metrics.kappa)),
    ]
    if result.sample is not None:
        overall = result.sample.estimates.overall
        cards.insert(0, ("overall accuracy of the whole map, estimated", _plus_minus(overall)))
    rest = [f"{counts.unlabelled:,} unlabelled", f"{counts.unmapped:,} where the map has no class"]
    rest += [f"{counts.outside:,} beyond the map"] if counts.outside else []
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in cards)
    return f'<div class="cards">{tiles}</div><p>{counts.compared:,} {unit} compared; {", ".join(rest)}.</p>'


def _notes(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<ul class="warnings">{items}</ul>' if items else ""


def _pictures(found: Tally, points: LabelFeatures | None, schema: ClassSchema) -> str:
    small = found.thumbnail
    figures = [picture(colorize(small.mapped, schema), "Map")]
    if points is None:
        both = (small.mapped != NODATA) & (small.labels != NODATA)
        differ = np.full((*both.shape, 3), BLANK, np.uint8)
        differ[both] = _AGREE
        differ[both & (small.mapped != small.labels)] = _DIFFER
        figures += [picture(colorize(small.labels, schema), "Labels"), picture(differ, "Where they differ (red)")]
    else:
        pale = (colorize(small.mapped, schema).astype(np.uint16) + 2 * 255) // 3
        figures.append(picture(pale.astype(np.uint8), "Points: right (dark) and wrong (red)", _marks(found, points)))
    legend = "".join(f"<span>{swatch(color)}{escape(name)}</span>" for name, color in _classes(schema))
    return f'<div class="pictures">{"".join(figures)}</div><p class="legend">{legend}</p>'


def _marks(found: Tally, points: LabelFeatures) -> str:
    """Return a circle for each point that can be compared, wrong ones last."""
    xy = shapely.get_coordinates(points.geometry)
    used = (points.ids != NODATA) & (found.at_points != NODATA)
    wrong = points.ids != found.at_points
    marks = []
    for index in [*np.flatnonzero(used & ~wrong), *np.flatnonzero(used & wrong)]:
        x, y = xy[index, 0] / found.thumbnail.factor[1], xy[index, 1] / found.thumbnail.factor[0]
        marks.append(f'<circle class="{"wrong" if wrong[index] else "right"}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>')
    return "".join(marks)


def _class_table(metrics: Metrics, schema: ClassSchema) -> str:
    rows = [
        [
            _label(n, c),
            *(_number(v[i]) for v in (metrics.iou, metrics.precision, metrics.recall, metrics.f1)),
        ]
        for i, (n, c) in enumerate(_classes(schema))
    ]
    means = (metrics.mean_iou, metrics.mean_precision, metrics.mean_accuracy, metrics.mean_f1)
    rows.append(["mean", *(_number(v) for v in means)])
    return _table(["class", "IoU", "precision", "recall", "F1"], rows)


def _class_bars(metrics: Metrics, schema: ClassSchema) -> str:
    values = list(zip(metrics.iou.tolist(), metrics.precision.tolist(), metrics.recall.tolist(), strict=True))
    return bars(schema.names, schema.colors, values, ("IoU", "precision", "recall"))


def _sample(sample: SampleAccuracy, schema: ClassSchema, unit: str, size: float) -> list[str]:
    found, percent = sample.estimates, f"{100 * sample.level:g} %"
    rows, spans = [], []
    for k, (name, color) in enumerate(_classes(schema)):
        area, margin = (value / size for value in sample.area_m2(k))
        rows.append(
            [
                _label(name, color),
                _plus_minus(found.users[k]),
                _plus_minus(found.producers[k]),
                _area(sample.mapped_m2[k] / size),
                f"{_area(area)} ± {_area(margin)}",
                f"{100 * found.shares[k].value:.1f} %",
            ]
        )
        spans.append(Interval(area, area - margin, area + margin))
    head = ["class", "user's accuracy", "producer's accuracy", f"mapped {unit}", f"estimated {unit}", "share"]
    body = f"<p>Overall accuracy <b>{escape(_plus_minus(found.overall))}</b></p>" + _table(head, rows)
    note = (
        f"{sample.points} points, taken as {sample.design}; ± is half a {percent} confidence interval. The estimates "
        f"speak for {sample.total_m2 / size:,.4g} {unit} of mapped ground. Areas are corrected for the map's errors."
    )
    chart = intervals(schema.names, schema.colors, spans, [a / size for a in sample.mapped_m2], unit)
    cells = [
        [_label(n, c), *(_percent(float(v)) for v in found.matrix[i])] for i, (n, c) in enumerate(_classes(schema))
    ]
    strata = [[escape(s.name), f"{100 * s.share:.2f} %", str(s.points)] for s in sample.strata]
    return [
        _section("Estimates for the whole map", body, note),
        _section(
            "Area by class",
            chart,
            f"Dots with {percent} confidence intervals: estimated. Pale bars: as the map has it.",
        ),
        _section(
            "Estimated confusion matrix",
            _table(["truth \\ map", *(_label(n, c) for n, c in _classes(schema))], cells),
            "Share of the mapped area; rows are truth, columns the map.",
        ),
        _section("Strata", _table(["stratum", "share", "points"], strata)),
    ]


def _provenance(result: EvaluateResult, names: Sequence[str]) -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = {
        "map": result.map,
        "labels": result.labels,
        "classes": ", ".join(f"{i} {name}" for i, name in enumerate(names)),
        **{f"map: {key}": value for key, value in result.provenance.items()},
        "made by": f"geoasanet {__version__}, {now}",
    }
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items())
    return f'<table class="facts">{rows}</table>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = (f"<tr><th>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _classes(schema: ClassSchema) -> list[tuple[str, Color]]:
    return list(zip(schema.names, schema.colors, strict=True))


def _label(name: str, color: Color) -> str:
    """Return a class's colour and name, which may be broken at its underscores."""
    return f"{swatch(color)}{escape(name).replace('_', '_<wbr>')}"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def _area(area: float) -> str:
    if not math.isfinite(area):
        return "–"
    return f"{area:,.0f}" if area >= 1000 else f"{area:.3g}"


def _plus_minus(estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return "–"
    return f"{estimate.value:.3f} ± {_number(estimate.margin)}"
