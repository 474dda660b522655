"""What is known of the scenes of a dataset before their pixels are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp

from geoasanet.bands import Scale
from geoasanet.classes import ClassSchema
from geoasanet.errors import BandError, ConfigError
from geoasanet.raster.faults import ReadFaults
from geoasanet.raster.grid import Grid
from geoasanet.raster.opening import open_dataset
from geoasanet.raster.scaling import SAR_SCALES, SarScale, Scaling, detect_scale
from geoasanet.raster.scene import Scene


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """The files of one scene."""

    rgb: str
    sar: str
    labels: str | None = None
    split: int | None = None
    """0 train, 1 val, 2 test; None where blocks decide."""
    place: str = ""
    """Where the scene was named, for messages: "scenes.csv line 3: ", or empty."""


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """A scene that was looked into."""

    files: SceneFiles
    prefix: str
    """Start of its tiles' names."""
    grid: Grid
    rgb_bands: tuple[int, ...]
    sar_bands: tuple[int, ...]
    rgb_dtype: np.dtype[Any]
    sar_dtype: np.dtype[Any]
    sar_scale: Scale
    """What its SAR values are."""
    striped: bool
    """True if the optical file's blocks span its width."""
    row_bytes: int
    """Decoded bytes of one row of pixels of both files."""

    @classmethod
    def of(
        cls,
        files: SceneFiles,
        prefix: str,
        *,
        rgb_bands: Sequence[int] | None,
        sar_bands: Sequence[int] | None,
        sar_scale: SarScale,
        faults: ReadFaults | None = None,
    ) -> ScenePlan:
        """Look into a scene's files.

        Raises:
            SceneError: If a raster cannot be opened or read, or both do not overlap.
            BandError: If they have unfit bands.
            ConfigError: If ``sar_scale`` is unknown.
        """
        if sar_scale not in SAR_SCALES:
            raise ConfigError(f"--sar-scale {sar_scale!r} is unknown; one of {', '.join(SAR_SCALES)} is needed.")
        if rgb_bands is not None and len(rgb_bands) != 3:
            raise BandError(f"{len(rgb_bands)} optical bands were chosen, 3 are needed.", "For instance 1,2,3.")
        chosen = tuple(sar_bands) if sar_bands else _data_bands(files.sar)
        with Scene.open(files.rgb, files.sar, rgb_bands=rgb_bands, sar_bands=chosen, faults=faults) as scene:
            rgb, sar = scene.rgb.source, scene.sar.source
            if sar_scale == "none":
                scale: Scale = "raw"
            else:
                scale = detect_scale(sar.dtype, sar.sample_pixels()) if sar_scale == "auto" else sar_scale
            return cls(
                files=files,
                prefix=prefix,
                grid=scene.grid,
                rgb_bands=rgb.bands,
                sar_bands=sar.bands,
                rgb_dtype=np.dtype(np.float32) if rgb.dtype == np.float64 else rgb.dtype,
                sar_dtype=sar.dtype,
                sar_scale=scale,
                striped=rgb.block_shape[1] >= rgb.grid.width,
                row_bytes=sum(s.block_row_bytes // max(1, s.block_shape[0]) for s in (rgb, sar)),
            )

    def open(self, faults: ReadFaults | None = None) -> Scene:
        """Open both rasters; see :meth:`geoasanet.raster.scene.Scene.open`."""
        return Scene.open(
            self.files.rgb, self.files.sar, rgb_bands=self.rgb_bands, sar_bands=self.sar_bands, faults=faults
        )


@dataclass(frozen=True, slots=True)
class TileSpec:
    """What all tiles of a dataset have in common."""

    size: int
    """Side, pixels."""
    suffix: str
    """``.tif`` or ``.png``."""
    min_valid: float
    """Least share of pixels with data of both sensors."""
    rgb_dtype: np.dtype[Any]
    sar_dtype: np.dtype[Any]
    sar_count: int
    sar_scale: Scale
    """What the SAR values of the tiles are."""
    classes: ClassSchema | None
    """None if the labels' own ids are taken."""
    class_field: str | None
    """Attribute of vector labels."""

    def most_bytes(self, files: int) -> int:
        """Return what the ``files`` files of a tile take on the disk at most."""
        pixel = 3 * self.rgb_dtype.itemsize + self.sar_count * self.sar_dtype.itemsize + (2 if files > 2 else 1)
        return self.size**2 * pixel + 8192 * files

    def scaling(self, plan: ScenePlan) -> Scaling:
        """Return how a scene's SAR values become those of the tiles."""
        return Scaling(plan.sar_scale, self.sar_scale)


def common_spec(
    plans: Sequence[ScenePlan],
    *,
    size: int,
    suffix: str,
    min_valid: float,
    classes: ClassSchema | None,
    class_field: str | None,
) -> TileSpec:
    """Return what the tiles of all scenes have in common.

    SAR in linear power becomes decibel; 8-bit grey values stay, raw values keep their type where it has no more than
    16 bits.

    Raises:
        BandError: If the scenes differ in what cannot be converted, or the format cannot hold their bands.
    """
    first = plans[0]
    for plan in plans[1:]:
        for what, a, b in (
            ("optical pixels of type", first.rgb_dtype, plan.rgb_dtype),
            ("SAR band count", len(first.sar_bands), len(plan.sar_bands)),
            ("SAR values in", _family(first.sar_scale), _family(plan.sar_scale)),
        ):
            if a != b:
                raise BandError(
                    f"{plan.files.place}{plan.files.rgb} and {plan.files.sar} have {what} {b}, "
                    f"but {first.files.rgb} and {first.files.sar} have {a}.",
                    "All scenes of a dataset need the same bands and value scales.",
                )
    scale: Scale = "db" if first.sar_scale == "linear" else first.sar_scale
    if any(plan.sar_scale == "linear" for plan in plans):
        scale = "db"
    sar_dtype: np.dtype[Any] = np.dtype(np.float32)
    if scale == "uint8":
        sar_dtype = np.dtype(np.uint8)
    elif scale == "raw" and all(p.sar_dtype == first.sar_dtype for p in plans) and first.sar_dtype.kind in "iu":
        sar_dtype = first.sar_dtype if first.sar_dtype.itemsize <= 2 else sar_dtype
    if suffix == ".png":
        for sensor, dtype, count in (("optical", first.rgb_dtype, 3), ("SAR", sar_dtype, len(first.sar_bands))):
            if dtype not in (np.uint8, np.uint16) or count not in (1, 3):
                raise BandError(
                    f"PNG cannot hold {count} {sensor} band{'s' * (count != 1)} of type {dtype}.",
                    "Use --format tif.",
                )
    return TileSpec(
        size,
        suffix,
        min_valid,
        first.rgb_dtype,
        sar_dtype,
        len(first.sar_bands),
        scale,
        classes,
        class_field,
    )


def _family(scale: Scale) -> str:
    return {"uint8": "8-bit grey values", "raw": "raw values"}.get(scale, "calibrated power")


def _data_bands(path: str) -> tuple[int, ...]:
    with open_dataset(path, "SAR") as dataset:
        return tuple(i + 1 for i, c in enumerate(dataset.colorinterp) if c != ColorInterp.alpha)
