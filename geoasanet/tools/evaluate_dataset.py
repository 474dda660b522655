"""How good a checkpoint is on the tiles of a dataset."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geoasanet.classes import NODATA
from geoasanet.device import Precision, choose_device
from geoasanet.errors import ConfigError, LabelError, ModelError, NonFiniteError, said_of
from geoasanet.files import check_output
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.tiles import TilePrediction, predict_tiles
from geoasanet.metrics import Matrix, Metrics, confusion
from geoasanet.models.checkpoint import Checkpoint, load_checkpoint
from geoasanet.progress import Progress, silent
from geoasanet.raster.dataset import SPLITS, open_dataset_folder
from geoasanet.raster.quiet import quiet_georeference
from geoasanet.tools.checkpoints import find_checkpoint
from geoasanet.tools.evaluate_calibrate import calibrate as write_calibrated
from geoasanet.tools.evaluate_calibrate import check_calibration
from geoasanet.tools.evaluate_fit import LabelMatch, check_bands, check_values, match_classes
from geoasanet.tools.evaluate_reliability import CalibrationSums
from geoasanet.tools.evaluate_result import Counts, DatasetEvaluation
from geoasanet.tools.evaluate_tiles import LEAST_LABELLED, Extremes, TileScore, panels_of
from geoasanet.tools.network import MapNetwork, PathLike, load_network, origin_notes

DATA = Path("tiles")
"""Where ``geoasanet tile`` puts a dataset by default."""


def evaluate_dataset(
    *,
    checkpoint: PathLike | Checkpoint | None = None,
    data: PathLike = DATA,
    split: str = "val",
    tta: bool = False,
    device: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    precision: Precision = "auto",
    calibrate: PathLike | None = None,
    report: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> DatasetEvaluation:
    """Run a checkpoint over the tiles of a split and compare with their labels; see :func:`geoasanet.evaluate`."""
    began = time.perf_counter()
    if split not in SPLITS:
        raise ConfigError(f"Split {split!r} is unknown.", f"One of {', '.join(SPLITS)} is needed.")
    target = None if report is None else Path(report)
    if target is not None:
        check_output(target, overwrite=overwrite)
    dataset = open_dataset_folder(data)
    names = dataset.names(split)
    torch_device = choose_device(device)
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(find_checkpoint(checkpoint))
    if target is not None:
        check_output(target, overwrite=overwrite, inputs=(loaded.path,))
    fitted = None if calibrate is None else Path(calibrate)
    if fitted is not None:
        check_calibration(loaded, fitted, tta=tta, overwrite=overwrite)
    network = load_network(loaded, None, None, None, None)
    match = match_classes(dataset, network)
    dataset.check(split)
    notes = [*origin_notes(network), *match.notes, *check_values(match.dataset, names, network)]
    options: dict[str, Any] = {"device": torch_device, "precision": precision, "batch_size": batch_size, "tta": tta}
    predictor = Predictor(network.model, network.bands, len(network.classes), **options)
    if fitted is not None:
        loaded = write_calibrated(
            loaded,
            predictor,
            match,
            names,
            split,
            fitted,
            check=lambda tile: check_bands(match.dataset, tile, network),
            progress=progress,
        )
        network = load_network(loaded, None, None, None, None)
        predictor = Predictor(network.model, network.bands, len(network.classes), **options)
    found = _Found(
        network, match, pictures=target is not None, calibration=CalibrationSums(loaded.temperature, tta=tta)
    )
    with said_of(f"Checkpoint {network.label}", NonFiniteError, ModelError):
        found.run(predictor, names, progress)
    notes += [*found.notes(names, split), *predictor.warnings]
    best, worst = found.extremes.chosen
    result = DatasetEvaluation(
        kind="dataset",
        classes=network.classes,
        counts=found.counts,
        metrics=Metrics.from_matrix(found.matrix),
        report=target,
        seconds=time.perf_counter() - began,
        warnings=tuple(notes),
        checkpoint=network.label,
        sha256=loaded.sha256,
        data=dataset.root,
        split=split,
        tiles=len(names),
        best=tuple(tile.score for tile in best),
        worst=tuple(tile.score for tile in worst),
        tta=tta,
        precision=predictor.precision,
        device=torch_device.type,
        calibration=found.calibration.result(),
        calibrated=fitted,
    )
    if target is not None:
        from geoasanet.tools.evaluate_datasetreport import write_dataset_report

        write_dataset_report(result, loaded, dataset, best, worst, target)
    return result


@dataclass(slots=True)
class _Found:
    """What is known after some tiles: sums, and the extremes among them."""

    network: MapNetwork
    match: LabelMatch
    pictures: bool
    """Whether to keep pictures of the extremes."""
    calibration: CalibrationSums
    extremes: Extremes = field(default_factory=Extremes)
    matrix: Matrix = field(init=False)
    without_data: int = 0
    unlabelled: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    """Tiles of each height and width."""

    def __post_init__(self) -> None:
        size = len(self.network.classes)
        self.matrix = np.zeros((size, size), np.int64)

    @property
    def counts(self) -> Counts:
        """Pixels that were compared or could not be."""
        return Counts(int(self.matrix.sum()), self.unlabelled, without_data=self.without_data)

    def run(self, predictor: Predictor, names: Sequence[str], progress: Progress) -> None:
        """Run the network over the tiles and add what it gives."""
        progress("Evaluating", 0, len(names), "tiles")
        with (
            quiet_georeference(),  # for all threads at once: Python's warning filters are shared
            contextlib.closing(
                predict_tiles(
                    predictor,
                    self.match.dataset,
                    names,
                    check=lambda tile: check_bands(self.match.dataset, tile, self.network),
                )
            ) as predictions,
        ):
            for done, prediction in enumerate(predictions, 1):
                self.add(prediction)
                progress("Evaluating", done, len(names), "tiles")

    def add(self, prediction: TilePrediction) -> None:
        """Add one tile: each of its pixels is counted once."""
        tile, classes, bands = prediction.tile, self.network.classes, self.network.bands
        truth = self.match.apply(tile)
        matrix = confusion(truth, prediction.classes, len(classes))
        labelled = int(matrix.sum())
        self.matrix += matrix
        counted = (truth != NODATA) & (prediction.classes != NODATA)
        self.calibration.add(prediction.probabilities, truth, counted)
        self.without_data += int(np.count_nonzero(~tile.valid))
        self.unlabelled += int(np.count_nonzero(tile.valid)) - labelled
        self.sizes[truth.shape] = self.sizes.get(truth.shape, 0) + 1
        if labelled < max(1, LEAST_LABELLED * truth.size):
            return
        assert bands is not None
        self.extremes.offer(
            TileScore.of(tile.name, matrix),
            lambda: (
                panels_of(tile, truth, prediction.classes, prediction.confidence, classes, bands)
                if self.pictures
                else ()
            ),
        )

    def notes(self, names: Sequence[str], split: str) -> list[str]:
        """Return what the user should know.

        Raises:
            LabelError: If no pixel was labelled.
        """
        root = self.match.dataset.root
        if not self.counts.compared:
            raise LabelError(f"No pixel of the {len(names)} {split} tiles of {root} has a label.", "Check label/.")
        notes = []
        side = self.network.window
        other = {size: count for size, count in self.sizes.items() if size != (side, side)}
        if other:
            sizes = ", ".join(f"{h} x {w}" for h, w in list(other)[:3]) + (", …" if len(other) > 3 else "")
            notes.append(
                f"{sum(other.values())} of {len(names)} tiles are {sizes} px, but the checkpoint was trained on "
                f"{side} x {side}: its global operators see another context, so it acts as another network."
            )
        absent = [
            n for n, pixels in zip(self.network.classes.names, self.matrix.sum(axis=1), strict=True) if not pixels
        ]
        if absent:
            notes.append(f"No pixel of {split} is labelled {', '.join(absent)}: a mapped one has IoU 0, others none.")
        return notes
