"""Tiles on the ground: which blocks of different scenes overlap, and ``tiles.gpkg``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio.warp
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoasanet.classes import ClassSchema
from geoasanet.errors import VectorError
from geoasanet.raster.grid import Grid, apply
from geoasanet.windows import Window

LAYER = "tiles"
_WGS84 = CRS.from_epsg(4326)
_GPKG_VERSION = "1.2"
_LEAST_SHARE = 1e-3
"""Blocks that share less than this part of the smaller one's area do not overlap."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """A row of ``tiles.gpkg``."""

    name: str
    scene: str
    """The optical file."""
    grid: Grid
    """The tile's own grid."""
    split: str
    valid: float
    """Share of pixels with data of both sensors."""
    labelled: float
    """Share of pixels with a class."""
    shares: tuple[float, ...]
    """Share of each class among the labelled pixels."""


def write_footprints(path: Path, tiles: Sequence[Footprint], classes: ClassSchema | None, date: str) -> None:
    """Write a GeoPackage of the tiles' outlines, in their CRS if they have one in common, else in WGS 84.

    Args:
        path: The file.
        tiles: At least one.
        classes: Names of the classes, None without labels.
        date: Time stamp in the file, ISO 8601 in UTC, so that the same input gives the same file.

    Raises:
        VectorError: If it cannot be written.
    """
    import geopandas

    crs = tiles[0].grid.crs
    if any(tile.grid.crs != crs for tile in tiles):
        crs = _WGS84
    shapes = [_outline(tile.grid, tile.grid.window, crs) for tile in tiles]
    columns: dict[str, Any] = {
        "name": [t.name for t in tiles],
        "split": [t.split for t in tiles],
        "scene": [t.scene for t in tiles],
        "valid": [round(t.valid, 6) for t in tiles],
    }
    if classes is not None:
        columns["labelled"] = [round(t.labelled, 6) for t in tiles]
        for i, name in enumerate(classes.names):
            columns[_column(name, columns)] = [round(t.shares[i], 6) for t in tiles]
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs.to_wkt())
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": date})
    try:
        pyogrio.write_dataframe(
            frame,
            path,
            layer=LAYER,
            driver="GPKG",
            geometry_type="Polygon",
            dataset_options={"VERSION": _GPKG_VERSION},
        )
    except (pyogrio.errors.DataSourceError, RuntimeError, OSError) as error:
        raise VectorError(f"Cannot write {path}: {error}.", "Is there room on the disk?") from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def overlapping(blocks: Sequence[tuple[int, Grid, Window]]) -> NDArray[np.intp]:
    """Return a group number for each block; blocks of different scenes on the same ground are in one group.

    Args:
        blocks: For each, its scene's number and grid, and its pixels.
    """
    groups = np.arange(len(blocks), dtype=np.intp)
    if len({scene for scene, _, _ in blocks}) < 2:
        return groups
    shapes = np.array([_outline(grid, window, _WGS84) for _, grid, window in blocks], object)
    scenes = np.array([scene for scene, _, _ in blocks])
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = scenes[first] < scenes[second]
    first, second = first[pairs], second[pairs]
    shared = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    smaller = np.minimum(shapely.area(shapes[first]), shapely.area(shapes[second]))
    for a, b in zip(first[shared > _LEAST_SHARE * smaller], second[shared > _LEAST_SHARE * smaller], strict=True):
        groups[groups == groups[b]] = groups[a]
    return groups


def _outline(grid: Grid, window: Window, crs: CRS) -> Any:
    """Return the outline of some pixels of a grid, in ``crs``."""
    corners = (
        (window.col, window.row),
        (window.col, window.row_stop),
        (window.col_stop, window.row_stop),
        (window.col_stop, window.row),
    )
    xs, ys = zip(*(apply(grid.transform, col, row) for col, row in corners), strict=True)
    if grid.crs != crs:
        xs, ys = rasterio.warp.transform(grid.crs, crs, xs, ys)
    return shapely.Polygon(np.column_stack([xs, ys]))


def _column(name: str, taken: dict[str, Any]) -> str:
    """Return a free column name for a class; SQLite's names are the same in any case."""
    lower = {key.casefold() for key in (*taken, "fid", "geom")}
    found = f"share_{name}"
    while found.casefold() in lower:
        found += "_"
    return found
