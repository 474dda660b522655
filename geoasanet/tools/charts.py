"""Charts and pictures for an HTML page: inline SVG and embedded PNG, no script, nothing from outside the file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoasanet.classes import Color
from geoasanet.printable import escape

_LEFT, _WIDE, _RIGHT = 210, 440, 130
"""Widths of a chart's names, plot and numbers, in its own units."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval; NaN where not known."""

    value: float
    """The value."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


def bars(
    names: Sequence[str], colors: Sequence[Color], values: Sequence[Sequence[float]], labels: Sequence[str]
) -> str:
    """Return an SVG with a group of bars for each class, 0 to 1.

    Args:
        names: Class names.
        colors: Class colours.
        values: For each class one value per bar; NaN leaves it out.
        labels: What the bars of a group are.
    """
    thick, gap = 13, 15
    group = thick * len(labels) + gap
    height = group * len(names) + 26
    parts = [_axis(height, [(f"{v / 5:.1f}", v / 5) for v in range(6)])]
    for i, (name, color) in enumerate(zip(names, colors, strict=True)):
        top = i * group + gap / 2
        parts.append(_name(name, color, top + thick * len(labels) / 2))
        for k, value in enumerate(values[i]):
            y = top + k * thick
            known = math.isfinite(value)
            if known:
                parts.append(
                    f'<rect x="{_LEFT}" y="{y:.1f}" width="{value * _WIDE:.2f}" height="{thick - 2}" '
                    f'fill="{_rgb(color)}" fill-opacity="{1 - 0.3 * k:.2f}"/>'
                )
            text = f"{labels[k]} {value:.3f}" if known else f"{labels[k]} –"
            parts.append(f'<text class="num" x="{_LEFT + _WIDE + 8}" y="{y + thick - 2.5:.1f}">{escape(text)}</text>')
    return _svg(height, "".join(parts), f"{', '.join(labels)} of each class")


def intervals(
    names: Sequence[str],
    colors: Sequence[Color],
    values: Sequence[Interval],
    references: Sequence[float],
    unit: str,
) -> str:
    """Return an SVG with a dot and whiskers for each class, over a pale bar of what is mapped.

    Args:
        names: Class names.
        colors: Class colours.
        values: Estimates.
        references: Lengths of the pale bars.
        unit: Unit of all numbers.
    """
    step = 34
    height = step * len(names) + 26
    numbers = [n for v in values for n in (v.value, v.high) if math.isfinite(n)]
    most = max([*numbers, *references, 1e-9])
    tick = _tick(most)
    ticks = [(f"{k * tick:g}", k * tick / most) for k in range(int(most / tick + 1e-9) + 1)]
    parts = [_axis(height, ticks)]
    for i, (name, color) in enumerate(zip(names, colors, strict=True)):
        y = i * step + step / 2
        parts.append(_name(name, color, y))
        parts.append(
            f'<rect x="{_LEFT}" y="{y - 8}" width="{references[i] / most * _WIDE:.2f}" height="16" '
            f'fill="{_rgb(color)}" fill-opacity="0.35"/>'
        )
        found = values[i]
        text = "–"
        if math.isfinite(found.value):
            x = _LEFT + found.value / most * _WIDE
            text = f"{_short(found.value)} {unit}"
            if math.isfinite(found.low) and math.isfinite(found.high):
                low, high = (_LEFT + max(0.0, v) / most * _WIDE for v in (found.low, found.high))
                parts.append(
                    f'<path class="whisker" d="M{low:.2f} {y}H{high:.2f}M{low:.2f} {y - 5}v10M{high:.2f} {y - 5}v10"/>'
                )
            parts.append(f'<circle class="dot" cx="{x:.2f}" cy="{y}" r="4" fill="{_rgb(color)}"/>')
        parts.append(f'<text class="num" x="{_LEFT + _WIDE + 8}" y="{y + 4}">{escape(text)}</text>')
    return _svg(height, "".join(parts), f"Area of each class in {unit}")


def picture(pixels: NDArray[np.uint8], caption: str, overlay: str = "") -> str:
    """Return a figure with an embedded PNG.

    Args:
        pixels: Colours, uint8 (height, width, 3).
        caption: Text below it.
        overlay: SVG elements in the picture's pixel coordinates, drawn over it.
    """
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(caption)}">'
        f'<image href="data:image/png;base64,{data}" width="{width}" height="{height}"/>{overlay}</svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def swatch(color: Color) -> str:
    """Return a small square of a colour."""
    return f'<span class="swatch" style="background:{_rgb(color)}"></span>'


def _svg(height: float, body: str, title: str) -> str:
    width = _LEFT + _WIDE + _RIGHT
    return f'<svg class="chart" viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _axis(height: float, ticks: Sequence[tuple[str, float]]) -> str:
    parts = []
    for text, place in ticks:
        x = _LEFT + place * _WIDE
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20:.0f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 6:.0f}">{escape(text)}</text>')
    return "".join(parts)


def _name(name: str, color: Color, y: float) -> str:
    text = name if len(name) <= 26 else f"{name[:25]}…"
    return (
        f'<rect x="2" y="{y - 6:.1f}" width="12" height="12" rx="2" fill="{_rgb(color)}"/>'
        f'<text class="name" x="22" y="{y + 4:.1f}"><title>{escape(name)}</title>{escape(text)}</text>'
    )


def _rgb(color: Color) -> str:
    return f"rgb({color[0]},{color[1]},{color[2]})"


def _tick(most: float) -> float:
    """Return a round step that divides 0..``most`` into three to eight parts."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (0.2, 0.5, 1, 2) if most / (step * power) <= 6)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
