"""An evaluation as one HTML file that needs nothing else: tables, charts, pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from geoasanet import __version__
from geoasanet.classes import ClassSchema, Color
from geoasanet.errors import OutputError
from geoasanet.files import atomic_output
from geoasanet.metrics import Matrix, Metrics
from geoasanet.printable import escape
from geoasanet.tools.charts import bars, swatch
from geoasanet.tools.evaluate_result import EvaluateResult
from geoasanet.tools.reportstyle import CSS


def write_page(out: Path, title: str, subtitle: str, sections: Sequence[str]) -> None:
    """Write a whole HTML page; it appears under its name when whole.

    Args:
        out: The HTML file.
        title: Headline.
        subtitle: Line below it.
        sections: HTML of the sections.

    Raises:
        OutputError: If it cannot be written.
    """
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n"
        + "\n".join(sections)
        + "</main></body></html>\n"
    )
    try:
        with atomic_output(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Report {out} cannot be written ({error.strerror or error}).") from error


def headline(result: EvaluateResult, first: Sequence[tuple[str, str]] = ()) -> str:
    """Return the section of headline numbers and warnings.

    Args:
        result: What was found.
        first: Names and values to put before the usual ones.
    """
    metrics, counts = result.metrics, result.counts
    cards = [
        *first,
        (f"overall accuracy, {result.unit}", number(metrics.accuracy)),
        ("mIoU", number(metrics.mean_iou)),
        ("mean F1", number(metrics.mean_f1)),
        ("kappa", number(metrics.kappa)),
    ]
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in cards)
    remarks = "".join(f"<li>{escape(text)}</li>" for text in result.warnings)
    return section(
        "",
        f'<div class="cards">{tiles}</div><p>{counts.compared:,} {result.unit} compared; {escape(counts.left_out)}.</p>'
        + (f'<ul class="warnings">{remarks}</ul>' if remarks else ""),
    )


def accuracy(result: EvaluateResult) -> list[str]:
    """Return the sections that every evaluation has: accuracy by class, and the confusion matrix."""
    metrics, schema, unit = result.metrics, result.classes, result.unit
    return [
        section(
            "Accuracy by class",
            _class_table(metrics, schema, unit) + _class_bars(metrics, schema),
            f"Over the {unit} compared, each counting once. Precision is the user's accuracy, recall the producer's.",
        ),
        section(
            "Confusion matrix",
            _confusion_table(metrics.matrix, schema, unit, result.judged),
            f"Rows are truth, columns the {result.judged}. Each cell: {unit}, and their share of the row.",
        ),
    ]


def _confusion_table(matrix: Matrix, schema: ClassSchema, unit: str, judged: str) -> str:
    """Return a confusion matrix, rows truth, shaded by the share of each row."""
    totals = matrix.sum(axis=1)
    head = "".join(f"<th>{class_label(n, c)}</th>" for n, c in class_list(schema))
    rows = []
    for i, (name, color) in enumerate(class_list(schema)):
        cells = []
        for j, count in enumerate(matrix[i].tolist()):
            share = count / totals[i] if totals[i] else 0.0
            tint = "36,128,84" if i == j else "196,62,52"
            strength = min(0.85, 0.06 + 0.75 * share) if count else 0.0
            ink = ' class="light"' if strength > 0.55 else ""
            percent = f"<small>{100 * share:.1f} %</small>" if totals[i] else "<small>–</small>"
            cells.append(f'<td{ink} style="background:rgba({tint},{strength:.3f})">{count:,}{percent}</td>')
        total = f"<td class='sum'>{int(totals[i]):,}</td>"
        rows.append(f"<tr><th>{class_label(name, color)}</th>{''.join(cells)}{total}</tr>")
    sums = "".join(f"<td class='sum'>{v:,}</td>" for v in [*matrix.sum(axis=0).tolist(), int(matrix.sum())])
    return (
        f'<div class="scroll"><table class="heat"><thead><tr><th>truth \\ {escape(judged)}, {escape(unit)}</th>{head}'
        "<th>total</th>"
        f"</tr></thead><tbody>{''.join(rows)}<tr><th>total</th>{sums}</tr></tbody></table></div>"
    )


def section(title: str, body: str, note: str = "") -> str:
    """Return a section of HTML ``body``, with a title and a note as text."""
    head = f"<h2>{escape(title)}</h2>" if title else ""
    return f"<section>{head}{f'<p class=note>{escape(note)}</p>' if note else ''}{body}</section>"


def legend(schema: ClassSchema) -> str:
    """Return a line of class colours and names."""
    spans = "".join(f"<span>{swatch(color)}{escape(name)}</span>" for name, color in class_list(schema))
    return f'<p class="legend">{spans}</p>'


def facts_table(facts: Mapping[str, str]) -> str:
    """Return a table of names and values, all text."""
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items())
    return f'<table class="facts">{rows}</table>'


def made_by() -> dict[str, str]:
    """Return the fact of which program wrote the report, and when."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"report made by": f"geoasanet {__version__}, {now}"}


def _class_table(metrics: Metrics, schema: ClassSchema, unit: str) -> str:
    labelled = metrics.matrix.sum(axis=1)
    columns = (metrics.iou, metrics.precision, metrics.recall, metrics.f1)
    rows = [
        [class_label(n, c), *(number(v[i]) for v in columns), percent(float(labelled[i] / labelled.sum()))]
        for i, (n, c) in enumerate(class_list(schema))
    ]
    means = (metrics.mean_iou, metrics.mean_precision, metrics.mean_accuracy, metrics.mean_f1)
    rows.append(["mean", *(number(v) for v in means), ""])
    return table(["class", "IoU", "precision", "recall", "F1", f"share of labelled {escape(unit)}"], rows)


def _class_bars(metrics: Metrics, schema: ClassSchema) -> str:
    values = list(zip(metrics.iou.tolist(), metrics.precision.tolist(), metrics.recall.tolist(), strict=True))
    return bars(schema.names, schema.colors, values, ("IoU", "precision", "recall"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = (f"<tr><th>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def class_list(schema: ClassSchema) -> list[tuple[str, Color]]:
    """Return names and colours of the classes."""
    return list(zip(schema.names, schema.colors, strict=True))


def class_label(name: str, color: Color) -> str:
    """Return a class's colour and name, which may be broken at its underscores."""
    return f"{swatch(color)}{escape(name).replace('_', '_<wbr>')}"


def number(value: float) -> str:
    """Return three decimals, a dash for NaN."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def percent(value: float) -> str:
    """Return a share in percent, a dash for NaN."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def short(value: float) -> str:
    """Return three significant digits, or a whole number from 1000; a dash for NaN."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
