"""Running a network over the tiles of a dataset, each as a whole and at its own size."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geoasanet.classes import NODATA
from geoasanet.errors import ModelError, NonFiniteError
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.threads import prefetch
from geoasanet.raster.dataset import Tile, TileDataset
from geoasanet.sample import Sample
from geoasanet.windows import Window


@dataclass(frozen=True, slots=True)
class TilePrediction:
    """What a network says about a tile."""

    tile: Tile
    classes: NDArray[np.uint8]
    """Class ids with shape (height, width), 255 where a sensor has no data."""
    confidence: NDArray[np.float32]
    """Probability of that class, shape (height, width), NaN where a sensor has no data."""
    probabilities: Tensor
    """Probability of every class, (classes, height, width) on the predictor's device, also where there is no data."""


def predict_tiles(
    predictor: Predictor,
    dataset: TileDataset,
    names: Sequence[str],
    *,
    check: Callable[[Tile], None] = lambda tile: None,
) -> Generator[TilePrediction, None, None]:
    """Yield a prediction for each tile, in the order of ``names``.

    Tiles are read ahead in another thread, no more than two batches of them. A batch holds tiles of one size only.
    Closing the generator stops the reading.

    Args:
        predictor: Runs the network.
        dataset: Where the tiles are.
        names: Tiles to look at.
        check: Called with each tile before the network sees it, in the reading thread; raises if it does not fit.

    Raises:
        ManifestError: If a file of a tile is missing or unreadable.
        LabelError: If a label is no class.
        ModelError: If a tile does not fit the network.
        NonFiniteError: If the network gives NaN or infinity.
        DeviceError: If not even one tile fits into memory.
    """

    def read(name: str) -> Tile:
        tile = dataset.read(name)
        check(tile)
        return tile

    with contextlib.closing(prefetch(map(read, names), depth=2 * predictor.batch_size)) as tiles:
        for _, same_size in itertools.groupby(tiles, key=lambda tile: tile.valid.shape):
            yield from _predict(predictor, same_size)


def sample_of(tile: Tile) -> Sample:
    """Return the pixels of a tile as the network takes them."""
    height, width = tile.rgb_valid.shape
    return Sample(Window(0, 0, height, width), tile.rgb, tile.sar, tile.rgb_valid, tile.sar_valid)


def _predict(predictor: Predictor, tiles: Iterable[Tile]) -> Iterator[TilePrediction]:
    """Yield predictions for tiles of one size."""
    waiting: collections.deque[tuple[Tile, Sample]] = collections.deque()

    def samples() -> Iterator[Sample]:
        for tile in tiles:
            sample = sample_of(tile)
            waiting.append((tile, sample))
            yield sample

    try:
        for probabilities in predictor.run(samples()):
            assert probabilities is not None
            tile, _ = waiting.popleft()
            best = probabilities.max(dim=0)
            classes = best.indices.byte().cpu().numpy()
            confidence = best.values.cpu().numpy()
            classes[~tile.valid], confidence[~tile.valid] = NODATA, np.nan
            yield TilePrediction(tile, classes, confidence, probabilities)
    except (ModelError, NonFiniteError) as error:
        known = error.sample if isinstance(error, NonFiniteError) else None
        names = [tile.name for tile, sample in waiting if known is None or sample is known]
        some = ", ".join(map(repr, names[:5]))
        where = f"{'among tiles' if len(names) > 1 else 'tile'} {some}{' …' if len(names) > 5 else ''}"
        raise type(error)(f"{str(error.args[0]).rstrip('.')} ({where}).", error.hint) from error
