"""An area of interest: polygons of any vector file, or a bounding box, on a scene's grid."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import rasterio.features
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.warp import transform_bounds

from geoasanet.errors import ConfigError, NoOverlapError, VectorError
from geoasanet.raster.grid import Grid
from geoasanet.raster.vectorread import finite, read_layer, reading_vector
from geoasanet.sample import BoolArray
from geoasanet.windows import Window

Bounds = tuple[float, float, float, float]


class AreaOfInterest:
    """Which pixels of a grid a map is wanted for: those whose centre lies in a polygon.

    Args:
        grid: The scene's reference grid.
        geometry: Polygons in the grid's CRS.
        name: Where they come from, for messages.

    Raises:
        NoOverlapError: If no polygon reaches the grid.
    """

    def __init__(self, grid: Grid, geometry: Any, name: str) -> None:
        self.grid = grid
        inverse = ~grid.transform
        pixels = shapely.transform(
            np.asarray(geometry),
            lambda xy: np.column_stack(
                [
                    inverse.a * xy[:, 0] + inverse.b * xy[:, 1] + inverse.c,
                    inverse.d * xy[:, 0] + inverse.e * xy[:, 1] + inverse.f,
                ]
            ),
        )
        parts = shapely.get_parts(shapely.make_valid(pixels[finite(pixels)]))
        parts = parts[shapely.area(parts) > 0]
        self._tree = shapely.STRtree(parts)
        window = None
        if len(parts):
            left, top, right, bottom = shapely.total_bounds(parts)
            row, col = math.floor(top), math.floor(left)
            size = max(1, math.ceil(bottom) - row), max(1, math.ceil(right) - col)
            window = Window(row, col, *size).intersection(grid.window)
        if window is None:
            raise NoOverlapError(
                f"The area of interest {name} does not touch the RGB raster.",
                "Check its coordinate reference system and that it lies in the scene.",
            )
        self.window = window

    @classmethod
    def from_file(cls, grid: Grid, path: str | os.PathLike[str]) -> AreaOfInterest:
        """Return the area of all polygons in a vector file's first layer of polygons, in any CRS.

        Raises:
            VectorError: If the file cannot be read, has no CRS or holds no polygon.
            NoOverlapError: If no polygon reaches the grid.
        """
        frame, _ = read_layer(str(path), "Area of interest", polygons=True)
        with reading_vector(path, "Area of interest"):
            return cls._of_frame(grid, frame, path)

    @classmethod
    def _of_frame(cls, grid: Grid, frame: Any, path: str | os.PathLike[str]) -> AreaOfInterest:
        if "geometry" not in frame:
            raise VectorError(f"Area of interest {path} has no geometry.", "Give a polygon layer.")
        polygons = frame[frame.geometry.geom_type.isin(("Polygon", "MultiPolygon"))] if len(frame) else frame
        if len(polygons) == 0:
            raise VectorError(
                f"Area of interest {path} holds no polygon ({len(frame)} other features).", "Give a polygon layer."
            )
        if polygons.crs is None:
            raise VectorError(
                f"Area of interest {path} has no coordinate reference system.",
                "Assign it, for instance with ogr2ogr -a_srs EPSG:XXXX.",
            )
        projected = polygons.to_crs(CRS.from_wkt(grid.crs.to_wkt()))
        return cls(grid, projected.geometry.values, str(path))

    @classmethod
    def from_bounds(cls, grid: Grid, bounds: Bounds, crs: str | None = None) -> AreaOfInterest:
        """Return the area of a box ``(left, bottom, right, top)`` in ``crs``, or in the grid's CRS if None.

        Raises:
            ConfigError: If the box is empty or the CRS unknown.
            NoOverlapError: If it does not touch the grid.
        """
        left, bottom, right, top = bounds
        if not (left < right and bottom < top):
            raise ConfigError(
                f"The bounding box {left:g} {bottom:g} {right:g} {top:g} is empty.",
                "Give it as left bottom right top.",
            )
        if crs is not None:
            try:
                source = rasterio.crs.CRS.from_wkt(CRS.from_user_input(crs).to_wkt())
            except CRSError:
                raise ConfigError(f"Unknown coordinate reference system {crs!r}.", "For instance EPSG:4326.") from None
            bounds = transform_bounds(source, grid.crs, *bounds, densify_pts=21)
        return cls(grid, np.array([shapely.box(*bounds)]), "of the bounding box")

    def mask(self, window: Window) -> BoolArray:
        """Return which pixels of ``window`` belong to the area, shape (height, width)."""
        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        hits = self._tree.geometries[np.sort(self._tree.query(box))]
        if len(hits) == 0:
            return np.zeros((window.height, window.width), bool)
        shift = rasterio.transform.Affine.translation(window.col, window.row)
        burned = rasterio.features.rasterize(
            hits, out_shape=(window.height, window.width), transform=shift, fill=0, default_value=1, dtype="uint8"
        )
        return np.asarray(burned, dtype=bool)
