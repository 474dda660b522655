"""Speed against size, one dot for each network and arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoasanet.files import atomic_output
from geoasanet.tools.benchmark_result import NetworkSpeed, arithmetic_name
from geoasanet.tools.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_INK, _SOFT, _GRID = "#20262b", "#667078", "#e4e8e6"
_STYLES = {
    ("fp32", False): ("#24805a", "o"),
    ("bf16", False): ("#c2571a", "s"),
    ("fp32", True): ("#2f6db3", "D"),
    ("bf16", True): ("#8b4fa3", "^"),
}
"""Colour and marker of every arithmetic."""
_MARGIN = 2.0
"""Free pixels around every label."""
_NEAR = 18
"""Farthest that a label stands from its dot without a line to it, points."""


def draw_speeds(networks: Sequence[NetworkSpeed], machine: Machine, size: int, out: Path) -> None:
    """Write a PNG with the best images per second of every network against its number of parameters, log axes.

    Args:
        networks: What was measured; those without a speed are left out.
        machine: Where.
        size: Height and width of the images, pixels.
        out: The PNG; replaced if it exists.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _prepare(axes, machine, size)
    tops = []
    for network in networks:
        places = _places(network)
        if not places:
            continue
        millions = network.parameters / 1e6
        rates = [rate for _, rate in places]
        axes.plot([millions] * len(rates), rates, color=_GRID, linewidth=3, zorder=1)
        for kind, rate in places:
            color, marker = _STYLES[kind]
            axes.plot(millions, rate, marker, color=color, markersize=8, zorder=2, label=arithmetic_name(*kind))
        tops.append((network.label, millions, max(rates)))
    _spread(axes, networks)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), edgecolor=_GRID, framealpha=1, labelcolor=_INK, loc="best")
    _name(figure, axes, tops)
    with atomic_output(out) as temporary:
        figure.savefig(temporary)


def _places(network: NetworkSpeed) -> list[tuple[tuple[str, bool], float]]:
    """Return the best speed of every arithmetic."""
    best: dict[tuple[str, bool], float] = {}
    for speed in network.speeds:
        kind = (speed.precision, speed.compiled)
        best[kind] = max(best.get(kind, 0.0), speed.images_per_second)
    return list(best.items())


def _prepare(axes: Axes, machine: Machine, size: int) -> None:
    place = machine.processor if machine.device == "cpu" else machine.device
    axes.set_title(f"Speed on {place}\n", loc="left", color=_INK, fontsize=12, fontweight="bold")
    note = f"images of {size}×{size} px, best batch measured, torch {machine.torch}"
    axes.text(0, 1.015, note, transform=axes.transAxes, color=_SOFT, fontsize=9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("parameters, millions", color=_SOFT)
    axes.set_ylabel("images per second", color=_SOFT)
    axes.grid(color=_GRID, linewidth=0.8, which="both")
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, length=0, which="both")
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _spread(axes: Axes, networks: Sequence[NetworkSpeed]) -> None:
    """Give both axes room around the dots, and plain numbers at 1, 2 and 5 of every decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    measured = [network for network in networks if network.speeds]
    xs = [network.parameters / 1e6 for network in measured]
    ys = [rate for network in measured for _, rate in _places(network)]
    axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
    axes.set_ylim(min(ys) / 1.8, max(ys) * 1.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(LogLocator(subs=()))


def _name(figure: Figure, axes: Axes, tops: Sequence[tuple[str, float, float]]) -> None:
    """Write each network's name next to its fastest dot, where neither a name nor a dot is yet."""
    figure.draw_without_rendering()
    taken = [_around(line, axes) for line in axes.get_lines()]
    legend = axes.get_legend()
    if legend is not None:
        taken.append(legend.get_window_extent())
    for label, x, y in sorted(tops, key=lambda top: top[1]):
        text = axes.annotate(label, (x, y), xytext=(0, 0), textcoords="offset points", color=_INK, fontsize=10)
        for offset in _offsets():
            text.xyann = offset
            text.set(**_sides(offset))
            box = text.get_window_extent().padded(_MARGIN)
            if _is_free(box, axes, taken):
                break
        if max(map(abs, text.xyann)) > _NEAR:
            line = {"arrowstyle": "-", "color": _SOFT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", (x, y), xytext=text.xyann, textcoords="offset points", arrowprops=line)
        taken.append(text.get_window_extent().padded(_MARGIN))


def _is_free(box: Bbox, axes: Axes, taken: Sequence[Bbox]) -> bool:
    corners = (box.x0, box.y0), (box.x1, box.y1)
    return all(axes.bbox.contains(*corner) for corner in corners) and not any(box.overlaps(other) for other in taken)


def _offsets() -> Iterator[tuple[float, float]]:
    """Yield where to try a name, points from its dot, nearest first."""
    directions = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
    for distance, (dx, dy) in itertools.product((9, _NEAR, 30, 45, 62, 80, 100), directions):
        yield (dx * distance, dy * distance)


def _sides(offset: tuple[float, float]) -> dict[str, Any]:
    x, y = offset
    return {
        "ha": "left" if x > 0 else "right" if x < 0 else "center",
        "va": "bottom" if y > 0 else "top" if y < 0 else "center",
    }


def _around(line: Any, axes: Axes) -> Bbox:
    """Return the box of a dot, or of the bar that joins a network's dots, in pixels."""
    from matplotlib.transforms import Bbox

    points = axes.transData.transform(line.get_xydata())
    radius = 0.6 * (line.get_markersize() if line.get_marker() != "None" else line.get_linewidth())
    radius *= axes.figure.dpi / 72
    return Bbox([points.min(0) - radius, points.max(0) + radius])
