"""``geoasanet eval``: the accuracy of a finished map, or of a checkpoint on the tiles of a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from geoasanet.errors import ConfigError
from geoasanet.progress import Progress, silent
from geoasanet.tools.evaluate_result import Counts, DatasetEvaluation, EvaluateResult, MapEvaluation

if TYPE_CHECKING:
    from geoasanet.device import Precision
    from geoasanet.models.checkpoint import Checkpoint

__all__ = ["Counts", "DatasetEvaluation", "EvaluateResult", "MapEvaluation", "evaluate", "half_of"]

PathLike = str | os.PathLike[str]

_NEEDED = ("map", "labels")
_OF_MAPS = (*_NEEDED, "class_field", "strata", "confidence_level")
_OF_DATASETS = ("checkpoint", "data", "split", "tta", "device", "batch_size", "precision", "calibrate")
_UNSAID = (None, False, "auto")
"""Values that say no more than leaving an argument out."""


@overload
def evaluate(
    *,
    map: PathLike,
    labels: PathLike,
    class_field: str | None = None,
    strata: PathLike | None = None,
    confidence_level: float | None = None,
    report: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MapEvaluation: ...


@overload
def evaluate(
    *,
    checkpoint: PathLike | Checkpoint | None = None,
    data: PathLike | None = None,
    split: str | None = None,
    tta: bool = False,
    device: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    precision: Precision = "auto",
    calibrate: PathLike | None = None,
    report: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> DatasetEvaluation: ...


def evaluate(
    *,
    map: PathLike | None = None,
    labels: PathLike | None = None,
    class_field: str | None = None,
    strata: PathLike | None = None,
    confidence_level: float | None = None,
    checkpoint: PathLike | Checkpoint | None = None,
    data: PathLike | None = None,
    split: str | None = None,
    tta: bool = False,
    device: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    precision: Precision = "auto",
    calibrate: PathLike | None = None,
    report: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Compare a checkpoint's predictions, or a finished map, with labels.

    Without ``map`` and ``labels``, a checkpoint is run over the tiles of a dataset's split. The network sees each tile
    as a whole, normalised with the checkpoint's own statistics; pixels without data of both sensors or without a label
    do not count, every other one counts once. Classes are matched by name, in any order.

    With them, the map is compared with the labels. Those that are a raster or polygons are compared pixel by pixel.
    Points are taken for a probability sample: beside the plain counts, accuracy and areas of the whole map are
    estimated with confidence intervals, after Olofsson et al. (2014) as if they had been drawn at random within each
    class of the map (which also holds for points drawn at random over the whole map), or after Stehman (2014) from
    strata of their own where ``strata`` gives their sizes.

    Args:
        map: The map: one band of integers below 255, with CRS and geotransform.
        labels: A raster on any grid (the label under each map pixel's centre counts), polygons or points in any CRS
            (first layer). Classes are matched by name where both sides have names, else by id.
        class_field: Field of a vector file with class ids or names. Default: ``class_name`` or ``class_id``.
        strata: CSV file with columns ``stratum`` and ``size``, for points with a field ``stratum``.
        confidence_level: Of the intervals, between 0 and 1; 0.95 if None.
        checkpoint: File, run folder, packaged name, or a loaded checkpoint. None takes
            ``runs/latest/best.safetensors``, else the packaged ``s1s2-10m``.
        data: Dataset folder; ``tiles`` if None.
        split: "val", "test" or "train"; "val" if None.
        tta: Average over the eight symmetries of the square (eight times the work).
        device: "auto", "cpu", "cuda", "cuda:1", …
        batch_size: Tiles at a time, or "auto".
        precision: "auto", "fp32", "bf16" or "fp16".
        calibrate: Write the checkpoint here with a temperature fitted on these tiles (Guo et al. 2017), and evaluate
            that one. Fit on val, judge on test.
        report: HTML file to write.
        overwrite: Replace an existing report.
        progress: Told how far the work is.

    Returns:
        What was found: a :class:`MapEvaluation` or a :class:`DatasetEvaluation`.

    Raises:
        ConfigError: If an option is impossible, does not fit the labels, or belongs to the other kind of evaluation.
        SceneError: If a raster cannot be read.
        GridError: If the map or a label raster lacks a CRS.
        BandError: If a raster is no class map, or tiles are not in the checkpoint's value scale.
        VectorError: If a vector file cannot be read or holds neither points nor polygons.
        LabelError: If classes do not match, or nothing is comparable.
        NoOverlapError: If labels and map do not share any ground.
        ManifestError: If the dataset is incomplete, or the split missing or empty.
        CheckpointError: If the checkpoint is absent or unusable, or has other classes or bands than the dataset.
        DeviceError: If the device is absent or cannot hold the work.
        OutputExistsError: If the report exists and ``overwrite`` is false.
        OutputError: If the report cannot be written.
    """
    given = dict(locals())
    shared: dict[str, Any] = {"report": report, "overwrite": overwrite, "progress": progress}
    if half_of(given) == "map":
        from geoasanet.tools.evaluate_map import evaluate_map

        assert map is not None and labels is not None
        level = 0.95 if confidence_level is None else confidence_level
        return evaluate_map(
            map=map, labels=labels, class_field=class_field, strata=strata, confidence_level=level, **shared
        )
    from geoasanet.tools.evaluate_dataset import evaluate_dataset

    chosen = {name: given[name] for name in ("data", "split") if given[name] is not None}
    return evaluate_dataset(
        checkpoint=checkpoint,
        tta=tta,
        device=device,
        batch_size=batch_size,
        precision=precision,
        calibrate=calibrate,
        **chosen,
        **shared,
    )


def half_of(arguments: Mapping[str, Any]) -> Literal["map", "dataset"]:
    """Return which kind of evaluation the arguments of :func:`evaluate` ask for.

    Raises:
        ConfigError: If one of ``map`` and ``labels`` is missing, or arguments of both kinds are given.
    """
    said = [name for name in (*_OF_MAPS, *_OF_DATASETS) if not _unsaid(arguments.get(name))]
    of_maps = [name for name in said if name in _OF_MAPS]
    if not of_maps:
        return "dataset"
    of_datasets = [name for name in said if name in _OF_DATASETS]
    if of_datasets:
        raise ConfigError(
            f"{_options(of_maps)} belong{'s' * (len(of_maps) == 1)} to the evaluation of a map, "
            f"{_options(of_datasets)} to that of a checkpoint on a dataset.",
            "Evaluate one at a time: geoasanet eval --map MAP --labels LABELS, or geoasanet eval -c CHECKPOINT --data "
            "DATASET",
        )
    missing = [name for name in _NEEDED if name not in of_maps]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{_options(missing)} {verb} needed: geoasanet eval --map MAP --labels LABELS")
    return "map"


def _unsaid(value: Any) -> bool:
    return any(value is nothing or (isinstance(value, str) and value == nothing) for nothing in _UNSAID)


def _options(names: list[str]) -> str:
    return " and ".join(f"--{name.replace('_', '-')}" for name in names)
