"""The grid of a raster: coordinate reference system, affine transform and size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rasterio.crs import CRS
from rasterio.transform import Affine

from geoasanet.errors import GridError
from geoasanet.windows import Window

LATTICE_TOLERANCE_PX = 1e-4
"""Two grids share their pixels if corners differ by less than this many pixels."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie on the ground.

    Raises:
        GridError: If the transform is not invertible or the size not positive.
    """

    crs: CRS
    """Coordinate reference system."""
    transform: Affine
    """From (column, row) of pixel corners to (x, y) of the CRS."""
    height: int
    """Rows."""
    width: int
    """Columns."""

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise GridError(f"A grid needs at least one pixel, found {self.height} x {self.width}.")
        values = tuple(self.transform)[:6]
        if not all(math.isfinite(v) for v in values) or self.transform.determinant == 0:
            raise GridError(f"The affine transform {values} is not invertible.")

    @property
    def window(self) -> Window:
        """The window that covers the whole grid."""
        return Window(0, 0, self.height, self.width)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the (possibly rotated) grid's bounding box, in CRS units."""
        corners = [apply(self.transform, c, r) for c in (0, self.width) for r in (0, self.height)]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def resolution(self) -> tuple[float, float]:
        """Width and height of a pixel in CRS units."""
        t = self.transform
        return math.hypot(t.a, t.d), math.hypot(t.b, t.e)

    @property
    def rotated(self) -> bool:
        """True if rows do not run along the CRS's x axis."""
        return bool(self.transform.b != 0 or self.transform.d != 0)

    def crop(self, window: Window) -> Grid:
        """Return the grid of the pixels of ``window``."""
        transform = self.transform @ Affine.translation(window.col, window.row)
        return Grid(self.crs, transform, window.height, window.width)

    def offset_on(self, other: Grid) -> tuple[int, int] | None:
        """Return (rows, columns) from ``other``'s first pixel to this one's if both share one lattice, else None."""
        if self.crs != other.crs:
            return None
        relative = ~other.transform @ self.transform
        far = apply(relative, self.width, self.height)
        col, row = apply(relative, 0, 0)
        offset = round(row), round(col)
        expected = (offset[1] + self.width, offset[0] + self.height)
        errors = (col - offset[1], row - offset[0], far[0] - expected[0], far[1] - expected[1])
        skew = (relative.b * self.height, relative.d * self.width)
        return offset if max(map(abs, (*errors, *skew))) < LATTICE_TOLERANCE_PX else None


def apply(transform: Affine, col: float, row: float) -> tuple[float, float]:
    """Return (x, y) of the pixel coordinates (``col``, ``row``), whose integers are pixel corners."""
    return (
        transform.a * col + transform.b * row + transform.c,
        transform.d * col + transform.e * row + transform.f,
    )


def grid_of(dataset: Any, path: str) -> Grid:
    """Return the grid of an open rasterio dataset.

    Raises:
        GridError: If it has no CRS or no transform; ``path`` is named in the message.
    """
    transform = dataset.transform
    if dataset.crs is None:
        control = len(dataset.gcps[0])
        if control:
            raise GridError(
                f"{path} is georeferenced by {control} ground control points only.",
                f"Give it a grid first: gdalwarp -r bilinear {path} warped.tif",
            )
        raise GridError(
            f"{path} has no coordinate reference system.",
            f"Assign the one it was made in: gdal_edit.py -a_srs EPSG:XXXX {path}",
        )
    if transform.is_identity:
        raise GridError(
            f"{path} has a CRS but no geotransform (pixel size 1, origin 0).",
            "Georeference it first, for instance with gdal_translate -a_ullr, or gdalwarp if it has control points.",
        )
    try:
        return Grid(dataset.crs, transform, dataset.height, dataset.width)
    except GridError as error:
        raise GridError(f"{path}: {error}") from None
