"""``geoasanet tile --layout``: a published data set to a dataset folder."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

import geoasanet
from geoasanet.bands import InputBands
from geoasanet.classes import NODATA
from geoasanet.errors import LabelError, ManifestError
from geoasanet.progress import Progress
from geoasanet.raster.dataset import SPLITS
from geoasanet.raster.footprints import Footprint, write_footprints
from geoasanet.raster.grid import Grid
from geoasanet.raster.manifest import Manifest
from geoasanet.raster.moments import Moments, class_weights, sensor_bands
from geoasanet.raster.parallel import as_finished
from geoasanet.raster.quiet import quiet_georeference
from geoasanet.raster.tilefile import WRITE_OPTIONS, Save, as_gray, read_plain, save_bytes, write_image, write_label
from geoasanet.tools.archives import Archive, ArchiveItem
from geoasanet.tools.tilearchivejob import ArchiveJob, ArchiveTile
from geoasanet.tools.tilejournal import Entry, TileJournal
from geoasanet.tools.tileset import Finished, write_lists, write_manifest
from geoasanet.windows import Window


def tile_archive(job: ArchiveJob, journal: TileJournal, progress: Progress) -> Finished:
    """Write the tiles of a published data set that an earlier run has not written, its lists and ``dataset.yaml``.

    Labels become class ids from 0 with 255 for none. Scenes are cut without overlap, the last row and column of
    tiles shifted in. Bands beyond red, green and blue are dropped.

    Args:
        job: What to do.
        journal: Knows what is done, and where the dataset goes.
        progress: Told how many files are done.

    Raises:
        ManifestError: If a file is unreadable, or its size differs from its partners'.
        LabelError: If a label value is none of the data set's.
        OutputError: If a tile cannot be written.
    """
    entries = journal.recover(job.workers, progress)
    done = {entry["item"] for entry in entries}
    progress("Tiling", len(done), len(job.items), "files")
    todo = [number for number in range(len(job.items)) if number not in done]
    for entry in cut_items(job, todo, journal.data):
        journal.add(entry)
        entries.append(entry)
        progress("Tiling", len(entries), len(job.items), "files")
    entries.sort(key=lambda entry: int(entry["item"]))
    return _finish(job, [ArchiveTile.from_dict(cut) for entry in entries for cut in entry["cuts"]], journal.data)


def cut_items(
    job: ArchiveJob, numbers: Iterable[int], folder: Path, save: Save = save_bytes
) -> Generator[Entry, None, None]:
    """Write the tiles of some of an archive's files, and yield what became of each file as it is finished.

    Args:
        job: What to do.
        numbers: Positions of the files in :attr:`ArchiveJob.items`.
        folder: The dataset's folder.
        save: Takes the tiles.

    Raises:
        GeoASANetError: See :func:`tile_archive`.
    """
    splits, _ = _splits(job.archive, job.items, job.seed)
    writer = _Writer(job, splits, folder, save)
    # Quiet for all threads at once: Python's warning filters are shared by them.
    with quiet_georeference(), ThreadPoolExecutor(job.workers, thread_name_prefix="tile") as pool:
        try:
            yield from as_finished(pool, (functools.partial(writer, n) for n in numbers), 2 * job.workers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _finish(job: ArchiveJob, done: Sequence[ArchiveTile], folder: Path) -> Finished:
    """Write lists, statistics and outlines."""
    archive = job.archive
    _, warnings = _splits(archive, job.items, job.seed)
    names = {split: [c.name for c in done if c.split == i] for i, split in enumerate(SPLITS)}
    counts = np.zeros((3, len(archive.classes)), np.int64)
    for cut in done:
        counts[cut.split] += cut.pixels
    train = [c for c in done if c.split == 0]
    bands = None
    if train:
        rgb, first = sensor_bands(Moments.total((c.rgb for c in train), 3), "uint8", ("red", "green", "blue"), "RGB")
        sar, second = sensor_bands(Moments.total((c.sar for c in train), len(train[0].sar.mean)), "uint8", (), "SAR")
        bands, warnings = InputBands(rgb, sar), warnings + first + second
    weights = class_weights(counts[0].tolist())
    write_lists(folder, names, (1.0, 1.0, 0.0))
    origin = {"made_by": f"geoasanet tile {geoasanet.__version__}", "layout": archive.name, "seed": job.seed}
    write_manifest(
        folder,
        Manifest(
            classes=archive.classes,
            bands=bands,
            tile_size=job.size if archive.scenes else None,
            class_pixels=tuple(counts[0].tolist()),
            class_weights=weights,
            origin=origin,
        ),
    )
    _write_footprints(folder, archive, done)
    pixels = {s: dict(zip(archive.classes.names, counts[i].tolist(), strict=True)) for i, s in enumerate(SPLITS)}
    return Finished({s: len(n) for s, n in names.items()}, pixels, weights, warnings)


def _write_footprints(folder: Path, archive: Archive, cuts: Sequence[ArchiveTile]) -> None:
    """Write ``tiles.gpkg`` if the archive says where its images are."""
    rows = []
    for cut in cuts:
        if cut.grid is None:
            return
        labelled = int(cut.pixels.sum())
        shares = tuple(float(v) for v in cut.pixels / max(labelled, 1))
        area = cut.grid.height * cut.grid.width
        rows.append(Footprint(cut.name, archive.name, cut.grid, SPLITS[cut.split], 1.0, labelled / area, shares))
    write_footprints(folder / "tiles.gpkg", rows, archive.classes, "1970-01-01T00:00:00.000Z")


def _splits(archive: Archive, items: Sequence[ArchiveItem], seed: int) -> tuple[list[int], list[str]]:
    """Return the split of each file, and what must be said about it."""
    given = [item.split for item in items]
    if None not in given:
        # What the authors call test is what the original project validates on.
        has_val = 1 in given
        return [1 if s == 2 and not has_val else int(s or 0) for s in given], []
    order = np.random.default_rng(seed).permutation(len(items))
    count = min(max(1, math.floor(archive.train_share * len(items) + 0.5)), max(1, len(items) - 1))
    splits = np.ones(len(items), int)
    splits[order[:count]] = 0
    return splits.tolist(), [
        f"The archive has no train and test lists: {count} of {len(items)} files were drawn for train (seed {seed}), "
        "the others are for val. Put the authors' train.txt and test.txt beside its folders to have their split."
    ]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Reads a file of an archive and writes its tiles; called from several threads."""

    job: ArchiveJob
    splits: Sequence[int]
    folder: Path
    save: Save

    def __call__(self, number: int) -> Entry:
        """Return what became of a file."""
        item, files = self.job.items[number], {}

        def keep(path: Path, data: bytes) -> None:
            self.save(path, data)
            files[path.relative_to(self.folder).as_posix()] = [len(data), zlib.crc32(data)]

        cuts = [cut.to_dict() for cut in self._cut(item, self.splits[number], keep)]
        return {"item": number, "cuts": cuts, "files": files}

    def _cut(self, item: ArchiveItem, split: int, save: Save) -> list[ArchiveTile]:
        rgb, grid = read_plain(item.rgb, 3)
        if rgb.shape[0] < 3:
            raise ManifestError(f"{item.rgb} has {rgb.shape[0]} bands, red, green and blue are needed.")
        sar, _ = read_plain(item.sar, 3)
        sar = sar[:1] if sar.shape[0] == 2 else as_gray(sar, item.sar)
        label = self._label(item.label)
        for path, shape in ((item.sar, sar.shape[1:]), (item.label, label.shape)):
            if shape != rgb.shape[1:]:
                raise ManifestError(
                    f"{path} has {shape[0]} x {shape[1]} pixels (rows x columns), but {item.rgb} has "
                    f"{rgb.shape[1]} x {rgb.shape[2]}.",
                    "Is the archive complete?",
                )
        with rasterio.Env(**WRITE_OPTIONS):
            arrays = rgb, sar, label
            return [self._write(item.name, split, window, arrays, grid, save) for window in self._windows(label)]

    def _write(
        self, name: str, split: int, window: Window, arrays: tuple[NDArray[Any], ...], grid: Grid | None, save: Save
    ) -> ArchiveTile:
        archive = self.job.archive
        rgb, sar, label = (np.ascontiguousarray(a[(..., *window.slices)]) for a in arrays)
        place = None if grid is None else grid.crop(window)
        if archive.scenes:
            name = f"{name}_{window.row:05d}_{window.col:05d}"
        counts = np.bincount(label.ravel(), minlength=256)[: len(archive.classes)].astype(np.int64)
        everywhere, palette = np.ones(label.shape, bool), dict(enumerate(archive.classes.colors))
        write_image(self.folder / "rgb" / f"{name}.tif", rgb, everywhere, place, save)
        write_image(self.folder / "sar" / f"{name}.tif", sar, everywhere, place, save)
        write_label(self.folder / "label" / f"{name}.tif", label, place, palette, save)
        return ArchiveTile(name, split, counts, Moments.of(rgb, everywhere), Moments.of(sar, everywhere), place)

    def _windows(self, label: NDArray[np.uint8]) -> list[Window]:
        """Return the windows of a scene, or the whole of a finished tile."""
        height, width = label.shape
        if not self.job.archive.scenes:
            return [Window(0, 0, height, width)]
        size = min(self.job.size, height), min(self.job.size, width)
        return [Window(r, c, *size) for r in _starts(height, self.job.size) for c in _starts(width, self.job.size)]

    def _label(self, path: Path) -> NDArray[np.uint8]:
        values, _ = read_plain(path, 2)
        if values.shape[0] != 1:
            raise LabelError(f"Label {path} has {values.shape[0]} bands, one of class values is needed.")
        count, step = len(self.job.archive.classes), self.job.archive.label_step
        table = np.full(256, NODATA, np.uint8)
        known = np.zeros(256, bool)
        first = 1 if self.job.archive.zero_is_none else 0
        for i in range(count):
            table[(i + first) * step], known[(i + first) * step] = i, True
        known[0] = known[NODATA] = True
        wrong = (values[0] < 0) | (values[0] > 255)
        safe = np.where(wrong, 0, values[0]).astype(np.uint8)
        wrong |= ~known[safe]
        if wrong.any():
            allowed = ", ".join(str(v) for v in np.flatnonzero(known))
            raise LabelError(
                f"Label {path} holds {values[0][wrong][0]}; {self.job.archive.name} has only {allowed}.",
                "Is it the right --layout?",
            )
        return np.asarray(table[safe], np.uint8)


def _starts(length: int, size: int) -> list[int]:
    """Return window starts without overlap, the last shifted in."""
    return [*range(0, length - size, size), max(0, length - size)]
