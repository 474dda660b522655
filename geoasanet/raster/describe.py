"""What a raster is, and what would keep it from being used."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from geoasanet.classes import CLASSES_TAG
from geoasanet.errors import GridError, SceneError
from geoasanet.raster.grid import Grid, grid_of
from geoasanet.raster.opening import open_dataset, reading
from geoasanet.raster.polygons.legend import own_schema
from geoasanet.raster.scaling import detect_scale
from geoasanet.raster.source import RasterSource


def describe_raster(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[str]]:
    """Return facts about a raster and the problems that keep it from being used; a sample of its blocks is read.

    Raises:
        SceneError: If it cannot be opened at all.
    """
    problems: list[str] = []
    with open_dataset(str(path), "The") as dataset, reading(str(path), "The", "its header"):
        facts: dict[str, Any] = {
            "driver": dataset.driver,
            "height": dataset.height,
            "width": dataset.width,
            "bands": dataset.count,
            "dtypes": sorted(set(dataset.dtypes)),
            "nodata": _finite(dataset.nodata),
            "masks": _masks(dataset),
            "block": list(dataset.block_shapes[0]),
            "compression": getattr(dataset.compression, "value", dataset.compression),
            "overviews": dataset.overviews(1),
            "layout": dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"),
        }
        data_bands = [i + 1 for i, c in enumerate(dataset.colorinterp) if c != ColorInterp.alpha]
        schema = own_schema(dataset)
        tags = {key: value for key, value in dataset.tags().items() if key.startswith("GEOASANET_")}
        try:
            grid = grid_of(dataset, str(path))
        except GridError as error:
            problems.append(str(error))
        else:
            facts |= _place(grid)
    if schema is not None:
        facts["classes"] = schema.to_dict()["classes"]
        facts["made_by"] = {
            key.removeprefix("GEOASANET_").lower(): value for key, value in tags.items() if key != CLASSES_TAG
        }
    if not problems and schema is None:
        try:
            facts["values"], more = _values(path, data_bands[:16])
            problems += more
        except SceneError as error:
            problems.append(str(error))
    return facts, problems


def _place(grid: Grid) -> dict[str, Any]:
    place: dict[str, Any] = {
        "crs": grid.crs.to_string() if len(grid.crs.to_string()) < 40 else grid.crs.to_wkt(),
        "transform": list(grid.transform)[:6],
        "pixel": list(grid.resolution),
        "pixel_unit": grid.crs.units_factor[0] if grid.crs.linear_units != "unknown" else "degree",
        "rotated": grid.rotated,
        "bounds": list(grid.bounds),
    }
    try:
        lonlat = list(transform_bounds(grid.crs, "EPSG:4326", *grid.bounds))
    except RasterioError:
        lonlat = [math.nan]
    place["lonlat_bounds"] = lonlat if all(map(math.isfinite, lonlat)) else None
    return place


def _values(path: str | os.PathLike[str], bands: list[int]) -> tuple[dict[str, Any], list[str]]:
    """Return statistics of a sample of pixels, and problems."""
    source = RasterSource(path, bands, "The")
    try:
        pixels = source.sample_pixels()
    finally:
        source.close()
    if pixels.shape[1] == 0:
        return {"sampled_pixels": 0}, ["No valid pixel was found in a sample of windows: is it all nodata?"]
    numbers = pixels.astype(np.float64)
    return {
        "sampled_pixels": int(pixels.shape[1]),
        "min": numbers.min(axis=1).tolist(),
        "max": numbers.max(axis=1).tolist(),
        "mean": numbers.mean(axis=1).tolist(),
        "std": numbers.std(axis=1).tolist(),
        "scale_as_sar": detect_scale(source.dtype, pixels),
    }, []


def _masks(dataset: Any) -> str:
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.all_valid in flags:
        return "none"
    if MaskFlags.alpha in flags:
        return "alpha band"
    return "nodata value" if MaskFlags.nodata in flags else "mask band"


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
