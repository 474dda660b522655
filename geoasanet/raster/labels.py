"""Labels of a scene, raster or vector, as class ids on the scene's grid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import LabelError
from geoasanet.interrupt import interruptible
from geoasanet.raster.faults import ReadFaults
from geoasanet.raster.grid import Grid
from geoasanet.raster.labelvalues import unknown_value, value_table
from geoasanet.raster.opening import open_dataset
from geoasanet.raster.polygons.legend import own_schema
from geoasanet.raster.scene import AlignedLayer
from geoasanet.raster.source import RasterSource
from geoasanet.sample import BoolArray
from geoasanet.windows import Window

VECTOR_SUFFIXES = (".gpkg", ".fgb", ".shp", ".geojson", ".json", ".parquet", ".kml", ".gml")
"""Files with one of these endings are polygons, all others rasters."""


class Labels(Protocol):
    """Class ids on a grid; used by one thread at a time."""

    path: str

    def overlaps(self) -> bool:
        """Tell whether there are labels on the grid."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return class ids of ``window``, shape (height, width), 255 where there is none."""

    def close(self) -> None:
        """Close the file."""


class RasterLabels:
    """Labels in one band of a raster on any grid; taken from the nearest pixel.

    Args:
        path: The raster.
        grid: The scene's reference grid.
        classes: What values may occur; any from 0 to 254 if None.
        faults: Takes the blocks that cannot be read, where there are then no labels; None makes them an error.

    Raises:
        SceneError: If it cannot be opened or has no georeference.
        LabelError: If it does not have exactly one band.
    """

    def __init__(self, path: str, grid: Grid, classes: ClassSchema | None, faults: ReadFaults | None = None) -> None:
        self.path = path
        with open_dataset(path, "Label") as dataset:
            data = [i + 1 for i, c in enumerate(dataset.colorinterp) if c != ColorInterp.alpha]
        if len(data) != 1:
            raise LabelError(
                f"Label raster {path} has {len(data)} bands, one of class ids is needed.",
                "A colour-coded picture must be turned into class ids first.",
            )
        self._source = RasterSource(path, data, "Label", faults)
        self._layer: AlignedLayer | NearestLayer
        offset = self._source.grid.offset_on(grid)
        if offset is not None:
            self._layer = AlignedLayer(self._source, grid, offset)
        else:
            self._layer = NearestLayer(self._source, grid)
        self._classes = classes
        self._table, self._bad = value_table(classes)

    def overlaps(self) -> bool:
        """Tell whether the raster reaches the grid."""
        return self._layer.overlaps()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return class ids of ``window``, shape (height, width), 255 where there is none.

        Raises:
            LabelError: If a value is no class.
            SceneError: If a block cannot be read.
        """
        pixels, valid = self._layer.read(window)
        values = pixels[0]
        if values.dtype != np.uint8:
            values = self._as_bytes(values, valid, window)
        wrong = self._bad[values] & valid
        if wrong.any():
            self._refuse(values[wrong][0], wrong, window)
        ids: NDArray[np.uint8] = self._table[values]
        ids[~valid] = NODATA
        return ids

    def _as_bytes(self, values: NDArray[Any], valid: BoolArray, window: Window) -> NDArray[np.uint8]:
        values = np.where(valid, values, 0)
        wrong = (values < 0) | (values > NODATA)
        if values.dtype.kind == "f":
            wrong |= values != np.floor(values)
        if wrong.any():
            self._refuse(values[wrong][0], wrong, window)
        return values.astype(np.uint8)

    def _refuse(self, value: Any, wrong: BoolArray, window: Window) -> None:
        row, col = (int(v) for v in np.argwhere(wrong)[0])
        place = f"at row {window.row + row}, column {window.col + col} of the RGB raster"
        raise unknown_value(self.path, value, place, self._classes)


class NearestLayer:
    """A class raster on another grid: each pixel takes the source pixel that its centre falls into."""

    def __init__(self, source: RasterSource, grid: Grid) -> None:
        from geoasanet.raster.warp import CoordinateMap  # loads numba, which an aligned scene need not hold

        self._source = source
        self._coordinates = CoordinateMap(grid, source.grid, source.path)

    def overlaps(self) -> bool:
        """Tell whether the raster reaches the grid, probed on a lattice of points."""
        return self._coordinates.reaches_source()

    def read(self, window: Window) -> tuple[NDArray[Any], BoolArray]:
        """Return the values of ``window``, shape (1, height, width), and their validity."""
        shape = (window.height, window.width)
        data, valid = np.zeros((1, *shape), self._source.dtype), np.zeros(shape, bool)
        nodes = self._coordinates.nodes(window)
        needed = self._coordinates.source_window(nodes)
        if needed is None:
            return data, valid
        rows, cols = self._positions(nodes, window)
        pixels, has_data = self._source.read(needed)
        with np.errstate(invalid="ignore"):
            inside = (rows >= needed.row) & (rows < needed.row_stop) & (cols >= needed.col) & (cols < needed.col_stop)
        at = rows[inside].astype(np.intp) - needed.row, cols[inside].astype(np.intp) - needed.col
        valid[inside] = has_data[at]
        data[0][inside] = pixels[0][at]
        return data, valid

    def _positions(self, nodes: Any, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the source row and column that each pixel's centre falls into, NaN or inf where undefined."""
        node_rows, node_cols, row0, col0 = nodes
        spacing = self._coordinates.spacing
        v = np.arange(window.height) + (window.row - row0) + 0.5
        u = np.arange(window.width) + (window.col - col0) + 0.5
        i, j = (v // spacing).astype(np.intp), (u // spacing).astype(np.intp)
        fv, fu = ((v - i * spacing) / spacing)[:, None], ((u - j * spacing) / spacing)[None]
        found = []
        with np.errstate(invalid="ignore"):
            for n in (node_rows, node_cols):
                top = (1 - fu) * n[np.ix_(i, j)] + fu * n[np.ix_(i, j + 1)]
                bottom = (1 - fu) * n[np.ix_(i + 1, j)] + fu * n[np.ix_(i + 1, j + 1)]
                found.append(np.floor((1 - fv) * top + fv * bottom))
        return found[0], found[1]


def open_labels(
    path: str | os.PathLike[str],
    grid: Grid,
    *,
    classes: ClassSchema | None = None,
    field: str | None = None,
    faults: ReadFaults | None = None,
) -> Labels:
    """Return the labels in a raster or vector file, on ``grid``.

    Args:
        path: The file.
        grid: The scene's reference grid.
        classes: The classes; if None, any ids, with the names that the file gives.
        field: Attribute of polygons that holds class ids or names; by its name if None.
        faults: Takes the blocks of a raster that cannot be read, where there are then no labels; None makes them an
            error.

    Raises:
        LabelError: If the labels are no class ids or names, or do not reach the grid.
        SceneError: If a raster cannot be opened.
        VectorError: If a vector file cannot be read.
    """
    name = str(path)
    labels: Labels
    if is_vector(name):
        from geoasanet.raster.vectorlabels import VectorLabels  # loads pandas, which raster labels need not hold

        # Reading millions of polygons takes minutes in machine code.
        labels = interruptible(lambda: VectorLabels.open(name, grid, classes=classes, field=field))
    elif field is not None:
        raise LabelError(f"--class-field {field} was given, but the labels {name} are a raster.", "Leave it out.")
    else:
        labels = RasterLabels(name, grid, classes, faults)
    if not labels.overlaps():
        labels.close()
        raise LabelError(
            f"Labels {name} do not reach the RGB raster.",
            "Check that both show the same place and that each has its own CRS assigned.",
        )
    return labels


def is_vector(path: str) -> bool:
    """Tell by a file's ending whether it holds polygons."""
    return Path(path.split("?", 1)[0]).suffix.lower() in VECTOR_SUFFIXES


def tagged_schema(path: str) -> ClassSchema | None:
    """Return the class schema in the tags of a label raster that this program made, else None.

    Raises:
        SceneError: If it cannot be opened.
    """
    with open_dataset(path, "Label") as dataset:
        return own_schema(dataset)
