"""Whether a network's probabilities mean what they say: of the pixels mapped at 80 %, are 80 % right?

Expected calibration error (ECE) as in Guo et al., ICML 2017 (arXiv 1706.04599), equation 3, with 15 bins of equal
width: pixels are binned by the probability of their mapped class, and the gaps between mean probability and share of
right ones are averaged, each bin weighing as many pixels as it holds. Brier score: squared distance of the
probabilities from the truth, summed over the classes (Brier 1950, 0 to 2). Cross entropy: minus the logarithm of the
true class's probability, also called negative log-likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 15
_TINY = 1e-38


@dataclass(frozen=True, slots=True)
class Reliability:
    """Calibration over the pixels compared; NaN where there are none."""

    pixels: NDArray[np.int64]
    """Pixels in each bin of confidence, the first from 0 to 1/15."""
    confidence: NDArray[np.float64]
    """Their mean probability of the mapped class."""
    accuracy: NDArray[np.float64]
    """The share of them that is right."""
    cross_entropy: float
    """Mean over all pixels."""
    brier: float
    """Mean Brier score over all pixels."""

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1."""
        known = self.pixels > 0
        if not known.any():
            return float("nan")
        gaps = np.abs(self.accuracy - self.confidence)[known]
        return float((gaps * self.pixels[known]).sum() / self.pixels.sum())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not defined is None."""
        edges = np.arange(BINS + 1) / BINS
        return {
            "ece": _plain(self.ece),
            "cross_entropy": _plain(self.cross_entropy),
            "brier": _plain(self.brier),
            "bins": [
                {
                    "from": round(float(edges[i]), 6),
                    "to": round(float(edges[i + 1]), 6),
                    "pixels": int(self.pixels[i]),
                    "confidence": _plain(self.confidence[i]),
                    "accuracy": _plain(self.accuracy[i]),
                }
                for i in range(BINS)
            ],
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of a checkpoint, with and without its temperature."""

    temperature: float
    """What the checkpoint divides logits by; 1 if it was never fitted."""
    found: Reliability
    """Of the probabilities that it maps with."""
    without: Reliability | None
    """At temperature 1; None where that is its own, or with test-time augmentation."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "temperature": self.temperature,
            **self.found.to_dict(),
            "without_temperature": None if self.without is None else self.without.to_dict(),
        }


class ReliabilitySums:
    """What is summed over pixels for :class:`Reliability`."""

    def __init__(self) -> None:
        self._bins = np.zeros((3, BINS))
        self._totals = np.zeros(2)

    def add(self, probabilities_KP: Tensor, truth_P: Tensor) -> None:
        """Add pixels.

        Args:
            probabilities_KP: Probability of every class, columns sum to 1.
            truth_P: Class ids, int64.
        """
        confidence_P, mapped_P = probabilities_KP.max(0)
        confidence_P = confidence_P.double()
        bin_P = ((confidence_P * BINS).ceil().long() - 1).clamp(0, BINS - 1)  # a bin's upper edge belongs to it
        weights = (torch.ones_like(confidence_P), confidence_P, (mapped_P == truth_P).double())
        self._bins += torch.stack([torch.bincount(bin_P, weight, BINS) for weight in weights]).cpu().numpy()
        true_P = probabilities_KP.gather(0, truth_P[None])[0].double()
        squares_P = probabilities_KP.double().square().sum(0) - 2 * true_P + 1
        self._totals += torch.stack([-true_P.clamp_min(_TINY).log().sum(), squares_P.sum()]).cpu().numpy()

    def result(self) -> Reliability:
        """Return what was found so far."""
        pixels, confidence, hits = self._bins
        with np.errstate(invalid="ignore", divide="ignore"):
            entropy, brier = self._totals / pixels.sum()
            return Reliability(
                pixels.astype(np.int64), confidence / pixels, hits / pixels, float(entropy), float(brier)
            )


class CalibrationSums:
    """What is summed over tiles for :class:`Calibration`.

    Args:
        temperature: What the checkpoint divides its logits by.
        tta: Whether probabilities are means over symmetries, from which the temperature cannot be taken out.
    """

    def __init__(self, temperature: float, *, tta: bool) -> None:
        self._temperature = temperature
        self._found = ReliabilitySums()
        self._without = None if tta or temperature == 1 else ReliabilitySums()

    def add(self, probabilities_KHW: Tensor, truth: NDArray[np.uint8], counted: NDArray[np.bool_]) -> None:
        """Add a tile.

        Args:
            probabilities_KHW: As the checkpoint gives them.
            truth: Class ids, shape (height, width).
            counted: True where a pixel counts.
        """
        device = probabilities_KHW.device
        where_P = torch.from_numpy(np.flatnonzero(counted)).to(device)
        truth_P = torch.from_numpy(truth[counted]).to(device).long()
        probabilities_KP = probabilities_KHW.flatten(1)[:, where_P]
        self._found.add(probabilities_KP, truth_P)
        if self._without is not None:
            logits_KP = logits_of(probabilities_KP) * self._temperature
            self._without.add(torch.softmax(logits_KP, 0), truth_P)

    def result(self) -> Calibration:
        """Return what was found so far."""
        without = None if self._without is None else self._without.result()
        return Calibration(self._temperature, self._found.result(), without)


def logits_of(probabilities: Tensor) -> Tensor:
    """Return logits whose softmax gives ``probabilities``, whatever the dimension of the classes."""
    return probabilities.clamp_min(_TINY).log()


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
