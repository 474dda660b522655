"""What a sample of reference points says about a whole map: accuracy and areas with confidence intervals."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA
from geoasanet.design import LARGEST_STRATUM, DesignEstimates, StratifiedSample, class_sample, estimate
from geoasanet.errors import ConfigError, LabelError
from geoasanet.files import read_limited
from geoasanet.raster.features import LabelFeatures

BY_CLASS = "stratified by map class (Olofsson et al. 2014)"
BY_STRATA = "stratified by the points' own strata (Stehman 2014)"

_LARGEST_LIST = 64 << 20


@dataclass(frozen=True)
class Stratum:
    """Where a part of the points was drawn from."""

    name: str
    """Its name; the class's where strata are the map's classes."""
    share: float
    """Its share of the population, 0..1."""
    points: int
    """Points drawn from it."""


@dataclass(frozen=True)
class SampleAccuracy:
    """Design-based accuracy and areas."""

    design: str
    """How the points are taken to have been drawn."""
    level: float
    """Confidence level of all intervals."""
    points: int
    """Points the estimates rest on."""
    strata: tuple[Stratum, ...]
    """The strata."""
    estimates: DesignEstimates
    """Shares with standard errors and confidence intervals."""
    total_m2: float
    """Ground area that the estimates speak for, in m²."""
    mapped_m2: tuple[float, ...]
    """Ground area mapped as each class, in m²."""
    notes: tuple[str, ...]
    """What the user should know."""

    def area_m2(self, class_id: int) -> tuple[float, float]:
        """Return the error-adjusted area of a class and half its confidence interval, in m² (eq. 11, 12)."""
        share = self.estimates.shares[class_id]
        return share.value * self.total_m2, share.margin * self.total_m2

    def to_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return plain values for JSON; None where the sample does not say."""
        found = self.estimates
        classes = {}
        for k, name in enumerate(names):
            area, margin = self.area_m2(k)
            classes[name] = {
                "users_accuracy": found.users[k].to_dict(),
                "producers_accuracy": found.producers[k].to_dict(),
                "area_share": found.shares[k].to_dict(),
                "mapped_area_m2": self.mapped_m2[k],
                "area_m2": _finite(area),
                "area_margin_m2": _finite(margin),
            }
        return {
            "design": self.design,
            "confidence_level": self.level,
            "points": self.points,
            "total_area_m2": self.total_m2,
            "overall_accuracy": found.overall.to_dict(),
            "classes": classes,
            "area_matrix": [[_finite(float(v)) for v in row] for row in found.matrix],
            "strata": [{"name": s.name, "share": s.share, "points": s.points} for s in self.strata],
        }


def assess(
    features: LabelFeatures,
    at_points: NDArray[np.uint8],
    class_area_m2: NDArray[np.float64],
    names: tuple[str, ...],
    *,
    sizes: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> SampleAccuracy:
    """Return what points say about a map.

    Args:
        features: The points, with their strata if known.
        at_points: Map class at each point, 255 where there is none.
        class_area_m2: Ground area mapped as each class, shape (K,).
        names: The K class names.
        sizes: Size of each stratum that the points name; None to take the map's classes as strata.
        level: Confidence level.

    Raises:
        ConfigError: If sizes are given but the points name no strata.
        LabelError: If a point's stratum is missing or has no size.
    """
    total = float(class_area_m2.sum())
    labelled = features.ids != NODATA
    notes: list[str] = []
    if sizes is None:
        used = labelled & (at_points != NODATA)
        sample = class_sample(features.ids[used], at_points[used], class_area_m2)
        stratum_names = names
        notes += _assumption(features, used, at_points, names)
    else:
        if features.strata is None:
            raise ConfigError(
                f"Sizes of strata were given, but the points of {features.path} have no field 'stratum'.",
                "Leave --strata out to take the map's classes as strata.",
            )
        sample, stratum_names = _own_strata(features, labelled, at_points, len(names), sizes)
    sample_counts = sample.counts
    notes += _gaps(sample, stratum_names, at_points[labelled], names)
    shares = sample.sizes / sample.sizes.sum()
    return SampleAccuracy(
        BY_CLASS if sizes is None else BY_STRATA,
        level,
        len(sample.truth),
        tuple(Stratum(n, float(s), int(c)) for n, s, c in zip(stratum_names, shares, sample_counts, strict=True)),
        estimate(sample, level),
        total * sample.coverage,
        tuple(float(v) for v in class_area_m2),
        tuple(notes),
    )


def read_sizes(path: str | os.PathLike[str]) -> dict[str, float]:
    """Return the size of each stratum from a CSV file with the columns ``stratum`` and ``size`` (any unit).

    Raises:
        ConfigError: If it cannot be read, lacks a column, repeats a stratum, or a size is not positive.
    """
    needed = "A line for each stratum is needed: stratum,size (pixels, hectares or shares)."
    sizes: dict[str, float] = {}
    source = Path(path)
    try:
        with io.StringIO(read_limited(source, _LARGEST_LIST).decode("utf-8-sig"), newline="") as file:
            rows = csv.DictReader(file)
            if not {"stratum", "size"} <= set(rows.fieldnames or ()):
                raise ConfigError(f"{path} has the columns {', '.join(rows.fieldnames or ()) or 'none'}.", needed)
            for row in rows:
                name = (row["stratum"] or "").strip()
                try:
                    size = float(row["size"] or "")
                except ValueError:
                    size = math.nan
                if not name or name in sizes or not 0 < size <= LARGEST_STRATUM:
                    raise ConfigError(
                        f"{path}, line {rows.line_num}: stratum {name!r} with size {row['size']!r}.",
                        f"Each stratum is named once and has a size above 0 and up to {LARGEST_STRATUM:.0e}.",
                    )
                sizes[name] = size
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"Sizes of strata cannot be read from {path}: {getattr(error, 'strerror', None) or error}.", needed
        ) from None
    if not sizes:
        raise ConfigError(f"{path} lists no stratum.", needed)
    return sizes


def _own_strata(
    features: LabelFeatures,
    labelled: NDArray[np.bool_],
    at_points: NDArray[np.uint8],
    num_classes: int,
    sizes: Mapping[str, float],
) -> tuple[StratifiedSample, tuple[str, ...]]:
    """Return the sample in strata of its own; points off the map stay in their stratum."""
    assert features.strata is not None
    strata = np.array(features.strata, object)[labelled]
    unknown = sorted({str(s) for s in strata} - set(sizes))
    if unknown:
        raise LabelError(
            f"{features.path}: no size is given for {', '.join(repr(s) for s in unknown)}; "
            f"sizes are given for {', '.join(sizes)}.",
            "Every point needs a stratum, and every stratum a line in the file of sizes.",
        )
    names = tuple(sizes)
    number = {name: i for i, name in enumerate(names)}
    mapped = at_points[labelled].astype(np.int64)
    mapped[mapped == NODATA] = -1
    stratum = np.array([number[s] for s in strata], np.int64)
    weights = np.array([sizes[n] for n in names], np.float64)
    truth = features.ids[labelled].astype(np.int64)
    return StratifiedSample(truth, mapped, stratum, weights, num_classes, by_class=False), names


def _assumption(
    features: LabelFeatures, used: NDArray[np.bool_], at_points: NDArray[np.uint8], names: tuple[str, ...]
) -> list[str]:
    """Return a warning if the points were drawn from strata that are not the map's classes."""
    if features.strata is None:
        return []
    strata = [features.strata[i] for i in np.flatnonzero(used)]
    same = all(
        s.casefold() in (names[k].casefold(), str(k)) for s, k in zip(strata, at_points[used].tolist(), strict=True)
    )
    if same:
        return []
    found = sorted(set(strata))
    listing = ", ".join(found[:8]) + (" …" if len(found) > 8 else "")
    return [
        f"The points were drawn from strata of their own ({listing}), whose sizes are not given. They are treated as "
        "if drawn at random within each class of the map; where that is not so, the estimates are biased. "
        "Give the sizes with --strata sizes.csv (columns stratum,size)."
    ]


def _gaps(
    sample: StratifiedSample, strata: tuple[str, ...], mapped: NDArray[np.uint8], names: tuple[str, ...]
) -> list[str]:
    """Return notes on strata and classes with too few points."""
    shares, counts = sample.sizes / sample.sizes.sum(), sample.counts
    notes = []
    none = [h for h in range(len(strata)) if counts[h] == 0 and shares[h] > 0]
    if none:
        listing = ", ".join(f"{strata[h]} ({100 * shares[h]:.2g} %)" for h in none)
        notes.append(
            f"No point was drawn from {listing}: the estimates speak for the other "
            f"{100 * sample.coverage:.4g} % of the area only."
        )
    one = [strata[h] for h in range(len(strata)) if counts[h] == 1 and shares[h] > 0]
    if one:
        notes.append(
            f"Only one point was drawn from {', '.join(one)}: standard errors need two in every stratum, "
            "so those that depend on it are not known."
        )
    if not sample.by_class:
        few = [name for k, name in enumerate(names) if 0 < int((mapped == k).sum()) < 2]
        if few:
            notes.append(f"Fewer than two points lie on {', '.join(few)}: its user's accuracy is not known.")
        return notes
    certain = [
        f"{names[k]} ({counts[k]})"
        for k in range(len(names))
        if counts[k] > 1 and shares[k] > 0 and np.unique(sample.truth[sample.mapped == k]).size == 1
    ]
    if certain:
        notes.append(
            f"All points on {', '.join(certain)} are of one class, so the formula gives a standard error of 0 there; "
            "in truth it is small, not 0."
        )
    return notes


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
