"""Blending: a partition of unity, the same streamed and at once."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoasanet.errors import ConfigError
from geoasanet.inference import blend as blend_module
from geoasanet.inference.blend import BLENDS, RowBlender, blend_weights
from geoasanet.inference.devicesums import DeviceSums
from geoasanet.windows import RowPlan, Tiling, Window, window_starts


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    size = draw(st.integers(2, 24))
    overlap = draw(st.integers(0, size - 1))
    return Tiling.over(draw(st.integers(1, 60)), draw(st.integers(1, 60)), size=size, overlap=overlap)


def whole(tiling: Tiling) -> RowPlan:
    return RowPlan(tiling, range(len(tiling.rows)), range(len(tiling.cols)))


def in_tensors(device: torch.device, *arguments: object) -> DeviceSums:
    """Sum as on a CUDA device, here on the CPU."""
    return DeviceSums(device, *arguments)  # type: ignore[arg-type]


def run_in_tensors(*arguments: object) -> tuple[np.ndarray, ...]:
    with mock.patch.object(blend_module, "_sums_on", in_tensors):
        return run(*arguments)  # type: ignore[arg-type]


def run(
    plan: RowPlan, blend: str, predictions: np.ndarray, valid: np.ndarray, logits: bool = False
) -> tuple[np.ndarray, ...]:
    """Blend ``predictions`` (window rows, window columns, classes, size, size); None where no pixel is valid."""
    tiling = plan.tiling
    keep = {"keep_confidence": True, "keep_probabilities": True}
    blender = RowBlender(plan, predictions.shape[2], blend, logits=logits, **keep)
    parts = []
    for i in plan.rows:
        finished = tiling.finished_rows(i)
        row = [
            torch.from_numpy(predictions[i, j])
            if valid[tiling.rows[i] : tiling.rows[i] + tiling.size, c : c + tiling.size].any()
            else None
            for j, c in enumerate(tiling.cols)
            if j in plan.columns
        ]
        wanted = np.zeros((len(finished), plan.width), bool)
        cut = valid[finished.start : finished.stop, plan.first_col : plan.first_col + plan.width]
        wanted[:, : cut.shape[1]] = cut
        parts.append(blender.add_row(i, row, wanted))
    return tuple(np.concatenate([p[k] for p in parts], axis=1 if k == 2 else 0) for k in range(3))


RUNS = {"arrays": run, "tensors": run_in_tensors}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1000.0])
def test_softmax_taken_while_blending(name: str, scale: float) -> None:
    tiling = Tiling.over(70, 90, size=32, overlap=12)
    rng = np.random.default_rng(int(scale))
    logits = (rng.normal(0, scale, (len(tiling.rows), len(tiling.cols), 5, 32, 32)) + scale).astype(np.float32)
    logits[0, 0, 2] = -np.inf  # a class that the network excludes
    probabilities = torch.softmax(torch.from_numpy(logits), 2).numpy()
    valid = np.ones((70, 90), bool)
    expected = run(whole(tiling), "hann", probabilities, valid)
    classes, confidence, blended = RUNS[name](whole(tiling), "hann", logits, valid, True)
    np.testing.assert_allclose(blended, expected[2], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(confidence, expected[1], rtol=1e-6, atol=1e-6)
    best = np.sort(expected[2], axis=0)
    assert (classes == expected[0])[best[-1] - best[-2] > 1e-5].all()


def at_once(tiling: Tiling, blend: str, predictions: np.ndarray) -> np.ndarray:
    """Blend over a canvas of the whole scene, in float64, with an explicit sum of weights."""
    size = tiling.size
    profile = BLENDS[blend](size)
    weight = profile[:, None] * profile[None, :]
    shape = max(tiling.height, size), max(tiling.width, size)
    total, weights = np.zeros((predictions.shape[2], *shape)), np.zeros(shape)
    for i, row in enumerate(tiling.rows):
        for j, col in enumerate(tiling.cols):
            total[:, row : row + size, col : col + size] += weight * predictions[i, j]
            weights[row : row + size, col : col + size] += weight
    return (total / weights)[:, : tiling.height, : tiling.width]


def random_predictions(tiling: Tiling, seed: int, classes: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (len(tiling.rows), len(tiling.cols), classes, tiling.size, tiling.size)
    logits = rng.normal(size=shape)
    exponent = np.exp(logits)
    return (exponent / exponent.sum(axis=2, keepdims=True)).astype(np.float32)


@given(tilings(), st.sampled_from(sorted(BLENDS)), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_blending_a_position_independent_network_gives_back_its_answer(tiling: Tiling, blend: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = rng.random((4, max(tiling.height, tiling.size), max(tiling.width, tiling.size)))
    field = (field / field.sum(axis=0)).astype(np.float32)
    windows = [[field[(slice(None), *w.slices)] for w in row] for row in grid_of_windows(tiling)]
    valid = np.ones((tiling.height, tiling.width), bool)
    classes, confidence, probabilities = run(whole(tiling), blend, np.array(windows), valid)
    direct = field[:, : tiling.height, : tiling.width]
    np.testing.assert_array_equal(classes[:, : tiling.width], direct.argmax(axis=0))
    np.testing.assert_allclose(probabilities[:, :, : tiling.width], direct, atol=1e-6)
    np.testing.assert_allclose(confidence[:, : tiling.width], direct.max(axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", RUNS)
@given(tilings(), st.sampled_from(sorted(BLENDS)), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_streamed_blending_equals_blending_the_whole_scene_at_once(
    kind: str, tiling: Tiling, blend: str, seed: int
) -> None:
    predictions = random_predictions(tiling, seed)
    valid = np.ones((tiling.height, tiling.width), bool)
    found = RUNS[kind](whole(tiling), blend, predictions, valid)
    classes, confidence, probabilities = (part[..., : tiling.width] for part in found)
    np.testing.assert_allclose(probabilities, at_once(tiling, blend, predictions), atol=2e-6)
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=0))
    np.testing.assert_array_equal(confidence, probabilities.max(axis=0))


@pytest.mark.parametrize("kind", RUNS)
@given(tilings(), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_skipping_empty_windows_changes_no_valid_pixel(kind: str, tiling: Tiling, seed: int) -> None:
    rng = np.random.default_rng(seed)
    valid = np.ones((tiling.height, tiling.width), bool)
    row, col = rng.integers(0, tiling.height), rng.integers(0, tiling.width)
    valid[row:, col:] = False
    predictions = random_predictions(tiling, seed)
    everywhere = RUNS[kind](whole(tiling), "hann", predictions, np.ones_like(valid))
    partly = RUNS[kind](whole(tiling), "hann", predictions, valid)
    inside = np.zeros(partly[0].shape, bool)
    inside[:, : tiling.width] = valid
    np.testing.assert_array_equal(partly[2][:, inside], everywhere[2][:, inside])
    assert (partly[0][~inside] == 255).all() and np.isnan(partly[1][~inside]).all()


@pytest.mark.parametrize("kind", RUNS)
@given(tilings(), st.integers(0, 9), st.data())
@settings(deadline=None, max_examples=60)
def test_starting_late_and_leaving_out_columns_gives_the_same_bits(
    kind: str, tiling: Tiling, seed: int, data: st.DataObject
) -> None:
    predictions = random_predictions(tiling, seed)
    valid = np.ones((tiling.height, tiling.width), bool)
    full = RUNS[kind](whole(tiling), "hann", predictions, valid)[2]
    row, col = data.draw(st.integers(0, tiling.height - 1)), data.draw(st.integers(0, tiling.width - 1))
    area = Window(
        row, col, data.draw(st.integers(1, tiling.height - row)), data.draw(st.integers(1, tiling.width - col))
    )
    plan = tiling.touching(area)
    part = RUNS[kind](plan, "hann", predictions, valid)[2]
    shift = row - tiling.rows[plan.rows[0]], col - plan.first_col
    cut = part[:, shift[0] : shift[0] + area.height, shift[1] : shift[1] + area.width]
    np.testing.assert_array_equal(cut, full[(slice(None), *area.slices)])


@given(st.integers(1, 80), st.integers(1, 30), st.data(), st.sampled_from(sorted(BLENDS)))
def test_weights_are_positive_and_sum_to_one(length: int, size: int, data: st.DataObject, blend: str) -> None:
    starts = window_starts(length, size, data.draw(st.integers(0, size - 1)))
    weights = blend_weights(length, starts, size, blend)
    total = np.zeros(max(length, size))
    for start, weight in zip(starts, weights, strict=True):
        assert (weight[: length - start] > 0).all()
        total[start : start + size] += weight
    np.testing.assert_allclose(total[:length], 1, atol=1e-6)


def test_an_unknown_blend_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'linear' is unknown; one of hann"):
        blend_weights(10, (0,), 10, "linear")


def grid_of_windows(tiling: Tiling) -> list[list[Window]]:
    return [[Window(r, c, tiling.size, tiling.size) for c in tiling.cols] for r in tiling.rows]
