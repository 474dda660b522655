"""Accuracy and area from a probability sample: what a sample says about the whole map, and how surely.

The sample is stratified: within a stratum, every place was equally likely to be chosen. Where the strata are the map's
own classes, estimates and standard errors are those of Olofsson et al. (2014), equations 1 to 12; where they are not,
those of Stehman (2014). The first are a special case of the second, so there is one formula here: a ratio R = Y / X
of two means over the population,

    R̂ = Σ W_h ȳ_h / Σ W_h x̄_h,   V(R̂) = Σ W_h² s_h²(y - R̂ x) / n_h / (Σ W_h x̄_h)²,

with W_h the share of stratum h in the population, n_h its sample size, s_h² the sample variance (n_h - 1) within it.
The finite population correction is left out, as in Olofsson et al.; it matters only where a good part of all pixels
was sampled.

- Olofsson, P., Foody, G.M., Herold, M., Stehman, S.V., Woodcock, C.E., Wulder, M.A. (2014): Good practices for
  estimating area and assessing accuracy of land change. Remote Sensing of Environment 148, 42-57.
- Stehman, S.V. (2014): Estimating area and map accuracy for stratified random sampling when the strata are different
  from the map classes. International Journal of Remote Sensing 35, 4923-4939.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.errors import ConfigError, LabelError

Ids = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LARGEST_STRATUM = 1e18
"""Whether in pixels or in square metres, more than the Earth has."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated share, 0..1; NaN where the sample does not say."""

    value: float
    """The estimate."""
    standard_error: float
    """Its standard error."""
    margin: float
    """Half the width of its confidence interval: z · standard error (eq. 13 of Olofsson et al.)."""

    @property
    def low(self) -> float:
        """Lower end of the confidence interval, at least 0."""
        return max(0.0, self.value - self.margin) if math.isfinite(self.margin) else math.nan

    @property
    def high(self) -> float:
        """Upper end of the confidence interval, at most 1."""
        return min(1.0, self.value + self.margin) if math.isfinite(self.margin) else math.nan

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values for JSON; None where the sample does not say."""
        values = {"estimate": self.value, "standard_error": self.standard_error, "low": self.low, "high": self.high}
        return {key: value if math.isfinite(value) else None for key, value in values.items()}


@dataclass(frozen=True)
class StratifiedSample:
    """Reference classes at sampled places, and where they were sampled from.

    Raises:
        LabelError: If arrays differ in length, or ids lie outside their range.
        ConfigError: If weights are not positive.
    """

    truth: Ids
    """Class in truth, 0..K-1, shape (n,)."""
    mapped: Ids
    """Class in the map, 0..K-1, or -1 where the map has none, shape (n,)."""
    stratum: Ids
    """Stratum of each place, 0..H-1, shape (n,)."""
    sizes: FloatArray
    """Size of each stratum in any unit, shape (H,); only their shares count."""
    num_classes: int
    """K."""
    by_class: bool
    """True if the strata are the map's classes: stratum h holds what is mapped as h, and H = K."""

    def __post_init__(self) -> None:
        if not self.truth.shape == self.mapped.shape == self.stratum.shape or self.truth.ndim != 1:
            raise LabelError(
                f"A sample needs one truth, map class and stratum for each place, found {self.truth.shape}, "
                f"{self.mapped.shape} and {self.stratum.shape}."
            )
        for what, ids, low, stop in (
            ("truth", self.truth, 0, self.num_classes),
            ("map class", self.mapped, -1, self.num_classes),
            ("stratum", self.stratum, 0, len(self.sizes)),
        ):
            if ids.size and (ids.min() < low or ids.max() >= stop):
                raise LabelError(f"A sample's {what} must be {low} to {stop - 1}, found {ids.min()} to {ids.max()}.")
        sane = (self.sizes >= 0).all() and (self.sizes <= LARGEST_STRATUM).all()  # false for NaN
        if not (sane and self.sizes.sum() > 0):
            raise ConfigError(
                f"Sizes of strata must be 0 to {LARGEST_STRATUM:.0e} and not all 0, found {self.sizes.tolist()}."
            )
        if self.by_class and not (len(self.sizes) == self.num_classes and (self.stratum == self.mapped).all()):
            raise LabelError("Strata that are the map's classes must equal the map's class at each place.")

    @property
    def counts(self) -> Ids:
        """Sampled places of each stratum, shape (H,)."""
        return np.bincount(self.stratum, minlength=len(self.sizes)).astype(np.int64)

    @property
    def coverage(self) -> float:
        """Share of the population whose strata hold at least one sampled place; estimates speak for these only."""
        return float(self.sizes[self.counts > 0].sum() / self.sizes.sum())

    def ratio(self, y: BoolArray, x: BoolArray, level: float, within: int | None = None) -> Estimate:
        """Return the share of places with ``x`` that have ``y``, for the whole population.

        Args:
            y: The places that count, a part of ``x``, shape (n,).
            x: The places out of which they count, shape (n,).
            level: Confidence level, such as 0.95.
            within: The only stratum in which ``x`` is possible; None if it may be in all.
        """
        counts = self.counts
        strata = np.flatnonzero(counts > 0) if within is None else np.array([within])
        weights, sampled = self.sizes[strata], counts[strata]
        if (sampled == 0).any() or not weights.sum():
            return _UNKNOWN
        in_strata = np.full(len(self.sizes), -1)
        in_strata[strata] = np.arange(len(strata))
        place = in_strata[self.stratum]
        used = place >= 0

        def means(values: FloatArray) -> FloatArray:
            sums = np.bincount(place[used], values[used], minlength=len(strata))
            return np.asarray(sums / sampled, np.float64)

        numerator, denominator = y.astype(np.float64), x.astype(np.float64)
        total = float((weights * means(denominator)).sum())
        if total == 0:
            return _UNKNOWN
        value = float((weights * means(numerator)).sum()) / total
        rest = numerator - value * denominator
        apart = np.zeros(len(rest))
        apart[used] = rest[used] - means(rest)[place[used]]
        apart[np.abs(apart) < 1e-12] = 0  # rounding
        with np.errstate(divide="ignore", invalid="ignore"):
            variances = np.where(weights > 0, weights**2 * means(apart**2) / (sampled - 1), 0.0)
        variances[(sampled < 2) & (weights > 0)] = math.nan
        error = math.sqrt(float(variances.sum())) / total
        return Estimate(value, error, normal_quantile(level) * error)


_UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class DesignEstimates:
    """Accuracy and class shares of the whole mapped area, estimated from a sample."""

    overall: Estimate
    """Share of the area that is mapped right (eq. 1, 5)."""
    users: tuple[Estimate, ...]
    """Share of each mapped class that is right (user's accuracy, precision; eq. 2, 6). Unknown below two places."""
    producers: tuple[Estimate, ...]
    """Share of each true class that is mapped as such (producer's accuracy, recall; eq. 3, 7)."""
    shares: tuple[Estimate, ...]
    """Share of each true class in the mapped area (eq. 9, 10)."""
    matrix: FloatArray
    """Estimated shares of the area, rows truth, columns map, summing to 1; shape (K, K) (eq. 4)."""


def estimate(sample: StratifiedSample, level: float = 0.95) -> DesignEstimates:
    """Return what a stratified sample says about the mapped area.

    Places without a map class (-1) belong to their stratum, but not to the area that is estimated.

    Args:
        sample: The sample.
        level: Confidence level between 0 and 1.

    Raises:
        ConfigError: If the level is not between 0 and 1.
    """
    normal_quantile(level)
    truth, mapped = sample.truth, sample.mapped
    in_map = mapped >= 0
    right = in_map & (truth == mapped)
    classes = range(sample.num_classes)

    def share(y: BoolArray, x: BoolArray, within: int | None = None) -> Estimate:
        return sample.ratio(y, x, level, within)

    users = []
    for k in classes:
        enough = int((mapped == k).sum()) >= 2
        users.append(share(right & (mapped == k), mapped == k, k if sample.by_class else None) if enough else _UNKNOWN)
    return DesignEstimates(
        overall=share(right, in_map),
        users=tuple(users),
        producers=tuple(share(right & (truth == k), in_map & (truth == k)) for k in classes),
        shares=tuple(share(in_map & (truth == k), in_map) for k in classes),
        matrix=_matrix(sample),
    )


def _matrix(sample: StratifiedSample) -> FloatArray:
    """Return the estimated shares of the mapped area, rows truth, columns map, shape (K, K) (eq. 4)."""
    k, in_map = sample.num_classes, sample.mapped >= 0
    each = sample.sizes[sample.stratum] / sample.counts[sample.stratum]
    cells = sample.truth[in_map] * k + sample.mapped[in_map]
    matrix = np.bincount(cells, each[in_map], minlength=k * k).reshape(k, k)
    return np.asarray(matrix / matrix.sum() if in_map.any() else np.full((k, k), math.nan), np.float64)


def normal_quantile(level: float) -> float:
    """Return z with a share ``level`` of a normal distribution within ± z standard deviations: 1.96 for 0.95.

    Raises:
        ConfigError: If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ConfigError(f"A confidence level lies between 0 and 1, found {level!r}.", "Usual is 0.95.")
    return NormalDist().inv_cdf(0.5 + level / 2)


def class_sample(truth: NDArray[Any], mapped: NDArray[Any], sizes: FloatArray) -> StratifiedSample:
    """Return a sample stratified by the map's classes.

    Args:
        truth: Classes in truth, shape (n,).
        mapped: Classes in the map, shape (n,).
        sizes: Mapped area of each class, shape (K,).
    """
    ids = mapped.astype(np.int64)
    return StratifiedSample(truth.astype(np.int64), ids, ids, sizes, len(sizes), by_class=True)
