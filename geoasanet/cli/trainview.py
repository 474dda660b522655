"""A training run on the screen: a live view on a terminal, plain lines elsewhere, all on stderr."""

from __future__ import annotations

import atexit
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from geoasanet.cli.console import Console
from geoasanet.cli.trainscreen import Screen, duration, facts, number
from geoasanet.training.watch import Beginning, Step, Validation

if TYPE_CHECKING:
    from rich.live import Live

_SHORTEST = 0.25
"""Seconds from one drawing to the next, at least."""
_DRAWING_SHARE = 0.02
"""Largest share of the time that goes into drawing."""
_PLAIN_SECONDS = 10.0
_SHOW_CURSOR = "\x1b[?25h"


class TrainView:
    """Watches a training run; see :class:`geoasanet.training.watch.Watch`.

    It can be pickled, also while it draws: the copy has the same options and nothing on the screen. It is a context
    manager, which gives the terminal back however the run ends.

    Args:
        console: Shows what goes on before the first step, and says how much is wanted.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._screen: Screen | None = None
        self._live: Live | None = None
        self._due = 0.0

    def __reduce__(self) -> tuple[object, ...]:
        return _make, (self._console.verbose, self._console.quiet, self._console.as_json, self._console.bars)

    def __enter__(self) -> TrainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._console.bars and sys.stderr.isatty():
            # A process that drew on this terminal may have been killed while the cursor was hidden.
            sys.stderr.write(_SHOW_CURSOR)
            sys.stderr.flush()

    @property
    def run(self) -> Beginning | None:
        """What is known about the run, if it began in this process."""
        return None if self._screen is None else self._screen.run

    def begin(self, beginning: Beginning) -> None:
        """Show what is trained."""
        self._console.stop()
        self._screen = Screen(beginning)
        if self._console.quiet:
            return
        if self._console.bars and self._start():
            return
        resumed = f" from iteration {beginning.start}" if beginning.start else ""
        self.note(". ".join([*facts(beginning), f"Run: {beginning.out}{resumed}"]))

    def stepped(self, step: Step) -> None:
        """Show a step, if it is time to."""
        screen = self._screen
        if screen is None:
            return
        screen.step = step
        screen.losses.add(step.loss)
        if time.monotonic() < self._due and step.iteration < step.iterations:
            return
        screen.task = None
        if self._live is not None:
            self._refresh()
        elif not self._console.quiet:
            self._due = time.monotonic() + (1.0 if self._console.verbose else _PLAIN_SECONDS)
            left = f", {duration(step.seconds_left)} left" if step.iteration < step.iterations else ""
            self.note(
                f"Iteration {step.iteration}/{step.iterations}, epoch {step.epoch:.1f}: "
                f"loss {screen.losses.recent:.4f}, lr {step.lr:.2e}, {step.samples_per_second:.1f} samples/s{left}"
            )

    def validated(self, validation: Validation) -> None:
        """Show an evaluation."""
        screen = self._screen
        if screen is None:
            return
        screen.validated(validation)
        screen.task = None
        if self._live is not None:
            self._refresh()
            return
        metrics = validation.metrics
        best = "the best so far"
        if screen.best is not validation:
            best = "not the best" if screen.best is None else f"best {number(screen.best.metrics.mean_iou)}"
        self.note(
            f"Validation at {validation.iteration}: mIoU {number(metrics.mean_iou)} ({best}), overall accuracy "
            f"{number(metrics.accuracy)}, loss {number(validation.loss)}, {duration(validation.seconds)}"
        )
        ious = zip(screen.run.classes, metrics.iou.tolist(), strict=True)
        self.note("  IoU: " + ", ".join(f"{name} {number(value)}" for name, value in ious))

    def progress(self, task: str, done: float, total: float, unit: str = "") -> None:
        """Show how far a task before the first step, or between steps, is."""
        if self._screen is None:
            self._console.progress(task, done, total, unit)
        elif self._live is not None:
            self._screen.task = (task, done, total)
            if time.monotonic() >= self._due:
                self._refresh()

    def note(self, message: str) -> None:
        """Print a remark, above the live view where there is one."""
        if self._live is None:
            self._console.note(message)
            return
        from rich.text import Text

        self._live.console.print(Text.from_ansi(message), soft_wrap=True)

    def close(self) -> None:
        """Leave the last state on the screen and give the terminal back."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            atexit.unregister(self.close)
        self._console.stop()

    def _start(self) -> bool:
        """Begin the live view; tell whether this terminal can show one."""
        from rich.console import Console as RichConsole
        from rich.live import Live

        console = RichConsole(stderr=True)
        if not console.is_terminal or console.is_dumb_terminal:
            return False
        # Without a thread of its own: what is not drawn while a step runs cannot slow it down.
        self._live = Live(
            console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty(), vertical_overflow="crop"
        )
        atexit.register(self.close)  # in one of several processes nobody leaves a with statement
        self._live.start()
        self._refresh()
        return True

    def _refresh(self) -> None:
        assert self._live is not None and self._screen is not None
        start = time.monotonic()
        console = self._live.console
        unicode = not console.options.ascii_only
        self._live.update(self._screen.render(console.width, console.height, unicode=unicode), refresh=True)
        end = time.monotonic()
        self._due = end + max(_SHORTEST, (end - start) / _DRAWING_SHARE)


def _make(verbose: int, quiet: bool, as_json: bool, bars: bool) -> TrainView:
    """Return a view in the process that this is called in."""
    return TrainView(Console(verbose=verbose, quiet=quiet, as_json=as_json, bars=bars))
