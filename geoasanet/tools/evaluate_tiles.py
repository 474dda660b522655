"""The best and the worst tiles of an evaluation, with pictures of them and of no others."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoasanet.bands import InputBands
from geoasanet.classes import ClassSchema
from geoasanet.metrics import Matrix, Metrics
from geoasanet.raster.dataset import Tile
from geoasanet.raster.figure import BLANK, Pixels, colorize, ramp
from geoasanet.raster.preview import stretch
from geoasanet.sample import BoolArray

KEEP = 4
"""Best and worst tiles that are kept."""
LEAST_LABELLED = 0.05
"""Tiles with a smaller share of labelled pixels are not ranked."""
PICTURE_SIDE = 256
"""Largest side of a tile's picture, pixels."""


@dataclass(frozen=True, slots=True)
class TileScore:
    """Accuracy of one tile by itself."""

    name: str
    accuracy: float
    """Overall accuracy of its labelled pixels."""
    mean_iou: float
    """mIoU of its labelled pixels, over the classes that occur in it."""
    classes: int
    """Classes among its labels."""
    pixels: int
    """Labelled pixels."""

    @classmethod
    def of(cls, name: str, matrix: Matrix) -> TileScore:
        """Return the score of a tile with at least one labelled pixel from its confusion matrix."""
        found = Metrics.from_matrix(matrix)
        classes = int(np.count_nonzero(matrix.sum(axis=1)))
        return cls(name, found.accuracy, found.mean_iou, classes, int(matrix.sum()))

    @property
    def rank(self) -> tuple[float, int, str]:
        """Orders tiles from best to worst: by accuracy, then by classes (more first), then by name."""
        return (-self.accuracy, -self.classes, self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "overall_accuracy": self.accuracy,
            "miou": self.mean_iou,
            "classes": self.classes,
            "pixels": self.pixels,
        }


@dataclass(frozen=True, slots=True)
class RankedTile:
    """A tile worth looking at."""

    score: TileScore
    panels: tuple[tuple[str, Pixels], ...]
    """Captions and pictures; empty where none were asked for."""


class Extremes:
    """Keeps the best and worst tiles of those that are offered, and never more than :data:`KEEP` of each."""

    def __init__(self) -> None:
        self._best: list[RankedTile] = []
        self._worst: list[RankedTile] = []
        self._offered = 0

    def offer(self, score: TileScore, panels: Callable[[], tuple[tuple[str, Pixels], ...]]) -> None:
        """Take a tile if it is among the extremes so far; its pictures are made only then."""
        self._offered += 1
        high = len(self._best) < KEEP or score.rank < self._best[-1].score.rank
        low = len(self._worst) < KEEP or score.rank > self._worst[0].score.rank
        if not (high or low):
            return
        tile = RankedTile(score, panels())
        if high:
            bisect.insort(self._best, tile, key=_rank)
            del self._best[KEEP:]
        if low:
            bisect.insort(self._worst, tile, key=_rank)
            del self._worst[:-KEEP]

    @property
    def chosen(self) -> tuple[tuple[RankedTile, ...], tuple[RankedTile, ...]]:
        """The best tiles, best first, and the worst, worst first; few tiles are shared out between both."""
        if self._offered >= 2 * KEEP:
            return tuple(self._best), tuple(reversed(self._worst))
        everything = sorted({t.score.rank: t for t in (*self._best, *self._worst)}.values(), key=_rank)
        half = (len(everything) + 1) // 2
        return tuple(everything[:half]), tuple(reversed(everything[half:]))


def panels_of(
    tile: Tile,
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    classes: ClassSchema,
    bands: InputBands,
) -> tuple[tuple[str, Pixels], ...]:
    """Return small pictures of a tile: RGB, SAR, label, prediction, confidence.

    Args:
        tile: The tile.
        truth: Class ids, shape (height, width), 255 where there is none.
        predicted: Likewise.
        confidence: Probability of the predicted class, shape (height, width), NaN where there is none.
        classes: Names and colours.
        bands: What the pixel values are: SAR in linear power is shown in decibels.
    """
    sar = tile.sar[:1].astype(np.float32)
    if bands.sar.scale == "linear":
        sar = 10 * np.log10(np.maximum(sar, 1e-6))
    rgb = tile.rgb if tile.rgb.dtype == np.uint8 else stretch(tile.rgb.astype(np.float32), tile.rgb_valid, 2, 98)
    factor = math.ceil(max(truth.shape) / PICTURE_SIDE)
    part = np.s_[::factor, ::factor]
    return (
        ("RGB", _reduced(_painted(rgb, tile.rgb_valid), factor)),
        ("SAR", _reduced(_painted(np.repeat(stretch(sar, tile.sar_valid, 1, 99), 3, axis=0), tile.sar_valid), factor)),
        ("Label", colorize(truth[part], classes)),
        ("Prediction", colorize(predicted[part], classes)),
        ("Confidence", ramp(confidence[part], 1 / len(classes), 1.0)),
    )


def _rank(tile: RankedTile) -> tuple[float, int, str]:
    return tile.score.rank


def _painted(bands: NDArray[np.uint8], valid: BoolArray) -> Pixels:
    """Return bands (3, height, width) as a picture, blank where not valid."""
    return np.where(valid[..., None], bands.transpose(1, 2, 0), BLANK).astype(np.uint8)


def _reduced(pixels: Pixels, factor: int) -> Pixels:
    """Return a picture of which each pixel is the mean of a square of ``factor`` pixels."""
    return pixels if factor == 1 else np.asarray(Image.fromarray(pixels).reduce(factor))
