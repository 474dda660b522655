"""The estimators equal published examples, what can be worked out by hand, and the truth on average."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoasanet.design import StratifiedSample, class_sample, estimate, normal_quantile
from geoasanet.errors import ConfigError, LabelError

OLOFSSON_COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Rows map, columns truth: deforestation, forest gain, stable forest, stable non-forest (Table 8)."""
OLOFSSON_PIXELS = np.array([200_000.0, 150_000.0, 3_200_000.0, 6_450_000.0])


def from_counts(counts: np.ndarray, sizes: np.ndarray) -> StratifiedSample:
    """Return the sample with ``counts`` (rows map, columns truth)."""
    mapped, truth = (np.repeat(ids.ravel(), counts.ravel()) for ids in np.indices(counts.shape))
    return class_sample(truth, mapped, sizes)


def test_the_worked_example_of_olofsson_et_al() -> None:
    found = estimate(from_counts(OLOFSSON_COUNTS, OLOFSSON_PIXELS))
    hectares = 10_000_000 * 30 * 30 / 10_000
    assert [round(share.value * hectares) for share in found.shares] == [21_158, 11_686, 285_770, 581_386]
    margins = [share.margin * hectares for share in found.shares]
    assert margins == pytest.approx([6158, 3756, 15_510, 16_282], abs=1)
    assert (found.overall.value, found.overall.margin) == pytest.approx((0.95, 0.02), abs=0.005)
    assert [u.value for u in found.users] == pytest.approx([0.88, 0.73, 0.93, 0.96], abs=0.005)
    assert [u.margin for u in found.users] == pytest.approx([0.07, 0.10, 0.04, 0.02], abs=0.005)
    assert [p.value for p in found.producers] == pytest.approx([0.75, 0.85, 0.93, 0.96], abs=0.005)


def test_the_worked_example_of_stehman() -> None:
    ids = {"A": 0, "B": 1, "C": 2, "D": 3}
    mapped = "AAAAAAABBB" + "ABBBBBBBBB" + "BBCCCCCCBB" + "DDDDDDDDDD"
    truth = "AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"
    sample = StratifiedSample(
        np.array([ids[c] for c in truth]),
        np.array([ids[c] for c in mapped]),
        np.repeat(np.arange(4), 10),
        np.array([40_000.0, 30_000.0, 20_000.0, 10_000.0]),
        4,
        by_class=False,
    )
    found = estimate(sample)
    assert (found.overall.value, found.overall.standard_error) == pytest.approx((0.63, 0.085), abs=5e-4)
    assert [found.shares[k].value for k in (0, 2)] == pytest.approx([0.35, 0.20])
    assert [found.shares[k].standard_error for k in (0, 2)] == pytest.approx([0.082, 0.064], abs=5e-4)
    assert (found.users[1].value, found.users[1].standard_error) == pytest.approx((0.574, 0.125), abs=1e-3)
    assert (found.producers[1].value, found.producers[1].standard_error) == pytest.approx((0.794, 0.116), abs=1e-3)
    assert found.matrix[2, 1] == pytest.approx(0.08)


@given(st.integers(2, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_strata_that_are_classes_give_the_equations_of_olofsson(k: int, data: st.DataObject) -> None:
    cells = st.lists(st.integers(1, 30), min_size=k * k, max_size=k * k)
    n = np.array(data.draw(cells), float).reshape(k, k)
    sizes = np.array(data.draw(st.lists(st.floats(0.1, 100), min_size=k, max_size=k)))
    found = estimate(from_counts(n.astype(int), sizes), 0.9)
    weight, each = sizes / sizes.sum(), n.sum(axis=1)
    p = weight[:, None] * n / each[:, None]  # eq. 4, rows map
    users = np.diagonal(p) / p.sum(axis=1)  # eq. 2
    producers = np.diagonal(p) / p.sum(axis=0)  # eq. 3
    np.testing.assert_allclose(found.matrix, p.T)
    assert found.overall.value == pytest.approx(np.trace(p))  # eq. 1
    assert found.overall.standard_error**2 == pytest.approx((weight**2 * users * (1 - users) / (each - 1)).sum())
    share = n / each[:, None]
    for j in range(k):
        assert found.users[j].value == pytest.approx(users[j])
        assert found.users[j].standard_error ** 2 == pytest.approx(users[j] * (1 - users[j]) / (each[j] - 1))
        assert found.producers[j].value == pytest.approx(producers[j])
        column = sizes**2 * share[:, j] * (1 - share[:, j]) / (each - 1)
        others = column.sum() - column[j]
        own = (sizes[j] * (1 - producers[j])) ** 2 * users[j] * (1 - users[j]) / (each[j] - 1)
        total = (sizes * share[:, j]).sum()
        variance = (own + producers[j] ** 2 * others) / total**2  # eq. 7
        assert found.producers[j].standard_error ** 2 == pytest.approx(variance, rel=1e-6)
        area_variance = (weight**2 * share[:, j] * (1 - share[:, j]) / (each - 1)).sum()  # eq. 10
        assert found.shares[j].standard_error ** 2 == pytest.approx(area_variance)
        assert found.shares[j].margin == pytest.approx(1.6448536 * found.shares[j].standard_error)


def test_three_of_four_by_hand() -> None:
    found = estimate(class_sample(np.array([0, 0, 0, 1]), np.zeros(4, int), np.array([7.0, 0.0])))
    assert found.overall.value == found.users[0].value == 0.75
    assert found.overall.standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    assert found.producers[0].value == 1 and found.producers[1].value == 0
    assert math.isnan(found.users[1].value)


@pytest.mark.parametrize("by_class", [True, False])
def test_intervals_hold_the_truth_as_often_as_they_say(by_class: bool) -> None:
    rng = np.random.default_rng(3)
    classes, size = 3, 60_000
    truth = rng.choice(classes, size, p=[0.6, 0.3, 0.1])
    mapped = np.where(rng.random(size) < 0.75, truth, rng.integers(0, classes, size))
    third = np.where(rng.random(size) < 0.7, truth, rng.integers(0, classes, size))
    stratum = mapped if by_class else third
    places = [np.flatnonzero(stratum == h) for h in range(classes)]
    sizes = np.array([len(p) for p in places], float)
    exact = [(truth == mapped).mean(), (truth == 0).mean()]
    exact += [(truth[mapped == 1] == 1).mean(), (mapped[truth == 1] == 1).mean()]
    hits, rounds = np.zeros(4), 400
    mean = np.zeros(4)
    for _ in range(rounds):
        chosen = np.concatenate([rng.choice(p, 120, replace=False) for p in places])
        drawn = StratifiedSample(truth[chosen], mapped[chosen], stratum[chosen], sizes, classes, by_class)
        found = estimate(drawn)
        for i, value in enumerate((found.overall, found.shares[0], found.users[1], found.producers[1])):
            hits[i] += value.low <= exact[i] <= value.high
            mean[i] += value.value / rounds
    assert mean == pytest.approx(exact, abs=0.006)
    assert (hits / rounds > 0.92).all() and (hits / rounds < 0.98).all(), hits / rounds


def test_places_without_a_map_class_are_no_part_of_the_area() -> None:
    truth, mapped = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, -1, -1, 0])
    stratum = np.array([0, 0, 0, 1, 1, 1])
    found = estimate(StratifiedSample(truth, mapped, stratum, np.array([3.0, 1.0]), 2, by_class=False))
    # Mapped: all of stratum 0 and a third of stratum 1, that is 3 + 1/3; right: 3.
    assert found.overall.value == pytest.approx(3 / (3 + 1 / 3))
    assert found.shares[0].value == pytest.approx(2 / (3 + 1 / 3))
    assert found.matrix.sum() == pytest.approx(1)


def test_one_place_gives_no_standard_error_and_none_no_estimate() -> None:
    sample = class_sample(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), np.array([5.0, 3.0, 2.0]))
    found = estimate(sample)
    assert sample.coverage == pytest.approx(0.8) and sample.counts.tolist() == [3, 1, 0]
    assert found.overall.value == pytest.approx((5 * 2 / 3 + 3) / 8)
    assert math.isnan(found.overall.standard_error) and math.isnan(found.overall.low)
    assert math.isfinite(found.users[0].standard_error)
    assert math.isnan(found.users[1].value) and math.isnan(found.users[2].value)
    assert found.overall.to_dict()["low"] is None


def test_impossible_samples() -> None:
    one = np.array([0])
    with pytest.raises(LabelError, match="truth must be 0 to 0, found 3"):
        class_sample(np.array([3]), one, np.array([1.0]))
    with pytest.raises(LabelError, match="one truth"):
        class_sample(np.array([0, 0]), one, np.array([1.0]))
    with pytest.raises(LabelError, match="must equal the map's class"):
        StratifiedSample(one, one, one + 1, np.ones(2), 2, by_class=True)
    with pytest.raises(ConfigError, match="Sizes"):
        class_sample(one, one, np.array([-1.0]))
    with pytest.raises(ConfigError, match=r"between 0 and 1, found 95"):
        normal_quantile(95)
    assert normal_quantile(0.95) == pytest.approx(1.959964)
