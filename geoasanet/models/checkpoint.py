"""Checkpoints: weights plus all it takes to use them, in one ``.safetensors`` file.

Loading never executes code from the file: it holds tensors and one JSON text. Sizes are compared on a network without
memory before anything is allocated. What ``geoasanet export`` wrote loads the same way, see
:mod:`geoasanet.models.onnxfile` and :mod:`geoasanet.models.pt2file`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import geoasanet
from geoasanet.bands import InputBands
from geoasanet.classes import ClassSchema
from geoasanet.errors import CheckpointError, ModelError, OutputError
from geoasanet.files import atomic_output
from geoasanet.models.calibrated import calibrated
from geoasanet.models.header import (
    FORMAT,
    METADATA_KEY,
    CheckpointHeader,
    check_fit,
    check_temperature,
    read_checkpoint_header,
)
from geoasanet.models.network import Architecture, Network
from geoasanet.models.onnxfile import OnnxNetwork, read_onnx
from geoasanet.models.pt2file import read_pt2
from geoasanet.models.registry import create_model

__all__ = ["Checkpoint", "CheckpointHeader", "load_checkpoint", "read_checkpoint_header", "save_checkpoint"]

Dtype = Literal["fp32", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network with all it takes to use it."""

    model: Network | OnnxNetwork
    """The network, float32, in evaluation mode."""
    classes: ClassSchema
    """Classes of its output channels."""
    bands: InputBands
    """Bands and statistics of its inputs."""
    window_size: int
    """Side of the window that it was trained on, pixels."""
    name: str
    """Registry name of the network."""
    arguments: Mapping[str, Any]
    """Arguments that built it."""
    training: Mapping[str, Any]
    """Summary of its training; may be empty."""
    version: str
    """Version of geoasanet that wrote the file."""
    sha256: str
    """Hash of the file, hexadecimal."""
    path: Path
    """The file."""
    temperature: float = 1.0
    """What the network's logits are divided by before the softmax (Guo et al. 2017); 1 if never fitted."""

    @property
    def calibrated(self) -> Network | OnnxNetwork:
        """The network with its logits divided by the temperature; :attr:`model` itself where that is 1."""
        return self.model if self.temperature == 1 else calibrated(self.model, self.temperature)


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    *,
    classes: ClassSchema,
    bands: InputBands,
    window_size: int,
    training: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
    dtype: Dtype = "fp32",
) -> None:
    """Write a checkpoint; it appears under its name only when whole, and replaces what was there.

    Args:
        path: Where, by custom ``*.safetensors``.
        model: A network from :func:`geoasanet.create_model`, also wrapped by DDP or ``torch.compile``.
        classes: One class per output channel.
        bands: Bands and statistics of both inputs.
        window_size: Side of the window that it was trained on, pixels.
        training: JSON-serialisable summary.
        temperature: What logits are to be divided by before the softmax; see :mod:`geoasanet.training.calibration`.
        dtype: ``"fp16"`` stores floating-point weights in half the space; they load as float32 again.

    Raises:
        CheckpointError: If classes or bands do not fit the network, or weights are not finite in ``dtype``.
        ModelError: If the network was not made by :func:`geoasanet.create_model`.
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    network = unwrap(model)
    architecture: Architecture = network.architecture
    check_fit(architecture.arguments, classes, bands)
    description = {
        "format": FORMAT,
        "version": geoasanet.__version__,
        "name": architecture.name,
        "arguments": architecture.arguments,
        "classes": classes.to_dict(),
        "bands": bands.to_dict(),
        "window_size": window_size,
        "training": dict(training or {}),
        "temperature": check_temperature(temperature),
    }
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        kept = tensor.detach().to("cpu")
        if kept.is_floating_point():
            kept = kept.to(DTYPES[dtype])
        if not _is_finite(kept):
            raise CheckpointError(
                f"Checkpoint {path} was not written: {name} holds NaN, infinity or what {dtype} cannot hold."
            )
        tensors[name] = kept.contiguous().clone()
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The training summary for {path} is not plain JSON ({error}).") from error
    try:
        with atomic_output(path) as temporary:
            save_file(tensors, temporary, {METADATA_KEY: text})
    except (OSError, SafetensorError) as error:
        raise OutputError(f"Checkpoint {path} cannot be written ({error}).") from error


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Return the checkpoint at ``path`` with its network on ``device``, in evaluation mode.

    Of a ``.pt2`` file only weights and description are read, never its program; an ``.onnx`` file's network runs on
    the CPU whatever ``device`` is.

    Raises:
        CheckpointError: If the file is missing, damaged, not written by geoasanet, of an unknown format, describes a
            network that cannot be built, or its tensors do not fit that network or are not finite; if it is an ONNX
            file and onnxruntime is not installed.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return _checkpoint(*read_onnx(path))
    if path.suffix == ".pt2":
        header, tensors = read_pt2(path)
    else:
        header = read_checkpoint_header(path)
        tensors = _stored_tensors(path, header.shapes)
    model = _empty_model(header)
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: _fitting(path, name, tensor, dtypes[name]) for name, tensor in tensors}, assign=True)
    return _checkpoint(model.to(device).eval(), header, _sha256(path))


def _checkpoint(model: Network | OnnxNetwork, header: CheckpointHeader, sha256: str) -> Checkpoint:
    return Checkpoint(
        model=model,
        classes=header.classes,
        bands=header.bands,
        window_size=header.window_size,
        name=header.name,
        arguments=header.arguments,
        training=header.training,
        temperature=header.temperature,
        version=header.version,
        sha256=sha256,
        path=header.path,
    )


def unwrap(model: nn.Module) -> Network:
    """Return the network inside DDP and ``torch.compile`` wrappers.

    Raises:
        ModelError: If there is none that :func:`geoasanet.create_model` made.
    """
    inner: Any = model
    while not isinstance(inner, Network):
        inner = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if inner is None:
            break
    if not isinstance(inner, Network) or not hasattr(inner, "architecture"):
        raise ModelError(
            f"A {type(model).__name__} cannot be saved as a checkpoint: how it was built is not known.",
            "Build it with geoasanet.create_model.",
        )
    return inner


def _empty_model(header: CheckpointHeader) -> Network:
    """Return the described network without memory, after comparing every tensor's name and shape."""
    arguments = dict(header.arguments)
    try:
        if "encoder_weights" in arguments:  # would read another file
            raise ModelError("encoder_weights are no part of an architecture.")
        with torch.device("meta"):
            model = create_model(header.name, **arguments)
    except (ModelError, TypeError) as error:
        raise CheckpointError(
            f"Checkpoint {header.path} describes a network that cannot be built: {error}",
            "A newer version of geoasanet may know it.",
        ) from error
    needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [
        *(f"{name} is missing" for name in needed if name not in header.shapes),
        *(f"{name} is unexpected" for name in header.shapes if name not in needed),
        *(
            f"{name} has shape {list(shape)}, {list(needed[name])} is needed"
            for name, shape in header.shapes.items()
            if name in needed and shape != needed[name]
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"The tensors in checkpoint {header.path} are not those of its network: {'; '.join(problems[:3])}{more}.",
            "Fetch or make it again.",
        )
    return model


def _stored_tensors(path: Path, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in names:
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged ({error}).", "Fetch or make it again.") from error


def _fitting(path: Path, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a stored tensor as the network takes it."""
    if not _is_finite(tensor):
        raise CheckpointError(
            f"Tensor {name} in checkpoint {path} holds NaN or infinity.",
            "Its training diverged or the file is damaged; use another.",
        )
    if tensor.is_floating_point() != dtype.is_floating_point:
        raise CheckpointError(
            f"Tensor {name} in checkpoint {path} is {tensor.dtype}, {dtype} is needed.", "Fetch or make it again."
        )
    # A copy of its own: the file may be replaced while the network is in use.
    return tensor.to(dtype, copy=True)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
