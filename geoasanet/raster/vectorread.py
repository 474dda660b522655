"""Reading vector files that may hold anything: errors in our words, no remarks of libraries, geometries made sound."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoasanet.errors import GeoASANetError, VectorError
from geoasanet.raster.quiet import quiet_runtime
from geoasanet.sample import BoolArray

_FOREIGN = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError, shapely.errors.ShapelyError)
"""What GDAL's, Arrow's, pandas', PROJ's and GEOS' bindings raise on damaged files; of their own errors, each inherits
one of these."""


@contextlib.contextmanager
def reading_vector(path: object, role: str) -> Iterator[None]:
    """Turn what goes wrong with a vector file into a :class:`VectorError`; hide libraries' warnings about it.

    Args:
        path: The file.
        role: What it is to the user, with a capital: "Labels", "Area of interest", …

    Raises:
        VectorError: If it is missing, a pipe or a device, or cannot be read.
    """
    name = str(path)
    if "://" not in name and not name.startswith("/vsi"):
        _check_openable(name, role)
    try:
        with quiet_runtime(), np.errstate(all="ignore"):
            yield
    except GeoASANetError:
        raise
    except MemoryError:
        raise VectorError(f"{role} {name}: not enough memory to read it.", "Is it damaged?") from None
    except _FOREIGN as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise VectorError(f"{role} {name} cannot be read: {reason}.", "Is it a whole vector file?") from None


def layer_name(path: str, role: str, *, polygons: bool = False) -> tuple[str, int]:
    """Return the name of the layer to read, the first with geometries, and how many there are.

    Args:
        path: A file that GDAL reads.
        role: What it is to the user, with a capital.
        polygons: Take the first layer of polygons, if there is one.

    Raises:
        VectorError: If there is none.
    """
    import pyogrio  # loads pandas and pyarrow: 100 MB that a run without vector files need not hold

    layers = [(str(name), str(kind)) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if not layers:
        raise VectorError(f"{role} {path} holds no layer with geometries.", "Give another file.")
    areal = [name for name, kind in layers if "Polygon" in kind or "Surface" in kind] if polygons else []
    return (areal or [name for name, _ in layers])[0], len(layers)


def read_layer(path: str, role: str, *, polygons: bool = False) -> tuple[Any, list[str]]:
    """Return a layer, chosen as by :func:`layer_name`, as a geodataframe, and remarks; GeoParquet has one layer.

    Raises:
        VectorError: If it cannot be read, or there is none.
    """
    with reading_vector(path, role):
        if Path(path).suffix.lower() == ".parquet":
            import geopandas

            return geopandas.read_parquet(path), []
        import pyogrio

        layer, count = layer_name(path, role, polygons=polygons)
        remarks = [f"Took layer {layer!r} of {path}, the first of {count}."] if count > 1 else []
        return pyogrio.read_dataframe(path, layer=layer), remarks


def finite(geometry: NDArray[Any]) -> BoolArray:
    """Tell which geometries have finite x and y everywhere; shape (n,). Bounds do not tell: they pass over NaN."""
    xy, owner = shapely.get_coordinates(geometry, return_index=True)
    good = np.ones(len(geometry), bool)
    good[owner[~np.isfinite(xy).all(axis=1)]] = False
    return good


def _check_openable(name: str, role: str) -> None:
    """Raise for what does not exist, and for pipes and devices, which would be read forever."""
    try:
        local = Path(name)
        if not local.exists():
            raise VectorError(f"{role} {name} does not exist.", "Check the path.")
        if not local.is_file() and not local.is_dir():
            raise VectorError(f"{role} {name} is a pipe or device, no file.", "Give a vector file.")
    except OSError as error:
        if isinstance(error, VectorError):
            raise
        raise VectorError(
            f"{role} {name} cannot be looked up ({error.strerror or error}).", "Check the path."
        ) from None
