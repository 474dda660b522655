"""Cutting a scene into tiles: read in large pieces, written one by one, in threads.

Every tile depends on its own pixels only, so the files are the same for any number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoasanet.classes import NODATA, Color
from geoasanet.raster.faults import ReadFaults, faults_for
from geoasanet.raster.labels import Labels, RasterLabels, open_labels
from geoasanet.raster.moments import Moments
from geoasanet.raster.parallel import as_finished
from geoasanet.raster.quiet import quiet_georeference
from geoasanet.raster.remote import READ_OPTIONS
from geoasanet.raster.scene import Scene
from geoasanet.raster.split import BlockLayout
from geoasanet.raster.tilefile import WRITE_OPTIONS, Save, write_image, write_label
from geoasanet.raster.tileplan import ScenePlan, TileSpec
from geoasanet.raster.tilerecord import PieceTiles, TileRecord
from geoasanet.sample import Sample
from geoasanet.windows import Window

READ_SIDE = 1024
"""Pixels on a side of the pieces that are read at once, about; whole tiles are read."""
_LEAST_CACHE, _MOST_CACHE = 64 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring tiles that are read together."""

    window: Window
    tiles: tuple[Window, ...]


@contextlib.contextmanager
def open_cutter(
    plan: ScenePlan,
    number: int,
    layout: BlockLayout,
    spec: TileSpec,
    palette: Mapping[int, Color],
    *,
    workers: int,
    on_error: str = "fail",
) -> Iterator[SceneCutter]:
    """Open a scene's files for as many threads as will read them.

    Args:
        plan: The scene.
        number: Its position in the list of scenes.
        layout: Where its tiles are.
        spec: What the tiles are like.
        palette: Colours for labels.
        workers: Threads.
        on_error: "fail", or "nodata" to leave out blocks that cannot be read.

    Raises:
        SceneError: If a raster cannot be opened.
        LabelError: If the labels do not fit.
    """
    pieces = pieces_of(layout, plan.striped)
    height = max(p.window.height for p in pieces)
    cache = min(max(_LEAST_CACHE, workers * height * plan.row_bytes * 2), _MOST_CACHE)
    with contextlib.ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache, **READ_OPTIONS))
        # Quiet for all threads at once: rasterize sets Python's warning filters, which threads share.
        stack.enter_context(quiet_georeference())
        readers: queue.SimpleQueue[_Reader] = queue.SimpleQueue()
        shared: Labels | None = None
        for _ in range(min(workers, len(pieces))):
            reader = _Reader.open(plan, spec, shared, faults_for(on_error))
            shared = None if isinstance(reader.labels, RasterLabels) else reader.labels
            stack.callback(reader.close)
            readers.put(reader)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="tile")
        stack.callback(pool.shutdown, cancel_futures=True)
        yield SceneCutter(_Cutter(plan, number, layout, spec, palette, readers), pieces, pool, workers, cache)


class SceneCutter:
    """An open scene whose tiles can be written, several pieces at a time; see :func:`open_cutter`.

    Args:
        cutter: Cuts one piece.
        pieces: All of them.
        pool: The threads.
        workers: How many they are.
        cache_bytes: Size of GDAL's block cache.
    """

    def __init__(
        self, cutter: _Cutter, pieces: Sequence[Piece], pool: ThreadPoolExecutor, workers: int, cache_bytes: int
    ) -> None:
        self._cutter = cutter
        self._pool = pool
        self._ahead = 2 * workers
        self.pieces = pieces
        self.cache_bytes = cache_bytes

    def cut(self, numbers: Iterable[int], folder: Path, save: Save) -> Generator[PieceTiles, None, None]:
        """Write the tiles of some pieces and yield what became of each, in the order in which they are finished.

        Args:
            numbers: Positions in :attr:`pieces`.
            folder: The dataset's folder, with ``rgb/``, ``sar/`` and, with labels, ``label/`` in it.
            save: Takes the files.

        Raises:
            SceneError: If a block of a raster cannot be read.
            LabelError: If a label is no class.
            OutputError: If a tile cannot be written.
        """
        calls = (functools.partial(self._cutter, n, self.pieces[n], folder, save) for n in numbers)
        return as_finished(self._pool, calls, self._ahead)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Open files of a scene, for one thread at a time."""

    scene: Scene
    labels: Labels | None
    faults: ReadFaults | None

    @classmethod
    def open(cls, plan: ScenePlan, spec: TileSpec, shared: Labels | None, faults: ReadFaults | None) -> _Reader:
        """Open the files; polygons in memory are shared between threads."""
        scene = plan.open(faults)
        labels = shared
        if labels is None:
            try:
                labels = open_plan_labels(plan, spec, faults)
            except BaseException:
                scene.close()
                raise
        return cls(scene, labels, faults)

    def close(self) -> None:
        """Close the files."""
        self.scene.close()
        if self.labels is not None:
            self.labels.close()


def open_plan_labels(plan: ScenePlan, spec: TileSpec, faults: ReadFaults | None = None) -> Labels | None:
    """Return the labels of a scene; None if it has none.

    Raises:
        LabelError: If they do not fit the scene or the classes.
    """
    if plan.files.labels is None:
        return None
    return open_labels(plan.files.labels, plan.grid, classes=spec.classes, field=spec.class_field, faults=faults)


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Reads a piece and writes its tiles; called from several threads."""

    plan: ScenePlan
    number: int
    layout: BlockLayout
    spec: TileSpec
    palette: Mapping[int, Color]
    readers: queue.SimpleQueue[_Reader]

    def __call__(self, place: int, piece: Piece, folder: Path, save: Save) -> PieceTiles:
        """Return what became of a piece's tiles."""
        files: dict[str, tuple[int, int]] = {}

        def keep(path: Path, data: bytes) -> None:
            save(path, data)
            files[path.relative_to(folder).as_posix()] = len(data), zlib.crc32(data)

        reader = self.readers.get()
        try:
            with rasterio.Env(**WRITE_OPTIONS):
                sample = reader.scene.read(piece.window)
                label = None if reader.labels is None else reader.labels.read(piece.window)
                faults = tuple(reader.faults.take()) if reader.faults is not None else ()
                records, empty, unlabelled = self._cut(piece, self._converted(sample), label, folder, keep)
        finally:
            self.readers.put(reader)
        return PieceTiles(self.number, place, tuple(records), empty, unlabelled, files, faults)

    def _converted(self, sample: Sample) -> Sample:
        """Return the sample in the value scales and types of the tiles."""
        sar, sar_valid = self.spec.scaling(self.plan).apply(sample.sar, sample.sar_valid)
        return Sample(
            sample.window,
            _cast(sample.rgb, self.spec.rgb_dtype),
            _cast(sar, self.spec.sar_dtype),
            sample.rgb_valid,
            sar_valid,
        )

    def _cut(
        self, piece: Piece, sample: Sample, label: NDArray[np.uint8] | None, folder: Path, save: Save
    ) -> tuple[list[TileRecord], int, int]:
        """Return the tiles written, and how many lack data or labels."""
        records, empty, unlabelled = [], 0, 0
        for tile in piece.tiles:
            row, col = tile.row - piece.window.row, tile.col - piece.window.col
            part = np.s_[row : row + tile.height, col : col + tile.width]
            rgb_valid, sar_valid = sample.rgb_valid[part], sample.sar_valid[part]
            valid = rgb_valid & sar_valid
            share = np.count_nonzero(valid) / valid.size
            if share == 0 or share < self.spec.min_valid:
                empty += 1
                continue
            ids = None
            counts: dict[int, int] = {}
            if label is not None:
                ids = label[part].copy()
                ids[~valid] = NODATA
                numbers = np.bincount(ids.ravel(), minlength=256)[:NODATA]
                counts = {int(i): int(numbers[i]) for i in np.flatnonzero(numbers)}
                if not counts:
                    unlabelled += 1
                    continue
            name = f"{self.plan.prefix}_{tile.row:05d}_{tile.col:05d}"
            grid = self.plan.grid.crop(tile)
            moments = []
            for sensor, pixels, usable in (("rgb", sample.rgb, rgb_valid), ("sar", sample.sar, sar_valid)):
                bands = np.ascontiguousarray(pixels[:, part[0], part[1]])
                moments.append(Moments.of(bands, usable))
                write_image(folder / sensor / f"{name}{self.spec.suffix}", bands, usable, grid, save)
            if ids is not None:
                write_label(folder / "label" / f"{name}{self.spec.suffix}", ids, grid, self.palette, save)
            records.append(TileRecord(name, self.number, tile, self.layout.block_of(tile), share, counts, *moments))
        return records, empty, unlabelled


def pieces_of(layout: BlockLayout, striped: bool) -> list[Piece]:
    """Return the pieces in reading order: whole rows of tiles of striped files, squares of others."""
    along = max(1, READ_SIDE // layout.size)
    rows = list(_chunks(layout.rows, along))
    cols = list(_chunks(layout.cols, along))
    if striped:
        rows = list(_chunks(layout.rows, 1))
    pieces = []
    for some_rows in rows:
        for some_cols in cols:
            tiles = tuple(Window(r, c, layout.size, layout.size) for r in some_rows for c in some_cols)
            height = some_rows[-1] - some_rows[0] + layout.size
            width = some_cols[-1] - some_cols[0] + layout.size
            pieces.append(Piece(Window(some_rows[0], some_cols[0], height, width), tiles))
    return pieces


def _chunks(values: tuple[int, ...], count: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(values), count):
        yield values[start : start + count]


def _cast(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return pixels in another type, rounded and clipped where it is an integer one."""
    if pixels.dtype == dtype:
        return pixels
    if dtype.kind == "f":
        return pixels.astype(dtype)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(pixels), limits.min, limits.max), dtype)
