"""``geoasanet eval --calibrate``: a temperature for a checkpoint that has none, or one for other data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from geoasanet.classes import NODATA
from geoasanet.errors import CheckpointError, ConfigError, LabelError
from geoasanet.files import check_output
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.tiles import predict_tiles
from geoasanet.models.checkpoint import Checkpoint, load_checkpoint, read_checkpoint_header, save_checkpoint
from geoasanet.models.network import Network
from geoasanet.progress import Progress
from geoasanet.raster.dataset import Tile
from geoasanet.raster.quiet import quiet_georeference
from geoasanet.tools.evaluate_fit import LabelMatch
from geoasanet.tools.evaluate_reliability import logits_of
from geoasanet.training.calibration import TemperatureSums


def check_calibration(loaded: Checkpoint, target: Path, *, tta: bool, overwrite: bool) -> None:
    """Raise unless a checkpoint can be calibrated and written to ``target``.

    Raises:
        ConfigError: If the temperature is to be fitted to test-time augmentation, or ``target`` has another suffix.
        CheckpointError: If the checkpoint was exported to ONNX.
        OutputExistsError: If ``target`` exists and ``overwrite`` is false.
        OutputError: If it cannot be written.
    """
    if tta:
        raise ConfigError("--calibrate fits the temperature of single predictions.", "Leave --tta out.")
    if target.suffix != ".safetensors":
        raise ConfigError(f"--calibrate writes a checkpoint, found {target}.", "Give it the suffix .safetensors.")
    if not isinstance(loaded.model, Network):
        raise CheckpointError(
            f"{loaded.path} is an ONNX file, which cannot be changed.", "Calibrate its checkpoint, then export that."
        )
    check_output(target, overwrite=overwrite, inputs=(loaded.path,))


def calibrate(
    loaded: Checkpoint,
    predictor: Predictor,
    match: LabelMatch,
    names: Sequence[str],
    split: str,
    target: Path,
    *,
    check: Callable[[Tile], None],
    progress: Progress,
) -> Checkpoint:
    """Fit a checkpoint's temperature on tiles, and return it as it was written to ``target``.

    Args:
        loaded: The checkpoint; its file stays as it is.
        predictor: Runs it, with the temperature that it has.
        match: The dataset, and how its labels become the checkpoint's classes.
        names: Tiles.
        split: What they are called.
        target: Where the checkpoint with the new temperature goes.
        check: Called with each tile before the network sees it.
        progress: Told how far the work is.

    Raises:
        LabelError: If no pixel of the tiles has a label.
        OutputError: If ``target`` cannot be written.
    """
    sums = TemperatureSums(predictor.device)
    progress("Calibrating", 0, len(names), "tiles")
    with (
        quiet_georeference(),
        contextlib.closing(predict_tiles(predictor, match.dataset, names, check=check)) as predictions,
    ):
        for done, prediction in enumerate(predictions, 1):
            truth = match.apply(prediction.tile).copy()
            truth[prediction.classes == NODATA] = NODATA
            logits = logits_of(prediction.probabilities) * loaded.temperature
            sums.add(logits[None], torch.from_numpy(truth)[None].to(logits.device))
            progress("Calibrating", done, len(names), "tiles")
    fit = sums.fit()
    if not fit.pixels:
        raise LabelError(f"No pixel of the {len(names)} {split} tiles of {match.dataset.root} has a label.")
    assert isinstance(loaded.model, Network)
    half = loaded.path.suffix == ".safetensors" and "F16" in read_checkpoint_header(loaded.path).dtypes
    save_checkpoint(
        target,
        loaded.model,
        classes=loaded.classes,
        bands=loaded.bands,
        window_size=loaded.window_size,
        training={
            **loaded.training,
            "calibration": {"data": match.dataset.root.name, "split": split, **fit.to_dict()},
        },
        temperature=fit.temperature,
        dtype="fp16" if half else "fp32",
    )
    return load_checkpoint(target)
