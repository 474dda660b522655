"""Accuracy of a class map, from one confusion matrix.

The numbers equal those of the official code on the same predictions, its conventions for absent classes included.
Matrices of several tiles or scenes simply add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.errors import LabelError

Matrix = NDArray[np.int64]
PerClass = NDArray[np.float64]


def confusion(
    truth: NDArray[Any],
    prediction: NDArray[Any],
    num_classes: int,
    ignore_index: int = 255,
    *,
    unmapped: int | None = None,
    strict: bool = True,
) -> Matrix:
    """Return how often each class was mapped as which, int64 (num_classes, num_classes): rows truth, columns map.

    Args:
        truth: Class ids of any integer type and shape.
        prediction: Class ids, the same shape.
        num_classes: Number of classes K.
        ignore_index: Truth value that does not count.
        unmapped: Map value (its nodata) that does not count, such as 255; None if every pixel is mapped.
        strict: Refuse truth outside 0..K-1. If false, a last row K holds pixels with such truth, as the official code
            counts them: mapped, but of no class; the result is then (K + 1, K).

    Raises:
        LabelError: If shapes differ, or a value lies outside 0..K-1 and is not to be left out.
    """
    if truth.shape != prediction.shape:
        raise LabelError(f"Labels have shape {truth.shape}, the map has {prediction.shape}; they must agree.")
    counts = truth != ignore_index
    if unmapped is not None:
        counts &= prediction != unmapped
    rows = truth[counts].astype(np.int64)
    cols = prediction[counts].astype(np.int64)
    _check_range("Map", cols, num_classes)
    if strict:
        _check_range("Label", rows, num_classes)
    else:
        rows = np.where((rows >= 0) & (rows < num_classes), rows, num_classes)
    height = num_classes + (not strict)
    flat = np.bincount(rows * num_classes + cols, minlength=height * num_classes)
    return flat.reshape(height, num_classes).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """Accuracy measures; per-class arrays are float64 (num_classes,), every value lies in 0..1 (kappa in -1..1).

    With n[i, j] pixels of class i mapped as j, t[i] labelled and p[i] mapped pixels of class i, and N pixels in all.
    Where a measure is 0/0 it is NaN, and means leave NaN out: a class that neither labels nor map contain does not
    count, and a class that was never mapped has no precision and no F1.
    """

    matrix: Matrix
    """n: rows truth, columns map. A row beyond the classes holds pixels whose label is no class."""
    iou: PerClass
    """Intersection over union: n[i, i] / (t[i] + p[i] - n[i, i])."""
    precision: PerClass
    """Share of a mapped class that is right (user's accuracy): n[i, i] / p[i]."""
    recall: PerClass
    """Share of a labelled class that was found (producer's accuracy): n[i, i] / t[i]."""
    f1: PerClass
    """Harmonic mean of both: 2 · precision · recall / (precision + recall)."""
    accuracy: float
    """Overall accuracy: Σ n[i, i] / Σ t[i]."""
    kappa: float
    """Cohen's kappa: (accuracy - pe) / (1 - pe), with pe = Σ t[i] · p[i] / N² agreement by chance."""
    mean_iou: float
    """mIoU: mean of the IoU."""
    mean_accuracy: float
    """mAcc: mean of the recall."""
    mean_precision: float
    """Mean of the precision."""
    mean_f1: float
    """mF1: mean of F1."""

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.integer[Any]]) -> Metrics:
        """Return the metrics of a confusion matrix (K, K), or (K + 1, K) with a row of labels that are no class.

        Raises:
            LabelError: If the matrix is of another shape or holds negative counts.
        """
        counts = np.asarray(matrix).astype(np.int64)
        if counts.ndim != 2 or counts.shape[0] - counts.shape[1] not in (0, 1) or not counts.size:
            raise LabelError(f"A confusion matrix is square, found shape {counts.shape}.")
        if (counts < 0).any():
            raise LabelError("A confusion matrix holds counts, found negative ones.")
        classes = counts.shape[1]
        hit = np.diagonal(counts).astype(np.float64)
        labelled = counts[:classes].sum(axis=1).astype(np.float64)
        mapped = counts.sum(axis=0).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = hit / (labelled + mapped - hit)
            precision, recall = hit / mapped, hit / labelled
            f1 = 2 * precision * recall / (precision + recall)
            total = labelled.sum()
            accuracy = hit.sum() / total
            chance = (labelled * mapped).sum() / total**2
            kappa = (accuracy - chance) / (1 - chance)
        return cls(
            matrix=counts,
            iou=iou,
            precision=precision,
            recall=recall,
            f1=f1,
            accuracy=float(accuracy),
            kappa=float(kappa),
            mean_iou=_nanmean(iou),
            mean_accuracy=_nanmean(recall),
            mean_precision=_nanmean(precision),
            mean_f1=_nanmean(f1),
        )

    def to_dict(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Return a JSON-serialisable description; what is not defined is None.

        Args:
            names: Class names; by default their ids.
        """
        labels = [str(i) for i in range(len(self.iou))] if names is None else list(names)
        per_class = {
            name: {
                "iou": _plain(self.iou[i]),
                "precision": _plain(self.precision[i]),
                "recall": _plain(self.recall[i]),
                "f1": _plain(self.f1[i]),
            }
            for i, name in enumerate(labels)
        }
        return {
            "miou": _plain(self.mean_iou),
            "overall_accuracy": _plain(self.accuracy),
            "mean_accuracy": _plain(self.mean_accuracy),
            "mean_precision": _plain(self.mean_precision),
            "mean_f1": _plain(self.mean_f1),
            "kappa": _plain(self.kappa),
            "pixels": int(self.matrix.sum()),
            "classes": per_class,
            "confusion_matrix": self.matrix.tolist(),
        }


def _check_range(what: str, values: Matrix, num_classes: int) -> None:
    if values.size and (values.min() < 0 or values.max() >= num_classes):
        wrong = values[(values < 0) | (values >= num_classes)][0]
        raise LabelError(
            f"{what} value {wrong} is no class: there are {num_classes}, 0 to {num_classes - 1}.",
            "Check the class schema, or mark such pixels to be ignored.",
        )


def _nanmean(values: PerClass) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
