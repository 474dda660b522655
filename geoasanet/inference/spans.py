"""Where a window's columns go."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """What a window completes of a row of windows, once it is added to those on its left."""

    column: int
    """Column of windows."""
    start: int
    """First column of pixels, which is the window's own first, in the span of all windows."""
    stop: int
    """End of the columns that no window on the right touches."""
