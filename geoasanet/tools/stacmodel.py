"""The STAC Item of a checkpoint, by the Machine Learning Model extension (MLM 1.4, stac-extensions.github.io/mlm)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

import geoasanet
from geoasanet.bands import SensorBands
from geoasanet.models.cards import CARDS
from geoasanet.models.checkpoint import Checkpoint
from geoasanet.tools.stac import classification, file_facts, href, item, slug

_ANY_TIME = {"datetime": None, "start_datetime": "1900-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
"""MLM's way to say that a model may be used on images of any time."""
_DIMENSIONS = ["batch", "channel", "height", "width"]
_TASK = "semantic-segmentation"
_UNITS = {
    "uint8": "8-bit grey values, 0 to 255",
    "raw": "values as they are stored",
    "linear": "linear power",
    "db": "backscatter in decibels",
}


def model_item(checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
    """Return the Item of a checkpoint.

    It has no geometry: a checkpoint does not know the ground that it was trained on.

    Args:
        checkpoint: Loaded from a file.
        folder: Where the Item will be.
    """
    bands, side = checkpoint.bands, checkpoint.window_size
    name = slug(checkpoint.path.stem if checkpoint.path.stem != "best" else checkpoint.path.resolve().parent.name, "m")
    card = CARDS.get(checkpoint.name)
    parameters = list(checkpoint.model.state_dict().values())
    optical, radar = _names(bands.rgb, ["red", "green", "blue"]), _names(bands.sar, [])
    classes = classification(checkpoint.classes)
    properties: dict[str, Any] = {
        "title": name,
        "description": _description(checkpoint),
        **_ANY_TIME,
        "mlm:name": name if name[0].isalpha() and len(name) > 2 else f"model-{name}",
        "mlm:architecture": card.title if card else checkpoint.name,
        "mlm:tasks": [_TASK],
        "mlm:framework": "PyTorch",
        "mlm:framework_version": torch.__version__,
        "mlm:memory_size": sum(tensor.numel() * tensor.element_size() for tensor in parameters),
        "mlm:total_parameters": sum(tensor.numel() for tensor in parameters),
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:hyperparameters": {
            "arguments": dict(checkpoint.arguments),
            "temperature": checkpoint.temperature,
            **({"training": dict(checkpoint.training)} if checkpoint.training else {}),
        },
        "mlm:input": [_input("rgb", optical, bands.rgb, side), _input("sar", radar, bands.sar, side)],
        "mlm:output": [
            {
                "name": "logits",
                "tasks": [_TASK],
                "result": {
                    "shape": [-1, len(checkpoint.classes), side, side],
                    "dim_order": ["batch", "class", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": classes,
                "post_processing_function": {
                    "format": "python",
                    "expression": f"torch.softmax(logits / {checkpoint.temperature!r}, dim=1)",
                },
            }
        ],
        "processing:software": {"geoasanet": geoasanet.__version__},
    }
    licence = checkpoint.training.get("license")
    if isinstance(licence, str):
        named = re.fullmatch(r"[A-Za-z0-9.+-]+", licence)  # an SPDX identifier by its looks
        properties["license"] = licence if named else "other"
        properties["description"] += "" if named else f" License: {licence}."
    asset = {
        "href": href(checkpoint.path, folder),
        "title": "Checkpoint: weights and their description",
        "type": "application/octet-stream; application=safetensors",
        "roles": ["mlm:model", "mlm:weights", "data"],
        "mlm:artifact_type": "safetensors",
        "bands": [_band(n) for n in (*optical, *radar)],
        **file_facts(checkpoint.path),
    }
    return item(
        name,
        ["classification", "file", "mlm", "processing"],
        geometry=None,
        properties=json.loads(json.dumps(properties, default=str)),
        links=[],
        assets={"model": asset},
    )


def _names(bands: SensorBands, otherwise: list[str]) -> list[str]:
    if bands.names:
        return list(bands.names)
    return otherwise or [f"sar-{number}" for number in range(1, len(bands) + 1)]


def _band(name: str) -> dict[str, Any]:
    return {"name": name}


def _input(name: str, names: list[str], bands: SensorBands, side: int) -> dict[str, Any]:
    """Return a Model Input Object; the statistics of each band are in its own unit."""
    sensor = "Optical" if name == "rgb" else "SAR"
    return {
        "name": name,
        "description": f"{sensor} bands, {_UNITS[bands.scale]}; where there is no data, 0 after scaling.",
        "bands": names,
        "input": {"shape": [-1, len(names), side, side], "dim_order": _DIMENSIONS, "data_type": "float32"},
        "value_scaling": [
            {"type": "z-score", "mean": mean, "stddev": std} for mean, std in zip(bands.mean, bands.std, strict=True)
        ],
        "resize_type": None,
        "pre_processing_function": None,
    }


def _description(checkpoint: Checkpoint) -> str:
    source = checkpoint.training.get("data")
    trained = f", trained on {source}" if isinstance(source, str) else ""
    return f"Land-cover segmentation of optical and SAR images in {len(checkpoint.classes)} classes{trained}."
