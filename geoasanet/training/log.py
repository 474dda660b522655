"""The written record of a training run: ``metrics.csv``, ``curves.png`` and TensorBoard events."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from geoasanet.classes import Color
from geoasanet.errors import OutputError
from geoasanet.files import atomic_output
from geoasanet.training.curves import Row, draw_curves, iou_column
from geoasanet.training.events import Events
from geoasanet.training.watch import Step, Validation

METRICS, CURVES, EVENTS = "metrics.csv", "curves.png", "tensorboard"
"""Names in the folder of a run."""

_COLUMNS = (
    "iteration",
    "epoch",
    "seconds",
    "lr",
    "loss",
    "samples_per_second",
    "val_loss",
    "miou",
    "overall_accuracy",
    "kappa",
    "mean_f1",
    "best",
)
_WHOLE = ("iteration", "best")
_DRAWING_SHARE = 0.01
"""Largest share of the time that goes into drawing curves between validations."""


class RunLog:
    """Writes down how a run goes; the first process of a training has one.

    Args:
        folder: Folder of the run; it exists.
        classes: Class names.
        log_every: Iterations between rows.
        iteration: Iterations done before, when a run is resumed: rows of an existing ``metrics.csv`` up to there are
            kept, later ones, of which the resumed state knows nothing, are dropped. At 0 the log starts anew.
        colors: Class colours, for the curves.
    """

    def __init__(
        self,
        folder: Path,
        classes: tuple[str, ...],
        log_every: int,
        iteration: int = 0,
        colors: Sequence[Color] | None = None,
    ) -> None:
        self.rows: list[Row] = []
        """Columns and values, in the order of the iterations; what a row does not know is absent."""
        self.notes: list[str] = []
        """What went wrong without stopping the training, for the analyst."""
        self._folder, self._classes, self._colors, self._log_every = folder, classes, colors, log_every
        self._columns = (*_COLUMNS, *map(iou_column, classes))
        if iteration:
            self._take_up(iteration)
        self._before = self.rows[-1].get("seconds", 0.0) if self.rows else 0.0
        self._began = time.monotonic()
        self._sum, self._steps = 0.0, 0
        self._last: Step | None = None
        self._draws, self._due, self._drawn = True, True, (-math.inf, 0.0)
        self._events = Events(folder / EVENTS, iteration, self.notes)

    def stepped(self, step: Step) -> None:
        """Take note of a step; every ``log_every`` iterations it makes a row with the mean loss since the last."""
        if self._last is None:
            self._reopen(step.iteration - 1)
        self._sum += step.loss
        self._steps += 1
        self._last = step
        if step.iteration % self._log_every == 0:
            self._log_steps()

    def validated(self, validation: Validation) -> None:
        """Take note of an evaluation: part of its iteration's row, or a row of its own."""
        metrics = validation.metrics
        values = {
            "val_loss": validation.loss,
            "miou": metrics.mean_iou,
            "overall_accuracy": metrics.accuracy,
            "kappa": metrics.kappa,
            "mean_f1": metrics.mean_f1,
        }
        per_class = dict(zip(self._classes, metrics.iou.tolist(), strict=True))
        self._write(
            validation.iteration,
            {**values, "best": float(validation.best), **{iou_column(k): v for k, v in per_class.items()}},
        )
        values["loss"] = values.pop("val_loss")
        self._events.write({f"val/{k}": v for k, v in values.items()}, validation.iteration)
        self._events.write({f"val/iou/{k}": v for k, v in per_class.items()}, validation.iteration)
        self._due = True

    def flush(self) -> None:
        """Write everything that is known to the disk.

        The curves are drawn after a validation, and between validations as often as costs a hundredth of the time.

        Raises:
            OutputError: If ``metrics.csv`` cannot be written.
        """
        path = self._folder / METRICS
        try:
            with atomic_output(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(self._columns)
                writer.writerows([_cell(name, row) for name in self._columns] for row in self.rows)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"{path} cannot be written ({reason}).", "Is the disk full?") from None
        ended, took = self._drawn
        if self._due or time.monotonic() - ended > took / _DRAWING_SHARE:
            self._draw()
        self._events.flush()

    def close(self) -> None:
        """Write everything, steps since the last row included, and close the files."""
        if self._steps:
            self._log_steps()
        self._due = True
        self.flush()
        self._events.close()

    def _reopen(self, iteration: int) -> None:
        """Go on with the mean that an interruption between two regular rows had ended, if it had."""
        if not self.rows or self.rows[-1]["iteration"] != iteration or iteration % self._log_every == 0:
            return
        row = self.rows[-1]
        if "loss" in row:
            self._steps = int(iteration - max((r["iteration"] for r in self.rows[:-1] if "loss" in r), default=0))
            self._sum = self._steps * row.pop("loss")
            row.pop("samples_per_second", None)
        if "val_loss" not in row:
            self.rows.pop()

    def _log_steps(self) -> None:
        assert self._last is not None
        values = {
            "lr": self._last.lr,
            "loss": self._sum / self._steps,
            "samples_per_second": self._last.samples_per_second,
        }
        self._write(self._last.iteration, values)
        self._events.write(values, self._last.iteration)
        self._sum, self._steps = 0.0, 0

    def _write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add values that are numbers to the row of an iteration, which is the last one or a new one."""
        if not self.rows or self.rows[-1]["iteration"] != iteration:
            row: Row = {"iteration": float(iteration), "seconds": self._before + time.monotonic() - self._began}
            if self._last is not None and self._last.iteration == iteration:
                row |= {"epoch": self._last.epoch, "lr": self._last.lr}
            self.rows.append(row)
        self.rows[-1].update({name: value for name, value in values.items() if math.isfinite(value)})

    def _draw(self) -> None:
        if not self._draws:
            return
        start = time.monotonic()
        try:
            draw_curves(self.rows, self._classes, self._folder / CURVES, self._colors)
        except (ImportError, OSError, RuntimeError) as error:
            self._draws = False
            self.notes.append(f"{CURVES} cannot be drawn ({error}); the numbers are in {METRICS}.")
        self._due, self._drawn = False, (time.monotonic(), time.monotonic() - start)

    def _take_up(self, iteration: int) -> None:
        """Read the rows of an earlier part of the run, up to an iteration or the first damaged line."""
        path = self._folder / METRICS
        try:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.reader(file, strict=True)
                if tuple(next(reader, ())) != self._columns:
                    raise ValueError("its columns are others")
                for cells in reader:
                    row = self._parse(cells)
                    if row["iteration"] > iteration:
                        break
                    self.rows.append(row)
        except FileNotFoundError:
            self.notes.append(f"{path} is missing; it begins anew at iteration {iteration}.")
        except (OSError, ValueError, csv.Error) as error:
            self.notes.append(f"{path} is damaged ({error}); of its rows the first {len(self.rows)} are kept.")

    def _parse(self, cells: Sequence[str]) -> Row:
        """Return a row; raise ValueError if it is not one."""
        row = {name: float(cell) for name, cell in zip(self._columns, cells, strict=True) if cell}
        before = self.rows[-1]["iteration"] if self.rows else 0.0
        if not row.get("iteration", 0.0) > before or not all(map(math.isfinite, row.values())):
            raise ValueError(f"row {len(self.rows) + 1} is no row of a log")
        return row


def _cell(name: str, row: Row) -> str:
    if name not in row:
        return ""
    return f"{row[name]:.0f}" if name in _WHOLE else f"{row[name]:.9g}"
