"""The metrics equal the official code's, and what can be worked out by hand."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoasanet.errors import LabelError
from geoasanet.metrics import Metrics, confusion


@pytest.mark.parametrize("case", ["pie", "pie_class_absent", "pie_one_sided", "whu", "ddhr", "pie_label_out_of_range"])
def test_metrics_equal_the_official_code(shared: Path, case: str) -> None:
    folder = shared / "golden" / "training"
    wanted = json.loads((folder / "metric.json").read_text())[case]
    with np.load(folder / "metric.npz") as stored:
        truth, prediction = stored[f"{case}/label"], stored[f"{case}/pred"]
    strict = "out_of_range" not in case
    matrix = confusion(truth, prediction, len(wanted["classes"]), strict=strict)
    found = Metrics.from_matrix(matrix)
    exact = wanted["unrounded"]
    assert np.diagonal(matrix).tolist() == wanted["area_intersect"]
    assert matrix.sum(axis=0).tolist() == wanted["area_pred"]
    for mine, theirs in (
        (found.iou, "IoU"),
        (found.recall, "Acc"),
        (found.recall, "Recall"),
        (found.precision, "Precision"),
        (found.f1, "Fscore"),
        (found.accuracy, "aAcc"),
        (found.kappa, "Kappa"),
    ):
        np.testing.assert_allclose(mine, np.array(exact[theirs], float), atol=1e-6, rtol=0, err_msg=theirs)
    means = {
        "mIoU": found.mean_iou,
        "mAcc": found.mean_accuracy,
        "mFscore": found.mean_f1,
        "mPrecision": found.mean_precision,
        "aAcc": found.accuracy,
        "Kappa": found.kappa,
    }
    assert {name: round(100 * value, 2) for name, value in means.items()} == {
        name: wanted["summary"][name] for name in means
    }


def test_hand_worked_matrix() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 0]])
    found = np.array([[0, 0, 1, 1], [1, 0, 1, 0]])
    matrix = confusion(truth, found, 2)
    assert matrix.tolist() == [[3, 1], [1, 2]]
    metrics = Metrics.from_matrix(matrix)
    assert metrics.iou.tolist() == [3 / 5, 2 / 4]
    assert metrics.precision.tolist() == [3 / 4, 2 / 3]
    assert metrics.recall.tolist() == [3 / 4, 2 / 3]
    assert metrics.f1 == pytest.approx([3 / 4, 2 / 3])
    assert metrics.accuracy == 5 / 7
    chance = (4 * 4 + 3 * 3) / 49
    assert metrics.kappa == pytest.approx((5 / 7 - chance) / (1 - chance))
    assert metrics.mean_iou == pytest.approx(0.55)


def test_absent_class_is_left_out_and_unmapped_class_has_no_f1() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = Metrics.from_matrix(np.array([[4, 0, 0], [2, 0, 0], [0, 0, 0]]))
    assert metrics.iou[:2].tolist() == [4 / 6, 0.0]
    assert np.isnan(metrics.iou[2])
    assert metrics.mean_iou == pytest.approx(1 / 3)
    assert np.isnan(metrics.precision[1:]).all()
    assert np.isnan(metrics.f1[1:]).all()
    assert metrics.to_dict(["a", "b", "c"])["classes"]["c"] == dict.fromkeys(("iou", "precision", "recall", "f1"))


def test_nothing_to_compare_gives_nan() -> None:
    metrics = Metrics.from_matrix(np.zeros((2, 2), int))
    assert np.isnan([metrics.accuracy, metrics.kappa, metrics.mean_iou, metrics.mean_f1]).all()
    assert json.dumps(metrics.to_dict(), allow_nan=False)


ids = st.sampled_from([0, 1, 2, 3, 255])


@given(
    truth=arrays(np.uint8, (7, 11), elements=ids),
    prediction=arrays(np.uint8, (7, 11), elements=ids),
    cut=st.integers(0, 7),
)
def test_matrices_of_parts_add(truth: np.ndarray, prediction: np.ndarray, cut: int) -> None:
    whole = confusion(truth, prediction, 4, unmapped=255)
    parts = [confusion(truth[part], prediction[part], 4, unmapped=255) for part in (slice(cut), slice(cut, None))]
    np.testing.assert_array_equal(parts[0] + parts[1], whole)
    assert whole.sum() == ((truth != 255) & (prediction != 255)).sum()


@given(arrays(np.uint8, (6, 5), elements=st.integers(0, 3)))
def test_a_perfect_map_scores_one(truth: np.ndarray) -> None:
    metrics = Metrics.from_matrix(confusion(truth, truth, 4))
    assert metrics.accuracy == 1
    assert metrics.mean_iou == 1
    present = np.isin(np.arange(4), truth)
    np.testing.assert_array_equal(metrics.iou[present], 1)
    assert np.isnan(metrics.iou[~present]).all()


def test_counts_beyond_float32_stay_exact() -> None:
    matrix = np.array([[2**40 + 1, 1], [0, 2**40]])
    assert Metrics.from_matrix(matrix).matrix.tolist() == matrix.tolist()


@pytest.mark.parametrize(
    ("truth", "prediction", "words"),
    [
        ([[0, 7]], [[0, 1]], "Label value 7 is no class"),
        ([[0, 1]], [[0, 255]], "Map value 255 is no class"),
        ([[0, 1]], [[0]], "shape"),
    ],
)
def test_impossible_ids_are_refused(truth: list, prediction: list, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        confusion(np.array(truth), np.array(prediction), 2)


@pytest.mark.parametrize("matrix", [np.zeros((2, 3), int), np.zeros((0, 0), int), np.array([[1, -1], [0, 1]])])
def test_impossible_matrices_are_refused(matrix: np.ndarray) -> None:
    with pytest.raises(LabelError, match="confusion matrix"):
        Metrics.from_matrix(matrix)
