"""What the live view of ``geoasanet train`` knows, and how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any

from geoasanet.training.watch import Beginning, Step, Validation

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_MEMORY = 50
"""Steps that the shown loss is a mean over, roughly."""
_BUCKETS = 128
_SPARKS = "▁▂▃▄▅▆▇█"
_OTHER_LINES = 13
"""Lines of the view beside those with classes, and what is left free below it."""
_SOFT, _GOOD, _BAD = "dim", "green", "red"


class Losses:
    """The losses of a run, in little memory whatever its length."""

    def __init__(self) -> None:
        self.recent = math.nan
        """Running mean."""
        self._seen = 0
        self._means: list[float] = []
        self._size = 1
        self._sum, self._count = 0.0, 0

    def add(self, loss: float) -> None:
        """Take the loss of a step; one that is no number is left out."""
        if not math.isfinite(loss):
            return
        self._seen += 1
        self.recent = loss if self._seen == 1 else self.recent + (loss - self.recent) / min(self._seen, _MEMORY)
        self._sum += loss
        self._count += 1
        if self._count == self._size:
            self._means.append(self._sum / self._size)
            self._sum, self._count = 0.0, 0
            if len(self._means) == _BUCKETS:
                self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
                self._size *= 2

    def spark(self, width: int) -> str:
        """Return the whole history as at most ``width`` small bars, on a logarithmic scale where it can be."""
        means, count = self._means, min(width, len(self._means))
        if count < 2:
            return ""
        edges = [i * len(means) // count for i in range(count + 1)]
        values = [sum(means[a:b]) / (b - a) for a, b in pairwise(edges)]
        if min(values) > 0:
            values = [math.log(value) for value in values]
        low, span = min(values), max(values) - min(values)
        return "".join(_SPARKS[round((value - low) / span * 7) if span else 0] for value in values)


@dataclass
class Screen:
    """State of a run as far as it is shown."""

    run: Beginning
    losses: Losses = field(default_factory=Losses)
    step: Step | None = None
    """The last step."""
    task: tuple[str, float, float] | None = None
    """What goes on between steps: name, done, total."""
    validation: Validation | None = None
    """The last validation."""
    before: Validation | None = None
    """The one before it."""
    best: Validation | None = None

    def validated(self, validation: Validation) -> None:
        """Take note of an evaluation."""
        self.before, self.validation = self.validation, validation
        if validation.best:
            self.best = validation

    def render(self, width: int, height: int, *, unicode: bool = True) -> RenderableType:
        """Return the view for a terminal of so many columns and lines."""
        from rich import box
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        parts: list[RenderableType] = [*_headline(self.run), Text(), self._bar()]
        if self.step is not None:
            parts.append(self._numbers(max(8, min(40, width - 66)) if unicode else 0))
        if self.validation is not None:
            parts += [Text(), self._validation(self.validation), self._classes(width, height, self.validation)]
        title = Text("geoasanet train", style="bold")
        return Panel(Group(*parts), title=title, title_align="left", border_style=_SOFT, box=box.ROUNDED)

    def _bar(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        done = self.run.start if self.step is None else self.step.iteration
        line = Text.assemble((f"{done:,}", "bold"), f"/{self.run.iterations:,}")
        if self.task is not None:
            name, part, whole = self.task
            line.append(f"   {name} {100 * part / max(whole, 1e-9):.0f} %", "cyan")
        elif self.step is not None:
            left = self.step.seconds_left
            line.append(f"   {duration(left)} left" if math.isfinite(left) and left > 0 else "", "cyan")
        grid = _grid()
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        grid.add_row(
            ProgressBar(max(self.run.iterations, 1), done, complete_style="cyan", finished_style="green"), line
        )
        return grid

    def _numbers(self, width: int) -> Text:
        from rich.text import Text

        assert self.step is not None
        return Text.assemble(
            ("loss ", _SOFT),
            (f"{self.losses.recent:.4f} ", "bold"),
            (self.losses.spark(width), "green"),
            *_named("lr", f"{self.step.lr:.2e}"),
            *_named("samples/s", f"{self.step.samples_per_second:.1f}"),
            *_named("epoch", f"{self.step.epoch:.1f}"),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _validation(self, last: Validation) -> Text:
        from rich.text import Text

        metrics = last.metrics
        parts: list[Any] = [("mIoU ", _SOFT), (number(metrics.mean_iou), "bold"), (f" at {last.iteration:,}", _SOFT)]
        if self.best is last:
            parts.append(("  the best so far", _GOOD))
        elif self.best is not None:
            parts += [*_named("best", number(self.best.metrics.mean_iou)), (f" at {self.best.iteration:,}", _SOFT)]
        parts += [*_named("accuracy", number(metrics.accuracy)), *_named("loss", number(last.loss))]
        return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")

    def _classes(self, width: int, height: int, last: Validation) -> Table:
        """Return a table of the classes' IoU, in as many columns as the terminal's height asks for."""
        from rich.text import Text

        names = self.run.classes
        limit = max(3, height - _OTHER_LINES)
        columns = min(-(-len(names) // limit), max(1, width // 38))
        rows = min(-(-len(names) // columns), limit)
        share = (width - 4) // columns
        wide = max(8, min(max(map(len, names)), share - 20))
        bar = min(30, share - wide - 20)
        grid = _grid()
        for _ in range(columns):
            for justify in ("left", "left", "right", "right"):
                grid.add_column(justify=justify, no_wrap=True)
        change = "change" if self.before is not None else ""
        grid.add_row(*("", "", Text("IoU", style=_SOFT), Text(change, style=_SOFT)) * columns)
        cells = [self._class_cells(i, last, wide, bar) for i in range(min(len(names), rows * columns))]
        for line in zip_longest(*(cells[i * rows : (i + 1) * rows] for i in range(columns)), fillvalue=()):
            grid.add_row(*(cell for group in line for cell in group))
        if len(cells) < len(names):
            grid.add_row(f"and {len(names) - len(cells)} more")
        return grid

    def _class_cells(self, i: int, last: Validation, wide: int, bar: int) -> Sequence[Any]:
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        name, value = self.run.classes[i], float(last.metrics.iou[i])
        change = value - float(self.before.metrics.iou[i]) if self.before is not None else math.nan
        moved = "" if math.isnan(change) else f"{change:+.3f}"
        style = _SOFT if math.isnan(change) or abs(change) < 0.0005 else _GOOD if change > 0 else _BAD
        share = 0.0 if math.isnan(value) else value
        return (
            Text(name if len(name) <= wide else f"{name[: wide - 1]}…"),
            ProgressBar(total=1.0, completed=share, width=bar, complete_style="blue", finished_style="blue")
            if bar >= 6
            else "",
            Text(number(value), style="bold"),
            Text(moved, style=style),
        )


def facts(run: Beginning) -> tuple[str, str]:
    """Return what is trained, and with what, in words."""
    processes = f"{run.processes} process{'es' if run.processes > 1 else ''}"
    return (
        f"{run.model}, {_count(run.parameters)} parameters",
        f"{run.device}, {processes}, {run.train_tiles} train and {run.val_tiles} val tiles",
    )


def duration(seconds: float) -> str:
    """Return a time in the two units that matter."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def number(value: float) -> str:
    """Return a share or a loss with four digits; a dash if it is none."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def _headline(run: Beginning) -> list[Text]:
    from rich.text import Text

    what, how = facts(run)
    resumed = f" (goes on at {run.start:,})" if run.start else ""
    return [Text(what, style="bold"), Text(how), Text.assemble(("→ ", _SOFT), str(run.out), (resumed, _SOFT))]


def _named(name: str, value: str) -> tuple[Any, ...]:
    return (f"  {name} ", _SOFT), value


def _grid() -> Table:
    from rich.table import Table

    return Table.grid(padding=(0, 2, 0, 0), expand=False)


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e6 else f"{parameters / 1e3:.1f} k"
