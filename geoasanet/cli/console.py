"""What commands print: notes and progress on stderr, results on stdout."""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from geoasanet import __version__
from geoasanet.cli import options
from geoasanet.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Function = TypeVar("Function", bound=Callable[..., Any])

_PLAIN_SECONDS = 10.0
_LONGEST = 1200
"""Characters of an error message."""


class Console:
    """One command's output: a progress callback, notes, and the final report.

    Args:
        verbose: How often ``-v`` was given: says which versions run, and plain progress lines come every second.
        quiet: Print errors and the report only.
        as_json: Print the report as one JSON document.
        bars: Draw progress bars; only done on a terminal.
    """

    def __init__(self, *, verbose: int = 0, quiet: bool = False, as_json: bool = False, bars: bool = True) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.as_json = as_json
        self.bars = bars and not quiet and sys.stderr.isatty()
        self._rich: RichProgress | None = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._last_line: dict[str, float] = {}

    def __enter__(self) -> Console:
        if self.verbose:
            import platform

            self.note(f"geoasanet {__version__}, Python {platform.python_version()}, {platform.platform()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def progress(self, task: str, done: float, total: float, unit: str = "") -> None:
        """Show how far a task is; see :class:`geoasanet.progress.Progress`."""
        if self.quiet:
            return
        if self.bars:
            self._draw(task, done, total, unit)
        else:
            self._line(task, done, total, unit)

    def note(self, message: str, label: str = "") -> None:
        """Print a remark on stderr, behind ``label``."""
        if not self.quiet:
            self.stop()
            click.echo(label + printable(message), err=True)

    def warn(self, messages: Sequence[str]) -> None:
        """Print warnings on stderr."""
        for message in messages:
            self.note(message, click.style("Warning: ", fg="yellow"))

    def report(self, data: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Print a result on stdout: ``data`` as JSON if asked for, else ``lines``."""
        self.stop()
        if self.as_json:
            click.echo(json.dumps(_finite(data), indent=2, default=str, allow_nan=False))
        elif not self.quiet:
            for line in lines:
                click.echo(printable(line))

    def _draw(self, task: str, done: float, total: float, unit: str) -> None:
        if self._rich is None:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._rich = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
            )
            self._rich.start()
        if task not in self._tasks:
            self._tasks[task] = self._rich.add_task(task, total=total, rate="")
            self._started[task] = time.monotonic()
        self._rich.update(self._tasks[task], completed=done, total=total, rate=self._rate(task, done, unit))

    def _line(self, task: str, done: float, total: float, unit: str) -> None:
        now = time.monotonic()
        if task not in self._started:
            self._started[task] = self._last_line[task] = now
        if done < total and now - self._last_line[task] < (1.0 if self.verbose else _PLAIN_SECONDS):
            return
        if done >= total and self._last_line.get(f"{task} done"):
            return
        self._last_line[task] = now
        if done >= total:
            self._last_line[f"{task} done"] = now
        amount = f"{done:.0f}/{total:.0f} {unit}" if unit else f"{100 * done / max(total, 1e-9):.0f}%"
        rate = self._rate(task, done, unit)
        click.echo(f"{task}: {amount}{f', {rate}' if rate else ''}, {now - self._started[task]:.0f} s", err=True)

    def _rate(self, task: str, done: float, unit: str) -> str:
        seconds = time.monotonic() - self._started[task]
        return f"{done / seconds:.1f} {unit}/s" if unit and done and seconds > 0.5 else ""

    def stop(self) -> None:
        """Take the progress bars off the screen's last lines; what comes next starts below them."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None
            self._tasks.clear()


def shortened(text: str) -> str:
    """Return text without its middle where it is longer than a person reads: a value that was found may be anything."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 300]} … {text[-300:]}"


def _finite(value: Any) -> Any:
    """Return plain values with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def with_console(function: Function) -> Function:
    """Add the common options to a command and hand it a :class:`Console` as its first argument."""

    @options.common
    @click.pass_context
    @functools.wraps(function)
    def command(
        ctx: click.Context, /, *, verbose: int, quiet: bool, debug: bool, no_progress: bool, **arguments: Any
    ) -> Any:
        above = ctx.obj or {}
        with Console(
            verbose=verbose + above.get("verbose", 0),
            quiet=quiet or above.get("quiet", False),
            as_json=arguments.get("as_json", False),
            bars=not no_progress,
        ) as console:
            arguments.pop("as_json", None)
            return function(console, **arguments)

    return command  # type: ignore[return-value]  # click calls it with keywords only
