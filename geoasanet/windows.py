"""Windows: the pixel rectangles that the network sees, and how they tile a scene.

Rows and columns count from 0 at the scene's upper-left pixel. Windows of a tiling overlap; what is written of each
row of windows does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geoasanet.errors import WindowError


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels; it may reach beyond the raster that it is read from.

    Raises:
        WindowError: If height or width is not positive.
    """

    row: int
    """First row."""
    col: int
    """First column."""
    height: int
    """Rows."""
    width: int
    """Columns."""

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise WindowError(f"A window needs positive height and width, found {self.height} x {self.width}.")

    @property
    def row_stop(self) -> int:
        """First row after the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """First column after the window."""
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices for an array whose first pixel is (0, 0)."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def intersection(self, other: Window) -> Window | None:
        """Return the pixels common to both windows, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.row_stop, other.row_stop) - row
        width = min(self.col_stop, other.col_stop) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    def __str__(self) -> str:
        return f"rows {self.row}..{self.row_stop - 1}, columns {self.col}..{self.col_stop - 1}"


def window_starts(length: int, size: int, overlap: int) -> tuple[int, ...]:
    """Return the first pixel of each window along one axis.

    As few windows as a stride of ``size - overlap`` needs, spread evenly from the first pixel to the last, so that
    no two neighbours overlap by less than ``overlap`` and none by much more. A scene shorter than a window gets one
    window that reaches beyond it.

    Args:
        length: Pixels of the scene along the axis.
        size: Pixels of a window along the axis.
        overlap: Least overlap of neighbours in pixels, 0 to ``size - 1``.

    Raises:
        WindowError: If a number is out of range.
    """
    if length <= 0 or size <= 0:
        raise WindowError(f"Scene and window need at least one pixel, found {length} and {size}.")
    if not 0 <= overlap < size:
        raise WindowError(
            f"Overlap must be 0 to {size - 1} pixels for windows of {size}, found {overlap}.",
            "Use a quarter of the window, for instance --overlap 64 with --window 256.",
        )
    if length <= size:
        return (0,)
    span, stride = length - size, size - overlap
    count = -(-span // stride) + 1
    return tuple(i * span // (count - 1) for i in range(count))


@dataclass(frozen=True, slots=True)
class Tiling:
    """All windows over a scene, as a grid of rows and columns of windows.

    Raises:
        WindowError: If the numbers make no tiling.
    """

    height: int
    """Rows of the scene."""
    width: int
    """Columns of the scene."""
    size: int
    """Side of the square windows, pixels."""
    overlap: int
    """Least overlap of neighbouring windows, pixels."""
    rows: tuple[int, ...]
    """First row of each row of windows."""
    cols: tuple[int, ...]
    """First column of each column of windows."""

    @classmethod
    def over(cls, height: int, width: int, *, size: int, overlap: int) -> Tiling:
        """Return the windows of ``size`` that cover ``height`` x ``width`` pixels."""
        rows, cols = window_starts(height, size, overlap), window_starts(width, size, overlap)
        return cls(height, width, size, overlap, rows, cols)

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def __iter__(self) -> Iterator[Window]:
        for row in self.rows:
            for col in self.cols:
                yield Window(row, col, self.size, self.size)

    def finished_rows(self, index: int) -> range:
        """Return the scene rows that no window after row of windows ``index`` touches, and none before finished."""
        stop = self.rows[index + 1] if index + 1 < len(self.rows) else self.height
        return range(self.rows[index], stop)

    def first_touching(self, index: int) -> int:
        """Return the first row of windows that shares pixels with :meth:`finished_rows` of ``index``."""
        first = index
        while first > 0 and self.rows[first - 1] + self.size > self.rows[index]:
            first -= 1
        return first

    def touching(self, area: Window) -> RowPlan:
        """Return the windows that share pixels with ``area``, as a block of rows and columns."""
        rows = [i for i, row in enumerate(self.rows) if row < area.row_stop and row + self.size > area.row]
        cols = [i for i, col in enumerate(self.cols) if col < area.col_stop and col + self.size > area.col]
        if not rows or not cols:
            raise WindowError(f"The area {area} lies outside the scene of {self.height} x {self.width} pixels.")
        return RowPlan(self, range(rows[0], rows[-1] + 1), range(cols[0], cols[-1] + 1))


@dataclass(frozen=True, slots=True)
class RowPlan:
    """A block of a tiling's windows: some consecutive rows, some consecutive columns."""

    tiling: Tiling
    rows: range
    """Rows of windows, as positions in ``tiling.rows``."""
    columns: range
    """Columns of windows, as positions in ``tiling.cols``."""

    @property
    def first_col(self) -> int:
        """First scene column."""
        return self.tiling.cols[self.columns[0]]

    @property
    def width(self) -> int:
        """Columns that the windows span; more than the scene has where that is narrower than a window."""
        return self.tiling.cols[self.columns[-1]] + self.tiling.size - self.first_col

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def leading_to(self, rows: range) -> RowPlan:
        """Return the rows of windows that must be run so that the pixels finished by ``rows`` are complete."""
        first = max(self.rows[0], self.tiling.first_touching(rows[0]))
        return RowPlan(self.tiling, range(first, rows[-1] + 1), self.columns)
