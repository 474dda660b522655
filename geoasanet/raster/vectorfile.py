"""Vector files of polygons: GeoPackage, FlatGeobuf, GeoParquet, GeoJSON, Shapefile, styled and written whole.

Features arrive in batches and go to the file as Arrow record batches while the next ones are made.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj

from geoasanet.classes import ClassSchema
from geoasanet.errors import ConfigError, GeoASANetError, OutputError, VectorError
from geoasanet.files import atomic_output, check_output
from geoasanet.raster.polygons.coverage import Batch
from geoasanet.raster.styles import legend_entries, qml, sld
from geoasanet.raster.vectorcheck import is_whole

DRIVERS = {
    ".gpkg": "GPKG",
    ".fgb": "FlatGeobuf",
    ".parquet": "Parquet",
    ".geojson": "GeoJSON",
    ".shp": "ESRI Shapefile",
}
"""Formats by file name ending."""
LAYER = "landcover"
"""Name of the layer in formats that name layers."""
GPKG_VERSION = "1.2"
"""Later versions bring nothing that we use and make older software complain."""
SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg")
SHAPEFILE_INDEXES = (".qix", ".sbn", ".sbx")
SQLITE_PARTS = ("-wal", "-shm", "-journal")
SHAPEFILE_LIMIT = 2**31 - 1
"""Bytes that a .shp or .dbf file may have for all software to read it."""
DBF_RECORD = 180
"""Bytes of one record in our .dbf files, about."""
GEOMETRY_LIMIT = 10**9
"""Bytes of the largest geometry that SQLite and Arrow's batches hold."""


@dataclass(frozen=True)
class Layer:
    """What is known of a layer before its features."""

    classes: ClassSchema
    """Names and colours."""
    legend: tuple[int, ...]
    """Classes that occur."""
    crs_wkt: str
    """Coordinate reference system."""
    multi: bool
    """True for multipolygons."""
    confidence: bool
    """True if features have a confidence."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north in the CRS, None if there is no feature."""
    features: int
    """Number of features."""
    points: int
    """Number of vertices."""
    date: str
    """Time stamp for formats that carry one, ISO 8601 in UTC: the map's, so that the same map gives the same file."""

    @property
    def geometry_type(self) -> str:
        """Name of the geometry type."""
        return "MultiPolygon" if self.multi else "Polygon"


def check_vector_output(path: Path, *, overwrite: bool, inputs: tuple[Path | str, ...]) -> None:
    """Raise unless ``path`` can become a vector file.

    Raises:
        ConfigError: If its ending is no known format, or it is an input.
        OutputExistsError: If it, or a file that belongs to it, exists and ``overwrite`` is false.
        OutputError: If its folder is missing or not writable.
    """
    if path.suffix.lower() not in DRIVERS:
        raise ConfigError(
            f"Output {path} ends in {path.suffix or 'no suffix'!r}, which is no known vector format.",
            f"Use one of {', '.join(DRIVERS)}.",
        )
    check_output(path, overwrite=overwrite, inputs=inputs)
    if path.suffix.lower() == ".shp":
        for suffix in SHAPEFILE_PARTS:
            check_output(path.with_suffix(suffix), overwrite=overwrite, inputs=inputs)


def write_layer(path: Path, layer: Layer, batches: Iterable[Batch], *, overwrite: bool) -> list[str]:
    """Write a vector file; it appears under its name when it is whole.

    Beside all formats but GeoPackage, which holds its style, goes a ``.qml`` file; one that is there already stays
    unless ``overwrite`` was asked for.

    Args:
        path: Where to; the ending decides on the format.
        layer: What the features have in common.
        batches: The features.
        overwrite: Replace existing files.

    Returns:
        Warnings.

    Raises:
        OutputError: If the file cannot be written; what was there before is then untouched.
        VectorError: If the format cannot hold the layer.
    """
    suffix = path.suffix.lower()
    warnings = []
    if suffix == ".shp":
        _check_shapefile_size(path, layer)
        warnings.append("Shapefile field names have at most 10 letters: perimeter_m is called perim_m.")
    style = path.with_suffix(".qml")
    keeps_style = suffix != ".gpkg" and style.exists() and not overwrite
    if keeps_style:
        warnings.append(f"{style} exists and was kept; add --overwrite to replace the style too.")
    with _explained(path), atomic_output(path) as temporary:
        schema = _arrow_schema(layer, suffix)
        stream = _Stream(batches, layer, schema)
        if suffix == ".parquet":
            _write_parquet(temporary, layer, schema, stream)
        else:
            _write_with_gdal(temporary, suffix, layer, schema, stream)
        if stream.error is not None:
            raise stream.error
        if not is_whole(temporary, layer.features):
            raise OSError("the end of what was written is missing")
        if suffix == ".gpkg":
            _embed_style(temporary, layer)
        elif not keeps_style:
            text = qml(legend_entries(layer.classes, layer.legend))
            temporary.with_suffix(".qml").write_text(text, encoding="utf-8")
    _remove_stale(path)
    return warnings


class _Stream:
    """Record batches of a layer, and the error that ended them, which would be lost on its way through GDAL."""

    def __init__(self, batches: Iterable[Batch], layer: Layer, schema: pa.Schema) -> None:
        self.error: BaseException | None = None
        self._batches = batches
        self._schema = schema
        self._names = pa.array(layer.classes.names, pa.string())

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                yield self._record(batch)
        except BaseException as error:
            self.error = error
            raise

    def _record(self, batch: Batch) -> pa.RecordBatch:
        if batch.offsets[-1] > GEOMETRY_LIMIT:
            raise VectorError(
                f"{len(batch.class_ids)} polygons take {batch.offsets[-1] / 1e9:.1f} GB, more than a feature may have.",
                "Use --no-dissolve, or fewer vertices with --simplify or --min-area.",
            )
        ids = pa.array(batch.class_ids.astype(np.int32))
        columns = [ids, self._names.take(ids), pa.array(batch.area_m2), pa.array(batch.perimeter_m)]
        if batch.confidence is not None:
            columns.append(pa.array(batch.confidence, from_pandas=True))
        offsets, data = pa.py_buffer(batch.offsets.astype(np.int32)), pa.py_buffer(batch.wkb)
        columns.append(pa.Array.from_buffers(pa.binary(), len(ids), [None, offsets, data]))
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _arrow_schema(layer: Layer, suffix: str) -> pa.Schema:
    fields = [
        pa.field("class_id", pa.int32()),
        pa.field("class_name", pa.string()),
        pa.field("area_m2", pa.float64()),
        pa.field("perim_m" if suffix == ".shp" else "perimeter_m", pa.float64()),
    ]
    if layer.confidence:
        fields.append(pa.field("confidence", pa.float64()))
    return pa.schema([*fields, pa.field("geometry", pa.binary())])


def _write_with_gdal(path: Path, suffix: str, layer: Layer, schema: pa.Schema, stream: _Stream) -> None:
    layer_options = {"RFC7946": "YES"} if suffix == ".geojson" else {}
    dataset_options = {"VERSION": GPKG_VERSION} if suffix == ".gpkg" else {}
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": layer.date})
    try:
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(schema, stream),
            path,
            layer=path.stem if suffix == ".shp" else LAYER,
            driver=DRIVERS[suffix],
            geometry_name="geometry",
            geometry_type=layer.geometry_type,
            crs=layer.crs_wkt,
            encoding="UTF-8" if suffix == ".shp" else None,
            layer_options=layer_options,
            dataset_options=dataset_options,
        )
    except Exception:
        if stream.error is not None:
            raise stream.error from None
        raise
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _write_parquet(path: Path, layer: Layer, schema: pa.Schema, stream: _Stream) -> None:
    column = {
        "encoding": "WKB",
        "geometry_types": [layer.geometry_type] if layer.features else [],
        "crs": json.loads(pyproj.CRS.from_wkt(layer.crs_wkt).to_json()),
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    if layer.bounds is not None:
        column["bbox"] = list(layer.bounds)
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    schema = schema.with_metadata({"geo": json.dumps(geo)})
    options = {"compression": "zstd", "compression_level": 1, "use_dictionary": ["class_id", "class_name"]}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for batch in stream:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def _embed_style(path: Path, layer: Layer) -> None:
    """Add the table ``layer_styles`` of QGIS with one default style."""
    legend = legend_entries(layer.classes, layer.legend)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        (geometry,) = database.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
        database.execute(
            "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), "
            "f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), "
            "styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), "
            "update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"
        )
        database.execute(
            "INSERT INTO layer_styles VALUES (1, '', '', ?, ?, ?, ?, ?, 1, ?, '', NULL, ?)",
            (LAYER, geometry, LAYER, qml(legend), sld(legend, LAYER), "Land-cover classes", layer.date),
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
            (layer.date,),
        )


def _check_shapefile_size(path: Path, layer: Layer) -> None:
    sizes = {".shp": 16 * layer.points + 64 * layer.features, ".dbf": DBF_RECORD * layer.features}
    for suffix, size in sizes.items():
        if size > SHAPEFILE_LIMIT:
            raise VectorError(
                f"{path.with_suffix(suffix)} would need {size / 2**30:.1f} GiB; a Shapefile holds 2 GiB.",
                "Write .gpkg, .fgb or .parquet, or fewer polygons with --min-area.",
            )


def _remove_stale(path: Path) -> None:
    """Remove what belonged to a file that was replaced and would mislead readers of the new one."""
    suffix = path.suffix.lower()
    if suffix == ".shp":
        stale = [path.with_suffix(s) for s in SHAPEFILE_INDEXES]
    elif suffix == ".gpkg":
        stale = [path.with_name(path.name + s) for s in SQLITE_PARTS]
    else:
        stale = []
    for file in stale:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn writers' errors into one that names the file."""
    try:
        yield
    except GeoASANetError:
        raise
    except (OSError, pa.ArrowException, pyogrio.errors.DataSourceError, RuntimeError, sqlite3.Error) as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        free = shutil.disk_usage(path.parent).free
        raise OutputError(
            f"{path} cannot be written: {reason}.",
            f"Is there room on that disk ({free / 1e6:.0f} MB are free), and does no other program use the file?",
        ) from error
