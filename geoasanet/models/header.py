"""The description inside a checkpoint, read without torch and without the weights.

A checkpoint is a ``.safetensors`` file: eight bytes of header length, a JSON header that lists every tensor's type,
shape and place, then the tensors. Its free-text entry ``geoasanet`` holds what is described here, in JSON: ``format``
(1), ``version``, ``name`` and ``arguments`` of the network, ``classes``, ``bands``, ``window_size``, ``training`` (a
summary, ``calibration`` among it), ``temperature`` (1 where it is absent) and, in exported files only,
``export``. Readers skip keys that they do not know. All of it is checked before anything is allocated; nothing of it
is ever executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoasanet.bands import InputBands
from geoasanet.classes import ClassSchema
from geoasanet.errors import CheckpointError, GeoASANetError

METADATA_KEY = "geoasanet"
FORMAT = 1
"""Version of the description's layout."""
LARGEST_HEADER = 32 * 2**20
ITEM_SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes per element of the tensor types a checkpoint may hold."""


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """What a checkpoint says about itself."""

    path: Path
    """The file."""
    name: str
    """Registry name of the network."""
    arguments: Mapping[str, Any]
    """Arguments that build it."""
    classes: ClassSchema
    """Classes of its output channels."""
    bands: InputBands
    """Bands and statistics of its inputs."""
    window_size: int
    """Side of the window that it was trained on, pixels."""
    training: Mapping[str, Any]
    """Summary of its training: data, iterations, scores; may be empty."""
    temperature: float
    """What logits are divided by before the softmax, so that probabilities mean what they say; 1 if never fitted."""
    export: Mapping[str, Any]
    """How an exported file is called, see :class:`geoasanet.models.exportable.Export`; empty for a checkpoint."""
    version: str
    """Version of geoasanet that wrote the file."""
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    """Name and shape of every stored tensor."""
    dtypes: tuple[str, ...]
    """Types of the stored tensors, in safetensors' words, for instance ``("F32", "I64")``."""
    file_size: int
    """Bytes."""

    @property
    def parameters(self) -> int:
        """Number of stored values, batch-norm statistics included."""
        described = self.export.get("parameters")
        return (
            described
            if type(described) is int and described > 0
            else sum(math.prod(shape) for shape in self.shapes.values())
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description, without the list of tensors."""
        return {
            "path": str(self.path),
            "name": self.name,
            "arguments": dict(self.arguments),
            "classes": self.classes.to_dict(),
            "bands": self.bands.to_dict(),
            "window_size": self.window_size,
            "training": dict(self.training),
            "temperature": self.temperature,
            **({"export": dict(self.export)} if self.export else {}),
            "version": self.version,
            "parameters": self.parameters,
            "dtypes": list(self.dtypes),
            "file_size": self.file_size,
        }


def read_checkpoint_header(path: str | Path) -> CheckpointHeader:
    """Return the description of a checkpoint without reading its weights.

    Raises:
        CheckpointError: If the file is missing, no safetensors file, cut short, not written by geoasanet, of an
            unknown format, or contradicts itself.
    """
    path = Path(path)
    tensors, metadata = _read_safetensors_header(path)
    text = metadata.get(METADATA_KEY)
    if not isinstance(text, str):
        raise CheckpointError(
            f"{path} is a safetensors file without a geoasanet description: bare weights from elsewhere.",
            "Give a checkpoint written by geoasanet train or geoasanet convert.",
        )
    shapes = {name: tuple(info["shape"]) for name, info in tensors.items()}
    return parse_description(path, text, shapes, tuple(sorted({info["dtype"] for info in tensors.values()})))


def parse_description(
    path: Path, text: str | bytes, shapes: Mapping[str, tuple[int, ...]], dtypes: tuple[str, ...]
) -> CheckpointHeader:
    """Return the header of a file that holds a description; one that contradicts itself is refused.

    Args:
        path: The file.
        text: The description, JSON.
        shapes: Shape of every tensor stored beside it.
        dtypes: Types of these tensors.

    Raises:
        CheckpointError: If it is malformed or of an unknown format.
    """
    try:
        return _parse(path, json.loads(text), shapes, dtypes)
    except GeoASANetError as error:
        raise CheckpointError(f"Checkpoint {path} is malformed: {error}", "Fetch or make it again.") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(
            f"The description in checkpoint {path} is malformed ({type(error).__name__}: {error}).",
            "Fetch or make it again.",
        ) from error


def _parse(path: Path, data: Any, shapes: Mapping[str, tuple[int, ...]], dtypes: tuple[str, ...]) -> CheckpointHeader:
    if not isinstance(data, dict):
        raise CheckpointError("its description is no JSON object.")
    if data.get("format") != FORMAT:
        raise CheckpointError(
            f"its format is {data.get('format')!r}, this version reads {FORMAT}.",
            f"It was written by geoasanet {data.get('version', '(unknown)')}; install that version or a newer one.",
        )
    window_size = data["window_size"]
    if isinstance(window_size, bool) or not isinstance(window_size, int) or not 32 <= window_size <= 2**16:
        raise CheckpointError(f"its window size is {window_size!r}, 32 to 65536 is needed.")
    arguments, training, export = data["arguments"], data.get("training", {}), data.get("export", {})
    if not isinstance(arguments, dict) or not isinstance(training, dict) or not isinstance(export, dict):
        raise CheckpointError("its arguments, training summary and export must be JSON objects.")
    classes, bands = ClassSchema.from_dict(data["classes"]), InputBands.from_dict(data["bands"])
    check_fit(arguments, classes, bands)
    return CheckpointHeader(
        path=path,
        name=str(data["name"]),
        arguments=arguments,
        classes=classes,
        bands=bands,
        window_size=window_size,
        training=training,
        temperature=check_temperature(data.get("temperature", 1.0)),
        export=export,
        version=str(data.get("version", "")),
        shapes=shapes,
        dtypes=dtypes,
        file_size=path.stat().st_size,
    )


def check_temperature(value: Any) -> float:
    """Return a temperature if it is one.

    Raises:
        CheckpointError: If it is no number from 0.01 to 100.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 100:
        raise CheckpointError(f"its temperature is {value!r}, a number from 0.01 to 100 is needed.")
    return float(value)


def check_fit(arguments: Mapping[str, Any], classes: ClassSchema, bands: InputBands) -> None:
    """Raise unless a network built with ``arguments`` has as many classes and bands as are described.

    Raises:
        CheckpointError: If a number differs.
    """
    if arguments.get("num_classes") != len(classes):
        raise CheckpointError(
            f"the network has {arguments.get('num_classes')} classes, the class schema {len(classes)}."
        )
    found = [len(bands.rgb), len(bands.sar)]
    if list(arguments.get("in_channels", ())) != found:
        raise CheckpointError(
            f"the network takes {arguments.get('in_channels')} optical and SAR bands, {found} are described."
        )


def _read_safetensors_header(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the tensor entries and the metadata of a safetensors file, checked against its size."""
    if not path.is_file():
        raise CheckpointError(
            f"Checkpoint {path} does not exist." if not path.exists() else f"Checkpoint {path} is no file.",
            "Give the path of a .safetensors file.",
        )
    file_size = path.stat().st_size
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length < 2 or length > min(LARGEST_HEADER, file_size - 8):
                raise CheckpointError(f"{path} is no safetensors file, or is cut short.", _advice(start))
            header = json.loads(file.read(length).decode("utf-8"))
        metadata = header.pop("__metadata__", {})
        end = max((_check_entry(name, entry) for name, entry in header.items()), default=0)
    except OSError as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read ({error.strerror}).") from error
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no safetensors file, or is damaged.", _advice(start)) from error
    if file_size != 8 + length + end:
        raise CheckpointError(
            f"{path} is damaged or cut short: its header declares {8 + length + end} bytes, it has {file_size}.",
            "Fetch or make it again.",
        )
    return header, metadata if isinstance(metadata, dict) else {}


def _check_entry(name: str, entry: dict[str, Any]) -> int:
    """Return where a tensor ends if its declared size agrees with its shape."""
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if any(type(value) is not int or value < 0 for value in (*shape, begin, end)):
        raise ValueError(name)
    if entry["dtype"] not in ITEM_SIZES or end - begin != math.prod(shape) * ITEM_SIZES[entry["dtype"]]:
        raise ValueError(name)
    return int(end)


def _advice(start: bytes) -> str:
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "It looks like a PyTorch .pth file: use geoasanet convert first."
    return "Give a checkpoint written by geoasanet train or geoasanet convert."
