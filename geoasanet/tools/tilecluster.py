"""Tiles cut by the workers of a Dask cluster: they read and encode, this process writes the files."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoasanet.raster.tilefile import Save
from geoasanet.raster.tilerecord import PieceTiles
from geoasanet.raster.tiles import SceneCutter, pieces_of
from geoasanet.tools.cluster import Cluster, path_for_workers, worker_cores
from geoasanet.tools.journal import file_stamp
from geoasanet.tools.tilescene import TileScene, named

_EACH = 3
"""Tasks that each worker is given at a time: one that it works on, one to go on with, one on its way back."""
_MOST_PIECES = 16
"""Pieces of a task at most; each is some 10 MB."""


@dataclass(frozen=True, slots=True)
class PieceTask:
    """Pieces of a scene that a worker cuts together."""

    scene: TileScene
    stamps: tuple[dict[str, Any], ...]
    """State of the scene's files, so that a worker opens them anew when they were changed."""
    numbers: tuple[int, ...]
    """Positions of the pieces."""


@dataclass(frozen=True, slots=True)
class CutPieces:
    """What came of a task."""

    pieces: tuple[PieceTiles, ...]
    files: dict[str, bytes]
    """Content of each file by its path in the dataset."""


def cut_on(
    cluster: Cluster, scenes: Sequence[TileScene], done: Set[tuple[int, int]], folder: Path, save: Save
) -> Generator[PieceTiles, None, None]:
    """Have the tiles of all scenes cut, write them, and yield what became of each piece.

    Args:
        cluster: Its workers must see the scenes' files under the same paths.
        scenes: All of them, in the order of their numbers.
        done: Pieces, by the number of their scene and their own, that need not be cut.
        folder: The dataset's folder.
        save: Takes the files.

    Raises:
        GeoASANetError: If a file cannot be read or written, or the cluster fails.
    """
    size = min(_MOST_PIECES, 2 * cluster.threads)
    tasks = ((task,) for scene in scenes for task in _tasks(scene, done, size))
    try:
        with contextlib.closing(cluster.run(cut_on_worker, tasks, each=_EACH)) as results:
            for _, cut in results:
                for piece in cut.pieces:
                    for name in piece.files:
                        save(folder / name, cut.files[name])
                    yield piece
    finally:
        cluster.everywhere(close_scene)


def _tasks(scene: TileScene, done: Set[tuple[int, int]], size: int) -> Iterator[PieceTask]:
    """Yield what is to be cut of a scene; pieces that lie in the same blocks of a striped file are kept together."""
    files = scene.plan.files
    paths = [path for path in (files.rgb, files.sar, files.labels) if path is not None]
    with named(files):
        stamps = tuple(map(file_stamp, paths))
    seen = replace(
        files,
        rgb=path_for_workers(files.rgb),
        sar=path_for_workers(files.sar),
        labels=None if files.labels is None else path_for_workers(files.labels),
    )
    distant = replace(scene, plan=replace(scene.plan, files=seen))
    pieces = pieces_of(scene.layout, scene.plan.striped)
    todo = (number for number in range(len(pieces)) if (scene.number, number) not in done)
    if scene.plan.striped:
        groups = [tuple(group) for _, group in itertools.groupby(todo, lambda number: pieces[number].window.row)]
    else:
        groups = [tuple(group) for _, group in itertools.groupby(todo, lambda number: number // size)]
    for numbers in groups:
        yield PieceTask(distant, stamps, numbers)


def cut_on_worker(task: PieceTask) -> CutPieces:
    """Cut pieces with the threads of this worker, one task after the other; the scene stays open for the next.

    Raises:
        GeoASANetError: If a file cannot be read, or holds what it must not.
    """
    return _desk.submit(_cut, task, worker_cores()).result()


_desk = ThreadPoolExecutor(1, "scene")
"""Where scenes are opened, cut and closed: GDAL's settings belong to a thread."""


class _OpenScene:
    """The scene that a worker cut last, still open; used by one thread."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._cutter: SceneCutter | None = None
        self._stack = contextlib.ExitStack()

    def cutter(self, task: PieceTask, threads: int) -> SceneCutter:
        """Return the scene of a task, opened if it is another one or its files were changed."""
        key = task.scene, task.stamps, threads
        if self._cutter is None or self._key != key:
            self.close()
            self._cutter = self._stack.enter_context(task.scene.cutter(threads))
            self._key = key
        return self._cutter

    def close(self) -> None:
        """Close what is open."""
        self._cutter = None
        self._stack.close()


_open_scene = _OpenScene()


def close_scene() -> None:
    """Close, soon, the scene that this worker has open."""
    _desk.submit(_open_scene.close)


def _cut(task: PieceTask, threads: int) -> CutPieces:
    folder = Path("dataset")  # files are named as in a folder, but come back as bytes
    files: dict[str, bytes] = {}

    def keep(path: Path, data: bytes) -> None:
        files[path.relative_to(folder).as_posix()] = data

    cutter = _open_scene.cutter(task, threads)
    with named(task.scene.plan.files), contextlib.closing(cutter.cut(task.numbers, folder, keep)) as found:
        return CutPieces(tuple(found), files)
