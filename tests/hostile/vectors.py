"""Label files that are odd, broken or hostile."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import shapely

from tests.conftest import UTM
from tests.hostile import tiff
from tests.hostile.good import CRS, NAMES, SIDE, make_vector

Maker = Callable[[Path, np.random.Generator], Path]
X, Y, SPAN = UTM.c, UTM.f, 10.0 * SIDE


def _write(
    folder: Path,
    geometry: Sequence[Any],
    names: Sequence[Any] | None = None,
    *,
    field: str = "class_name",
    suffix: str = ".gpkg",
    crs: str | None = CRS,
    **options: Any,
) -> Path:
    path = folder / f"hostile{suffix}"
    values = [NAMES[i % 5] for i in range(len(geometry))] if names is None else names
    frame = geopandas.GeoDataFrame({field: values}, geometry=list(geometry), crs=crs)
    pyogrio.write_dataframe(frame, path, **options)
    return path


def _boxes(z: float | None = None) -> list[Any]:
    half = SPAN / 2
    corners = [(X, Y - half), (X + half, Y - half), (X, Y - SPAN), (X + half, Y - SPAN)]
    boxes = [shapely.box(x, y, x + half, y + half) for x, y in corners]
    if z is None:
        return boxes
    return [shapely.Polygon(np.insert(np.array(box.exterior.coords), 2, z, axis=1)) for box in boxes]


def _shapes(make: Callable[[np.random.Generator], Sequence[Any]], **options: Any) -> Maker:
    return lambda folder, rng: _write(folder, make(rng), **options)


def _values(*found: Any, field: str = "class_name", suffix: str = ".gpkg") -> Maker:
    """Return the maker of sound polygons with these classes."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        values = [found[i % len(found)] for i in range(4)]
        return _write(folder, _boxes(), values, field=field, suffix=suffix)

    return make


def _bow_tie(rng: np.random.Generator) -> list[Any]:
    return [shapely.Polygon([(X, Y), (X + SPAN, Y - SPAN), (X + SPAN, Y), (X, Y - SPAN)]), *_boxes()[:1]]


def _stars(rng: np.random.Generator) -> list[Any]:
    """Rings through random points: crossing themselves many times."""
    return [shapely.Polygon(np.column_stack([X, Y]) + (rng.random((60, 2)) - [0, 1]) * SPAN) for _ in range(6)]


def _odd_rings(rng: np.random.Generator) -> list[Any]:
    outer = _boxes()[0]
    hole = shapely.Polygon(outer.exterior, [shapely.box(X - 900, Y - 900, X - 800, Y - 800).exterior])
    twice = shapely.Polygon(outer.exterior, [outer.exterior])
    flat = shapely.Polygon([(X, Y), (X + 50, Y), (X, Y)])
    return [hole, twice, flat, outer]


def _text(suffix: str, text: str | bytes) -> Maker:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        path = folder / f"hostile{suffix}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def _damaged(suffix: str, how: str) -> Maker:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        path = folder / f"hostile{suffix}"
        if suffix == ".parquet":
            geopandas.GeoDataFrame({"class_name": list(NAMES[:4])}, geometry=_boxes(), crs=CRS).to_parquet(path)
        else:
            make_vector(path)
        if how == "cut":
            return tiff.cut(path, float(rng.uniform(0.001, 0.999)))
        if how == "header":
            return tiff.flip_bits(path, rng, int(rng.integers(1, 10)), 0, 200)
        return tiff.flip_bits(path, rng, int(rng.integers(1, 60)))

    return make


def _json(geometry: Any, **more: Any) -> Maker:
    """Return the maker of GeoJSON with one feature of this geometry."""
    feature = {"type": "Feature", "properties": {"class_name": "water"}, "geometry": geometry}
    return _text(".geojson", json.dumps({"type": "FeatureCollection", "features": [feature], **more}))


def _lonlat(text: str) -> Maker:
    ring = f"[[[117.0,27.1],[117.1,27.1],[{text}],[117.0,27.1]]]"
    return _text(
        ".geojson",
        '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"class_name":"water"},'
        f'"geometry":{{"type":"Polygon","coordinates":{ring}}}}}]}}',
    )


def _lone_shape(missing: str) -> Maker:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        path = make_vector(folder / "hostile.shp")
        path.with_suffix(missing).unlink()
        return path

    return make


def _sqlite(statement: str, suffix: str = ".gpkg") -> Maker:
    """Return the maker of a GeoPackage in which ``statement`` was run."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        path = make_vector(folder / f"hostile{suffix}")
        with sqlite3.connect(path, isolation_level=None) as database:
            for part in statement.split(";"):
                try:
                    database.execute(part)
                except sqlite3.Error:
                    continue
        database.close()
        return path

    return make


def _many_names(folder: Path, rng: np.random.Generator) -> Path:
    boxes = [shapely.box(X + 10 * (i % 48), Y - 10 * (i // 48) - 10, X + 10 * (i % 48) + 10, Y) for i in range(2304)]
    return _write(folder, boxes, [f"class number {i}" for i in range(2304)])


def _two_layers(folder: Path, rng: np.random.Generator) -> Path:
    path = _write(folder, [shapely.Point(X + 5, Y - 5)], layer="notes")
    frame = geopandas.GeoDataFrame({"class_name": NAMES[:4]}, geometry=_boxes(), crs=CRS)
    pyogrio.write_dataframe(frame, path, layer="labels", append=True)
    return path


def _table(folder: Path, rng: np.random.Generator) -> Path:
    import pandas

    path = folder / "hostile.gpkg"
    pyogrio.write_dataframe(pandas.DataFrame({"class_name": NAMES}), path)
    return path


def _bare_parquet(folder: Path, rng: np.random.Generator) -> Path:
    import pandas

    path = folder / "hostile.parquet"
    pandas.DataFrame({"class_name": NAMES, "geometry": [b"\x01\x03"] * 5}).to_parquet(path)
    return path


def _folder(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "hostile.gpkg"
    path.mkdir()
    return path


_RING = [[[117.0, 27.1], [117.1, 27.1], [117.1, 27.2], [117.0, 27.1]]]
_ENTITIES = (
    "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><kml><Document><Placemark><name>&i;</name></Placemark></Document></kml>"
)
VECTORS: dict[str, Maker] = {
    "polygons with Z": _shapes(lambda rng: _boxes(7.0)),
    "polygons with Z and NaN": _shapes(lambda rng: _boxes(float("nan"))),
    "shapefile with Z": _shapes(lambda rng: _boxes(7.0), suffix=".shp"),
    "bow tie": _shapes(_bow_tie),
    "stars": _shapes(_stars),
    "odd rings": _shapes(_odd_rings),
    "empty polygons": _shapes(lambda rng: [shapely.Polygon(), *_boxes()]),
    "null geometry": _shapes(lambda rng: [None, *_boxes()]),
    "only null geometry": _shapes(lambda rng: [None, None]),
    "only empty polygons": _shapes(lambda rng: [shapely.Polygon(), shapely.Polygon()]),
    "mixed geometry": _shapes(lambda rng: [*_boxes(), shapely.Point(X, Y), shapely.LineString([(X, Y), (X + 9, Y)])]),
    "lines": _shapes(lambda rng: [shapely.LineString([(X, Y), (X + 90, Y - 90)])]),
    "points": _shapes(lambda rng: [shapely.Point(X + 5 + 10 * i, Y - 5 - 10 * i) for i in range(30)]),
    "points on an edge": _shapes(lambda rng: [shapely.Point(X + SPAN, Y - SPAN), shapely.Point(X, Y)]),
    "collections": _shapes(lambda rng: [shapely.GeometryCollection([_boxes()[0], shapely.Point(X, Y)])]),
    "multipolygons": _shapes(lambda rng: [shapely.MultiPolygon(_boxes())]),
    "no area": _shapes(lambda rng: [shapely.box(X + 4, Y - 6, X + 4.0001, Y - 5.999)]),
    "huge polygon": _shapes(lambda rng: [shapely.box(-1e30, -1e30, 1e30, 1e30)]),
    "infinite polygon": _shapes(lambda rng: [shapely.Polygon([(X, Y), (float("inf"), Y), (X, Y - 90)]), *_boxes()]),
    "a hundred thousand corners": _shapes(
        lambda rng: [shapely.Point(X + SPAN / 2, Y - SPAN / 2).buffer(200, quad_segs=25_000)]
    ),
    "empty layer": _shapes(lambda rng: [], names=[], geometry_type="Polygon"),
    "elsewhere": _shapes(lambda rng: [shapely.box(0, 0, 9, 9)]),
    "degrees called metres": _shapes(lambda rng: [shapely.box(117, 27, 117.1, 27.2)]),
    "antimeridian": _shapes(lambda rng: [shapely.box(179, 10, 181, 12)], crs="EPSG:4326"),
    "no CRS": _shapes(lambda rng: _boxes(), crs=None),
    "local CRS": _shapes(lambda rng: _boxes(), crs='LOCAL_CS["arbitrary",UNIT["metre",1]]'),
    "two layers": _two_layers,
    "table without geometry": _table,
    "no class field": _values("a", field="remark"),
    "field in capitals": _values("water", "forest", field="CLASS_NAME"),
    "class ids": _values(0, 1, 2, 3, field="class_id"),
    "ids as floats": _values(0.0, 1.0, 2.5, 3.0, field="class_id"),
    "ids with gaps": _values(0, None, 2, 3, field="class_id"),
    "ids out of range": _values(0, 300, -1, 2**40, field="class_id"),
    "ids as text": _values("0", "1", " 2 ", "x", field="class_id"),
    "not a number": _values(float("nan"), float("inf"), 1.0, field="class_id"),
    "class names missing": _values(None, "", "  ", "water"),
    "class names of markup": _values("<script>alert(1)</script>", "a&b", "'\"><img src=x>", "]]>"),
    "class names of control characters": _values("a\x1b[31mb", "two\nlines", "tab\there", "bell\x07"),
    "long class names": _values("x" * 100_000, "y" * 100_000),
    "class names of other scripts": _values("вода", "森林", "\u202eevil", "ﬁeld"),
    "thousands of classes": _many_names,
    "dates as classes": _values("2024-01-01", "2024-02-30"),
    "lists as classes": _values([1, 2], [3], suffix=".geojson"),
    "geopackage in WAL mode": _sqlite("PRAGMA journal_mode=WAL;CREATE TABLE more (a);INSERT INTO more VALUES (1)"),
    "geopackage without contents": _sqlite("DELETE FROM gpkg_contents"),
    "geopackage without geometry columns": _sqlite("DELETE FROM gpkg_geometry_columns"),
    "geopackage without reference systems": _sqlite("DELETE FROM gpkg_spatial_ref_sys"),
    "geopackage with a view": _sqlite(
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n"
    ),
    "geopackage with broken geometry": _sqlite("UPDATE hostile SET geom = x'4750000100000000010300'"),
    "geopackage with text for geometry": _sqlite("UPDATE hostile SET geom = 'POINT(1 1)'"),
    "geopackage of another table": _sqlite("UPDATE gpkg_contents SET table_name='../../x'"),
    "bare parquet": _bare_parquet,
    "shapefile alone": _lone_shape(".dbf"),
    "shapefile without index": _lone_shape(".shx"),
    "shapefile without projection": _lone_shape(".prj"),
    **{
        f"{suffix[1:]}, {how}": _damaged(suffix, how)
        for suffix in (".gpkg", ".fgb", ".shp", ".geojson", ".parquet")
        for how in ("cut", "header", "bits")
    },
    "JSON: no geometry": _json(None),
    "JSON: unknown geometry": _json({"type": "Blob", "coordinates": []}),
    "JSON: words for numbers": _json({"type": "Polygon", "coordinates": [[["a", "b"], [1, 2], [3, 4]]]}),
    "JSON: open ring": _json({"type": "Polygon", "coordinates": [[[117, 27], [117.1, 27]]]}),
    "JSON: no ring": _json({"type": "Polygon", "coordinates": []}),
    "JSON: CRS that is none": _json({"type": "Polygon", "coordinates": _RING}, crs={"type": "name", "properties": 5}),
    "JSON: infinite number": _lonlat("1e999,27.2"),
    "JSON: not a number": _lonlat("NaN,27.2"),
    "JSON: beyond the pole": _lonlat("117.1,97.2"),
    "JSON: deep": _text(".geojson", "[" * 200_000),
    "JSON: deep feature": _text(".geojson", '{"type":"FeatureCollection","features":' + "[" * 50_000),
    "JSON: a number": _text(".geojson", "5"),
    "JSON: empty": _text(".geojson", ""),
    "JSON: text": _text(".geojson", "hello"),
    "JSON: link": _text(".json", '{"type":"Topology","url":"http://127.0.0.1:9/x"}'),
    "empty geopackage": _text(".gpkg", b""),
    "geopackage of text": _text(".gpkg", "no database"),
    "geopackage header alone": _text(".gpkg", b"SQLite format 3\0" + bytes(84)),
    "shapefile of text": _text(".shp", "no shapes"),
    "flatgeobuf header alone": _text(".fgb", b"fgb\x03fgb\x00\xff\xff\xff\x7f"),
    "parquet magic": _text(".parquet", b"PAR1\xff\xff\xff\x7fPAR1"),
    "KML entity bomb": _text(".kml", _ENTITIES),
    "KML external entity": _text(
        ".kml", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><kml><Document><name>&e;</name></Document></kml>"
    ),
    "GML cut short": _text(".gml", "<gml:FeatureCollection xmlns:gml='http://www.opengis.net/gml'><gml:"),
    "folder": _folder,
    "missing": lambda folder, rng: folder / "hostile.gpkg",
}
"""Label files by kind."""
