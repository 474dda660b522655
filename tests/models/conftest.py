"""What the tests of networks and checkpoints share."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.models.network import Network
from geoasanet.models.registry import create_model

TINY = {
    "encoder": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]},
    "decoder_channels": 8,
    "auxiliary_channels": 4,
}


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """The folder of reference outputs of the original code."""
    return shared / "golden"


@pytest.fixture
def make_tiny() -> Callable[..., Network]:
    """Build a small ASANet for three classes whose every weight and statistic matters."""

    def make(seed: int = 0, **arguments: Any) -> Network:
        torch.manual_seed(seed)
        model = create_model("asanet", **{"num_classes": 3, **TINY, **arguments})
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 1.5)
                elif tensor.is_floating_point():
                    tensor.add_(torch.randn_like(tensor), alpha=0.1)
        return model

    return make


@pytest.fixture
def schema() -> ClassSchema:
    return ClassSchema.from_names(["water", "forest", "city"])


@pytest.fixture
def bands() -> InputBands:
    return InputBands(
        SensorBands((90.0, 80.0, 70.0), (30.0, 20.0, 10.0), "uint8", ("red", "green", "blue")),
        SensorBands((-12.5,), (4.0,), "db", ("VV",)),
    )


@pytest.fixture
def images() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Draw a normalised pair of images."""

    def draw(
        batch: int = 2, height: int = 64, width: int = 96, channels: tuple[int, int] = (3, 1)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(5)
        rgb, sar = (torch.randn(batch, c, height, width, generator=generator) for c in channels)
        return rgb, sar

    return draw


@pytest.fixture(scope="session")
def golden_weights(golden: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """Give the weights that the original full-size network had when its outputs were recorded."""

    def load(name: str) -> dict[str, torch.Tensor]:
        spec = importlib.util.spec_from_file_location("weights_by_name", golden / "weights_by_name.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        recorded = json.loads((golden / "full" / f"{name}.json").read_text())
        state = module.state_dict(recorded["keys"], recorded["salt"])
        with np.load(golden / "full" / f"{name}.npz") as arrays:
            state.update({k.removeprefix("bn:"): arrays[k] for k in arrays.files if k.startswith("bn:")})
        return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}

    return load
