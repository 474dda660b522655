"""Vector files of polygons: GeoPackage, FlatGeobuf, GeoParquet, GeoJSON, Shapefile, styled and written whole."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyogrio

from geoasanet.errors import ConfigError, GeoASANetError, OutputError, VectorError
from geoasanet.files import atomic_output, check_output
from geoasanet.raster.polygons.coverage import Batch
from geoasanet.raster.rasterstyles import class_qml, write_style
from geoasanet.raster.styles import legend_entries, qml, sld
from geoasanet.raster.vectorcheck import is_whole
from geoasanet.raster.vectorwriter import DRIVERS, LAYER, Layer, write_file

SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg")
SHAPEFILE_INDEXES = (".qix", ".sbn", ".sbx")
SQLITE_PARTS = ("-wal", "-shm", "-journal")
SHAPEFILE_LIMIT = 2**31 - 1
"""Bytes that a .shp or .dbf file may have for all software to read it."""
DBF_RECORD = 180
"""Bytes of one record in our .dbf files, about."""


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

    Beside all formats but GeoPackage, which holds its style, goes a ``.qml`` file; one that somebody saved there
    stays unless ``overwrite`` was asked for.

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
    with _explained(path), atomic_output(path) as temporary:
        write_file(temporary, suffix, layer, batches)
        if not is_whole(temporary, layer.features):
            raise OSError("the end of what was written is missing")
        if suffix == ".gpkg":
            _embed_style(temporary, layer)
        else:
            style = class_qml(layer.classes, legend_entries(layer.classes, layer.legend))
            warnings += write_style(temporary, path, style, overwrite=overwrite)
    _remove_stale(path)
    return warnings


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
