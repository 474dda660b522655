"""Accuracy of a finished map against labels: a raster, polygons, or a sample of points."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
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
from geoasanet.tools.evaluate_result import Counts, MapEvaluation
from geoasanet.tools.sample import assess, read_sizes


def evaluate_map(
    *,
    map: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    class_field: str | None = None,
    strata: str | os.PathLike[str] | None = None,
    confidence_level: float = 0.95,
    report: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MapEvaluation:
    """Compare a finished map with labels; see :func:`geoasanet.evaluate`."""
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
    result = MapEvaluation(
        kind=kind,
        classes=schema,
        counts=counts,
        metrics=Metrics.from_matrix(matrix),
        report=target,
        seconds=time.perf_counter() - began,
        warnings=tuple(warnings),
        map=map_path,
        labels=label_path,
        class_area_m2={name: float(found.area_m2[i]) for i, name in enumerate(schema.names)},
        sample=sample,
        provenance=provenance,
    )
    if target is not None:
        from geoasanet.tools.evaluate_mapreport import write_map_report

        write_map_report(result, found, points, target)
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
