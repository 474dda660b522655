"""What an evaluation finds, of a map or of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from geoasanet.classes import ClassSchema
from geoasanet.metrics import Metrics
from geoasanet.tools.evaluate_reliability import Calibration
from geoasanet.tools.evaluate_tiles import TileScore
from geoasanet.tools.sample import SampleAccuracy


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pixels, or points, could be compared."""

    compared: int
    """With a label and a class."""
    unlabelled: int
    """Without a label: pixels with data (or a map class), or points without a class of their own."""
    unmapped: int = 0
    """With a label where the map has no class."""
    outside: int = 0
    """Points with a label beyond the map."""
    without_data: int = 0
    """Pixels of tiles where a sensor has no data."""

    @property
    def left_out(self) -> str:
        """What could not be compared, in words."""
        others = [
            (self.unmapped, "where the map has no class"),
            (self.outside, "beyond the map"),
            (self.without_data, "without data of both sensors"),
        ]
        return ", ".join([f"{self.unlabelled:,} unlabelled", *(f"{count:,} {what}" for count, what in others if count)])

    def to_dict(self) -> dict[str, int]:
        """Return plain values for JSON."""
        return {
            "compared": self.compared,
            "unlabelled": self.unlabelled,
            "unmapped": self.unmapped,
            "outside": self.outside,
            "without_data": self.without_data,
        }


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """What both kinds of evaluation find."""

    kind: str
    """What was compared: a map with a "raster", "polygons" or "points", or a checkpoint with a "dataset"."""
    classes: ClassSchema
    """The classes of map or checkpoint; of a map without names, named by the labels."""
    counts: Counts
    """Pixels, or points, that were compared or could not be."""
    metrics: Metrics
    """Accuracy over what was compared, each pixel or point counting once; rows of the matrix are truth."""
    report: Path | None = None
    """The HTML report, where one was asked for."""
    seconds: float
    """Wall time."""
    warnings: tuple[str, ...] = ()
    """What the user should know."""

    judged: ClassVar[str] = "map"
    """What the columns of the confusion matrix are."""

    @property
    def unit(self) -> str:
        """What is counted: "pixels" or "points"."""
        return "points" if self.kind == "points" else "pixels"

    @property
    def title(self) -> str:
        """What was compared with what, in a few words."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON; what is not defined is None."""
        return {
            "kind": self.kind,
            "counts": self.counts.to_dict(),
            "metrics": self.metrics.to_dict(self.classes.names),
            "class_schema": self.classes.to_dict(),
            "report": None if self.report is None else str(self.report),
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True)
class MapEvaluation(EvaluateResult):
    """How good a finished map is."""

    map: str
    """The map."""
    labels: str
    """What it was compared with."""
    class_area_m2: dict[str, float]
    """True ground area of what is mapped as each class, in m²."""
    sample: SampleAccuracy | None = None
    """Estimates for the whole map, where the labels are points."""
    provenance: dict[str, str] = field(default_factory=dict)
    """What the map says about how it was made, such as the checkpoint."""

    @property
    def title(self) -> str:
        """The map and its labels."""
        return f"{self.map} against {self.labels}"

    @property
    def area_unit(self) -> tuple[str, float]:
        """Unit in which areas of this map read well, and its square metres: hectares below 10 km²."""
        return ("km²", 1e6) if sum(self.class_area_m2.values()) >= 1e7 else ("ha", 1e4)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON; what is not defined is None."""
        return {
            "map": self.map,
            "labels": self.labels,
            **super().to_dict(),
            "class_area_m2": self.class_area_m2,
            "sample": None if self.sample is None else self.sample.to_dict(self.classes.names),
            "provenance": self.provenance,
        }


@dataclass(frozen=True, kw_only=True)
class DatasetEvaluation(EvaluateResult):
    """How good a checkpoint is on the tiles of a dataset."""

    checkpoint: str
    """The checkpoint's path, or the name of a packaged one."""
    sha256: str
    """Hash of its file, hexadecimal."""
    data: Path
    """The dataset folder."""
    split: str
    """The split whose tiles were looked at."""
    tiles: int
    """How many they are."""
    best: tuple[TileScore, ...]
    """The tiles with the highest overall accuracy of their own, best first; of ties the one with more classes."""
    worst: tuple[TileScore, ...]
    """Those with the lowest, worst first; none is also among the best."""
    tta: bool
    """Whether probabilities are means over the eight symmetries of the square."""
    precision: str
    """Arithmetic of the network: "fp32", "bf16" or "fp16"."""
    device: str
    """Where the network ran."""
    calibration: Calibration
    """Whether its probabilities mean what they say."""
    calibrated: Path | None = None
    """The checkpoint with a temperature fitted on these tiles, where one was asked for; it is what was looked at."""

    judged: ClassVar[str] = "prediction"

    @property
    def title(self) -> str:
        """The checkpoint and the tiles."""
        return f"{self.checkpoint} on {self.tiles:,} {self.split} tile{'s' * (self.tiles != 1)} of {self.data}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON; what is not defined is None."""
        return {
            "checkpoint": self.checkpoint,
            "sha256": self.sha256,
            "data": str(self.data),
            "split": self.split,
            "tiles": self.tiles,
            **super().to_dict(),
            "best_tiles": [score.to_dict() for score in self.best],
            "worst_tiles": [score.to_dict() for score in self.worst],
            "tta": self.tta,
            "precision": self.precision,
            "device": self.device,
            "calibration": self.calibration.to_dict(),
            "calibrated": None if self.calibrated is None else str(self.calibrated),
        }
