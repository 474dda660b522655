"""Networks of the original codes, as recorded: their weights under their names, their inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.bands import SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.models.convert import convert_official
from geoasanet.models.layouts import layout_of
from geoasanet.models.network import Network
from geoasanet.tools.convert import convert as convert_file


@dataclass
class Recorded:
    """Stands in for a checkpoint file of the original code, classes and statistics given."""

    weights: dict[str, torch.Tensor]
    classes: ClassSchema
    mean: tuple[float, ...]
    std: tuple[float, ...]
    path: Path = Path("recorded.pth")
    crop_size: int | None = None
    drop_path: float | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(tensor.shape) for key, tensor in self.weights.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.weights


@dataclass
class Reference:
    """A recorded network of full size, converted, and what the original gave."""

    model: Network
    rgb: torch.Tensor
    sar: torch.Tensor
    arrays: dict[str, torch.Tensor]
    parameters: int

    def run(self) -> tuple[torch.Tensor, float]:
        """Return our logits at the recorded pixels, and the multiply-accumulates in billions."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            logits = self.model(self.rgb, self.sar)
        return logits[..., 1::4, 1::4], counter.get_total_flops() / 2e9


def load_reference(golden: Path, golden_weights: Callable[[str], dict[str, torch.Tensor]], name: str) -> Reference:
    """Return the network ``full/<name>``, channels in the original's order."""
    recorded = json.loads((golden / "full" / f"{name}.json").read_text())
    bands = recorded["sar_channels"]
    with np.load(golden / "full" / "inputs_256x256.npz") as arrays:
        rgb, sar = (torch.from_numpy(arrays[key]).float() for key in ("rgb", "sar"))
    with np.load(golden / "full" / f"{name}.npz") as arrays:
        outputs = {key: torch.from_numpy(arrays[key]).float() for key in arrays.files if not key.startswith("bn:")}
    schema = ClassSchema.from_names([f"class {i}" for i in range(recorded["num_classes"])])
    official = Recorded(golden_weights(name), schema, (0.0,) * (3 + bands), (1.0,) * (3 + bands))
    # Inputs are recorded in the order that the original takes.
    ours = convert_official(official, model=name.split("_")[0], channel_order="rgb", sar_channels=bands)
    return Reference(ours.model, rgb, sar[:, :bands], outputs, recorded["parameters"])


def original_names(golden: Path, name: str, model: Network) -> dict[str, torch.Tensor]:
    """Return the weights of ``model``, at most as deep as the recorded one, as the original names them."""
    layout = layout_of(model.architecture.name)
    keys = json.loads((golden / "full" / f"{name}.json").read_text())["keys"]
    theirs = {layout.rename(key): key for key in keys}
    return {theirs[key]: tensor for key, tensor in model.state_dict().items()}


def assert_equal_but_for_ties(logits: torch.Tensor, recorded: torch.Tensor) -> None:
    """Compare with recorded logits, for networks that pool and unpool.

    Of two nearly equal values in a window, rounding says which is the larger and where it is put back, and processors
    and libraries round differently; what lies around such a window then differs. Anything else would move all pixels.
    """
    difference = (logits - recorded).abs().amax(dim=1) / recorded.std()
    assert difference.median() <= 2e-4
    assert (difference <= 1e-3).float().mean() >= 0.7


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference in units of the reference's standard deviation."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.std())


def check_conversion(golden: Path, folder: Path, name: str, model: Network) -> None:
    """Write ``model`` as the original code would, convert the file, and compare on an RGB image and one SAR band.

    Args:
        golden: The folder of reference outputs.
        folder: Where to write.
        name: Recorded network with the same names.
        model: Takes channels in the original's order: three optical, and as many SAR bands as the original.
    """
    network, (_, bands) = model.architecture.name, model.in_channels
    torch.save({"state_dict": original_names(golden, name, model)}, folder / "original.pth")
    mean, std = (90.0, 80.0, 70.0, *[50.0] * bands), (30.0, 20.0, 10.0, *[40.0] * bands)
    convert_file(
        folder / "original.pth",
        folder / "ours.safetensors",
        model=network,
        classes=ClassSchema.from_names([f"class {i}" for i in range(model.num_classes)]),
        mean=mean,
        std=std,
    )
    ours = load_checkpoint(folder / "ours.safetensors")
    assert ours.model.in_channels == (3, 1)
    rgb, sar = torch.rand(1, 3, 64, 64) * 255, torch.rand(1, 1, 64, 64) * 255
    theirs = rgb.flip(1) if layout_of(network).channel_order == "bgr" else rgb
    with torch.no_grad():
        expected = model.eval()(normalise(theirs, mean[:3], std[:3]), normalise(sar, mean[3:], std[3:]))
        found = ours.model(normalise(rgb, *statistics(ours.bands.rgb)), normalise(sar, *statistics(ours.bands.sar)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def statistics(bands: SensorBands) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return means and deviations."""
    return bands.mean, bands.std


def normalise(image: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return an image less ``mean``, by ``std``; one band counts for as many as there are statistics."""
    return (image - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
