"""Learning rates against the original schedulers, and in runs too short for them."""

from __future__ import annotations

import json

import pytest

from geoasanet.errors import ConfigError
from geoasanet.training.schedule import Schedule

RECIPES = {
    "asanet_pie": Schedule(80_000),
    "cmx_pie": Schedule(80_000, decay_start=1000),
    "sagate_pie": Schedule(80_000, warmup=0, power=0.9, min_lr_ratio=0.01),
    "fusenet_pie": Schedule(80_000, warmup=0, power=0.9, min_lr_ratio=0.01),
}


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden" / "training" / "lr_schedule.json").read_text())


@pytest.mark.parametrize("recipe", RECIPES)
def test_rates_are_those_of_the_original(golden, recipe):
    recorded = golden[recipe]
    assert len(recorded["lr_at_iter"]) > 20
    for iteration, lr in recorded["lr_at_iter"].items():
        found = recorded["base_lr"] * RECIPES[recipe].factor(int(iteration))
        assert found == pytest.approx(lr, rel=1e-9, abs=1e-24), iteration


def test_every_recipe_was_tried(golden):
    assert set(golden) == set(RECIPES)


@pytest.mark.parametrize("iterations", [3, 4, 10, 100, 1499, 1500, 1501, 2999, 3000, 3001])
@pytest.mark.parametrize("decay_start", [None, 0, 1000])
def test_a_run_of_any_length_ends_at_the_smallest_rate(iterations, decay_start):
    schedule = Schedule(iterations, decay_start=decay_start, min_lr_ratio=0.1)
    rates = [schedule.factor(i) for i in range(iterations)]
    assert rates[-1] == pytest.approx(0.1)
    assert max(rates) > 0.5
    assert rates.index(max(rates)) <= max(iterations // 2, decay_start or 0)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_a_run_that_fits_its_warm_up_is_not_clipped():
    assert Schedule(10, warmup=3, warmup_factor=0.01).factor(0) == 0.01
    assert [Schedule(10, warmup=3).factor(i) for i in (2, 3)] == [1, 1]
    assert Schedule(10, warmup=3).factor(4) < 1


def test_a_run_shorter_than_twice_the_warm_up_warms_up_over_half():
    schedule = Schedule(200, warmup=1500)
    assert schedule.factor(0) == pytest.approx(1e-6)
    assert schedule.factor(99) == schedule.factor(100) == 1
    assert schedule.factor(101) == pytest.approx(98 / 99)


@pytest.mark.parametrize("iterations", [1, 2])
def test_the_shortest_runs_use_the_full_rate(iterations):
    assert [Schedule(iterations).factor(i) for i in range(iterations)] == [1.0] * iterations


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0),
        ("warmup", -1),
        ("warmup_factor", 0.0),
        ("warmup_factor", float("nan")),
        ("decay_start", -2),
        ("power", 0.0),
        ("min_lr_ratio", 1.5),
    ],
)
def test_impossible_values_are_named(field, value):
    with pytest.raises(ConfigError, match=str(value)):
        Schedule(**{"iterations": 100, field: value})
