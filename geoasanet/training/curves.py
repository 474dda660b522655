"""``curves.png``: how a training run goes, in four panels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import Color, default_colors
from geoasanet.files import atomic_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, float]
"""One line of a run's log: columns and values; what is not known is absent."""

_INK, _SOFT, _GRID = "#20262b", "#667078", "#e4e8e6"
_TRAIN, _VAL = "#24805a", "#c2571a"
_NAME_HEIGHT = 0.22
"""Height of a line with a class name, inches."""


def iou_column(name: str) -> str:
    """Return the column with the IoU of a class."""
    return f"iou_{name}"


def draw_curves(
    rows: Sequence[Mapping[str, float]], classes: Sequence[str], out: Path, colors: Sequence[Color] | None = None
) -> None:
    """Write a PNG with loss, mIoU, learning rate and the IoU of each class over the iterations.

    Args:
        rows: Columns and values as in ``metrics.csv``, by rising iteration; what is not known is absent.
        classes: Class names; their columns are those of :func:`iou_column`.
        out: The PNG; replaced if it exists.
        colors: Class colours; by default distinct ones.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    below = max(3.0, _NAME_HEIGHT * len(classes))
    figure = Figure(figsize=(12, 4.6 + below), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    ((loss, miou), (rate, ious)) = figure.subplots(2, 2, sharex="all", height_ratios=(3.8, below))
    end = max((row["iteration"] for row in rows), default=1.0)
    for axes, title in (
        (loss, "Loss"),
        (miou, "mIoU (val)"),
        (rate, "Learning rate"),
        (ious, "IoU of each class (val)"),
    ):
        _prepare(axes, title, end)
    _draw_loss(loss, rows)
    _draw_miou(miou, rows)
    _draw_rate(rate, rows)
    _draw_ious(ious, rows, classes, colors or default_colors(len(classes)))
    _name_ends(ious, rows, classes, colors or default_colors(len(classes)), _NAME_HEIGHT / below)
    for axes in (rate, ious):
        axes.set_xlabel("iteration", color=_SOFT)
    with atomic_output(out) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # signs of a class name that the font does not have
        figure.savefig(temporary)


def _prepare(axes: Axes, title: str, end: float) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold")
    axes.set_xlim(0, end * 1.01)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if end >= 10_000 and x else f"{x:g}"))
    axes.tick_params(colors=_SOFT, length=0, labelbottom=True)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#b8c0bd")


def _draw_loss(axes: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    x, raw = _series(rows, "loss")
    smooth = _smoothed(raw)
    axes.plot(x, raw, color=_TRAIN, alpha=0.28, linewidth=0.9)
    axes.plot(x, smooth, color=_TRAIN, linewidth=2, label="train (all terms)", **_dots(x))
    val_x, val = _series(rows, "val_loss")
    if len(val):
        axes.plot(val_x, val, color=_VAL, linewidth=1.6, label="val (cross entropy)", **_dots(val_x))
    top = max([*smooth, *val, *([float(np.quantile(raw, 0.98))] if len(raw) else [])], default=1.0)
    axes.set_ylim(0, 1.08 * top if top > 0 else 1.0)
    if len(raw) or len(val):
        axes.legend(frameon=False, labelcolor=_INK, loc="upper right")


def _draw_miou(axes: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    x, y = _series(rows, "miou")
    if not _some(axes, y):
        return
    axes.plot(x, y, color=_TRAIN, linewidth=2, **_dots(x))
    chosen = [row for row in rows if row.get("best") and "miou" in row]
    best = chosen[-1] if chosen else max((row for row in rows if "miou" in row), key=lambda row: row["miou"])
    place = (best["iteration"], best["miou"])
    axes.plot(
        *place,
        marker="o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=_VAL,
        markeredgewidth=2,
        clip_on=False,
    )
    right = place[0] > 0.6 * axes.get_xlim()[1]
    axes.annotate(
        f"best {place[1]:.3f} at {place[0]:.0f}",
        place,
        xytext=(0 if right else 10, -18),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        color=_VAL,
        fontweight="bold",
    )
    _fit_share(axes, y)


def _draw_rate(axes: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    from matplotlib.ticker import FuncFormatter

    x, y = _series(rows, "lr")
    axes.plot(x, y, color=_INK, linewidth=1.6, **_dots(x))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _scientific(value)))


def _draw_ious(
    axes: Axes, rows: Sequence[Mapping[str, float]], classes: Sequence[str], colors: Sequence[Color]
) -> None:
    known: list[float] = []
    for name, color in zip(classes, colors, strict=True):
        x, y = _series(rows, iou_column(name))
        axes.plot(x, y, linewidth=1.8, **_dots(x), **_shade(color))
        known += y.tolist()
    if _some(axes, np.array(known)):
        _fit_share(axes, np.array(known))


def _name_ends(
    axes: Axes, rows: Sequence[Mapping[str, float]], classes: Sequence[str], colors: Sequence[Color], step: float
) -> None:
    """Write the classes' names and last values to the right of where their lines end, at least ``step`` apart.

    Args:
        axes: Where the lines are; its limits are final.
        rows: The log.
        classes: Class names.
        colors: Class colours.
        step: Height of a name as a share of the axes'.
    """
    low, high = axes.get_ylim()
    lasts = [
        (_series(rows, iou_column(name))[1][-1:], name, color) for name, color in zip(classes, colors, strict=True)
    ]
    ends = sorted((float(last[0]), name, color) for last, name, color in lasts if len(last))
    starts = [(value - low) / (high - low) for value, _, _ in ends]
    for start, place, (value, name, color) in zip(starts, _apart(starts, step), ends, strict=True):
        axes.plot(
            (1.005, 1.025), (start, place), transform=axes.transAxes, linewidth=1.4, clip_on=False, **_shade(color)
        )
        text = f"{name if len(name) <= 24 else name[:23] + '…'} {value:.2f}"
        axes.text(1.035, place, text, transform=axes.transAxes, va="center", fontsize=9, color=_INK, parse_math=False)


def _apart(places: Sequence[float], step: float) -> list[float]:
    """Return rising places at least ``step`` apart and within 0..1, near the given rising ones."""
    result: list[float] = []
    for place in places:
        result.append(max(place, result[-1] + step) if result else place)
    limit = 1.0
    for i in reversed(range(len(result))):
        result[i] = min(result[i], limit)
        limit = result[i] - step
    return result


def _some(axes: Axes, values: NDArray[np.float64]) -> bool:
    """Tell whether there is anything to draw; say so if there is not."""
    if not len(values):
        axes.text(0.5, 0.5, "no validation yet", transform=axes.transAxes, ha="center", color=_SOFT)
        axes.set_ylim(0, 1)
    return len(values) > 0


def _fit_share(axes: Axes, values: NDArray[np.float64]) -> None:
    """Show 0 to a bit above the largest value, which is at most 1."""
    axes.set_ylim(0, min(1.02, max(0.1, 1.12 * float(values.max()))))


def _series(rows: Sequence[Mapping[str, float]], key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return iterations and values of a column, where known."""
    known = [(row["iteration"], row[key]) for row in rows if key in row]
    pairs = np.array(known, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over a fortieth of the curve around each value; nearer values only at the ends."""
    half = len(values) // 80
    if half == 0:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    before = np.minimum(half, place)
    after = np.minimum(before, len(values) - 1 - place)  # as far as before: the loss falls steeply at first
    return np.asarray((sums[place + after + 1] - sums[place - before]) / (before + after + 1))


def _dots(x: NDArray[np.float64]) -> dict[str, Any]:
    """Return how points are marked: few are, so that a single one can be seen, at the edge, too."""
    # An empty line that is not clipped lies at the picture's corner and upsets the layout.
    return {"marker": "o", "markersize": 4.5, "clip_on": False} if 0 < len(x) <= 40 else {}


def _shade(color: Color) -> dict[str, Any]:
    """Return how a line in a class's colour is drawn: pale ones get a rim, so that they can be seen on white."""
    from matplotlib.patheffects import Normal, Stroke

    luminance = (0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2]) / 255
    rim = [Stroke(linewidth=3.0, foreground="#9aa3a0"), Normal()] if luminance > 0.7 else []
    return {"color": tuple(value / 255 for value in color), "path_effects": rim}


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"
