"""``vectorize`` with a map read on a Dask cluster: the file of one machine, also when workers die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoasanet.errors import ConfigError, SceneError
from geoasanet.raster.polygons import source
from geoasanet.raster.polygons.source import MapReader
from geoasanet.tools.vectorize import vectorize
from geoasanet.tools.vectorizecluster import StripTask, scan_on_worker
from geoasanet.windows import Window
from tests.cluster import Loopback, running_cluster
from tests.test_faults import spoil
from tests.vectorize.conftest import landscape, write_map

pytest.importorskip("distributed", reason="Dask is not installed")

TILED: dict[str, Any] = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
OUTLINE: dict[str, Any] = {"min_area": 700, "simplify": 15, "workers": 1}


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A scheduler and three workers."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A map of 30 strips and its confidence, by names in a folder that workers do not run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "STRIP_PIXELS", 32 * 150)
    rng = np.random.default_rng(0)
    write_map(tmp_path / "map.tif", landscape(960, 150), **TILED)
    write_map(tmp_path / "sure.tif", rng.random((960, 150), np.float32), schema=None, nodata=None, **TILED)
    return "map.tif", "sure.tif"


def test_the_file_is_the_same_with_a_worker_killed_in_the_middle(
    files: tuple[str, str], tmp_path: Path, loopback: Loopback
) -> None:
    address, workers = loopback
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    whole = vectorize(files[0], confidence=files[1], out="here/out.gpkg", **OUTLINE)
    shares: list[float] = []

    def progress(task: str, done: float, total: float, unit: str = "") -> None:
        if task == "reading map":
            if not shares:
                workers[0].send_signal(signal.SIGKILL)
            shares.append(done / total)

    done = vectorize(
        files[0], confidence=files[1], out="there/out.gpkg", scheduler=address, progress=progress, **OUTLINE
    )
    assert workers[0].wait(10) == -signal.SIGKILL
    assert 0 < shares[0] < 0.1 and len(shares) == 30
    assert done.path.read_bytes() == whole.path.read_bytes()
    assert done.class_area_m2 == whole.class_area_m2


def test_errors_of_workers_are_those_of_this_machine_and_leave_nothing(
    files: tuple[str, str], loopback: Loopback
) -> None:
    options: dict[str, Any] = {"out": "out.gpkg", "scheduler": loopback[0], **OUTLINE}

    def interrupt(task: str, done: float, total: float, unit: str = "") -> None:
        if done > total / 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vectorize(files[0], progress=interrupt, **options)
    spoil(Path(files[0]), Window(320, 32, 32, 32))
    with pytest.raises(SceneError, match=r"map .*map\.tif is unreadable in rows"):
        vectorize(files[0], **options)
    assert not list(Path().glob("*out*")) and not list(Path().glob(".*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "--workers 2 goes with --scheduler local"),
        ({"dry_run": True}, "--dry-run times strips in this process"),
    ],
)
def test_what_a_cluster_does_not_do(files: tuple[str, str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vectorize(files[0], out="out.gpkg", scheduler="tcp://127.0.0.1:1", **options)


def test_another_map_on_a_worker(files: tuple[str, str]) -> None:
    reader = MapReader(files[0], 1)
    task = StripTask(files[0], reader.grid, files[1], ((0, 32), (32, 64)), borders=True)
    reader.close()
    found = scan_on_worker(task)
    assert [scan.runs.row for scan in found] == [0, 32]
    with pytest.raises(SceneError, match="is another one on a worker"):
        scan_on_worker(replace(task, grid=task.grid.crop(Window(0, 0, 32, 32))))
