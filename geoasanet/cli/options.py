"""Options that several commands share, each defined once.

``overwrite``    tile, train, predict, vectorize, eval, convert, demo
``json_output``  every command that reports
``dry_run``      tile, predict, vectorize
``resume``       tile, predict
``on_error``     tile, predict
``scheduler``    tile, predict, vectorize
``workers``      tile, vectorize
``common``       every command: ``-v``, ``-q``, ``--debug``, ``--no-progress``
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class FileName(click.Path):
    """A path that is not the next option, taken for the one that was forgotten."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if str(value).startswith("-"):
            self.fail(f"a name is needed, found {str(value)!r}. Such a file is ./{value}", param, ctx)
        return super().convert(value, param, ctx)


PATH = FileName(path_type=Path)


class IntegerList(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Whole numbers separated by commas, such as band numbers: ``3,2,1``."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,2,3.", param, ctx)


class AutoInteger(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A positive whole number, or ``auto``."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number or "auto"."""
        if value == "auto":
            return "auto"
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is neither 'auto' nor a positive whole number.", param, ctx)
        return number


overwrite = click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
json_output = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
resume = click.option("--resume/--no-resume", default=True, show_default=True, help="Go on with an unfinished run.")
on_error = click.option(
    "--on-error",
    type=click.Choice(["fail", "nodata"]),
    default="fail",
    show_default=True,
    help="A block of a raster that cannot be read: fail, or go on with its pixels as without data.",
)
dry_run = click.option(
    "--dry-run", is_flag=True, help="Check everything, say what would be done and how long it takes; write nothing."
)

scheduler = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Run on a Dask cluster: tcp://host:8786, a scheduler file, or local.  [default: this machine, without Dask]",
)

workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads; with --scheduler local, processes.  [default: all cores]",
)

checkpoint = click.option(
    "-c", "--checkpoint", help="File, run folder or packaged name.  [default: runs/latest, else s1s2-10m]"
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
precision = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the network; auto: bf16 on CUDA, fp32 on a CPU (predict: compiled bf16 for large scenes on a "
    "CPU with bf16 instructions).",
)
tta = click.option("--tta", is_flag=True, help="Average over the eight symmetries of the square.")
compile_network = click.option(
    "--compile", is_flag=True, help="Compile the network first (a minute or two, then faster)."
)


def common(function: Function) -> Function:
    """Add the options every command takes, so that they may stand before or after its name."""
    for option in (
        click.option("--no-progress", is_flag=True, help="Plain lines instead of a progress bar."),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option("-v", "--verbose", count=True, help="Say more on stderr."),
    ):
        function = option(function)
    return function
