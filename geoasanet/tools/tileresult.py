"""What ``geoasanet tile`` made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoasanet.classes import ClassSchema


@dataclass(frozen=True, slots=True)
class TileResult:
    """What :func:`geoasanet.tile` made."""

    path: Path
    """The dataset folder."""
    tiles: dict[str, int]
    """Tiles of each split."""
    left_out: dict[str, int]
    """Windows that became no tile, by reason."""
    classes: ClassSchema | None
    """None without labels."""
    class_pixels: dict[str, dict[str, int]]
    """Labelled pixels of each class, by split."""
    class_weights: tuple[float, ...] | None
    """Loss weight of each class, from the train split."""
    seconds: float
    notes: tuple[str, ...] = field(default=())
    """What was found or chosen."""
    warnings: tuple[str, ...] = field(default=())
    """What the user should know."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {
            "path": str(self.path),
            "tiles": self.tiles,
            "left_out": self.left_out,
            "classes": None if self.classes is None else self.classes.to_dict()["classes"],
            "class_pixels": self.class_pixels,
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
