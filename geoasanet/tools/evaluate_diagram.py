"""The reliability diagram of a report: how often pixels are right, against how sure the network was."""

from __future__ import annotations

import math

from geoasanet.tools.evaluate_reliability import BINS, Calibration, Reliability
from geoasanet.tools.report import number, section, table

_SIDE, _LEFT, _TOP, _LOW = 300, 46, 12, 64
"""Side of the square, room at its left and top, and below it, in the drawing's own units."""


def calibration_section(calibration: Calibration, fitted_on: str) -> str:
    """Return the section on confidence: diagrams with and without temperature, and their numbers.

    Args:
        calibration: What was found.
        fitted_on: On which tiles the temperature was fitted; may be empty.
    """
    kinds = [(f"temperature {calibration.temperature:.4g}", calibration.found)]
    if calibration.without is not None:
        kinds.append(("temperature 1 (as trained)", calibration.without))
    rows = [[name, *(number(v) for v in (r.ece, r.cross_entropy, r.brier))] for name, r in kinds]
    figures = "".join(
        f"<figure><p class=note>{name}: ECE {number(found.ece)}</p>{_diagram(found, name)}</figure>"
        for name, found in kinds
    )
    origin = f" The temperature was fitted on {fitted_on}." if fitted_on else " No temperature was fitted."
    note = (
        "Bars: share of right pixels among those mapped with that probability; on the dashed line, confidence means "
        "what it says. Grey columns below: share of all pixels. ECE: mean gap between the two over 15 bins of equal "
        "width, weighted by pixels (Guo et al. 2017). Brier score: summed over classes, 0 to 2." + origin
    )
    body = f'<div class="pictures">{figures}</div>' + table(["", "ECE", "cross entropy", "Brier score"], rows)
    return section("Confidence", body, note)


def _diagram(found: Reliability, name: str) -> str:
    wide, bottom, total = _SIDE / BINS, _TOP + _SIDE, max(int(found.pixels.sum()), 1)
    parts = []
    for tick in range(6):
        x, y = _LEFT + tick / 5 * _SIDE, bottom - tick / 5 * _SIDE
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}h{_SIDE}M{x:.1f} {_TOP}v{_SIDE}" fill="none"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 16}" y="{y + 4:.1f}">{tick / 5:.1f}</text>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 58:.1f}">{tick / 5:.1f}</text>')
    for i, (pixels, accuracy) in enumerate(zip(found.pixels.tolist(), found.accuracy.tolist(), strict=True)):
        x, share = _LEFT + i * wide, pixels / total
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{bottom + 4}" width="{wide - 2:.1f}" height="{40 * share:.2f}" fill="#9aa4a9"/>'
        )
        if math.isfinite(accuracy):
            high, said = accuracy * _SIDE, f"{pixels:,} pixels, {100 * accuracy:.1f} % right"
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{bottom - high:.2f}" width="{wide - 2:.1f}" height="{high:.2f}" '
                f'fill="#24805a" fill-opacity="0.8"><title>{said}</title></rect>'
            )
    parts.append(f'<path class="whisker" stroke-dasharray="4 3" d="M{_LEFT} {bottom}L{_LEFT + _SIDE} {_TOP}"/>')
    box = f"0 0 {_LEFT + _SIDE + 16} {bottom + _LOW}"
    return f'<svg class="chart" viewBox="{box}" role="img" aria-label="Reliability, {name}">{"".join(parts)}</svg>'
