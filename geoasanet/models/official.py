"""What a checkpoint of the original (mmengine) code says: weights, classes, band statistics, window.

The configuration inside is Python text. It is parsed, never run: only literals and ``dict(…)`` of literals are read,
everything else is left out.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from geoasanet.classes import ClassSchema
from geoasanet.errors import CheckpointError, ClassSchemaError
from geoasanet.models.pickles import Table, TensorFile, TensorNote, read_tensor_file

LARGEST_CONFIG = 4 * 2**20
"""Longest configuration text that is parsed, characters."""


@dataclass(frozen=True, slots=True)
class OfficialCheckpoint:
    """A checkpoint of the original code, read but not yet converted."""

    path: Path
    """The file."""
    shapes: Mapping[str, tuple[int, ...]]
    """Name and shape of every weight."""
    classes: ClassSchema | None
    """Its classes and palette, where the file holds them."""
    mean: tuple[float, ...] | None
    """Band means in the order the network takes its channels, optical then SAR, where the file holds them."""
    std: tuple[float, ...] | None
    """Band deviations, likewise."""
    crop_size: int | None
    """Side of the training crops, pixels, where the file tells."""
    drop_path: float | None
    """Stochastic depth, where the file tells."""
    training: Mapping[str, Any]
    """What else is worth keeping: iteration, data set, experiment, code version."""
    _file: TensorFile
    _table: Mapping[str, TensorNote]

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights.

        Raises:
            CheckpointError: If the archive is damaged.
        """
        return self._file.tensors(self._table)


def read_official(path: str | Path) -> OfficialCheckpoint:
    """Return what a ``.pth`` file of the original code holds: mmengine's layout or a bare state dict.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds no weights.
    """
    file = read_tensor_file(path)
    content: Any = file.content
    if not isinstance(content, dict):
        raise _no_weights(file.path)
    state = content.get("state_dict", content)
    if not isinstance(state, dict):
        raise _no_weights(file.path)
    table = {str(key).removeprefix("module."): note for key, note in state.items() if isinstance(note, TensorNote)}
    if not table:
        raise _no_weights(file.path)
    meta = _mapping(content.get("meta"))
    config = parse_config(meta.get("cfg"))
    preprocessor = _mapping(_mapping(config.get("model")).get("data_preprocessor")) or _mapping(
        config.get("data_preprocessor")
    )
    encoder = _mapping(_mapping(_mapping(config.get("model")).get("backbone")).get("backbone"))
    drop_path = encoder.get("drop_path_rate")
    return OfficialCheckpoint(
        path=file.path,
        shapes=file.shapes(table),
        classes=_classes(file.path, _mapping(meta.get("dataset_meta"))),
        mean=_numbers(preprocessor.get("mean")),
        std=_numbers(preprocessor.get("std")),
        crop_size=_crop_size(config, preprocessor),
        drop_path=drop_path if isinstance(drop_path, float) and 0 <= drop_path < 1 else None,
        training=_training(meta, config),
        _file=file,
        _table=table,
    )


def parse_config(text: Any) -> dict[str, Any]:
    """Return the literal assignments of a Python configuration text; nothing of it is executed.

    ``dict(a=1)`` counts as a literal; values that are none become ``None``. A text that cannot be parsed gives no
    entries.
    """
    if not isinstance(text, str) or len(text) > LARGEST_CONFIG:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            body = ast.parse(text).body
        return {
            target.id: _literal(statement.value)
            for statement in body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {
            key.value: _literal(value)
            for key, value in pairs
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {item.arg: _literal(item.value) for item in node.keywords if item.arg}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        return -value if isinstance(value, int | float) else None
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict | Table) else {}


def _numbers(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list) or not value:
        return None
    if any(isinstance(item, bool) or not isinstance(item, int | float) for item in value):
        return None
    return tuple(float(item) for item in value)


def _classes(path: Path, dataset: Mapping[str, Any]) -> ClassSchema | None:
    names, palette = dataset.get("classes"), dataset.get("palette")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    colors: Sequence[Sequence[int]] | None = palette if isinstance(palette, list | tuple) else None
    if colors is not None and len(colors) != len(names):
        colors = None
    try:
        return ClassSchema.from_names(list(names), colors)
    except ClassSchemaError as error:
        raise CheckpointError(
            f"The classes in {path} cannot be used: {error}", "Give your own with --classes."
        ) from error


def _crop_size(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> int | None:
    """Return the side that the training windows were cropped to; the loader's own pipeline decides."""
    loader = _mapping(_mapping(config.get("train_dataloader")).get("dataset"))
    crops = [step.get("crop_size") for step in _steps(loader.get("pipeline")) if "crop_size" in step]
    for value in (*crops, preprocessor.get("size"), config.get("crop_size")):
        size = _numbers(value if isinstance(value, list) else [value])
        if size and 32 <= size[0] <= 2**16:
            return int(size[0])
    return None


def _steps(pipeline: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(pipeline, list):
        yield from (step for step in pipeline if isinstance(step, dict))


def _training(meta: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "iterations": meta.get("iter"),
        "experiment": meta.get("experiment_name"),
        "finished": meta.get("time"),
        "dataset": config.get("dataset_type"),
        "mmengine": meta.get("mmengine_version"),
    }
    return {key: value for key, value in found.items() if isinstance(value, str | int)}


def _no_weights(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} holds no weights.", "Give a checkpoint of the official code.")
