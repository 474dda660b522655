"""How fast everything around the network runs: reading, warping, blending, writing, and polygons of the map.

Run as a process of its own by ``geoasanet benchmark``. The scene is synthetic, and the network is the cheapest that
still makes a map with regions: at every pixel the class whose mean colour is nearest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoasanet.raster.synthetic_scene import ScenePaths, write_scene
from geoasanet.synthetic import CLASSES, Landscape, generate_landscape
from geoasanet.tools.child import serve
from geoasanet.tools.machine import forget_peak_memory, peak_memory_bytes
from geoasanet.tools.predict import predict
from geoasanet.tools.vectorize import vectorize

SEED = 7
_WARM_UP_SIDE = 640
"""Scene on which everything runs once before it is timed, pixels; larger than a tile, so that its map has overviews."""


@dataclass(frozen=True, slots=True)
class PipelineSpeed:
    """How fast a synthetic scene became a map and the map polygons."""

    side: int
    """Height and width of the scene, pixels."""
    windows: int
    """Windows of 256 px that overlap by 64 px."""
    predict_seconds: float
    """From two rasters to the finished map, with a network that costs next to nothing."""
    predict_mpx_per_second: float
    vectorize_seconds: float
    """From the map to a GeoPackage."""
    vectorize_mpx_per_second: float
    polygons: int
    peak_memory_bytes: int
    """Resident memory of the process, libraries included."""


class NearestColor(nn.Module):
    """Answers with the class whose mean colour is nearest; the SAR image adds nothing but its reading.

    Args:
        means: Mean red, green and blue of each class, raw values, shape (classes, 3).
    """

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.match = nn.Conv2d(4, len(means), 1)
        with torch.no_grad():
            # Between classes, 2 m·x - m·m differs as -|x - m|² does.
            self.match.weight.zero_()[:, :3, 0, 0] = 2 * means
            self.match.bias.copy_(-means.square().sum(1))  # type: ignore[union-attr]  # it has one

    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W)."""
        logits_BKHW: Tensor = self.match(torch.cat([rgb_BCHW, sar_BSHW], 1)) / 1000
        return logits_BKHW


def measure_pipeline(side: int, device: str) -> PipelineSpeed:
    """Return how fast the pipeline maps and vectorizes a synthetic scene of ``side`` × ``side`` px.

    Raises:
        GeoASANetError: If a step fails, or a landscape of this size cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="geoasanet-") as name:
        warm, timed = Path(name) / "warm", Path(name) / "timed"
        _run(warm, generate_landscape(SEED, _WARM_UP_SIDE, _WARM_UP_SIDE), device)
        return _run(timed, generate_landscape(SEED, side, side), device)


def _run(folder: Path, landscape: Landscape, device: str) -> PipelineSpeed:
    folder.mkdir()
    scene: ScenePaths = write_scene(landscape, folder)
    network = NearestColor(_means(landscape))
    side = landscape.shape[0]
    del landscape
    forget_peak_memory()
    mapped = predict(
        scene.rgb, scene.sar, model=network, classes=CLASSES, out=folder / "map.tif", device=device, window=256
    )
    drawn = vectorize(mapped.map, out=folder / "map.gpkg")
    megapixels = side**2 / 1e6
    return PipelineSpeed(
        side=side,
        windows=mapped.windows,
        predict_seconds=mapped.seconds,
        predict_mpx_per_second=megapixels / mapped.seconds,
        vectorize_seconds=drawn.seconds,
        vectorize_mpx_per_second=megapixels / drawn.seconds,
        polygons=drawn.polygons,
        peak_memory_bytes=peak_memory_bytes(),
    )


def _means(landscape: Landscape) -> Tensor:
    """Return the mean colour of each class; one that the scene lacks is too far away to be nearest."""
    means = np.full((len(CLASSES), 3), -1000.0)
    for i in np.unique(landscape.labels):
        if i < len(CLASSES):
            means[i] = landscape.rgb[:, landscape.labels == i].mean(1)
    return torch.from_numpy(means).float()


def _work(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield asdict(measure_pipeline(**task))


if __name__ == "__main__":
    serve(_work)
