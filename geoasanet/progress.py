"""How tools tell whoever called them how far they are. The library itself neither prints nor draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives how much of a task is done; see :func:`silent` for the simplest one."""

    def __call__(self, task: str, done: float, total: float, unit: str = "") -> None:
        """Report that ``done`` of ``total`` ``unit`` of ``task`` (a short text) are finished."""


def silent(task: str, done: float, total: float, unit: str = "") -> None:
    """Ignore progress."""
