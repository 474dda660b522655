"""What goes wrong while polygons are made: it is said in words, and no half of a file is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest

from geoasanet.errors import OutputError, SceneError
from geoasanet.raster.polygons import coverage, strips
from geoasanet.raster.polygons.source import MapReader
from geoasanet.raster.polygons.spool import Column, forget, keep
from geoasanet.raster.vectorcheck import is_whole
from geoasanet.tools.vectorize import vectorize
from tests.vectorize.conftest import landscape
from tests.vectorize.test_files import SUFFIXES

MakeMap = Callable[..., Path]


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], contextlib.AbstractContextManager[None]]]:
    """No file of this process may grow beyond some bytes, as if the disk were full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def limit(size: int) -> Iterator[None]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk(make_map: MakeMap, tmp_path: Path, suffix: str, file_limit: Any) -> None:
    """GDAL loses the error where the disk is full just before the end."""
    source = make_map(landscape(250, 300))
    target = tmp_path / f"out{suffix}"
    vectorize(source, out=target)
    before, size = contents(tmp_path), target.stat().st_size
    for share in (0.05, 0.6, 0.9, 0.97, 1 - 1 / size):
        with (
            pytest.raises(OutputError, match=r"cannot be written|File too large") as caught,
            file_limit(int(share * size)),
        ):
            vectorize(source, out=target, overwrite=True)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
        assert contents(tmp_path) == before, share
    with file_limit(10 * size):
        vectorize(source, out=target, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("features", [1, 2, 16, 17, 300])
def test_files_that_lack_an_end_are_found(make_map: MakeMap, tmp_path: Path, suffix: str, features: int) -> None:
    classes = (np.arange(features) % 2).astype(np.uint8)[None]
    path = vectorize(make_map(classes), out=tmp_path / f"out{suffix}").path
    assert is_whole(path, features)
    if suffix in (".gpkg", ".fgb", ".parquet", ".shp"):
        assert suffix == ".fgb" or not is_whole(path, features + 1)
    os.truncate(path, path.stat().st_size - 3)
    assert not is_whole(path, features)
    path.unlink()
    assert not is_whole(path, features)


def spoiled(path: Path) -> Path:
    """Return the file with a block in its middle that cannot be decoded."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("workers", [1, 3])
def test_unreadable_blocks(make_map: MakeMap, tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, (256, 300), dtype=np.uint8)
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "zstd"}
    good = make_map(classes, **tiled)
    bad = spoiled(make_map(classes, "bad.tif", **tiled))
    sure = make_map(rng.random((256, 300), np.float32), "sure.tif", schema=None, nodata=None, **tiled)
    unsure = spoiled(make_map(rng.random((256, 300), np.float32), "unsure.tif", schema=None, nodata=None, **tiled))
    vectorize(good, out=tmp_path / "good.gpkg", confidence=sure, workers=workers)
    before = contents(tmp_path)
    for source, confidence, name in ((bad, sure, "bad.tif"), (good, unsure, "unsure.tif")):
        with pytest.raises(SceneError, match=rf"{name} is unreadable in rows") as caught:
            vectorize(source, out=tmp_path / "good.gpkg", confidence=confidence, workers=workers, overwrite=True)
        assert "\n" not in str(caught.value)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("module", "name"), [(strips, "runs_of"), (coverage, "trace_strip"), (coverage, "rings_of")])
def test_errors_in_threads_arrive(
    make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, module: Any, name: str
) -> None:
    def fail(*args: object) -> None:
        raise MemoryError("no more")

    source = make_map(landscape(40, 50))
    monkeypatch.setattr(module, name, fail)
    with pytest.raises(MemoryError, match="no more"):
        vectorize(source, out=tmp_path / "out.gpkg", workers=workers)
    assert list(contents(tmp_path)) == [source.name]


def test_writers_that_lose_an_error_are_not_believed(
    make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_map(landscape(40, 50))
    monkeypatch.setattr(pyogrio, "write_arrow", lambda reader, path, **_: Path(path).write_bytes(b"half"))
    with pytest.raises(OutputError, match=r"out.fgb cannot be written: the end of what was written is missing"):
        vectorize(source, out=tmp_path / "out.fgb")
    assert list(contents(tmp_path)) == [source.name]


def test_interruption(make_map: MakeMap, tmp_path: Path) -> None:
    """Ctrl-C while reading, tracing or writing ends the command within seconds and leaves nothing."""
    source = make_map(np.tile(landscape(1000, 1000, salt=0.05), (3, 3)), compress="zstd")
    command = [sys.executable, "-m", "geoasanet", "vectorize", str(source), "-o", str(tmp_path / "out.gpkg"), "-v"]
    for task in ("reading map", "writing"):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            if task == "writing":
                next(line for line in run.stderr if line.startswith("tracing borders: 3000/3000"))
            else:
                next(line for line in run.stderr if line.startswith("geoasanet"))
                time.sleep(1.5)
            run.send_signal(signal.SIGINT)
            sent = time.monotonic()
            said = run.stderr.read()
            assert run.wait(30) in (130, -signal.SIGINT), said  # the latter where exec() was interrupted: a shell's 130
        assert "nterrupted" in said and "Traceback" not in said
        assert time.monotonic() - sent < 10
        assert list(contents(tmp_path)) == [source.name]


class TestReadingEnds:
    """A map that is closed while a thread reads it takes the process with it."""

    def test_before_a_failure_is_told(self, make_map: MakeMap, monkeypatch: pytest.MonkeyPatch) -> None:
        reading: list[int] = []
        read = MapReader.read

        def slow(self: MapReader, row: int, stop: int) -> Any:
            reading.append(row)
            time.sleep(0.2 if row else 0)
            pixels = read(self, row, stop)
            reading.remove(row)
            return pixels

        def interrupt(*args: object) -> None:
            while not reading:
                time.sleep(0.01)
            raise KeyboardInterrupt

        monkeypatch.setattr(MapReader, "read", slow)
        reader = MapReader(str(make_map(np.zeros((128, 64), np.uint8))), 2)
        with pytest.raises(KeyboardInterrupt) as raised:
            coverage.cover(reader, coverage.Outline(), workers=2, strip_rows=16, progress=interrupt)
        assert raised.traceback and not reading
        reader.close()

    def test_before_it_is_closed(self, make_map: MakeMap) -> None:
        reader = MapReader(str(make_map(np.zeros((64, 64), np.uint8))), 1)
        inside = threading.Event()
        closed: list[bool] = []

        def work() -> None:
            with reader._handle() as dataset:
                inside.set()
                time.sleep(0.2)
                closed.append(dataset.closed)

        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(10)
        reader.close()
        assert closed == [False] and reader.dataset.closed
        with pytest.raises(SceneError):
            reader.read(0, 16)
        reader.close()
        thread.join()


class TestSpool:
    """Arrays in files."""

    def test_what_is_appended_is_there(self) -> None:
        column = Column(np.int32)
        assert len(column.array()) == 0
        assert column.append(np.arange(5)) == slice(0, 5)
        early = column.array()
        assert column.append(np.arange(5, 9000, dtype=np.int64)) == slice(5, 9000)
        forget(early, column.array()[7:], np.arange(3), None)
        assert early.tolist() == [0, 1, 2, 3, 4]
        assert column.array().dtype == np.int32 and (column.array() == np.arange(9000)).all()
        grid = np.arange(12.0).reshape(3, 4)
        assert (keep(grid) == grid).all()

    def test_files_have_no_names(self, tmp_path: Path) -> None:
        column = Column(np.int32, tmp_path)
        column.append(np.arange(10_000))
        assert list(tmp_path.iterdir()) == [] and column.array()[-1] == 9999

    def test_a_file_system_without_maps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object) -> None:
            raise OSError("no such device")

        monkeypatch.setattr("geoasanet.raster.polygons.spool.mmap.mmap", refuse)
        column = Column(np.int32)
        column.append(np.arange(10_000))
        assert (column.array() == np.arange(10_000)).all()

    def test_full_disk(self, tmp_path: Path, file_limit: Any) -> None:
        folder = tmp_path / ".out.gpkg.abcdefgh.tmp"
        folder.mkdir()
        column = Column(np.int32, folder)
        with file_limit(1000), pytest.raises(OutputError, match=rf"Temporary data cannot be written in {tmp_path}:"):
            column.append(np.arange(10_000))

    def test_where_no_file_can_be_made(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="Temporary data cannot be written"):
            Column(np.int32, tmp_path / "missing")
