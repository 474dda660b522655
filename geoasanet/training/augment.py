"""From a tile to what the network is trained on: random scale, crop, flips, light, normalised.

The order is that of the paper's pipeline; the optical image, the SAR image and the label always move together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import NODATA
from geoasanet.errors import ConfigError, ManifestError
from geoasanet.raster.dataset import Tile
from geoasanet.sample import BoolArray
from geoasanet.training.resample import Axis, Floats, count_labels, sample_images, sample_labels

CROP_TRIES = 10
"""Crops that are tried to find one where no class covers too much."""

_CHANCES = ("flip", "vertical_flip", "turn", "missing_rgb", "missing_sar")
_AMOUNTS = ("brightness", "noise", "sar_brightness", "sar_noise")
_GAINS = ("contrast", "color", "sar_contrast")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is varied at random; the defaults are the paper's.

    Amounts of light and noise act on normalised values x, whose unit is the band's standard deviation over the train
    split: ``x' = gain * x + offset + noise``. What lies outside a raster's data, or the tile, stays 0 (the mean).

    Raises:
        ConfigError: If a value is impossible; it names the field.
    """

    crop_size: int = 256
    """Side of the square crop, pixels."""
    resize: tuple[float, float] | None = (0.5, 2.0)
    """Smallest and largest scale of the tile, drawn evenly; ``None`` for none."""
    cat_max_ratio: float = 0.75
    """Largest share of the labelled pixels of a crop that one class may cover; 1 for any. Where none of ten crops has
    less, the one with the smallest share is taken."""
    flip: float = 0.5
    """Chance of a flip left to right."""
    vertical_flip: float = 0.5
    """Chance of a flip top to bottom."""
    turn: float = 0.0
    """Chance of a turn by 90, 180 or 270 degrees, each as likely."""
    brightness: float = 0.0
    """Largest offset of the optical image, drawn evenly from -brightness to brightness, the same for all bands."""
    contrast: float = 0.0
    """Largest change of the optical image's gain, drawn evenly from 1 - contrast to 1 + contrast; below 1."""
    color: float = 0.0
    """Largest offset, and largest change of gain, of each optical band on its own: haze, season; below 1."""
    noise: float = 0.0
    """Largest deviation of normal noise in every optical pixel and band, drawn evenly from 0."""
    sar_brightness: float = 0.0
    """As ``brightness``, for the SAR image: calibration, incidence angle, moisture."""
    sar_contrast: float = 0.0
    """As ``contrast``, for the SAR image."""
    sar_noise: float = 0.0
    """As ``noise``, for the SAR image."""
    missing_rgb: float = 0.0
    """Chance that the optical image is hidden: all its pixels become 0, the mean."""
    missing_sar: float = 0.0
    """Chance that the SAR image is hidden; never both are."""
    random_crop: bool = True
    """Whether the crop lies anywhere in the tile; false takes its centre."""

    def __post_init__(self) -> None:
        if self.crop_size < 1:
            raise ConfigError(f"crop_size must be at least 1 pixel, found {self.crop_size}.")
        if self.resize is not None:
            object.__setattr__(self, "resize", tuple(self.resize))
            if len(self.resize) != 2 or not 0 < self.resize[0] <= self.resize[1] < math.inf:
                raise ConfigError(
                    f"resize must be the smallest and the largest scale, above 0, found {list(self.resize)}."
                )
        if not 0 < self.cat_max_ratio <= 1:
            raise ConfigError(f"cat_max_ratio must be above 0 and at most 1, found {self.cat_max_ratio}.")
        for name in _CHANCES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a chance and must be 0 to 1, found {getattr(self, name)}.")
        for name in _AMOUNTS:
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more standard deviations, found {getattr(self, name)}.")
        for name in _GAINS:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be from 0 to below 1, found {getattr(self, name)}.")
        if self.missing_rgb + self.missing_sar > 1:
            raise ConfigError(
                f"missing_rgb and missing_sar exclude each other and must be at most 1 together, found "
                f"{self.missing_rgb} and {self.missing_sar}."
            )

    @classmethod
    def none(cls, crop_size: int = 256) -> Augmentation:
        """Return what leaves nothing to chance: the centre of the tile, as it is."""
        return cls(crop_size, None, cat_max_ratio=1.0, flip=0.0, vertical_flip=0.0, random_crop=False)


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """What the network sees of a tile, normalised."""

    rgb: Floats
    """Red, green, blue in standard deviations from the mean, float32 (3, height, width); 0 where there is no data."""
    sar: Floats
    """SAR bands, likewise, float32 (bands, height, width)."""
    label: NDArray[np.uint8]
    """Class ids, shape (height, width); 255 where there is none."""


def augment(tile: Tile, augmentation: Augmentation, bands: InputBands, rng: np.random.Generator) -> TrainingSample:
    """Return a random crop of a tile, ``crop_size`` pixels high and wide.

    What the scaled tile does not cover, at the bottom and to the right, is 0, and 255 in the label. How many numbers
    are drawn for scale, crop and light does not depend on the options: switching one on leaves the others as they were.

    Args:
        tile: The tile; without a label, the sample's is all 255.
        augmentation: What is varied.
        bands: Statistics for normalisation.
        rng: Where chance comes from; nothing else decides.

    Raises:
        ManifestError: If the tile has other numbers of bands than ``bands``.
    """
    _check_bands(tile, bands)
    geometry = rng.random(5 + 2 * CROP_TRIES).tolist()
    shades = rng.random(13).tolist()
    label = _label(tile)
    view = _draw_view(label, augmentation, geometry)
    missing, *shades = shades
    rgb_light, sar_light = _draw_light(augmentation, shades, len(bands.sar))
    rgb_light = replace(rgb_light, hidden=missing < augmentation.missing_rgb)
    sar_light = replace(
        sar_light, hidden=augmentation.missing_rgb <= missing < augmentation.missing_rgb + augmentation.missing_sar
    )
    side = augmentation.crop_size
    return TrainingSample(
        _show(tile.rgb, tile.rgb_valid, bands.rgb, rgb_light, view, (side, side), rng),
        _show(tile.sar, tile.sar_valid, bands.sar, sar_light, view, (side, side), rng),
        _show_label(label, view, (side, side)),
    )


def normalize_tile(tile: Tile, bands: InputBands) -> TrainingSample:
    """Return a whole tile, normalised.

    Raises:
        ManifestError: If the tile has other numbers of bands than ``bands``.
    """
    _check_bands(tile, bands)
    height, width = tile.rgb_valid.shape
    view = _View(Axis(height, height, 0, height), Axis(width, width, 0, width))
    return TrainingSample(
        _show(tile.rgb, tile.rgb_valid, bands.rgb, _Light.plain(3), view, (height, width)),
        _show(tile.sar, tile.sar_valid, bands.sar, _Light.plain(len(bands.sar)), view, (height, width)),
        _show_label(_label(tile), view, (height, width)),
    )


@dataclass(frozen=True, slots=True)
class _View:
    """Which part of a tile is shown, and how it is turned."""

    rows: Axis
    cols: Axis
    transposed: bool = False
    """True if what lies to the right in the tile lies below in the sample; after reversing the axes."""


@dataclass(frozen=True, slots=True)
class _Light:
    """What happens to the normalised values of one sensor."""

    gain: Floats
    offset: Floats
    noise: float = 0.0
    hidden: bool = False

    @classmethod
    def plain(cls, bands: int) -> _Light:
        return cls(np.ones(bands, np.float32), np.zeros(bands, np.float32))


def _draw_view(label: NDArray[np.uint8], augmentation: Augmentation, draws: list[float]) -> _View:
    scale, flip, vertical_flip, turn, quarter, *places = draws
    height, width = label.shape
    if augmentation.resize is None:
        scaled = height, width
    else:
        low, high = augmentation.resize
        scaled = _scaled_size(height, width, low + (high - low) * scale)
    rows, cols = _choose_crop(label, scaled, augmentation, places)
    quarters = 1 + int(3 * quarter) if turn < augmentation.turn else 0
    # Counter-clockwise, as numpy.rot90: a quarter is a reversal of the columns, then a transposition.
    reverse_rows = (vertical_flip < augmentation.vertical_flip) != (quarters in (2, 3))
    reverse_cols = (flip < augmentation.flip) != (quarters in (1, 2))
    return _View(replace(rows, reverse=reverse_rows), replace(cols, reverse=reverse_cols), quarters in (1, 3))


def _scaled_size(height: int, width: int, ratio: float) -> tuple[int, int]:
    """Return the size of a scaled tile, rounded as the original does: the sides as a whole, then each of them."""
    scale = min(int(side * ratio) / side for side in (height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _choose_crop(
    label: NDArray[np.uint8], scaled: tuple[int, int], augmentation: Augmentation, places: list[float]
) -> tuple[Axis, Axis]:
    """Return the rows and columns of the first crop in which no class covers too much, or of the best of ten."""
    side = augmentation.crop_size
    spare = [max(0, pixels - side) for pixels in scaled]

    def crop(place: tuple[float, float]) -> tuple[Axis, Axis]:
        return tuple(  # type: ignore[return-value]  # two axes
            Axis(source, pixels, int((room + 1) * p), min(side, pixels))
            for source, pixels, room, p in zip(label.shape, scaled, spare, place, strict=True)
        )

    if not augmentation.random_crop:
        return crop((0.5, 0.5))
    tries = [(places[2 * i], places[2 * i + 1]) for i in range(CROP_TRIES)]
    if not any(spare) or augmentation.cat_max_ratio == 1:
        return crop(tries[0])
    best, smallest = crop(tries[0]), math.inf
    for place in tries:
        axes = crop(place)
        share = _largest_share(label, axes)
        if share <= augmentation.cat_max_ratio:
            return axes
        if share < smallest:
            best, smallest = axes, share
    return best


def _largest_share(label: NDArray[np.uint8], axes: tuple[Axis, Axis]) -> float:
    """Return the share of the commonest class of the labelled pixels of a crop; 2 where none is labelled."""
    counts = count_labels(label, *axes)[:NODATA]
    total = int(counts.sum())
    return int(counts.max()) / total if total else 2.0


def _draw_light(augmentation: Augmentation, draws: list[float], sar_bands: int) -> tuple[_Light, _Light]:
    a = augmentation
    spread = 2 * np.array(draws[:10]) - 1
    brightness, contrast, sar_brightness, sar_contrast = spread[:4]
    rgb = _Light(
        gain=np.asarray((1 + a.contrast * contrast) * (1 + a.color * spread[4:7]), np.float32),
        offset=np.asarray(a.brightness * brightness + a.color * spread[7:10], np.float32),
        noise=a.noise * draws[10],
    )
    sar = _Light(
        gain=np.full(sar_bands, 1 + a.sar_contrast * sar_contrast, np.float32),
        offset=np.full(sar_bands, a.sar_brightness * sar_brightness, np.float32),
        noise=a.sar_noise * draws[11],
    )
    return rgb, sar


def _show(
    pixels: NDArray[Any],
    valid: BoolArray,
    sensor: SensorBands,
    light: _Light,
    view: _View,
    size: tuple[int, int],
    rng: np.random.Generator | None = None,
) -> Floats:
    """Return one sensor's image of a view, padded to ``size`` (height, width)."""
    out = np.zeros((len(sensor), *size), np.float32)
    if light.hidden:
        return out
    mean = np.array(sensor.mean, np.float32)
    gain = np.asarray(light.gain / np.array(sensor.std), np.float32)
    known = None if valid.all() else valid
    seen = sample_images(pixels, known, view.rows, view.cols, mean, gain, light.offset, out)
    if light.noise and rng is not None:
        noise = rng.standard_normal((len(sensor), view.rows.count, view.cols.count), np.float32)
        noise *= np.float32(light.noise)
        if seen is not None:
            noise *= seen
        out[:, : view.rows.count, : view.cols.count] += noise
    return _turned(out, view)


def _show_label(label: NDArray[np.uint8], view: _View, size: tuple[int, int]) -> NDArray[np.uint8]:
    out = np.full(size, NODATA, np.uint8)
    sample_labels(label, view.rows, view.cols, out)
    return _turned(out, view)


def _turned(image: NDArray[Any], view: _View) -> NDArray[Any]:
    return np.ascontiguousarray(np.swapaxes(image, -1, -2)) if view.transposed else image


def _label(tile: Tile) -> NDArray[np.uint8]:
    """Return the label with 255 where a sensor has no data."""
    if tile.label is None:
        return np.full(tile.rgb_valid.shape, NODATA, np.uint8)
    valid = tile.valid
    return tile.label if valid.all() else np.where(valid, tile.label, np.uint8(NODATA))


def _check_bands(tile: Tile, bands: InputBands) -> None:
    for what, image, sensor in (("optical", tile.rgb, bands.rgb), ("SAR", tile.sar, bands.sar)):
        if image.shape[0] != len(sensor):
            raise ManifestError(
                f"Tile {tile.name!r} has {image.shape[0]} {what} bands, but there are statistics of {len(sensor)}.",
                "Give every tile the same bands, and dataset.yaml their statistics.",
            )
