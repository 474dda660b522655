"""Labels in a vector file: polygons or points of known class, in the pixel coordinates of a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoasanet.errors import LabelError, NoOverlapError, VectorError, said_of
from geoasanet.raster.crosswalk import MapClasses, Value, plain
from geoasanet.raster.grid import Grid
from geoasanet.raster.vectorread import finite, read_layer, reading_vector

SUFFIXES = {".gpkg", ".fgb", ".parquet", ".geojson", ".json", ".shp", ".gml", ".kml", ".sqlite"}
"""File name endings of vector labels; all else is a raster."""
CLASS_FIELDS = ("class_name", "class_id", "class", "label", "landcover", "land_cover")
"""Fields that hold the class where none is named, in this order; case does not matter."""
STRATUM_FIELDS = ("stratum", "strata")
"""Fields that say which stratum a point was drawn from."""


@dataclass(frozen=True)
class LabelFeatures:
    """The features of one layer."""

    path: str
    """The vector file."""
    points: bool
    """True for points, False for polygons."""
    geometry: NDArray[Any]
    """shapely geometries, x = column and y = row of the map's pixel coordinates (integers are corners)."""
    ids: NDArray[np.uint8]
    """The map's class id of each feature, 255 where it is empty; shape (n,)."""
    strata: tuple[str, ...] | None
    """Stratum of each feature, empty text where it is missing; None if there is no such field."""
    names: dict[int, str]
    """Class names that the layer gives to ids, for maps that have none."""
    remarks: tuple[str, ...]
    """What the user should know."""


def is_vector(path: str) -> bool:
    """Return whether ``path`` names a vector file."""
    return Path(path).suffix.lower() in SUFFIXES


def read_features(path: str, grid: Grid, classes: MapClasses, class_field: str | None = None) -> LabelFeatures:
    """Return the polygons or points of the first layer of a vector file.

    Args:
        path: The vector file, in any CRS.
        grid: The map's grid.
        classes: The map's classes.
        class_field: Field with class ids or names; by default the first of :data:`CLASS_FIELDS` that fits.

    Raises:
        VectorError: If it cannot be read, has no CRS, no features, or neither polygons nor points.
        LabelError: If the class field is missing, or a class is unknown to the map.
        NoOverlapError: If nothing can be placed on the map.
    """
    frame, remarks = _read(path)
    geometry, kept, points = _explode(path, np.asarray(frame.geometry.values))
    fields = [str(name) for name in frame.columns if name != frame.geometry.name]
    with said_of(f"Labels {path}", LabelError):
        values = {name: [plain(v) for v in frame[name].tolist()] for name in _class_fields(path, fields, class_field)}
    chosen = _choose(values, classes)
    ids = classes.ids_of(dict.fromkeys(values[chosen]), f"{path}, field {chosen!r}")
    strata = next((f for name in STRATUM_FIELDS for f in fields if f.casefold() == name), None) if points else None
    with reading_vector(path, "Label file"):
        placed = _to_pixels(geometry, frame.crs, grid, path)
        whole = finite(placed)
        placed, kept = placed[whole], kept[whole]
        if not points:
            broken = ~shapely.is_valid(placed)
            placed[broken] = shapely.make_valid(placed[broken])
    if not len(placed):
        raise NoOverlapError(
            f"The labels {path} cannot be placed on the map {classes.path}.",
            "Check that each has its own CRS assigned.",
        )
    per_feature = np.array([ids[v] for v in values[chosen]], np.uint8)
    strata_values = None
    if strata is not None:
        texts = [_text(v) for v in frame[strata].tolist()]
        strata_values = tuple(texts[i] for i in kept)
    return LabelFeatures(
        path,
        points,
        placed,
        per_feature[kept],
        strata_values,
        _names(values),
        tuple(remarks),
    )


def _read(path: str) -> tuple[Any, list[str]]:
    """Return the first layer as a data frame, and remarks."""
    frame, remarks = read_layer(path, "Label file")
    if not len(frame):
        raise VectorError(f"Labels {path} hold no feature.", "Give a layer with labels.")
    if frame.crs is None:
        raise VectorError(
            f"Labels {path} have no coordinate reference system.",
            "Assign it, for instance with ogr2ogr -a_srs EPSG:XXXX.",
        )
    return frame, remarks


def _explode(path: str, geometry: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], bool]:
    """Return single points or polygons, the feature each belongs to, and whether they are points."""
    present = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    dimensions, counts = np.unique(shapely.get_dimensions(geometry[present]), return_counts=True)
    kinds = dict(zip(dimensions.tolist(), counts.tolist(), strict=True))
    if set(kinds) not in ({0}, {2}):
        words = {0: "points", 1: "lines", 2: "polygons"}
        found = " and ".join(f"{n} {words.get(k, 'others')}" for k, n in kinds.items()) or "no geometry"
        raise VectorError(f"Labels {path} hold {found}; all points or all polygons are needed.", "Split the layer.")
    features = np.flatnonzero(present)
    points = 0 in kinds
    if not points:
        return geometry[features], features, False
    parts, owner = shapely.get_parts(geometry[features], return_index=True)
    return parts, features[owner], True


def _class_fields(path: str, fields: list[str], wanted: str | None) -> list[str]:
    """Return the fields that may hold classes: the one that is named, else those with usual names."""
    if wanted is not None:
        found = [f for f in fields if f == wanted] or [f for f in fields if f.casefold() == wanted.casefold()]
        problem = f"Labels {path} have no field {wanted!r}."
    else:
        found = [f for name in CLASS_FIELDS for f in fields if f.casefold() == name]
        problem = f"Labels {path} have no field {' or '.join(map(repr, CLASS_FIELDS[:2]))}."
    if not found:
        raise LabelError(problem, f"Name one with --class-field; the fields are: {', '.join(fields) or 'none'}.")
    return found if wanted is None else found[:1]


def _choose(values: dict[str, list[Value | None]], classes: MapClasses) -> str:
    """Return the field to use: names if the map has names, else ids, else the first."""
    wanted = str if classes.named else int
    return next((f for f, column in values.items() if any(isinstance(v, wanted) for v in column)), next(iter(values)))


def _names(values: dict[str, list[Value | None]]) -> dict[int, str]:
    """Return the name of each id where a field of ids stands beside a field of names."""
    texts = next((c for c in values.values() if any(isinstance(v, str) for v in c)), None)
    numbers = next((c for c in values.values() if any(isinstance(v, int) for v in c)), None)
    if texts is None or numbers is None or texts is numbers:
        return {}
    pairs = {(i, n) for i, n in zip(numbers, texts, strict=True) if isinstance(i, int) and isinstance(n, str)}
    names = dict(sorted(pairs))
    return names if len(pairs) == len(names) == len(set(names.values())) else {}


def _text(value: Any) -> str:
    known = plain(value)
    return "" if known is None else str(known)


def _to_pixels(geometry: NDArray[Any], crs: Any, grid: Grid, path: str) -> NDArray[Any]:
    try:
        transformer = pyproj.Transformer.from_crs(crs, pyproj.CRS.from_wkt(grid.crs.to_wkt()), always_xy=True)
    except (pyproj.exceptions.CRSError, pyproj.exceptions.ProjError) as error:
        raise VectorError(f"Labels {path}: no transformation to the map's reference system ({error}).") from None
    inverse = ~grid.transform

    def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = transformer.transform(xy[:, 0], xy[:, 1])
        x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
        return np.column_stack(
            [inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f],
        )

    return np.asarray(shapely.transform(geometry, place))
