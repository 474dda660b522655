"""Mean and standard deviation of many pixels, from parts that are added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.bands import Scale, SensorBands
from geoasanet.sample import BoolArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations of each band, float64."""

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    """Sum of squared deviations from the mean."""

    @classmethod
    def of(cls, pixels: NDArray[Any], valid: BoolArray) -> Moments:
        """Return the moments of the valid pixels.

        Args:
            pixels: Shape (bands, height, width).
            valid: Shape (height, width).
        """
        count = int(np.count_nonzero(valid))
        bands = len(pixels)
        if count == 0:
            return cls(0, np.zeros(bands), np.zeros(bands))
        chosen = pixels.reshape(bands, -1) if count == valid.size else pixels[:, valid]
        mean, squares = np.empty(bands), np.empty(bands)
        for band, values in enumerate(chosen):
            numbers = values.astype(np.float64)
            mean[band] = numbers.mean()
            numbers -= mean[band]
            squares[band] = np.square(numbers, out=numbers).sum()  # not np.dot, whose threads fight with ours
        return cls(count, mean, squares)

    @classmethod
    def total(cls, parts: Iterable[Moments], bands: int) -> Moments:
        """Return the moments of all pixels of ``parts`` together (Chan et al.'s update)."""
        count, mean, squares = 0, np.zeros(bands), np.zeros(bands)
        for part in parts:
            if part.count:
                both = count + part.count
                delta = part.mean - mean
                mean = mean + delta * (part.count / both)
                squares = squares + part.squares + delta**2 * (count * part.count / both)
                count = both
        return cls(count, mean, squares)

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each band over all its pixels."""
        return np.sqrt(self.squares / max(self.count, 1))


def sensor_bands(moments: Moments, scale: Scale, names: tuple[str, ...], what: str) -> tuple[SensorBands, list[str]]:
    """Return band statistics, and a warning for each band that is constant."""
    std = moments.std
    warnings = [
        f"{what} band {band + 1} has the same value everywhere in train; its deviation is taken as 1."
        for band in np.flatnonzero(std <= 0)
    ]
    std = np.where(std > 0, std, 1.0)
    return SensorBands(tuple(map(float, moments.mean)), tuple(map(float, std)), scale, names), warnings


def class_weights(pixels: Sequence[int]) -> tuple[float, ...]:
    """Return a loss weight for each class: inversely proportional to the root of its share of the pixels.

    The mean weight of a labelled pixel is 1, so that the loss keeps its scale. Classes without a pixel get 1.
    """
    counts = np.asarray(pixels, np.float64)
    if not counts.sum():
        return (1.0,) * len(counts)
    share = counts / counts.sum()
    present = share > 0
    weights = np.ones(len(counts))
    weights[present] = 1 / np.sqrt(share[present])
    weights[present] /= (weights * share)[present].sum()
    return tuple(round(float(w), 6) for w in weights)
