"""``geoasanet info``: what a file is, and whether it is fit for use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoasanet.errors import CheckpointError, GeoASANetError, SceneError
from geoasanet.tools.checkpoints import packaged_checkpoints

_VECTORS = {".gpkg", ".fgb", ".parquet", ".geojson", ".json", ".shp"}


@dataclass(frozen=True, slots=True)
class InfoResult:
    """What :func:`info` found."""

    path: str
    kind: str
    """"raster", "map", "checkpoint", "exported network", "vector" or "dataset"."""
    facts: dict[str, Any]
    """JSON-serialisable description."""
    problems: tuple[str, ...]
    """What keeps it from being used; empty if it is fit."""

    @property
    def fit(self) -> bool:
        """True if nothing keeps it from being used."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {
            "path": self.path,
            "kind": self.kind,
            "fit": self.fit,
            "problems": list(self.problems),
            **self.facts,
        }


def info(path: str | os.PathLike[str]) -> InfoResult:
    """Return what ``path`` is, and whether it is fit for use.

    Args:
        path: A raster, map, checkpoint, exported network (``.onnx``, ``.pt2``), vector file, dataset folder or run
            folder.

    Raises:
        GeoASANetError: If it does not exist or is none of these.
    """
    name = str(path)
    packaged = packaged_checkpoints()
    if name in packaged or name.endswith((".safetensors", ".pth", ".pt")):
        return _checkpoint(packaged.get(name, Path(name)))
    if name.endswith((".onnx", ".pt2")):
        return _exported(Path(name))
    if Path(name).is_dir():
        return _folder(Path(name))
    if Path(name).suffix.lower() in _VECTORS:
        return _vector(Path(name))
    from geoasanet.raster.describe import describe_raster

    facts, problems = describe_raster(name)
    return InfoResult(name, "map" if "classes" in facts else "raster", facts, tuple(problems))


def _checkpoint(path: Path) -> InfoResult:
    if path.suffix in (".pth", ".pt"):
        raise CheckpointError(
            f"{path} is a pickled checkpoint of another program.",
            f"Turn it into one of ours first: geoasanet convert {path} -o {path.with_suffix('.safetensors').name}",
        )
    from geoasanet.models.header import read_checkpoint_header

    header = read_checkpoint_header(path)
    problems: list[str] = []
    try:
        from geoasanet.models.checkpoint import load_checkpoint

        load_checkpoint(path)
    except GeoASANetError as error:
        problems.append(str(error))
    return InfoResult(str(path), "checkpoint", header.to_dict(), tuple(problems))


def _exported(path: Path) -> InfoResult:
    from geoasanet.models.checkpoint import load_checkpoint
    from geoasanet.models.onnxfile import read_onnx
    from geoasanet.models.pt2file import read_pt2_header

    header = read_onnx(path)[1] if path.suffix == ".onnx" else read_pt2_header(path)
    problems: list[str] = []
    try:
        load_checkpoint(path)
    except GeoASANetError as error:
        problems.append(str(error))
    return InfoResult(str(path), "exported network", header.to_dict(), tuple(problems))


def _folder(path: Path) -> InfoResult:
    if (path / "best.safetensors").is_file():
        return _checkpoint(path / "best.safetensors")
    from geoasanet.raster.dataset import SPLITS

    if not any((path / name).is_file() for name in ("dataset.yaml", *(f"{split}.txt" for split in SPLITS))):
        raise SceneError(
            f"{path} is a folder, but neither a dataset (dataset.yaml, train.txt) nor a run (best.safetensors).",
            "Give one of these, a raster, a map, a vector file or a checkpoint.",
        )
    from geoasanet.tools.info_dataset import describe_dataset

    facts, problems = describe_dataset(path)
    return InfoResult(str(path), "dataset", facts, tuple(problems))


def _vector(path: Path) -> InfoResult:
    from geoasanet.raster.vectorinfo import describe_vector

    facts, problems = describe_vector(path)
    return InfoResult(str(path), "vector", facts, tuple(problems))
