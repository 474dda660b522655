"""The HTML report on a finished map."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import shapely

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.design import Estimate
from geoasanet.printable import escape
from geoasanet.raster.features import LabelFeatures
from geoasanet.raster.figure import BLANK, colorize
from geoasanet.raster.tally import Tally
from geoasanet.tools.charts import Interval, intervals, picture
from geoasanet.tools.evaluate_result import MapEvaluation
from geoasanet.tools.report import (
    accuracy,
    class_label,
    class_list,
    facts_table,
    headline,
    legend,
    made_by,
    number,
    percent,
    section,
    short,
    table,
    write_page,
)
from geoasanet.tools.sample import SampleAccuracy

_AGREE, _DIFFER = (214, 218, 214), (206, 52, 52)


def write_map_report(result: MapEvaluation, found: Tally, points: LabelFeatures | None, out: Path) -> None:
    """Write the report of an evaluation; it appears under its name when whole.

    Args:
        result: What was found.
        found: The pass over the map, with small pictures.
        points: The reference points, where the labels are points.
        out: The HTML file.

    Raises:
        OutputError: If it cannot be written.
    """
    schema, sample = result.classes, result.sample
    first = []
    if sample is not None:
        first = [("overall accuracy of the whole map, estimated", _plus_minus(sample.estimates.overall))]
    sections = [
        headline(result, first),
        section("Map and labels", _pictures(found, points, schema)),
        *accuracy(result),
    ]
    if sample is not None:
        sections += _sample(sample, schema, *result.area_unit)
    else:
        area_unit, size = result.area_unit
        areas = [[class_label(n, c), short(result.class_area_m2[n] / size)] for n, c in class_list(schema)]
        sections.append(section("Mapped area", table(["class", f"{area_unit} on the ground"], areas)))
    sections.append(section("Provenance", _provenance(result)))
    title = f"Accuracy of {Path(result.map).name}"
    write_page(out, title, f"against {Path(result.labels).name} ({result.kind})", sections)


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
    return f'<div class="pictures">{"".join(figures)}</div>{legend(schema)}'


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


def _sample(sample: SampleAccuracy, schema: ClassSchema, unit: str, size: float) -> list[str]:
    found, level = sample.estimates, f"{100 * sample.level:g} %"
    rows, spans = [], []
    for k, (name, color) in enumerate(class_list(schema)):
        area, margin = (value / size for value in sample.area_m2(k))
        rows.append(
            [
                class_label(name, color),
                _plus_minus(found.users[k]),
                _plus_minus(found.producers[k]),
                short(sample.mapped_m2[k] / size),
                f"{short(area)} ± {short(margin)}",
                f"{100 * found.shares[k].value:.1f} %",
            ]
        )
        spans.append(Interval(area, area - margin, area + margin))
    head = ["class", "user's accuracy", "producer's accuracy", f"mapped {unit}", f"estimated {unit}", "share"]
    body = f"<p>Overall accuracy <b>{escape(_plus_minus(found.overall))}</b></p>" + table(head, rows)
    note = (
        f"{sample.points} points, taken as {sample.design}; ± is half a {level} confidence interval. The estimates "
        f"speak for {sample.total_m2 / size:,.4g} {unit} of mapped ground. Areas are corrected for the map's errors."
    )
    chart = intervals(schema.names, schema.colors, spans, [a / size for a in sample.mapped_m2], unit)
    cells = [
        [class_label(n, c), *(percent(float(v)) for v in found.matrix[i])]
        for i, (n, c) in enumerate(class_list(schema))
    ]
    strata = [[escape(s.name), f"{100 * s.share:.2f} %", str(s.points)] for s in sample.strata]
    return [
        section("Estimates for the whole map", body, note),
        section(
            "Area by class",
            chart,
            f"Dots with {level} confidence intervals: estimated. Pale bars: as the map has it.",
        ),
        section(
            "Estimated confusion matrix",
            table(["truth \\ map", *(class_label(n, c) for n, c in class_list(schema))], cells),
            "Share of the mapped area; rows are truth, columns the map.",
        ),
        section("Strata", table(["stratum", "share", "points"], strata)),
    ]


def _provenance(result: MapEvaluation) -> str:
    facts = {
        "map": result.map,
        "labels": result.labels,
        "classes": ", ".join(f"{i} {name}" for i, name in enumerate(result.classes.names)),
        **{f"map: {key}": value for key, value in result.provenance.items()},
    }
    return facts_table(facts | made_by())


def _plus_minus(estimate: Estimate) -> str:
    return f"{number(estimate.value)} ± {number(estimate.margin)}" if math.isfinite(estimate.value) else "–"
