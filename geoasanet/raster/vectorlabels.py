"""Labels drawn as polygons, in any reference system, burned into windows of a scene's grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyogrio
import rasterio.features
import rasterio.warp
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.transform import Affine

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import LabelError, VectorError
from geoasanet.raster.grid import Grid
from geoasanet.raster.labelvalues import unknown_value, value_table
from geoasanet.raster.opening import GDAL_ERRORS
from geoasanet.raster.vectorread import finite, layer_name, reading_vector
from geoasanet.windows import Window

ID_FIELDS = ("class_id", "classid", "id_class", "lc_id", "label_id", "gridcode", "dn")
NAME_FIELDS = (
    "class_name",
    "classname",
    "class",
    "label",
    "landcover",
    "land_cover",
    "lulc",
    "category",
    "type",
    "name",
)
"""Attributes that hold classes where none was named, in this order, whatever their case."""


class VectorLabels:
    """Polygons that carry a class; where they overlap, the later one in the file holds.

    A pixel belongs to a polygon if its centre lies inside. The polygons that reach the scene are held in memory;
    pixels only of the window that is read.

    Args:
        path: The file, for messages.
        polygons: Valid polygons in pixel coordinates of the grid: x = column, y = -row.
        class_ids: Their classes, uint8 of the same length.
    """

    def __init__(self, path: str, polygons: NDArray[Any], class_ids: NDArray[np.uint8]) -> None:
        self.path = path
        self._polygons = polygons
        self._ids = class_ids
        self._tree = shapely.STRtree(polygons)
        self._tree.query(shapely.box(0, 0, 1, 1))  # built here: the first query is not safe in threads

    @classmethod
    def open(cls, path: str, grid: Grid, *, classes: ClassSchema | None, field: str | None) -> VectorLabels:
        """Read the polygons that reach ``grid``.

        Raises:
            VectorError: If the file cannot be read, has no CRS or no polygons.
            LabelError: If no attribute holds classes, or a value is no class.
        """
        layer = VectorLayer.open(path)
        chosen = layer.class_field(field)
        with reading_vector(path, "Label file"):
            return cls._of_frame(layer.read(chosen, grid), grid, path, chosen, classes)

    @classmethod
    def _of_frame(cls, frame: Any, grid: Grid, path: str, chosen: str, classes: ClassSchema | None) -> VectorLabels:
        polygons = frame.geometry.geom_type.isin(("Polygon", "MultiPolygon")) if len(frame) else []
        if len(frame) and not any(polygons):
            raise VectorError(f"Labels {path} hold no polygon, only {frame.geometry.geom_type.iloc[0]} features.")
        frame = frame[polygons] if len(frame) else frame
        ids = class_ids(frame[chosen].to_numpy(), path, chosen, classes)
        known = ids >= 0
        frame, ids = frame[known], ids[known]
        if len(frame):
            shapes = _to_pixels(frame.to_crs(CRS.from_wkt(grid.crs.to_wkt())).geometry.values, grid)
        else:
            shapes = np.empty(0, object)
        usable = finite(shapes)
        shapes, ids = shapely.make_valid(shapes[usable]), ids[usable]
        return cls(path, shapes, ids.astype(np.uint8))

    def overlaps(self) -> bool:
        """Tell whether any polygon reaches the grid."""
        return len(self._polygons) > 0

    def close(self) -> None:
        """Nothing is open."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return class ids of ``window``, shape (height, width), 255 where there is none."""
        ids = np.full((window.height, window.width), NODATA, np.uint8)
        left, bottom, right, top = window.col, -window.row_stop, window.col_stop, -window.row
        hits = np.sort(self._tree.query(shapely.box(left, bottom, right, top)))
        if len(hits) == 0:
            return ids
        # Only what lies near the window goes to GDAL, however large the polygon.
        near = shapely.clip_by_rect(self._polygons[hits], left - 1, bottom - 1, right + 1, top + 1)
        some = shapely.area(near) > 0
        pairs = [(shape, int(value)) for shape, value in zip(near[some], self._ids[hits][some], strict=True)]
        if pairs:
            rasterio.features.rasterize(pairs, out=ids, transform=Affine(1, 0, left, 0, -1, top))
        return ids


@dataclass(frozen=True, slots=True)
class VectorLayer:
    """The first layer of polygons in a vector file, as far as it is known without its features."""

    path: str
    layer: str | None
    """None for GeoParquet."""
    crs: str
    fields: dict[str, str]
    """Attributes, and their numpy types as text."""

    @classmethod
    def open(cls, path: str) -> VectorLayer:
        """Look into a file.

        Raises:
            VectorError: If it cannot be opened or has no CRS.
        """
        with reading_vector(path, "Label file"):
            if path.endswith(".parquet"):
                import geopandas

                frame = geopandas.read_parquet(path)
                crs = None if frame.crs is None else frame.crs.to_wkt()
                fields = {str(c): str(frame[c].dtype) for c in frame.columns if c != frame.geometry.name}
                layer = None
            else:
                layer, _ = layer_name(path, "Label file", polygons=True)
                facts = pyogrio.read_info(path, layer=layer)
                crs = facts["crs"]
                fields = {str(f): str(t) for f, t in zip(facts["fields"], facts["dtypes"], strict=True)}
        if crs is None:
            raise VectorError(
                f"Label file {path} has no coordinate reference system.",
                "Assign it, for instance with ogr2ogr -a_srs EPSG:XXXX.",
            )
        return cls(path, layer, str(crs), fields)

    def class_field(self, wanted: str | None) -> str:
        """Return the attribute that holds classes.

        Raises:
            LabelError: If it is missing, or none was named and none looks like it.
        """
        by_case = {name.casefold(): name for name in reversed(self.fields)}
        listing = ", ".join(self.fields) or "none"
        if wanted is not None:
            found = wanted if wanted in self.fields else by_case.get(wanted.casefold())
            if found is None:
                raise LabelError(f"Labels {self.path} have no attribute {wanted!r}.", f"There are: {listing}.")
            return found
        for name in (*ID_FIELDS, *NAME_FIELDS):
            if name in by_case:
                return by_case[name]
        if len(self.fields) == 1:
            return next(iter(self.fields))
        raise LabelError(
            f"It is not clear which attribute of the labels {self.path} holds the class; there are: {listing}.",
            "Name it with --class-field.",
        )

    def read(self, field: str, grid: Grid) -> Any:
        """Return a geodataframe of one attribute, of the features that reach ``grid``."""
        box = _reach(grid, self.crs)
        if self.layer is None:
            import geopandas

            frame = geopandas.read_parquet(self.path, columns=[field, self._geometry_name()])
            return frame if box is None else frame.cx[box[0] : box[2], box[1] : box[3]]
        return pyogrio.read_dataframe(self.path, layer=self.layer, columns=[field], bbox=box)

    def values(self, *fields: str) -> Any:
        """Return a dataframe of attributes without geometries, of all features."""
        with reading_vector(self.path, "Label file"):
            if self.layer is None:
                import pandas

                return pandas.read_parquet(self.path, columns=list(fields))
            frame = pyogrio.read_dataframe(self.path, layer=self.layer, columns=list(fields), read_geometry=False)
            return frame[list(fields)]

    def class_names(self, field: str) -> list[str] | None:
        """Return the sorted names in an attribute of class names; None if it holds ids."""
        column = self.values(field)[field].dropna()
        if column.empty or not isinstance(column.iloc[0], str):
            return None
        names = sorted({str(v).strip() for v in column} - {""})
        return None if all(_is_number(name) for name in names) else names

    def names_of(self, field: str) -> dict[int, str]:
        """Return the name of each id in ``field`` from an attribute of names beside it, where there is one."""
        by_case = {name.casefold(): name for name in reversed(self.fields)}
        other = next((by_case[n] for n in NAME_FIELDS if n in by_case and by_case[n] != field), None)
        if other is None:
            return {}
        pairs = self.values(field, other).dropna().drop_duplicates()
        names: dict[int, str] = {}
        for key, name in sorted(zip(pairs[field], pairs[other], strict=True), key=str):
            if isinstance(name, str) and name.strip() and _is_number(key) and name.strip() not in names.values():
                names.setdefault(int(float(key)), name.strip())
        return {i: n for i, n in names.items() if 0 <= i < NODATA}

    def _geometry_name(self) -> str:
        import geopandas

        return str(geopandas.read_parquet(self.path).geometry.name)


def class_ids(values: NDArray[Any], path: str, field: str, classes: ClassSchema | None) -> NDArray[np.int16]:
    """Return the class id of each attribute value, -1 where there is none (missing, or the value to ignore).

    Raises:
        LabelError: If a value is neither an id nor a name of a class.
    """
    table, bad = value_table(classes)
    by_name: dict[str, int] = {}
    if classes is not None:
        by_name = {n.casefold(): i for i, n in reversed(list(enumerate(classes.names)))}
        by_name.update({n: i for i, n in enumerate(classes.names)})
    found: dict[Any, int] = {}
    ids = np.full(len(values), -1, np.int16)
    for k, value in enumerate(values):
        if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
            continue
        if value not in found:
            text = value.strip() if isinstance(value, str) else value
            key = by_name.get(text, by_name.get(str(text).casefold())) if isinstance(text, str) else None
            if key is None and _is_number(text) and float(text).is_integer() and 0 <= float(text) <= NODATA:
                number = int(float(text))
                key = None if bad[number] else int(table[number])
            if key is None:
                raise unknown_value(path, value, f"in the attribute {field!r}", classes)
            found[value] = -1 if key == NODATA else key
        ids[k] = found[value]
    return ids


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _to_pixels(shapes: Any, grid: Grid) -> NDArray[Any]:
    inverse = ~grid.transform

    def to_pixels(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy[:, 0], xy[:, 1]
        columns = inverse.a * x + inverse.b * y + inverse.c
        return np.column_stack([columns, -(inverse.d * x + inverse.e * y + inverse.f)])

    pixels: NDArray[Any] = np.asarray(shapely.transform(shapely.force_2d(np.asarray(shapes)), to_pixels), object)
    return pixels


def _reach(grid: Grid, crs: str) -> tuple[float, float, float, float] | None:
    """Return the box around a grid in another reference system; None where it has none there."""
    try:
        target = rasterio.crs.CRS.from_user_input(crs)
        box = rasterio.warp.transform_bounds(grid.crs, target, *grid.bounds, densify_pts=21)
    except GDAL_ERRORS:
        return None
    left, bottom, right, top = box
    return box if all(map(math.isfinite, box)) and left < right and bottom < top else None
