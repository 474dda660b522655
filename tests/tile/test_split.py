"""Splits: whole blocks, no shared pixel, every class in train, fractions near what was asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoasanet.errors import ConfigError
from geoasanet.raster.split import BlockLayout, assign_blocks
from geoasanet.windows import Window

FRACTIONS = (0.7, 0.15, 0.15)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_tiles_cover_the_grid_and_blocks_share_no_pixel(data: st.DataObject) -> None:
    size = data.draw(st.integers(8, 40))
    layout = BlockLayout(
        data.draw(st.integers(1, 200)),
        data.draw(st.integers(1, 200)),
        size,
        data.draw(st.integers(0, size - 1)),
        data.draw(st.integers(1, 4)),
    )
    owner = np.full((layout.height, layout.width), -1)
    columns = layout.width // layout.pitch + 1
    for row in layout.rows:
        for col in layout.cols:
            block = layout.block_of(Window(row, col, size, size))
            number = block[0] * columns + block[1]
            part = owner[row : row + size, col : col + size]
            assert part.size and np.isin(part, (-1, number)).all()
            part[:] = number
    assert (owner >= 0).all()


@settings(max_examples=60, deadline=None)
@given(blocks=st.integers(1, 30), classes=st.integers(1, 6), rare=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_every_class_is_in_train(blocks: int, classes: int, rare: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    amounts = rng.integers(1, 1000, (blocks, classes)) * (rng.random((blocks, classes)) > rare)
    amounts = np.column_stack([amounts, np.full(blocks, 1000)]).astype(float)
    splits = assign_blocks(amounts, FRACTIONS, seed)
    present = amounts.sum(axis=0) > 0
    assert (amounts[splits == 0].sum(axis=0) > 0)[present].all()
    np.testing.assert_array_equal(splits, assign_blocks(amounts, FRACTIONS, seed))


def test_fractions_are_close_where_blocks_are_many() -> None:
    rng = np.random.default_rng(1)
    amounts = np.column_stack([rng.gamma(1, 100, (80, 4)), np.full(80, 1000.0)])
    splits = assign_blocks(amounts, FRACTIONS, 0)
    for split, wanted in enumerate(FRACTIONS):
        share = amounts[splits == split].sum(axis=0) / amounts.sum(axis=0)
        np.testing.assert_allclose(share, wanted, atol=0.03)


def test_the_seed_draws_another_split() -> None:
    amounts = np.ones((60, 3))
    assert (assign_blocks(amounts, FRACTIONS, 0) != assign_blocks(amounts, FRACTIONS, 1)).any()


def test_no_split_is_empty_if_there_are_blocks_for_it() -> None:
    amounts = np.column_stack([np.eye(3), np.ones(3)])  # each class in one block only: all must be in train
    assert (assign_blocks(amounts, FRACTIONS, 0) == 0).all()
    assert set(assign_blocks(np.ones((3, 2)), FRACTIONS, 0)) == {0, 1, 2}


def test_a_fraction_of_zero_gets_nothing() -> None:
    assert 2 not in assign_blocks(np.ones((20, 2)), (0.8, 0.2, 0.0), 0)


def test_given_splits_stay() -> None:
    fixed = [2, None, 1, None, None]
    splits = assign_blocks(np.ones((5, 2)), FRACTIONS, 0, fixed)
    assert splits[0] == 2 and splits[2] == 1


@pytest.mark.parametrize("numbers", [(4, 0, 1), (64, 64, 1), (64, -1, 1), (64, 0, 0)])
def test_impossible_numbers(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        BlockLayout(100, 100, *numbers)
