"""Land-cover maps and polygons from whole optical + SAR scenes.

Every command of ``geoasanet --help`` is one typed function here, working on paths, raising
:class:`GeoASANetError` and returning a small frozen result. Names are imported when first used, so ``import
geoasanet`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from geoasanet.bands import InputBands, SensorBands
    from geoasanet.classes import ClassSchema
    from geoasanet.config import TrainConfig
    from geoasanet.errors import GeoASANetError
    from geoasanet.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from geoasanet.models.registry import create_model
    from geoasanet.tools.benchmark import benchmark
    from geoasanet.tools.convert import convert
    from geoasanet.tools.demo import demo
    from geoasanet.tools.evaluate import evaluate
    from geoasanet.tools.export import export
    from geoasanet.tools.info import info
    from geoasanet.tools.models import describe_model, list_models
    from geoasanet.tools.predict import predict
    from geoasanet.tools.predictmany import predict_scenes
    from geoasanet.tools.tile import tile
    from geoasanet.tools.train import train
    from geoasanet.tools.vectorize import vectorize
    from geoasanet.tools.view import view

_HOMES = {
    "Checkpoint": "geoasanet.models.checkpoint",
    "ClassSchema": "geoasanet.classes",
    "GeoASANetError": "geoasanet.errors",
    "InputBands": "geoasanet.bands",
    "SensorBands": "geoasanet.bands",
    "TrainConfig": "geoasanet.config",
    "benchmark": "geoasanet.tools.benchmark",
    "convert": "geoasanet.tools.convert",
    "create_model": "geoasanet.models.registry",
    "demo": "geoasanet.tools.demo",
    "describe_model": "geoasanet.tools.models",
    "evaluate": "geoasanet.tools.evaluate",
    "export": "geoasanet.tools.export",
    "info": "geoasanet.tools.info",
    "list_models": "geoasanet.tools.models",
    "load_checkpoint": "geoasanet.models.checkpoint",
    "predict": "geoasanet.tools.predict",
    "predict_scenes": "geoasanet.tools.predictmany",
    "save_checkpoint": "geoasanet.models.checkpoint",
    "tile": "geoasanet.tools.tile",
    "train": "geoasanet.tools.train",
    "vectorize": "geoasanet.tools.vectorize",
    "view": "geoasanet.tools.view",
}

__all__ = [
    "Checkpoint",
    "ClassSchema",
    "GeoASANetError",
    "InputBands",
    "SensorBands",
    "TrainConfig",
    "__version__",
    "benchmark",
    "convert",
    "create_model",
    "demo",
    "describe_model",
    "evaluate",
    "export",
    "info",
    "list_models",
    "load_checkpoint",
    "predict",
    "predict_scenes",
    "save_checkpoint",
    "tile",
    "train",
    "vectorize",
    "view",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoasanet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
