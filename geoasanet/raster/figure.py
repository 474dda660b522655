"""One PNG of panels side by side, with titles, a legend of the classes and a scale bar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from geoasanet.classes import ClassSchema
from geoasanet.errors import OutputError
from geoasanet.files import atomic_output

Pixels = NDArray[np.uint8]
"""Colour image, uint8 (height, width, 3)."""

BLANK = (236, 236, 232)
"""Colour of pixels without data."""
_INK, _FAINT, _PAPER = (32, 34, 38), (104, 108, 114), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a figure."""

    title: str
    """Text above it."""
    pixels: Pixels
    """The picture, at the size at which it is to be shown."""
    box: tuple[int, int, int, int] | None = None
    """Rectangle to outline: row, column, height, width in this picture's pixels."""
    pixel_m: float | None = None
    """Ground size of one pixel of the picture, metres; a scale bar is drawn where given."""


def render_panels(
    panels: Sequence[Panel],
    classes: ClassSchema,
    out: Path,
    *,
    title: str,
    footer: str = "",
    shares: Mapping[str, float] | None = None,
    columns: int | None = None,
) -> tuple[int, int]:
    """Write a PNG of ``panels`` and a legend; return its height and width in pixels.

    Args:
        panels: The pictures, row by row; those of one column should be equally wide.
        classes: Names and colours for the legend.
        out: The PNG; replaced if it exists.
        title: First line.
        footer: Last lines; line breaks separate them, long ones are wrapped.
        shares: Share (0..1) of the area by class name, for the legend.
        columns: Panels per row; by default all in one row, or two columns of very wide panels.

    Raises:
        OutputError: If the file cannot be written.
    """
    height, width = panels[0].pixels.shape[:2]
    columns = columns or (2 if len(panels) == 4 and width > 1.5 * height else len(panels))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    body = max(sum(panel.pixels.shape[1] for panel in row) for row in rows)
    size = int(min(34, max(13, body // 80)))
    gap, margin = size, 2 * size
    total_width = max(body + gap * (columns - 1), 30 * size) + 2 * margin
    room = total_width - 2 * margin
    legend = _legend_entries(classes, shares)
    legend_rows = _flow([_text_width(text, size) + 3 * size for text, _ in legend], room)
    lines = _wrap(footer, int(0.8 * size), room)
    row_heights = [max(panel.pixels.shape[0] for panel in row) + int(1.7 * size) for row in rows]
    total_height = int(
        margin
        + 2.1 * size
        + sum(row_heights)
        + gap * len(rows)
        + 1.6 * size * (max(legend_rows) + 1)
        + 1.15 * size * len(lines)
        + margin
    )
    image = Image.new("RGB", (total_width, total_height), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((margin, margin - size // 2), title, _INK, _font(int(1.3 * size)))
    top = margin + int(2.1 * size)
    for row, row_height in zip(rows, row_heights, strict=True):
        left = margin
        for panel in row:
            draw.text((left, top), panel.title, _INK, _font(size))
            _draw_panel(image, panel, left, top + int(1.5 * size), size)
            left += panel.pixels.shape[1] + gap
        top += row_height + gap
    _draw_legend(draw, legend, legend_rows, (margin, top), size)
    top += int(1.6 * size * (max(legend_rows) + 1))
    for line in lines:
        draw.text((margin, top), line, _FAINT, _font(int(0.8 * size)))
        top += int(1.15 * size)
    try:
        with atomic_output(out) as temporary:
            image.save(temporary, format="PNG", optimize=True)
    except OSError as error:
        raise OutputError(f"Picture {out} cannot be written ({error.strerror or error}).") from error
    return total_height, total_width


def colorize(class_ids: NDArray[np.uint8], classes: ClassSchema) -> Pixels:
    """Return the colours of class ids (height, width); ids that are no class become blank."""
    table = np.full((256, 3), BLANK, np.uint8)
    table[: len(classes)] = classes.colors
    return np.asarray(table[class_ids])


def ramp(values: NDArray[np.floating], low: float = 0.0, high: float = 1.0) -> Pixels:
    """Return ``values`` from ``low`` (dark violet) to ``high`` (pale yellow); NaN becomes blank."""
    stops = np.array([[46, 20, 82], [92, 54, 138], [56, 112, 150], [58, 166, 128], [168, 212, 92], [250, 242, 170]])
    valid = np.isfinite(values)
    place = np.clip((np.where(valid, values, low) - low) / (high - low), 0, 1) * (len(stops) - 1)
    result = np.stack([np.interp(place, np.arange(len(stops)), stops[:, band]) for band in range(3)], axis=-1)
    return np.where(valid[..., None], result, BLANK).astype(np.uint8)


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    """Return a picture in which every pixel is a square of ``factor`` pixels."""
    return np.asarray(np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1))


def _draw_panel(image: Image.Image, panel: Panel, left: int, top: int, size: int) -> None:
    height, width = panel.pixels.shape[:2]
    image.paste(Image.fromarray(np.ascontiguousarray(panel.pixels)), (left, top))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 1, top - 1, left + width, top + height), outline=(120, 124, 130))
    line = max(1, size // 8)
    if panel.box is not None:
        row, col, rows, cols = panel.box
        x, y = left + col, top + row
        draw.rectangle((x - line, y - line, x + cols + line, y + rows + line), outline=_INK, width=line)
        draw.rectangle((x, y, x + cols, y + rows), outline=_PAPER, width=line)
    if panel.pixel_m is not None:
        _draw_scale(draw, (left, top + height), width, panel.pixel_m, size)


def _draw_scale(draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, pixel_m: float, size: int) -> None:
    left, bottom = corner
    longest = 0.3 * width * pixel_m
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    pixels = round(length / pixel_m)
    pad = size // 2
    high = int(1.9 * size)
    plate = (left + pad, bottom - pad - high, left + 3 * pad + max(pixels, _text_width(text, size)), bottom - pad)
    draw.rectangle(plate, fill=_PAPER)
    draw.text((left + 2 * pad, plate[1] + pad // 3), text, _INK, _font(size))
    y = plate[3] - pad // 2
    draw.line((left + 2 * pad, y, left + 2 * pad + pixels, y), _INK, max(2, size // 6))


def _legend_entries(classes: ClassSchema, shares: Mapping[str, float] | None) -> list[tuple[str, tuple[int, int, int]]]:
    entries = []
    for name, color in zip(classes.names, classes.colors, strict=True):
        share = "" if shares is None else f"  {100 * shares.get(name, 0.0):.1f} %"
        entries.append((f"{name}{share}", color))
    return entries


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    legend: Sequence[tuple[str, tuple[int, int, int]]],
    rows: Sequence[int],
    corner: tuple[int, int],
    size: int,
) -> None:
    (margin, top), row = corner, 0
    left = margin
    for (text, color), place in zip(legend, rows, strict=True):
        if place != row:
            left, row = margin, place
        y = top + int(1.6 * size * row)
        draw.rectangle((left, y, left + int(1.4 * size), y + size), fill=color, outline=(120, 124, 130))
        draw.text((left + 2 * size, y - size // 8), text, _INK, _font(size))
        left += _text_width(text, size) + 3 * size


def _flow(widths: Sequence[int], room: int) -> list[int]:
    """Return in which row each item goes if rows are ``room`` pixels wide."""
    rows, used, row = [], 0, 0
    for width in widths:
        if used and used + width > room:
            row, used = row + 1, 0
        used += width
        rows.append(row)
    return rows or [0]


def _wrap(text: str, size: int, room: int) -> list[str]:
    """Return ``text`` in lines of at most ``room`` pixels."""
    lines = []
    for paragraph in filter(None, text.split("\n")):
        line = ""
        for word in paragraph.split():
            if line and _text_width(f"{line} {word}", size) > room:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return lines


def _text_width(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
