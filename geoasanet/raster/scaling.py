"""Value scales of SAR rasters: 8-bit grey values, linear power, decibel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from geoasanet.bands import Scale, SensorBands
from geoasanet.errors import BandError, ConfigError
from geoasanet.sample import BoolArray

SarScale = Literal["auto", "linear", "db", "none"]
"""What the SAR raster holds: told from its values, linear power, decibel, or values to be taken as they are."""

SAR_SCALES: tuple[str, ...] = get_args(SarScale)

_STRETCH_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Turns SAR values as they are in the file into those the checkpoint's statistics refer to."""

    source: Scale
    """Scale of the file."""
    target: Scale
    """Scale of the checkpoint."""
    stretch: tuple[float, float] | None = None
    """Decibel values that become grey values 0 and 255 where an 8-bit checkpoint meets a calibrated raster."""

    @property
    def identity(self) -> bool:
        """True if values pass unchanged."""
        return self.source == self.target or "raw" in (self.source, self.target)

    def apply(self, values: NDArray[Any], valid: BoolArray) -> tuple[NDArray[Any], BoolArray]:
        """Return converted float32 values and their validity.

        Power that is not positive has no decibel value and becomes invalid.

        Args:
            values: SAR bands with shape (bands, height, width).
            valid: Shape (height, width); True where the raster has data.
        """
        if self.identity:
            return values, valid
        out = values.astype(np.float32)
        if self.source == "linear":
            valid = valid & (out > 0).all(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                out = 10 * np.log10(out)
        if self.target == "linear":
            out = np.power(np.float32(10), out / np.float32(10))
        elif self.target == "uint8" and self.stretch is not None:
            low, high = self.stretch
            out = np.clip((out - low) * np.float32(255 / (high - low)), 0, 255)
        out[:, ~valid] = 0
        return out, valid


def choose_scaling(
    option: SarScale, expected: SensorBands, dtype: np.dtype[Any], overview: NDArray[Any], path: str
) -> tuple[Scaling, list[str]]:
    """Return how to convert a SAR raster for a checkpoint, and warnings for the analyst.

    Args:
        option: What the user says that the raster holds.
        expected: The checkpoint's SAR bands.
        dtype: The raster's data type.
        overview: A sample of valid pixels, shape (bands, pixels).
        path: The raster, for messages.

    Raises:
        ConfigError: If ``option`` is unknown.
        BandError: If the raster cannot be converted to the checkpoint's scale.
    """
    if option not in SAR_SCALES:
        raise ConfigError(f"--sar-scale {option!r} is unknown; one of {', '.join(SAR_SCALES)} is needed.")
    if option == "none" or expected.scale == "raw":
        return Scaling("raw", "raw"), []
    source: Scale = detect_scale(dtype, overview) if option == "auto" else option
    if source == expected.scale:
        return Scaling(source, expected.scale), []
    if source == "uint8":
        raise BandError(
            f"SAR raster {path} holds 8-bit grey values ({dtype}), but the checkpoint was trained on "
            f"{_NAMES[expected.scale]}.",
            "Give the calibrated raster, or say what the values are with --sar-scale linear, db or none.",
        )
    if expected.scale != "uint8":
        return Scaling(source, expected.scale), []
    decibel, _ = Scaling(source, "db").apply(overview[:, :, None], np.ones((overview.shape[1], 1), bool))
    if source == "linear":
        decibel = decibel[:, (overview > 0).all(axis=0)]
    if decibel.size == 0:
        return Scaling(source, "uint8", (-25.0, 0.0)), []
    low, high = (float(v) for v in np.percentile(decibel, _STRETCH_PERCENTILES))
    if high - low < 1e-3:
        high = low + 1.0
    note = (
        f"SAR raster {path} holds {_NAMES[source]}, the checkpoint takes 8-bit grey values: {low:.1f} to {high:.1f} dB "
        "(1st to 99th percentile of this scene) are stretched to 0..255."
    )
    return Scaling(source, "uint8", (low, high)), [note]


def detect_scale(dtype: np.dtype[Any], values: NDArray[Any]) -> Scale:
    """Return the scale that ``values`` (valid pixels of any shape) are most likely in.

    8-bit types are grey values; so are other values all within 0..255 that reach beyond 50 and are whole numbers.
    Values of which at least one in a hundred is negative are decibels, the rest linear power.
    """
    if dtype == np.uint8:
        return "uint8"
    if values.size == 0:
        return "db" if dtype.kind == "f" else "linear"
    if float((values < 0).mean()) > 0.01:
        return "db"
    top = float(values.max())
    if dtype.kind in "iu" and 50 < top <= 255:
        return "uint8"
    return "linear"


def range_warnings(sensor: str, expected: SensorBands, values: NDArray[Any], path: str) -> list[str]:
    """Return a warning for each band whose values lie far from the statistics a checkpoint was trained with.

    Args:
        sensor: "RGB" or "SAR".
        expected: The checkpoint's bands of that sensor.
        values: Valid pixels in the checkpoint's scale, shape (bands, pixels).
        path: The raster, for the message.
    """
    if values.shape[1] == 0 or expected.scale == "raw":
        return []
    found = values.astype(np.float64)
    warnings = []
    for band, (mean, std) in enumerate(zip(expected.mean, expected.std, strict=True)):
        center, spread = float(found[band].mean()), float(found[band].std())
        if abs(center - mean) > 3 * std or spread > 5 * std or spread < std / 20:
            warnings.append(
                f"{sensor} band {band + 1} of {path} has mean {center:.4g} and standard deviation {spread:.4g}; the "
                f"checkpoint was trained on {mean:.4g} and {std:.4g} ({_NAMES[expected.scale]}). "
                "Expect a poor map unless the raster is brought to that range."
            )
    return warnings


_NAMES: dict[str, str] = {
    "uint8": "8-bit grey values",
    "linear": "linear power",
    "db": "decibels",
    "raw": "raw values",
}
