"""Temperature scaling: one number that makes a network's probabilities mean what they say.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599), section 4.2: all logits are divided
by the temperature T that gives the least mean cross entropy on labelled pixels that were not trained on. In 1/T that
mean is convex, so there is one such T.

The pixels pass by once and are not kept: cross entropy and its first two derivatives in 1/T are summed at fixed values
of 1/T, and the root of the first derivative is found between two of these by cubic Hermite interpolation. Sums of
several processes add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoasanet.classes import NODATA

COLDEST, HOTTEST = 0.25, 8.0
"""Temperatures beyond these are not looked for: a few pixels without an error would ask for 0."""
_STEPS = 31
_CHUNK = 2**14
"""Pixels at a time, so that what is worked on stays in the processor's cache."""
ENOUGH = 2**14
"""Pixels of an image that do while a network trains: neighbours say nearly the same."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted temperature."""

    temperature: float
    pixels: int
    """Pixels that it was fitted on."""
    cross_entropy: float
    """Mean cross entropy of these at temperature 1; 0 where there is none."""
    calibrated_cross_entropy: float
    """Mean cross entropy at the fitted temperature."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description, without the temperature."""
        return {
            "pixels": self.pixels,
            "cross_entropy_before": round(self.cross_entropy, 6),
            "cross_entropy": round(self.calibrated_cross_entropy, 6),
        }


class TemperatureSums:
    """What is summed over pixels to fit a temperature.

    Args:
        device: Where logits come from.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._inverse = torch.logspace(-math.log2(HOTTEST), -math.log2(COLDEST), _STEPS, 2, dtype=torch.float64)
        self.values = torch.zeros(3 * _STEPS + 1, dtype=torch.float64, device=device)
        """Cross entropy, first and second derivative at every 1/T, and the number of pixels; sums that add."""

    def add(self, logits_BKHW: Tensor, label_BHW: Tensor, enough: int | None = None) -> None:
        """Add pixels.

        Args:
            logits_BKHW: Logits at temperature 1; a constant per pixel does not matter.
            label_BHW: Class ids, 255 where there is none.
            enough: Of more labelled pixels than this in an image, evenly spaced ones are taken.
        """
        for logits_KHW, label_HW in zip(logits_BKHW, label_BHW, strict=True):
            (where,) = torch.nonzero(label_HW.reshape(-1) != NODATA, as_tuple=True)
            if enough is not None and len(where) > enough:
                where = where[torch.linspace(0, len(where) - 1, enough, device=where.device).long()]
            for part in torch.split(where, _CHUNK):
                logits_KP = logits_KHW.flatten(1)[:, part].float()
                self._add(logits_KP - logits_KP.amax(0), label_HW.reshape(-1)[part].long())

    def _add(self, logits_KP: Tensor, label_P: Tensor) -> None:
        true_P = logits_KP.gather(0, label_P[None])[0]
        rows = []
        for inverse in self._inverse.tolist():
            scaled_KP = logits_KP * inverse
            weights_KP = scaled_KP.exp()
            total_P = weights_KP.sum(0)
            mean_P = (weights_KP * logits_KP).sum(0) / total_P
            square_P = (weights_KP * logits_KP.square()).sum(0) / total_P
            rows.append(
                torch.stack(
                    [
                        (total_P.log() - inverse * true_P).sum(dtype=torch.float64),
                        (mean_P - true_P).sum(dtype=torch.float64),
                        (square_P - mean_P.square()).sum(dtype=torch.float64),
                    ]
                )
            )
        self.values[:-1] += torch.stack(rows, dim=1).reshape(-1)
        self.values[-1] += len(label_P)

    def fit(self) -> Fit:
        """Return the temperature of least cross entropy; 1 where there was no pixel."""
        values, pixels = self.values[:-1].cpu().view(3, _STEPS), int(self.values[-1])
        if not pixels:
            return Fit(1.0, 0, 0.0, 0.0)
        entropy, slope, bend = values / pixels
        x = self._inverse.log()  # the nodes are evenly spaced in it; chain rule: d/dx = 1/T d/d(1/T)
        best = _root(x, slope, bend * self._inverse)
        before, after = (_hermite(x, entropy, slope * self._inverse, place) for place in (0.0, best))
        return Fit(math.exp(-best), pixels, before, after)


def _root(x: Tensor, slope: Tensor, bend: Tensor) -> float:
    """Return where a rising function passes through 0, or the end that is nearest to it, by bisection."""
    low, high = float(x[0]), float(x[-1])
    if slope[0] >= 0:
        return low
    if slope[-1] <= 0:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        if _hermite(x, slope, bend, middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _hermite(x: Tensor, values: Tensor, slopes: Tensor, place: float) -> float:
    """Return a function at ``place`` by cubic Hermite interpolation between the nodes ``x``, evenly spaced."""
    step = float(x[1] - x[0])
    i = min(max(int((place - float(x[0])) / step), 0), len(x) - 2)
    t = (place - float(x[i])) / step
    y0, y1, m0, m1 = (float(v) for v in (values[i], values[i + 1], slopes[i] * step, slopes[i + 1] * step))
    return (2 * t**3 - 3 * t**2 + 1) * y0 + (t**3 - 2 * t**2 + t) * m0 + (3 * t**2 - 2 * t**3) * y1 + (t**3 - t**2) * m1
