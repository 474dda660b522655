"""Laws of windows and tilings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoasanet.errors import WindowError
from geoasanet.windows import Tiling, Window, window_starts

sizes = st.integers(1, 70)


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    size = draw(st.integers(1, 40))
    return draw(st.integers(1, 200)), size, draw(st.integers(0, size - 1))


@given(axes())
def test_windows_cover_every_pixel_and_stay_inside(axis: tuple[int, int, int]) -> None:
    length, size, overlap = axis
    starts = window_starts(length, size, overlap)
    covered = np.zeros(max(length, size), int)
    for start in starts:
        covered[start : start + size] += 1
    assert covered[:length].min() >= 1
    assert starts[0] == 0
    if length > size:
        assert starts[-1] + size == length


@given(axes())
def test_neighbours_overlap_at_least_as_asked(axis: tuple[int, int, int]) -> None:
    length, size, overlap = axis
    starts = window_starts(length, size, overlap)
    assert all(0 < b - a <= size - overlap for a, b in itertools.pairwise(starts))


@given(axes())
def test_no_window_is_superfluous(axis: tuple[int, int, int]) -> None:
    length, size, overlap = axis
    count = len(window_starts(length, size, overlap))
    assert count == 1 or size + (count - 2) * (size - overlap) < length


def test_default_windows_have_the_stride_of_the_paper() -> None:
    assert window_starts(256 + 192 * 3, 256, 64) == (0, 192, 384, 576)


@given(axes(), axes())
def test_finished_rows_partition_the_scene(rows: tuple[int, int, int], cols: tuple[int, int, int]) -> None:
    length, size, overlap = rows
    tiling = Tiling.over(length, cols[0], size=size, overlap=overlap)
    finished = [row for i in range(len(tiling.rows)) for row in tiling.finished_rows(i)]
    assert finished == list(range(length))


@given(axes(), st.data())
def test_first_touching_is_the_first_window_row_that_reaches_the_finished_rows(
    axis: tuple[int, int, int], data: st.DataObject
) -> None:
    length, size, overlap = axis
    tiling = Tiling.over(length, 10, size=size, overlap=overlap)
    index = data.draw(st.integers(0, len(tiling.rows) - 1))
    reaching = [i for i in range(index + 1) if tiling.rows[i] + size > tiling.rows[index]]
    assert tiling.first_touching(index) == reaching[0]


@given(axes(), axes(), st.data())
def test_touching_windows_are_exactly_those_that_share_pixels(
    rows: tuple[int, int, int], cols: tuple[int, int, int], data: st.DataObject
) -> None:
    size = rows[1]
    tiling = Tiling.over(rows[0], cols[0], size=size, overlap=rows[2])
    row, col = data.draw(st.integers(0, rows[0] - 1)), data.draw(st.integers(0, cols[0] - 1))
    area = Window(row, col, data.draw(st.integers(1, rows[0] - row)), data.draw(st.integers(1, cols[0] - col)))
    plan = tiling.touching(area)
    for i, top in enumerate(tiling.rows):
        for j, left in enumerate(tiling.cols):
            shares = Window(top, left, size, size).intersection(area) is not None
            assert shares == (i in plan.rows and j in plan.columns)


def test_intersection_of_windows() -> None:
    assert Window(0, 0, 4, 4).intersection(Window(2, 3, 5, 5)) == Window(2, 3, 2, 1)
    assert Window(0, 0, 4, 4).intersection(Window(4, 0, 1, 1)) is None


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1)])
def test_an_empty_window_is_refused(height: int, width: int) -> None:
    with pytest.raises(WindowError, match="positive"):
        Window(0, 0, height, width)


def test_an_overlap_as_large_as_the_window_is_refused() -> None:
    with pytest.raises(WindowError, match="found 256"):
        window_starts(1000, 256, 256)
