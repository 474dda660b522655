"""Turn a published checkpoint of the original code into one of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoasanet.classes import ClassSchema
from geoasanet.errors import CheckpointError, said_of
from geoasanet.files import check_output
from geoasanet.models.checkpoint import save_checkpoint
from geoasanet.models.convert import convert_official
from geoasanet.models.layouts import ChannelOrder
from geoasanet.models.official import read_official


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What a conversion wrote."""

    path: Path
    """The new checkpoint."""
    model: str
    """Registry name of the network."""
    arguments: dict[str, Any]
    """Arguments that build it, found from the weights."""
    tensors: int
    """Number of tensors taken over."""
    parameters: int
    """Number of trainable values."""
    classes: ClassSchema
    """Classes of its output channels."""
    window_size: int
    """Side of the window that it was trained on, pixels."""
    warnings: tuple[str, ...]
    """What had to be assumed."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {
            "path": str(self.path),
            "model": self.model,
            "arguments": self.arguments,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "classes": self.classes.to_dict(),
            "window_size": self.window_size,
            "warnings": list(self.warnings),
        }


def convert(
    official: str | Path,
    out: str | Path,
    *,
    model: str = "asanet",
    num_classes: int | None = None,
    channel_order: ChannelOrder | None = None,
    sar_channels: int = 1,
    classes: ClassSchema | None = None,
    window: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    overwrite: bool = False,
) -> ConvertResult:
    """Write the checkpoint that gives the original's logits for RGB images and SAR bands.

    Nothing in ``official`` is ever executed. Classes, palette, band statistics and window come from the file; where it
    lacks them, from the public data set with the same classes, which ``warnings`` then says.

    Args:
        official: A ``.pth`` file of the original code (mmengine's layout, or a bare state dict).
        out: Where to write, by custom ``*.safetensors``.
        model: Registry name of the network.
        num_classes: Expected number of classes; checked against the file.
        channel_order: Order of the optical channels that the original was trained with, ``"bgr"`` or ``"rgb"``;
            ``None`` for the usual one. The result always takes red, green, blue.
        sar_channels: 1 for rasters with one SAR band, 3 to keep the original's three equal ones.
        classes: Replaces the classes in the file.
        window: Replaces the window size in the file, pixels.
        mean: Replaces the band means in the file; optical and SAR, in the original's channel order.
        std: Replaces the band deviations, likewise.
        overwrite: Replace an existing ``out``.

    Raises:
        CheckpointError: If ``official`` is unreadable or not this network.
        ConfigError: If an option contradicts the file.
        OutputError: If ``out`` exists or cannot be written.
    """
    source, target = Path(official), Path(out)
    check_output(target, overwrite=overwrite, inputs=(source,))
    checkpoint = read_official(source)
    converted = convert_official(
        checkpoint,
        model=model,
        num_classes=num_classes,
        channel_order=channel_order,
        sar_channels=sar_channels,
        classes=classes,
        window_size=window,
        mean=mean,
        std=std,
    )
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with said_of(str(source), CheckpointError):
        save_checkpoint(
            target,
            converted.model,
            classes=converted.classes,
            bands=converted.bands,
            window_size=converted.window_size,
            training={**checkpoint.training, "converted_from": source.name, "converted_from_sha256": digest},
        )
    return ConvertResult(
        path=target,
        model=model,
        arguments=converted.model.architecture.arguments,
        tensors=converted.tensors,
        parameters=sum(p.numel() for p in converted.model.parameters()),
        classes=converted.classes,
        window_size=converted.window_size,
        warnings=converted.warnings,
    )
