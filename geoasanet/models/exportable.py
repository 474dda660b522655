"""What an exported file computes: the network with the statistics of its bands inside, pixel values in.

Two forms. "separate" has the inputs ``rgb`` (N, 3, H, W) and ``sar`` (N, C, H, W) and gives ``logits`` (N, K, H, W),
those of the network itself. "stacked" has one input ``image`` (N, 3 + C, H, W), optical bands before SAR bands, and
gives ``probabilities`` (N, K, H, W), the softmax of the logits divided by the checkpoint's temperature: what programs
such as the QGIS plugin Deepness take, which know one raster and one input.

Both take float32 pixel values in the scale that the description names (8-bit grey values, dB, …); NaN means no data
and is filled with the band's mean, as ``predict`` does. Height and width are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeGuard, get_args

import torch
from torch import Tensor, nn

from geoasanet.bands import InputBands, SensorBands
from geoasanet.errors import CheckpointError

Form = Literal["stacked", "separate"]
FORMS: tuple[str, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Export:
    """How an exported file is called."""

    form: Form
    """Its inputs and output; see the module."""
    window: int
    """Height and width of its inputs, pixels."""
    batch: int | None
    """Images that it takes at a time; None for any number."""
    checkpoint_sha256: str
    """Hash of the checkpoint that it was made of, hexadecimal."""
    parameters: int
    """Number of values in that checkpoint."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return ("image",) if self.form == "stacked" else ("rgb", "sar")

    @property
    def output(self) -> str:
        """Name of the output."""
        return "probabilities" if self.form == "stacked" else "logits"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Export:
        """Return the export described by :meth:`to_dict`'s result.

        Raises:
            CheckpointError: If it is malformed.
        """
        form, window, batch = data.get("form"), data.get("window"), data.get("batch")
        parameters = data.get("parameters", 0)
        if form not in FORMS or not _count(window) or not _count(1 if batch is None else batch):
            raise CheckpointError(f"its export is described as {dict(data)!r:.300}.")
        return cls(
            "stacked" if form == "stacked" else "separate",
            window,
            batch,
            str(data.get("checkpoint_sha256", "")),
            parameters if _count(parameters) else 0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {**asdict(self), "inputs": list(self.inputs), "output": self.output}

    def shapes(self, bands: InputBands) -> list[tuple[int, int, int]]:
        """Return (bands, height, width) of every input."""
        counts = [len(bands.rgb), len(bands.sar)]
        counts = [sum(counts)] if self.form == "stacked" else counts
        return [(count, self.window, self.window) for count in counts]

    def example(self, bands: InputBands, batch: int) -> tuple[Tensor, ...]:
        """Return pixel values as the bands' statistics let expect them, always the same."""
        generator = torch.Generator().manual_seed(batch)
        images = [
            torch.randn((batch, len(band), self.window, self.window), generator=generator) * _column(band.std)
            + _column(band.mean)
            for band in (bands.rgb, bands.sar)
        ]
        return (torch.cat(images, 1),) if self.form == "stacked" else tuple(images)


def _count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value > 0


class Exportable(nn.Module):
    """A network that takes pixel values.

    Args:
        network: Takes normalised images.
        bands: Their statistics.
    """

    def __init__(self, network: nn.Module, bands: InputBands) -> None:
        super().__init__()
        self.network = network
        self.rgb = _Normalize(bands.rgb)
        self.sar = _Normalize(bands.sar)
        self.eval()


class Separate(Exportable):
    """Two images in, logits out."""

    def forward(self, rgb: Tensor, sar: Tensor) -> Tensor:
        """Return logits (N, K, H, W)."""
        logits: Tensor = self.network(self.rgb(rgb), self.sar(sar))
        return logits


class Stacked(Exportable):
    """One image of all bands in, probabilities out.

    Args:
        network: Takes normalised images.
        bands: Their statistics.
        temperature: Divides the logits before the softmax.
    """

    def __init__(self, network: nn.Module, bands: InputBands, temperature: float) -> None:
        super().__init__(network, bands)
        self.split = [len(bands.rgb), len(bands.sar)]
        self.factor = 1 / temperature

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W)."""
        rgb, sar = torch.split(image, self.split, dim=1)
        return torch.softmax(self.network(self.rgb(rgb), self.sar(sar)) * self.factor, dim=1)


class _Normalize(nn.Module):
    """Pixel values to what the network takes, NaN to the mean."""

    mean: Tensor
    scale: Tensor

    def __init__(self, band: SensorBands) -> None:
        super().__init__()
        self.register_buffer("mean", _column(band.mean))
        self.register_buffer("scale", (1 / _column(band.std).double()).float())

    def forward(self, x: Tensor) -> Tensor:
        return (torch.where(torch.isnan(x), self.mean, x) - self.mean) * self.scale


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
