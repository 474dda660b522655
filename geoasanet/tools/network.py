"""The network of a prediction: from a checkpoint or passed in, and how it fits a scene."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoasanet.bands import InputBands
from geoasanet.classes import ClassSchema
from geoasanet.errors import BandError, CheckpointError, ConfigError
from geoasanet.models.checkpoint import Checkpoint, load_checkpoint, read_checkpoint_header
from geoasanet.models.network import Network
from geoasanet.models.onnxfile import OnnxNetwork
from geoasanet.raster.scaling import SarScale, Scaling, choose_scaling, range_warnings
from geoasanet.raster.scene import Scene
from geoasanet.tools.checkpoints import find_checkpoint, packaged_checkpoints

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class MapNetwork:
    """The network of a run, from a checkpoint or passed in."""

    model: torch.nn.Module
    classes: ClassSchema
    bands: InputBands | None
    """What the model takes; None for raw pixel values."""
    window: int
    """Side of the windows that it was trained on, pixels."""
    label: str
    """What messages call it."""
    identity: dict[str, Any]
    """What tells it from other networks."""
    checkpoint: Path | None
    """The file it came from."""
    sar_count: int | None
    """SAR bands it takes; None if any."""

    def work(self, size: int) -> int:
        """Return how much work a window of ``size`` px is.

        In the measure of :func:`geoasanet.inference.arithmetic.choose_arithmetic`; 0 unless it is a network of ours,
        neither passed in nor run by onnxruntime.
        """
        if self.checkpoint is None or not isinstance(self.model, Network):
            return 0
        return sum(parameter.numel() for parameter in self.model.parameters()) * size**2 // 256**2


def load_network(
    checkpoint: PathLike | Checkpoint | None,
    model: torch.nn.Module | None,
    classes: ClassSchema | Sequence[str] | None,
    window: int | None,
    sar_bands: Sequence[int] | None,
) -> MapNetwork:
    """Return the network of a checkpoint (see :func:`find_checkpoint`), or ``model`` with its ``classes``.

    Raises:
        ConfigError: If both or neither kind of argument is given.
        CheckpointError: If the checkpoint is absent or unusable.
    """
    if model is not None:
        if checkpoint is not None:
            raise ConfigError("Give a checkpoint or a model, not both.")
        if classes is None:
            raise ConfigError("A model needs its class names.", "Pass classes=[…].")
        schema = classes if isinstance(classes, ClassSchema) else ClassSchema.from_names(list(classes))
        identity = {"model": type(model).__name__}
        count = len(sar_bands) if sar_bands else None
        return MapNetwork(model, schema, None, window or 256, "model", identity, None, count)
    if classes is not None:
        raise ConfigError("Class names come from the checkpoint; classes= goes with model= only.")
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(find_checkpoint(checkpoint))
    identity = {"sha256": loaded.sha256, "model": loaded.name}
    packaged = packaged_checkpoints()
    return MapNetwork(
        loaded.calibrated,
        loaded.classes,
        loaded.bands,
        loaded.window_size,
        loaded.path.stem if loaded.path in packaged.values() else str(loaded.path),
        identity,
        loaded.path,
        len(loaded.bands.sar),
    )


def origin_notes(network: MapNetwork) -> list[str]:
    """Say what a packaged checkpoint was trained on, of others the user knows; and where an ONNX file is run."""
    if isinstance(network.model, OnnxNetwork) and torch.cuda.is_available():
        return [f"{network.label} is run by onnxruntime on the CPU in fp32; its checkpoint would use the GPU."]
    if network.checkpoint is None or network.checkpoint not in packaged_checkpoints().values():
        return []
    data = read_checkpoint_header(network.checkpoint).training.get("data", "unknown data")
    return [f"The packaged checkpoint {network.label} was trained on {data}."]


def window_notes(network: MapNetwork, size: int) -> list[str]:
    """Say so if windows of ``size`` pixels make another network of it."""
    if network.bands is None or size == network.window:
        return []
    return [
        f"--window {size} differs from the {network.window} px that the checkpoint was trained on: its global "
        "operators see another context, so it acts as another network."
    ]


def check_bands(scene: Scene, network: MapNetwork) -> None:
    """Raise unless the scene's chosen bands are as many as the network takes.

    Raises:
        BandError: If there are not three optical bands.
        CheckpointError: If the checkpoint takes another number of SAR bands.
    """
    found, needed = len(scene.sar.source.bands), network.sar_count
    if len(scene.rgb.source.bands) != 3:
        raise BandError(
            f"{len(scene.rgb.source.bands)} optical bands were chosen from {scene.rgb.source.path}, 3 are needed.",
            "For instance --rgb-bands 1,2,3 (red, green, blue).",
        )
    if needed is not None and found != needed:
        raise CheckpointError(
            f"Checkpoint {network.label} takes {needed} SAR band{'s' * (needed != 1)}, {found} "
            f"{'were' if found != 1 else 'was'} chosen from {scene.sar.source.path}.",
            f"Choose {needed} with --sar-bands, or use a checkpoint trained on {found}.",
        )


def scaling_for(scene: Scene, network: MapNetwork, option: SarScale) -> tuple[Scaling, list[str]]:
    """Return how the scene's SAR values become those the network takes, and warnings about both sensors' values.

    Raises:
        BandError: If they cannot.
    """
    if network.bands is None:
        return Scaling("raw", "raw"), []
    rgb, sar = scene.rgb.source, scene.sar.source
    sar_pixels = sar.sample_pixels()
    scaling, notes = choose_scaling(option, network.bands.sar, sar.dtype, sar_pixels, sar.path)
    notes += range_warnings("RGB", network.bands.rgb, rgb.sample_pixels(), rgb.path)
    if sar_pixels.shape[1]:
        scaled, valid = scaling.apply(sar_pixels[:, :, None], np.ones((sar_pixels.shape[1], 1), bool))
        notes += range_warnings("SAR", network.bands.sar, scaled[:, valid], sar.path)
    return scaling, notes
