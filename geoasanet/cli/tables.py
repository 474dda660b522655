"""Tables for people: drawn on a terminal, plain columns off one."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import Literal

Column = tuple[str, str]
"""Title, and side: ``"left"`` or ``"right"``."""

WIDTH = 80
"""Columns of text off a terminal."""


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines: with ``rich`` if stdout is a terminal, else columns separated by two blanks.

    Args:
        columns: Titles and sides.
        rows: Cells.
    """
    return _drawn(columns, rows) if sys.stdout.isatty() else _plain(columns, rows)


def wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """Return a text as lines of at most the terminal's width, 100 at most.

    Args:
        text: One paragraph.
        indent: What every line begins with.
        hanging: What all but the first begin with, if not that.
    """
    width = WIDTH
    if sys.stdout.isatty():
        import shutil

        width = max(40, min(100, shutil.get_terminal_size().columns))
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    titles = [name for name, _ in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        parts = zip(cells, columns, widths, strict=True)
        return "  ".join(f"{cell:{'>' if side == 'right' else '<'}{w}}" for cell, (_, side), w in parts).rstrip()

    return [line(titles), *map(line, rows)]


def _drawn(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for i, (name, side) in enumerate(columns):
        # Where the terminal is too narrow, the first column gives way.
        justify: Literal["left", "right"] = "right" if side == "right" else "left"
        table.add_column(name, justify=justify, header_style="bold cyan", no_wrap=i > 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]
