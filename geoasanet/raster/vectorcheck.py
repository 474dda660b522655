"""Whether a vector file holds all that was written to it.

GDAL keeps the last part of a file until it closes it, and nobody hears of an error then: on a full disk a GeoPackage
lacks its spatial index or its last features, a FlatGeobuf its last bytes. Ends and counts are looked at, not all bytes.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FGB_NODE, FGB_BRANCHES = 40, 16
"""Bytes of a node of FlatGeobuf's index, and how many nodes share one above them."""
SHX_HEADER, SHX_RECORD, SHP_RECORD_HEADER = 100, 8, 8
"""Bytes."""


def is_whole(path: Path, features: int) -> bool:
    """Return True if the file holds ``features`` features and ends where it should."""
    check = {".gpkg": _gpkg, ".fgb": _fgb, ".parquet": _parquet, ".geojson": _geojson, ".shp": _shp}
    try:
        return check[path.suffix.lower()](path, features)
    except (OSError, struct.error, sqlite3.Error, pa.ArrowException, ValueError, TypeError):
        return False


def _gpkg(path: Path, features: int) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as database:
        (table,) = database.execute("SELECT table_name FROM gpkg_geometry_columns").fetchone()
        (column,) = database.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
        (last,) = database.execute(f'SELECT coalesce(max(fid), 0) FROM "{table}"').fetchone()  # noqa: S608  # our name
        (stated,) = database.execute("SELECT feature_count FROM gpkg_ogr_contents").fetchone()
        (indexed,) = database.execute(f'SELECT count(*) FROM "rtree_{table}_{column}_rowid"').fetchone()  # noqa: S608
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (page,) = database.execute("PRAGMA page_size").fetchone()
    return bool(last == stated == indexed == features and path.stat().st_size == pages * page)


def _fgb(path: Path, features: int) -> bool:
    with path.open("rb") as file:
        (header,) = struct.unpack("<8xI", file.read(12))
        end = 12 + header
        if features:
            nodes = level = features
            while level > 1:
                level = -(-level // FGB_BRANCHES)
                nodes += level
            nodes += features == 1  # a single feature still has a root above it
            end += nodes * FGB_NODE
            file.seek(end - 8)  # where the last feature begins, at the end of its leaf
            end += struct.unpack("<Q", file.read(8))[0]
            file.seek(end)
            end += 4 + struct.unpack("<I", file.read(4))[0]
    return bool(path.stat().st_size == end)


def _parquet(path: Path, features: int) -> bool:
    return bool(pq.read_metadata(path).num_rows == features)


def _geojson(path: Path, features: int) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        return file.read() == b"]\n}\n"


def _shp(path: Path, features: int) -> bool:
    index, table = path.with_suffix(".shx"), path.with_suffix(".dbf")
    end = SHX_HEADER
    with index.open("rb") as file:
        if features:
            file.seek(SHX_HEADER + SHX_RECORD * (features - 1))
            place, length = struct.unpack(">2I", file.read(SHX_RECORD))  # in words of two bytes
            end = 2 * place + SHP_RECORD_HEADER + 2 * length
    with table.open("rb") as file:
        records, head, width = struct.unpack("<4xI2H", file.read(12))
    return (
        path.stat().st_size == end
        and index.stat().st_size == SHX_HEADER + SHX_RECORD * features
        and records == features
        and table.stat().st_size in (head + width * records, head + width * records + 1)  # a last byte may mark the end
        and all(path.with_suffix(suffix).stat().st_size for suffix in (".prj", ".cpg"))
    )
