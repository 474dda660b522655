"""Accuracy of a finished map against labels: a raster, polygons, or a sample of points."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.design import normal_quantile
from geoasanet.errors import ConfigError, LabelError, NoOverlapError
from geoasanet.files import check_output
from geoasanet.metrics import Metrics, confusion
from geoasanet.progress import Progress, silent
from geoasanet.raster.crosswalk import MapClasses
from geoasanet.raster.features import LabelFeatures, is_vector, read_features
from geoasanet.raster.polygons.legend import legend_of
from geoasanet.raster.polygons.source import MapReader
from geoasanet.raster.reference import PolygonLabels, RasterLabels, Reference
from geoasanet.raster.tally import Tally, tally
from geoasanet.tools.sample import SampleAccuracy, assess, read_sizes


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pixels, or points, could be compared."""

    compared: int
    """With a label and a map class."""
    unlabelled: int
    """Without a label: pixels with a map class, or points without a class of their own."""
    unmapped: int
    """With a label where the map has no class."""
    outside: int = 0
    """Points with a label beyond the map."""

    def to_dict(self) -> dict[str, int]:
        """Return plain values for JSON."""
        return {
            "compared": self.compared,
            "unlabelled": self.unlabelled,
            "unmapped": self.unmapped,
            "outside": self.outside,
        }


@dataclass(frozen=True)
class EvaluateResult:
    """What :func:`evaluate` found."""

    map: str
    """The map."""
    labels: str
    """What it was compared with."""
    kind: str
    """What the labels are: "raster", "polygons" or "points"."""
    classes: ClassSchema
    """The map's classes; named by the labels where the map has no names."""
    counts: Counts
    """Pixels, or points, that were compared or could not be."""
    metrics: Metrics
    """Accuracy over what was compared, each pixel or point counting once; rows of the matrix are truth."""
    class_area_m2: dict[str, float]
    """True ground area of what is mapped as each class, in m²."""
    sample: SampleAccuracy | None
    """Estimates for the whole map, where the labels are points."""
    report: Path | None
    """The HTML report, where one was asked for."""
    provenance: dict[str, str]
    """What the map says about how it was made, such as the checkpoint."""
    seconds: float
    """Wall time."""
    warnings: tuple[str, ...]
    """What the user should know."""

    @property
    def area_unit(self) -> tuple[str, float]:
        """Unit in which areas of this map read well, and its square metres: hectares below 10 km²."""
        return ("km²", 1e6) if sum(self.class_area_m2.values()) >= 1e7 else ("ha", 1e4)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON; what is not defined is None."""
        return {
            "map": self.map,
            "labels": self.labels,
            "kind": self.kind,
            "counts": self.counts.to_dict(),
            "metrics": self.metrics.to_dict(self.classes.names),
            "class_area_m2": self.class_area_m2,
            "sample": None if self.sample is None else self.sample.to_dict(self.classes.names),
            "class_schema": self.classes.to_dict(),
            "report": None if self.report is None else str(self.report),
            "provenance": self.provenance,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }


def evaluate(
    *,
    map: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    class_field: str | None = None,
    strata: str | os.PathLike[str] | None = None,
    confidence_level: float = 0.95,
    report: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Compare a finished map with labels.

    Labels that are a raster or polygons are compared pixel by pixel. Points are taken for a probability sample:
    beside the plain counts, accuracy and areas of the whole map are estimated with confidence intervals, after Olofsson
    et al. (2014) as if they had been drawn at random within each class of the map (which also holds for points drawn at
    random over the whole map), or after Stehman (2014) from strata of their own where ``strata`` gives their sizes.

    Args:
        map: The map: one band of integers below 255, with CRS and geotransform.
        labels: A raster on any grid (the label under each map pixel's centre counts), polygons or points in any CRS
            (first layer). Classes are matched by name where both sides have names, else by id.
        class_field: Field of a vector file with class ids or names. Default: ``class_name`` or ``class_id``.
        strata: CSV file with columns ``stratum`` and ``size``, for points with a field ``stratum``.
        confidence_level: Of the intervals, between 0 and 1.
        report: HTML file to write.
        overwrite: Replace an existing report.
        progress: Told how far the work is.

    Returns:
        What was found.

    Raises:
        ConfigError: If an option is impossible or does not fit the labels.
        SceneError: If a raster cannot be read.
        GridError: If the map or a label raster lacks a CRS.
        BandError: If a raster is no class map.
        VectorError: If a vector file cannot be read or holds neither points nor polygons.
        LabelError: If classes do not match, or nothing is comparable.
        NoOverlapError: If labels and map do not share any ground.
        OutputExistsError: If the report exists and ``overwrite`` is false.
        OutputError: If the report cannot be written.
    """
    began = time.perf_counter()
    map_path, label_path = os.fspath(map), os.fspath(labels)
    target = None if report is None else Path(report)
    vector = is_vector(label_path)
    normal_quantile(confidence_level)
    if class_field is not None and not vector:
        raise ConfigError(f"--class-field is for vector labels, but {label_path} is a raster.", "Leave it out.")
    sizes = None if strata is None else read_sizes(strata)
    if target is not None:
        check_output(target, overwrite=overwrite, inputs=(map_path, label_path))

    with contextlib.closing(MapReader(map_path, 1)) as reader:
        classes = MapClasses.of(reader.dataset, map_path)
        features = read_features(label_path, reader.grid, classes, class_field) if vector else None
        points = features if features is not None and features.points else None
        if sizes is not None and points is None:
            raise ConfigError(f"--strata is for a sample of points, but {label_path} holds none.", "Leave it out.")
        with _pixel_labels(label_path, features, reader, classes) as reference:
            found = tally(reader, reference, points, progress=progress)
            names = reference.names if isinstance(reference, RasterLabels) else {}
        names = features.names if features is not None else names
        schema = _schema(reader.dataset, classes, found, points, names)
        provenance = _provenance(reader.dataset)

    warnings = list(features.remarks) if features is not None else []
    if found.planar:
        warnings.append("The CRS has no ellipsoid to measure on here: areas are those of its plane.")
    size = len(schema)
    if points is None:
        kind = "raster" if features is None else "polygons"
        counts = _pixel_counts(found.joint)
        matrix = found.joint[:size, :size]
    else:
        kind = "points"
        counts, matrix = _point_counts(points, found, size, map_path)
    if not counts.compared:
        raise LabelError(
            f"No {'point' if points else 'pixel'} has both a label in {label_path} and a class in {map_path}.",
            "Check that labels and map show the same place.",
        )
    sample = None
    if points is not None:
        areas = found.area_m2[:size]
        sample = assess(points, found.at_points, areas, schema.names, sizes=sizes, level=confidence_level)
        warnings += sample.notes
    result = EvaluateResult(
        map_path,
        label_path,
        kind,
        schema,
        counts,
        Metrics.from_matrix(matrix),
        {name: float(found.area_m2[i]) for i, name in enumerate(schema.names)},
        sample,
        target,
        provenance,
        time.perf_counter() - began,
        tuple(warnings),
    )
    if target is not None:
        from geoasanet.tools.report import write_report

        write_report(result, found, points, target)
    return result


@contextlib.contextmanager
def _pixel_labels(
    path: str, features: LabelFeatures | None, reader: MapReader, classes: MapClasses
) -> Iterator[Reference | None]:
    """Give the labels of each pixel, None where there are points only."""
    if features is None:
        reference: Reference = RasterLabels(path, reader.grid, classes)
    elif features.points:
        yield None
        return
    else:
        reference = PolygonLabels(features, reader.grid, reader.path)
    with contextlib.closing(reference):
        yield reference


def _schema(
    dataset: Any, classes: MapClasses, found: Tally, points: LabelFeatures | None, names: dict[int, str]
) -> ClassSchema:
    """Return the map's classes, with all ids that occur; names from the labels where the map has none."""
    present = {int(i) for i in np.flatnonzero(found.area_m2[:NODATA])}
    present |= {int(i) for i in np.flatnonzero(found.joint[:NODATA].sum(axis=1))}
    if points is not None:
        present |= {int(i) for i in np.unique(points.ids) if i != NODATA}
    schema = legend_of(dataset, present)
    if classes.named or not names:
        return schema
    renamed = [names.get(i, name) for i, name in enumerate(schema.names)]
    return schema if len(set(renamed)) < len(renamed) else ClassSchema(tuple(renamed), schema.colors)


def _pixel_counts(joint: NDArray[np.int64]) -> Counts:
    return Counts(
        int(joint[:NODATA, :NODATA].sum()), int(joint[NODATA, :NODATA].sum()), int(joint[:NODATA, NODATA].sum())
    )


def _point_counts(
    points: LabelFeatures, found: Tally, num_classes: int, map_path: str
) -> tuple[Counts, NDArray[np.int64]]:
    """Return how many points can be compared, and their confusion matrix."""
    if not found.inside.any():
        raise NoOverlapError(
            f"None of the {len(points.ids)} points of {points.path} lies on the map {map_path}.",
            "Check that both show the same place and that each has its own CRS assigned.",
        )
    labelled = points.ids != NODATA
    mapped = found.at_points != NODATA
    counts = Counts(
        int((labelled & mapped).sum()),
        int((~labelled).sum()),
        int((labelled & found.inside & ~mapped).sum()),
        int((labelled & ~found.inside).sum()),
    )
    return counts, confusion(points.ids, found.at_points, num_classes, NODATA, unmapped=NODATA)


def _provenance(dataset: Any) -> dict[str, str]:
    """Return what the map's tags say about its making, but for the class schema."""
    return {
        key.removeprefix("GEOASANET_").lower(): str(value)
        for key, value in sorted(dataset.tags().items())
        if key.startswith("GEOASANET_") and key != "GEOASANET_CLASSES"
    }
