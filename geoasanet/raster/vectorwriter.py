"""Batches of polygons on their way into a file of any format, as Arrow record batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj

from geoasanet.classes import ClassSchema
from geoasanet.errors import VectorError
from geoasanet.interrupt import HeldBack
from geoasanet.raster.polygons.coverage import Batch

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


def write_file(target: Path | BytesIO, suffix: str, layer: Layer, batches: Iterable[Batch]) -> None:
    """Write a layer, without its style.

    Args:
        target: A file's path, or memory for formats of one file.
        suffix: Decides on the format, one of ``DRIVERS``.
        layer: What the features have in common.
        batches: The features.
    """
    schema = _arrow_schema(layer, suffix)
    stream = _Stream(batches, layer, schema)
    with stream.interruptions:
        if suffix == ".parquet":
            _write_parquet(target, layer, schema, stream)
        else:
            _write_with_gdal(target, suffix, layer, schema, stream)
    if stream.error is not None:
        raise stream.error


class _Stream:
    """Record batches of a layer, and the error that ended them, which would be lost on its way through GDAL."""

    def __init__(self, batches: Iterable[Batch], layer: Layer, schema: pa.Schema) -> None:
        self.error: BaseException | None = None
        self.interruptions = HeldBack()
        self._batches = batches
        self._schema = schema
        self._names = pa.array(layer.classes.names, pa.string())

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        batches = iter(self._batches)
        while (record := self._next(batches)) is not None:
            yield record

    def _next(self, batches: Iterator[Batch]) -> pa.RecordBatch | None:
        try:
            with self.interruptions.passage():
                batch = next(batches, None)
                return None if batch is None else self._record(batch)
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


def _write_with_gdal(target: Path | BytesIO, suffix: str, layer: Layer, schema: pa.Schema, stream: _Stream) -> None:
    layer_options = {"RFC7946": "YES"} if suffix == ".geojson" else {}
    dataset_options = {"VERSION": GPKG_VERSION} if suffix == ".gpkg" else {}
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": layer.date})
    try:
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(schema, stream),
            target,
            layer=target.stem if isinstance(target, Path) and suffix == ".shp" else LAYER,
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


def _write_parquet(target: Path | BytesIO, layer: Layer, schema: pa.Schema, stream: _Stream) -> None:
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
    with pq.ParquetWriter(target, schema, **options) as writer:
        for batch in stream:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
