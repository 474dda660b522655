"""What a network expects at its input: band counts, statistics and value scales of both sensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from geoasanet.errors import ConfigError

Scale = Literal["uint8", "linear", "db", "raw"]
"""How pixel values are to be read: 8-bit grey values 0..255, linear power, decibel (10·log10 of power), or as they
come."""

SCALES: tuple[str, ...] = get_args(Scale)
LARGEST = 1e12
"""Size of the largest pixel value; what is beyond is missing data, whatever the file says."""


@dataclass(frozen=True, slots=True)
class SensorBands:
    """The bands of one sensor as the network takes them.

    Raises:
        ConfigError: If mean and std differ in length, a std is not positive and finite, or one is beyond
            :data:`LARGEST` or below its inverse.
    """

    mean: tuple[float, ...]
    """Mean per band, in the units of ``scale``."""
    std: tuple[float, ...]
    """Standard deviation per band, in the units of ``scale``."""
    scale: Scale = "uint8"
    """Value scale that ``mean`` and ``std`` refer to."""
    names: tuple[str, ...] = ()
    """Band names, for instance ``("red", "green", "blue")`` or ``("VV", "VH")``; may be empty."""

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ConfigError(f"Found {len(self.mean)} band means and {len(self.std)} standard deviations.")
        if not all(math.isfinite(v) for v in self.mean) or not all(math.isfinite(v) and v > 0 for v in self.std):
            raise ConfigError(f"Band means must be finite and deviations positive, found {self.mean}, {self.std}.")
        if max(map(abs, self.mean)) > LARGEST or min(self.std) < 1 / LARGEST or max(self.std) > LARGEST:
            raise ConfigError(
                f"Band means {self.mean} and deviations {self.std} are none of pixels.",
                f"Means are at most {LARGEST:.0e} in size, deviations {1 / LARGEST:.0e} to {LARGEST:.0e}.",
            )
        if self.scale not in SCALES:
            raise ConfigError(f"Value scale {self.scale!r} is unknown; one of {', '.join(SCALES)} is needed.")
        if self.names and len(self.names) != len(self.mean):
            raise ConfigError(f"Found {len(self.names)} band names for {len(self.mean)} bands.")

    def __len__(self) -> int:
        return len(self.mean)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SensorBands:
        """Return the bands described by :meth:`to_dict`'s result."""
        return cls(
            mean=tuple(float(v) for v in data["mean"]),
            std=tuple(float(v) for v in data["std"]),
            scale=data.get("scale", "uint8"),
            names=tuple(str(v) for v in data.get("names", ())),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {"mean": list(self.mean), "std": list(self.std), "scale": self.scale, "names": list(self.names)}


@dataclass(frozen=True, slots=True)
class InputBands:
    """Both sensors' bands: three optical ones in the order red, green, blue, and one or more SAR bands."""

    rgb: SensorBands
    sar: SensorBands

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputBands:
        """Return the bands described by :meth:`to_dict`'s result."""
        return cls(SensorBands.from_dict(data["rgb"]), SensorBands.from_dict(data["sar"]))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {"rgb": self.rgb.to_dict(), "sar": self.sar.to_dict()}
