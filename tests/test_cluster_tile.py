"""``tile`` on a Dask cluster: the dataset of one machine to the byte, also when workers die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from geoasanet.cli.main import main
from geoasanet.errors import ConfigError, LabelError, SceneError
from geoasanet.tools.tile import tile
from geoasanet.windows import Window
from tests.cluster import Loopback, running_cluster
from tests.conftest import write_raster
from tests.test_faults import spoil
from tests.tile.conftest import NAMES, SIZE, label_polygons
from tests.tile.killing import contents

pytest.importorskip("distributed", reason="Dask is not installed")

ROWS, COLUMNS = 20, 4
HEIGHT, WIDTH = ROWS * SIZE, COLUMNS * SIZE
TILED: dict[str, Any] = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}

Arguments = dict[str, Any]


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A scheduler and three workers."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arguments:
    """Two scenes in a list: striped files with polygons, 20 pieces of a row of tiles each, and tiled ones."""
    monkeypatch.chdir(tmp_path)  # names are given relative to a folder that workers do not run in
    rng = np.random.default_rng(3)
    layouts: dict[str, Arguments] = {"striped": {}, "tiled": TILED}
    for folder, options in layouts.items():
        place = tmp_path / folder
        place.mkdir()
        rgb = rng.integers(1, 256, (3, HEIGHT, WIDTH), np.uint8)
        rgb[:, :50, :40] = 0
        write_raster(place / "rgb.tif", rgb, nodata=0, **options)
        write_raster(place / "sar.tif", rng.gamma(4, 0.05, (1, HEIGHT, WIDTH)).astype(np.float32), **options)
        ids = np.kron(rng.integers(0, 3, (HEIGHT // 5 + 1, WIDTH // 7 + 1)), np.ones((5, 7))).astype(np.uint8)
        write_raster(place / "labels.tif", ids[:HEIGHT, :WIDTH], nodata=255)
        label_polygons(ids[:HEIGHT, :WIDTH]).to_file(place / "labels.gpkg")
    lines = [f"{p}/rgb.tif,{p}/sar.tif,{p}/labels.{s}" for p, s in (("striped", "gpkg"), ("tiled", "tif"))]
    Path("list.csv").write_text("\n".join(["rgb,sar,labels", *lines]) + "\n")
    return {"scenes": "list.csv", "size": SIZE, "classes": list(NAMES)}


def test_the_dataset_is_the_same_with_a_worker_killed_in_the_middle(
    files: Arguments, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    address, workers = loopback
    tile(**files, out="whole", workers=2)
    shares: list[float] = []

    def progress(task: str, done: float, total: float, unit: str = "") -> None:
        if task == "Tiling" and done:
            if not shares:
                workers[0].send_signal(signal.SIGKILL)
            shares.append(done / total)

    result = tile(**files, out="dataset", scheduler=address, progress=progress)
    assert workers[0].wait(10) == -signal.SIGKILL
    assert not caplog.records
    assert 0 < shares[0] < 0.5
    assert contents(result.path) == contents(Path("whole"))
    assert not list(Path().glob(".*"))


def test_it_goes_on_where_another_kind_of_run_stopped(files: Arguments, loopback: Loopback) -> None:
    tile(**files, out="whole", workers=2)

    def interrupt(task: str, done: float, total: float, unit: str = "") -> None:
        if task == "Tiling" and done > total / 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tile(**files, out="dataset", scheduler=loopback[0], progress=interrupt)
    kept = {name: content for name, content in contents(Path(".dataset.partial")).items() if name.endswith(".tif")}
    assert kept
    started: list[float] = []

    def note(task: str, done: float, total: float, unit: str = "") -> None:
        if task == "Tiling":
            started.append(done)

    result = tile(**files, out="dataset", progress=note)
    assert started[0] > ROWS * COLUMNS / 4
    assert contents(result.path) == contents(Path("whole"))


def test_errors_of_workers_are_those_of_this_machine(files: Arguments, loopback: Loopback) -> None:
    one: Arguments = {"rgb": "tiled/rgb.tif", "sar": "tiled/sar.tif", "size": SIZE, "scheduler": loopback[0]}
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[200, 30] = 9
    write_raster(Path("tiled/labels.tif"), ids)
    with pytest.raises(LabelError, match=r"list\.csv line 3: .*labels\.tif.*9"):
        tile(**files, out="dataset", scheduler=loopback[0])
    with pytest.raises(LabelError, match=r"labels\.tif.*9"):
        tile(**one, labels="tiled/labels.tif", classes=list(NAMES), out="other")
    spoil(Path("tiled/rgb.tif"), Window(32, 32, 32, 32))
    with pytest.raises(SceneError, match=r"rgb\.tif is unreadable in rows 32\.\.63.*--on-error"):
        tile(**one, out="third")
    result = tile(**one, out="third", on_error="nodata")
    assert any("1 block could not be read" in warning for warning in result.warnings)
    del one["scheduler"]
    tile(**one, out="fourth", on_error="nodata")
    assert contents(result.path) == contents(Path("fourth"))


def test_processes_of_this_machine(files: Arguments) -> None:
    options = ["--scenes", "list.csv", "--size", str(SIZE), "--classes", "schema.yaml", "--json", "--workers", "2"]
    Path("schema.yaml").write_text("classes:\n" + "".join(f"  - {name}\n" for name in NAMES))
    for out, more in (("whole", []), ("dataset", ["--scheduler", "local"])):
        done = CliRunner().invoke(main, ["tile", *options, "-o", out, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert contents(Path("dataset")) == contents(Path("whole"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "--workers 2 goes with --scheduler local"),
        ({"dry_run": True}, "--dry-run times tiles in this process"),
        ({"layout": "pie-rgb-sar"}, "--layout turns an archive into a dataset in this process"),
    ],
)
def test_what_a_cluster_does_not_do(files: Arguments, options: Arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tile(**files, **options, out="dataset", scheduler="tcp://127.0.0.1:1")
