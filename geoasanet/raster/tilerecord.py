"""What is kept of tiles that were written, also in the journal of an unfinished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

from geoasanet.raster.faults import Fault
from geoasanet.raster.moments import Moments
from geoasanet.windows import Window


@dataclass(frozen=True, slots=True)
class TileRecord:
    """A tile that was written."""

    name: str
    scene: int
    """Position of its scene in the list."""
    window: Window
    """Its pixels on the scene's grid."""
    block: tuple[int, int]
    """Row and column of its block."""
    valid: float
    """Share of pixels with data of both sensors."""
    class_pixels: Mapping[int, int]
    """Labelled pixels by class id."""
    rgb: Moments
    sar: Moments

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form that loses nothing."""
        return {
            "name": self.name,
            "scene": self.scene,
            "window": list(astuple(self.window)),
            "block": list(self.block),
            "valid": self.valid,
            "class_pixels": [[i, n] for i, n in self.class_pixels.items()],
            "rgb": moments_to_list(self.rgb),
            "sar": moments_to_list(self.sar),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TileRecord:
        """Return what :meth:`to_dict` was made from."""
        return cls(
            name=data["name"],
            scene=data["scene"],
            window=Window(*data["window"]),
            block=(data["block"][0], data["block"][1]),
            valid=data["valid"],
            class_pixels={i: n for i, n in data["class_pixels"]},  # noqa: C416  # checks that they are pairs
            rgb=moments_from_list(data["rgb"]),
            sar=moments_from_list(data["sar"]),
        )


@dataclass(frozen=True, slots=True)
class PieceTiles:
    """What became of the tiles that were read together."""

    scene: int
    """Position of their scene in the list."""
    piece: int
    """Their place in the scene's reading order."""
    records: tuple[TileRecord, ...]
    """Tiles written."""
    without_data: int
    """Tiles left out for lack of valid pixels."""
    without_label: int
    """Tiles left out because no valid pixel is labelled."""
    files: Mapping[str, tuple[int, int]]
    """Bytes and CRC-32 of each file written, by its path in the dataset."""
    faults: tuple[Fault, ...] = ()
    """Blocks of the inputs that could not be read and were taken as without data."""

    @property
    def windows(self) -> int:
        """How many windows the piece has, those left out included."""
        return len(self.records) + self.without_data + self.without_label

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form that loses nothing."""
        return {
            "scene": self.scene,
            "piece": self.piece,
            "records": [record.to_dict() for record in self.records],
            "without_data": self.without_data,
            "without_label": self.without_label,
            "files": {path: list(state) for path, state in self.files.items()},
            "faults": [asdict(fault) for fault in self.faults],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PieceTiles:
        """Return what :meth:`to_dict` was made from."""
        return cls(
            scene=data["scene"],
            piece=data["piece"],
            records=tuple(TileRecord.from_dict(record) for record in data["records"]),
            without_data=data["without_data"],
            without_label=data["without_label"],
            files={path: (state[0], state[1]) for path, state in data["files"].items()},
            faults=tuple(Fault(**fault) for fault in data["faults"]),
        )


def moments_to_list(moments: Moments) -> list[Any]:
    """Return moments in JSON-serialisable form; Python writes floats so that they are read back bit by bit."""
    return [moments.count, moments.mean.tolist(), moments.squares.tolist()]


def moments_from_list(data: list[Any]) -> Moments:
    """Return what :func:`moments_to_list` was made from."""
    return Moments(data[0], np.array(data[1], np.float64), np.array(data[2], np.float64))
