"""A published data set that ``geoasanet tile --layout`` is to turn into a dataset, and what is kept of each tile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

import geoasanet
from geoasanet.raster.grid import Grid
from geoasanet.raster.moments import Moments
from geoasanet.raster.tilerecord import moments_from_list, moments_to_list
from geoasanet.tools.archives import Archive, ArchiveItem
from geoasanet.tools.journal import file_stamp


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """A published data set to be turned into a dataset folder."""

    archive: Archive
    items: Sequence[ArchiveItem]
    """Its files."""
    size: int
    """Side of the tiles that scenes are cut into, pixels."""
    seed: int
    """Draws the split where the archive does not say."""
    workers: int
    """Threads."""

    def describe(self) -> dict[str, Any]:
        """Return all that decides the dataset's bytes."""
        files = [(i.name, i.split, *(file_stamp(str(p)) for p in (i.rgb, i.sar, i.label))) for i in self.items]
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        return {
            "layout": self.archive.name,
            "folder": str(self.items[0].rgb.resolve().parent),
            "files": digest,
            "size": self.size,
            "seed": self.seed,
            "version": geoasanet.__version__,
        }


@dataclass(frozen=True, slots=True)
class ArchiveTile:
    """A tile that was written."""

    name: str
    split: int
    pixels: NDArray[np.int64]
    """Labelled pixels of each class."""
    rgb: Moments
    sar: Moments
    grid: Grid | None
    """Its place on the ground, if the archive says."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form that loses nothing."""
        grid = self.grid
        return {
            "name": self.name,
            "split": self.split,
            "pixels": self.pixels.tolist(),
            "rgb": moments_to_list(self.rgb),
            "sar": moments_to_list(self.sar),
            "grid": None if grid is None else [grid.crs.to_wkt(), list(grid.transform)[:6], grid.height, grid.width],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArchiveTile:
        """Return what :meth:`to_dict` was made from."""
        place = data["grid"]
        return cls(
            name=data["name"],
            split=data["split"],
            pixels=np.array(data["pixels"], np.int64),
            rgb=moments_from_list(data["rgb"]),
            sar=moments_from_list(data["sar"]),
            grid=None if place is None else Grid(CRS.from_wkt(place[0]), Affine(*place[1]), place[2], place[3]),
        )
