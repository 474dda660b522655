"""Work on a Dask cluster: the same bytes as on one machine, also when workers die."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import geoasanet as ga
from geoasanet.errors import CheckpointError, ConfigError, SceneError
from geoasanet.inference.blocks import blocks_of
from geoasanet.tools import cluster as cluster_module
from geoasanet.tools.cluster import connect, path_for_workers
from geoasanet.tools.predict import predict
from tests.cluster import Loopback, running_cluster
from tests.conftest import PixelNet
from tests.test_faults import BAD, spoil

pytest.importorskip("distributed", reason="Dask is not installed")

Files = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A scheduler and three workers."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class TestPredict:
    """``predict --scheduler``."""

    def test_the_map_is_the_same_on_any_cluster_with_a_worker_killed_in_the_middle(
        self,
        scene_files: Files,
        checkpoint: Path,
        tmp_path: Path,
        loopback: Loopback,
    ) -> None:
        address, workers = loopback
        rgb, sar = scene_files(1200, 140)
        options: dict[str, Any] = {"checkpoint": checkpoint, "device": "cpu"}
        whole = predict(rgb, sar, out=tmp_path / "whole.tif", confidence=tmp_path / "whole_c.tif", **options)
        shares: list[float] = []

        def progress(task: str, done: float, total: float, unit: str = "") -> None:
            if task == "Mapping" and done:
                if not shares:
                    workers[0].send_signal(signal.SIGKILL)
                shares.append(done / total)

        done = predict(
            rgb, sar, out=tmp_path / "map.tif", confidence=tmp_path / "c.tif", scheduler=address, progress=progress,
            **options,
        )  # fmt: skip
        assert workers[0].wait(10) == -signal.SIGKILL
        assert 0 < shares[0] < 1
        assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
        assert (tmp_path / "c.tif").read_bytes() == (tmp_path / "whole_c.tif").read_bytes()
        assert done.class_pixels == whole.class_pixels
        assert not list(tmp_path.glob(".*"))

    def test_it_goes_on_where_another_kind_of_run_stopped(
        self,
        scene_files: Files,
        checkpoint: Path,
        tmp_path: Path,
        loopback: Loopback,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        rgb, sar = scene_files(1200, 140)
        monkeypatch.chdir(tmp_path)  # workers are elsewhere
        rgb, sar = Path(rgb.name), Path(sar.name)
        options: dict[str, Any] = {"checkpoint": checkpoint, "device": "cpu"}
        whole = predict(rgb, sar, out=tmp_path / "whole.tif", **options)

        def interrupt(task: str, done: float, total: float, unit: str = "") -> None:
            if done > total / 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict(rgb, sar, out=tmp_path / "map.tif", scheduler=loopback[0], progress=interrupt, **options)
        kept = list(tmp_path.glob(".map.tif.partial/classes-*"))
        assert kept
        done = predict(rgb, sar, out=tmp_path / "map.tif", **options)
        assert done.map.read_bytes() == whole.map.read_bytes()

    def test_errors_of_workers_are_those_of_this_machine(
        self,
        scene_files: Files,
        checkpoint: Path,
        tmp_path: Path,
        loopback: Loopback,
    ) -> None:
        tiled = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
        rgb, sar = scene_files(200, 200, **tiled)
        spoil(rgb)
        options: dict[str, Any] = {"checkpoint": checkpoint, "out": tmp_path / "map.tif", "scheduler": loopback[0]}
        with pytest.raises(SceneError, match=r"rgb\.tif is unreadable in rows 32\.\.63.*--on-error"):
            predict(rgb, sar, **options)
        done = predict(rgb, sar, on_error="nodata", **options)
        assert done.nodata_pixels == BAD.height * BAD.width
        assert any("1 block could not be read" in note for note in done.warnings)

    def test_a_cluster_on_this_machine(self, scene_files: Files, checkpoint: Path, tmp_path: Path) -> None:
        rgb, sar = scene_files(300, 140)
        whole = predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "whole.tif", device="cpu")
        done = predict(rgb, sar, checkpoint=checkpoint, out=tmp_path / "map.tif", scheduler="local", gpus=2)
        assert done.map.read_bytes() == whole.map.read_bytes()


class TestRefusals:
    """What cannot be done on a cluster."""

    @pytest.mark.parametrize(
        ("scheduler", "gpus", "message"),
        [
            ("tcp://127.0.0.1:1", 1, "No Dask scheduler answers at tcp://127.0.0.1:1"),
            ("nowhere.json", 1, "neither an address nor a scheduler file"),
            ("tcp://127.0.0.1:1", 2, "--gpus 2 goes with --scheduler local"),
        ],
    )
    def test_a_scheduler_that_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch, scheduler: str, gpus: int, message: str
    ) -> None:
        monkeypatch.setattr(cluster_module, "_ANSWER_SECONDS", 2)
        with pytest.raises(ConfigError, match=message), connect(scheduler, gpus):
            pass

    def test_without_dask(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(ConfigError, match=r"pip install 'geoasanet\[cluster\]'"), connect("local", 1):
            pass

    def test_another_version(self, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
        with connect(loopback[0], 1) as cluster:
            monkeypatch.setattr(ga, "__version__", "0.0.0")
            with pytest.raises(ConfigError, match=r"A worker has geoasanet .*, this process 0\.0\.0"):
                cluster.call(len, "abc")

    def test_another_checkpoint(self, loopback: Loopback, scene_files: Files, checkpoint: Path, tmp_path: Path) -> None:
        import shutil

        own = tmp_path / "own.safetensors"
        shutil.copy(checkpoint, own)
        loaded = ga.load_checkpoint(own)
        own.unlink()
        ga.save_checkpoint(own, loaded.model, classes=loaded.classes, bands=loaded.bands, window_size=128)
        with pytest.raises(CheckpointError, match="is another one on a worker"):
            predict(*scene_files(), checkpoint=loaded, out=tmp_path / "map.tif", scheduler=loopback[0])

    def test_a_model_object_and_a_dry_run(self, loopback: Loopback, scene_files: Files, tmp_path: Path) -> None:
        options: dict[str, Any] = {"out": tmp_path / "map.tif", "scheduler": loopback[0]}
        with pytest.raises(ConfigError, match="found a model object"):
            predict(*scene_files(), model=PixelNet(), classes=list("abcde"), **options)
        with pytest.raises(ConfigError, match="--dry-run times windows in this process"):
            predict(*scene_files(), dry_run=True, **options)


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_blocks_hold_every_row_once(size: int) -> None:
    pending = [range(0, 7), range(9, 10), range(20, 41)]
    blocks = blocks_of(pending, size)
    assert [row for block in blocks for row in block] == [row for run in pending for row in run]
    assert all(0 < len(block) <= size for block in blocks)


def test_names_of_files_for_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b;c.tif"):
        (tmp_path / name).touch()
    here = str(tmp_path)
    assert path_for_workers("a.tif") == f"{here}/a.tif"
    assert path_for_workers("b;c.tif") == f"{here}/b;c.tif"
    assert path_for_workers("a.tif; x/*.tif;https://host/c.tif") == f"{here}/a.tif;{here}/x/*.tif;https://host/c.tif"
    for name in ("https://host/a.tif?b=*", "/vsis3/bucket/a.tif", "<VRTDataset/>", f"{here}/a.tif", "NETCDF:a.nc:x"):
        assert path_for_workers(name) == name
