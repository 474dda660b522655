"""Exact resampling of one grid onto another, the same for every reading pattern.

GDAL's warper approximates coordinates per chunk that it happens to warp, so a pixel's value depends on the window it
was read in. Here, coordinates come from a lattice of control points whose positions are fixed to the target grid:
each is transformed exactly (PROJ), between them coordinates are interpolated bilinearly, and the spacing of the
lattice is halved until the interpolation errs by less than :data:`MAX_ERROR_PX` source pixels. A pixel's value
depends on its position alone.
"""

from __future__ import annotations

import math

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoasanet.errors import GridError
from geoasanet.raster.grid import Grid
from geoasanet.raster.resample import FloatArray, Nodes, Place, Resampler, resample
from geoasanet.raster.source import STRIP_ROWS, RasterSource
from geoasanet.sample import BoolArray
from geoasanet.windows import Window

MAX_ERROR_PX = 0.01
"""Bound on the error of interpolated coordinates, in source pixels."""

_SPACINGS = (64, 32, 16, 8, 4, 2, 1)
_SAME_SCALE = 1.05  # grids whose pixels differ by less are resampled without widening the triangle
_PROBES = 33
_BLOCK = 512
_NODE_ROWS = 8  # rows of control points that are transformed together
_KEPT_NODES = 8  # groups of them that are kept
_DRIFT_ROWS = 32  # source rows that a strip may climb within one read


class CoordinateMap:
    """From pixels of a target grid to pixel coordinates of a source grid.

    Pixel coordinates are continuous: the centre of the first pixel is (0.5, 0.5).

    Args:
        target: The grid that is asked for.
        source: The grid that the data lie on.
        name: The source's path, for messages.

    Raises:
        GridError: If there is no transformation between the two reference systems.
    """

    def __init__(self, target: Grid, source: Grid, name: str = "the source raster") -> None:
        self.target = target
        self.source = source
        self._inverse = ~source.transform
        self._transformer: pyproj.Transformer | None = None
        if target.crs != source.crs:
            try:
                self._transformer = pyproj.Transformer.from_crs(
                    pyproj.CRS.from_wkt(target.crs.to_wkt()),
                    pyproj.CRS.from_wkt(source.crs.to_wkt()),
                    always_xy=True,
                )
            except (pyproj.exceptions.CRSError, pyproj.exceptions.ProjError) as error:
                raise GridError(
                    f"{name} cannot be placed on the reference grid: there is no transformation between "
                    f"{_named(source)} and {_named(target)} ({error}).",
                    "Assign each raster the reference system it was made in: gdal_edit.py -a_srs EPSG:XXXX FILE",
                ) from None
        self._wrap: float | None = None
        if source.crs.is_geographic:
            left, _, right, _ = source.bounds
            self._wrap = (left + right) / 2
        self.spacing, self.error_px = self._choose_spacing()
        self.shrink = self._shrink()

    def exact(self, rows: FloatArray, cols: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return source (rows, columns) of target pixel coordinates, transformed one by one; inf where undefined."""
        t = self.target.transform
        xs = t.a * cols + t.b * rows + t.c
        ys = t.d * cols + t.e * rows + t.f
        if self._transformer is not None:
            xs, ys = self._transformer.transform(xs, ys, errcheck=False)
        if self._wrap is not None:
            xs = xs + 360.0 * np.round((self._wrap - xs) / 360.0)
        i = self._inverse
        with np.errstate(invalid="ignore"):
            source_cols = i.a * xs + i.b * ys + i.c
            source_rows = i.d * xs + i.e * ys + i.f
        bad = ~(np.isfinite(source_rows) & np.isfinite(source_cols))
        source_rows[bad] = math.inf
        source_cols[bad] = math.inf
        return source_rows, source_cols

    def nodes(self, window: Window) -> Nodes:
        """Return the control points around ``window``.

        They reach from the last node line at or before the window's first row and column to the first at or after
        its last.
        """
        s = self.spacing
        row0, col0 = window.row // s, window.col // s
        row1, col1 = -(-window.row_stop // s), -(-window.col_stop // s)
        rows = np.arange(row0, row1 + 1, dtype=np.float64) * s
        cols = np.arange(col0, col1 + 1, dtype=np.float64) * s
        grid_rows, grid_cols = np.meshgrid(rows, cols, indexing="ij")
        source_rows, source_cols = self.exact(grid_rows, grid_cols)
        return Nodes(source_rows, source_cols, row0 * s, col0 * s)

    def _choose_spacing(self) -> tuple[int, float]:
        error = 0.0
        for spacing in _SPACINGS:
            error = self._interpolation_error(spacing)
            if error <= MAX_ERROR_PX:
                return spacing, error
        return _SPACINGS[-1], error

    def _interpolation_error(self, spacing: int) -> float:
        """Return the largest error of bilinear interpolation found at cell centres and edge midpoints."""
        last_row, last_col = (self.target.height - 1) // spacing, (self.target.width - 1) // spacing
        rows = np.unique(np.linspace(0, last_row, _PROBES).round()) * spacing
        cols = np.unique(np.linspace(0, last_col, _PROBES).round()) * spacing
        cell_rows, cell_cols = np.meshgrid(rows, cols, indexing="ij")
        corners = [self.exact(cell_rows + dr, cell_cols + dc) for dr in (0, spacing) for dc in (0, spacing)]
        worst = 0.0
        for wr, wc in ((0.5, 0.5), (0.5, 0.0), (0.0, 0.5)):
            weights = ((1 - wr) * (1 - wc), (1 - wr) * wc, wr * (1 - wc), wr * wc)
            exact = self.exact(cell_rows + wr * spacing, cell_cols + wc * spacing)
            for axis in (0, 1):
                with np.errstate(invalid="ignore"):
                    guess = sum(w * c[axis] for w, c in zip(weights, corners, strict=True) if w)
                    errors = np.abs(guess - exact[axis])
                errors = errors[np.isfinite(errors)]
                worst = max(worst, float(errors.max(initial=0.0)))
        return worst

    def _shrink(self) -> tuple[float, float]:
        """Return how many source rows and columns one target pixel spans at the middle of the target.

        At least 1, and 1 for both where they differ from it by less than a twentieth; at most twice the source, beyond
        which the mean that is taken over the span is that of all of it.
        """
        row, col = self.target.height / 2, self.target.width / 2
        rows, cols = self.exact(np.array([row, row + 1, row]), np.array([col, col, col + 1]))
        if not np.isfinite(rows).all():
            return 1.0, 1.0
        span_rows = max(abs(rows[1] - rows[0]), abs(rows[2] - rows[0]))
        span_cols = max(abs(cols[1] - cols[0]), abs(cols[2] - cols[0]))
        spans = float(span_rows), float(span_cols)
        if max(spans) < _SAME_SCALE:
            return 1.0, 1.0
        most = 2.0 * self.source.height, 2.0 * self.source.width
        return max(1.0, min(spans[0], most[0])), max(1.0, min(spans[1], most[1]))

    def source_window(self, nodes: Nodes) -> Window | None:
        """Return the source pixels that resampling between ``nodes`` can touch, None if there are none."""
        rows, cols, *_ = nodes
        if not (math.isfinite(rows.max()) and math.isfinite(cols.max())):  # undefined ones are inf, in both
            finite = np.isfinite(rows)
            if not finite.any():
                return None
            rows, cols = rows[finite], cols[finite]
        margin_row, margin_col = math.ceil(self.shrink[0]) + 1, math.ceil(self.shrink[1]) + 1
        row0, row1 = math.floor(rows.min()) - margin_row, math.ceil(rows.max()) + margin_row
        col0, col1 = math.floor(cols.min()) - margin_col, math.ceil(cols.max()) + margin_col
        return Window(row0, col0, row1 - row0, col1 - col0).intersection(self.source.window)

    def reaches_source(self, probes: int = 65) -> bool:
        """Tell whether the target's pixels, probed on a lattice, reach the source."""
        rows = np.linspace(0, self.target.height, probes)
        cols = np.linspace(0, self.target.width, probes)
        source_rows, source_cols = self.exact(*np.meshgrid(rows, cols, indexing="ij"))
        finite = np.isfinite(source_rows) & np.isfinite(source_cols)
        if not finite.any():
            return False
        source_rows, source_cols = source_rows[finite], source_cols[finite]
        return bool(
            source_rows.max() > 0
            and source_cols.max() > 0
            and source_rows.min() < self.source.height
            and source_cols.min() < self.source.width
        )


class WarpedLayer:
    """A raster on another grid, resampled while it is read; a layer of :class:`geoasanet.raster.scene.Scene`.

    Args:
        source: The raster.
        grid: Where its pixels are wanted.
        resampler: What computes them.
    """

    def __init__(self, source: RasterSource, grid: Grid, resampler: Resampler = resample) -> None:
        self.source = source
        self._resample = resampler
        self.coordinates = CoordinateMap(grid, source.grid, source.path)
        row, cols = np.full(2, grid.height / 2), np.array([0.4, 0.6]) * grid.width
        rows, _ = self.coordinates.exact(row, cols)
        self._found: dict[Window, Nodes] = {}
        self._slope = abs(float(rows[1] - rows[0])) / (0.2 * grid.width) if np.isfinite(rows).all() else 1.0

    @property
    def cache_bytes(self) -> int:
        """Bytes of the blocks that two strips touch on their way across the source, however it is turned."""
        height, width = self.source.block_shape
        target, shrink = self.coordinates.target, self.coordinates.shrink
        rows, cols = self.coordinates.exact(np.full(_PROBES, target.height / 2), np.linspace(0, target.width, _PROBES))
        finite = np.isfinite(rows)
        if not finite.any():
            return 0
        pieces = max(1.0, target.width / _BLOCK)
        down = min(np.ptp(rows[finite]), self.source.grid.height) / pieces + STRIP_ROWS * shrink[0] + 4
        across = min(np.ptp(cols[finite]), self.source.grid.width) / pieces + STRIP_ROWS * shrink[1] + 4
        blocks = pieces * (down / height + 1) * (across / width + 1)
        return int(2 * blocks) * self.source.block_bytes

    def overlaps(self) -> bool:
        """Tell whether the raster reaches the reference grid, probed on a lattice of points."""
        return self.coordinates.reaches_source()

    def read(self, window: Window) -> tuple[NDArray[np.float32], BoolArray]:
        """Return the pixels of ``window`` as float32, and their validity."""
        data = np.zeros((len(self.source.bands), window.height, window.width), np.float32)
        valid = np.zeros((window.height, window.width), bool)
        spacing, piece = self.coordinates.spacing, self._piece(window.height)
        for row in range(0, window.height, _BLOCK):
            height = min(_BLOCK, window.height - row)
            for first in range(0, window.width, _BLOCK * spacing):  # transforming many points at once costs less
                run = min(_BLOCK * spacing, window.width - first)
                nodes = self._nodes(Window(window.row + row, window.col + first, height, run))
                for col in range(first, first + run, piece):
                    block = Window(window.row + row, window.col + col, height, min(piece, first + run - col))
                    self._read_block(block, nodes.around(block, spacing), data, valid, (row, col))
        return data, valid

    def _nodes(self, window: Window) -> Nodes:
        """Return control points around ``window``, and more: the next strips' are found with those of this one."""
        step = _NODE_ROWS * self.coordinates.spacing
        row, stop = window.row // step * step, -(-window.row_stop // step) * step
        chunk = Window(row, window.col, stop - row, window.width)
        if chunk not in self._found:
            if len(self._found) >= _KEPT_NODES:
                self._found.clear()
            self._found[chunk] = self.coordinates.nodes(chunk)
        return self._found[chunk]

    def _piece(self, height: int) -> int:
        """Return how many columns to read at a time: many of a thin strip, unless it runs aslant in the source."""
        most = max(_BLOCK, _BLOCK**2 // max(height, 1))
        return int(np.clip(_DRIFT_ROWS / max(self._slope, 1e-9), _BLOCK, most))

    def _read_block(
        self, block: Window, nodes: Nodes, data: NDArray[np.float32], valid: BoolArray, at: tuple[int, int]
    ) -> None:
        coordinates = self.coordinates
        needed = coordinates.source_window(nodes)
        if needed is None:
            return
        pixels, has_data = self.source.read(needed)
        place = Place(block, nodes, coordinates.spacing, coordinates.shrink, (needed.row, needed.col))
        self._resample(pixels, has_data, place, data, valid, at)


def _named(grid: Grid) -> str:
    """Return a short name of a grid's reference system."""
    text = grid.crs.to_string()
    return text if len(text) <= 60 else f"{text[:60]}…"
