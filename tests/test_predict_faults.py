"""``predict`` when things go wrong on the way: named, survived, or left so that the same command goes on."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import ConfigError, DeviceError, OutputError, OutputExistsError, SceneError
from geoasanet.files import atomic_output
from geoasanet.inference import mapping
from geoasanet.inference.predictor import Predictor
from geoasanet.interrupt import interruptible, unfinished
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.readback import check_whole, count_values, written
from geoasanet.raster.scene import Scene
from geoasanet.tools import dryrun
from geoasanet.tools.predict import predict
from geoasanet.tools.published import Published
from geoasanet.windows import Window
from tests.conftest import ROOT, PixelNet, write_raster
from tests.test_faults import BAD, spoil

Files = Callable[..., tuple[Path, Path]]
CLASSES = ["water", "forest", "field", "town", "bare"]
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}


def start(*arguments: object, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """Start ``geoasanet predict`` as a user would."""
    command = [sys.executable, "-m", "geoasanet", "predict", *map(str, arguments), "--no-progress", "-v"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finished_pieces(folder: Path) -> int:
    return len(list(folder.glob(".*.partial/classes-*.tif")))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    assert condition(), process.communicate(timeout=60)


class TestUnreadableBlocks:
    """``--on-error``."""

    @pytest.fixture
    def spoilt(self, scene_files: Files) -> tuple[Path, Path]:
        rgb, sar = scene_files(**TILED)
        spoil(rgb)
        return rgb, sar

    def test_the_file_and_the_block_are_named_and_nothing_is_left(
        self, spoilt: tuple[Path, Path], tmp_path: Path
    ) -> None:
        with pytest.raises(SceneError, match=r"rgb\.tif is unreadable in rows 32\.\.63, columns 64\.\.95.*--on-error"):
            predict(*spoilt, model=PixelNet(), classes=CLASSES, out=tmp_path / "map.tif", window=64)
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "map"))) == []

    def test_their_pixels_are_nodata_and_all_others_mapped(self, spoilt: tuple[Path, Path], tmp_path: Path) -> None:
        out = tmp_path / "map.tif"
        done = predict(*spoilt, model=PixelNet(), classes=CLASSES, out=out, window=64, on_error="nodata")
        with rasterio.open(out) as dataset:
            missing = dataset.read(1) == NODATA
        expected = np.zeros_like(missing)
        expected[BAD.slices] = True
        np.testing.assert_array_equal(missing, expected)
        assert done.nodata_pixels == BAD.height * BAD.width
        (note,) = (w for w in done.warnings if "could not be read" in w)
        assert "1 block" in note and "rows 32..63, columns 64..95" in note

    def test_a_run_that_failed_goes_on_with_the_option(self, scene_files: Files, tmp_path: Path) -> None:
        rgb, sar = scene_files(500, 131, **TILED)
        spoil(rgb, Window(416, 64, 32, 32))
        options: dict[str, Any] = {"model": PixelNet(), "classes": CLASSES, "window": 64}
        whole = predict(rgb, sar, out=tmp_path / "whole.tif", on_error="nodata", **options)
        with pytest.raises(SceneError, match="unreadable"):
            predict(rgb, sar, out=tmp_path / "map.tif", **options)
        assert finished_pieces(tmp_path) > 2
        done = predict(rgb, sar, out=tmp_path / "map.tif", on_error="nodata", **options)
        assert done.map.read_bytes() == whole.map.read_bytes() and done.warnings == whole.warnings

    def test_a_run_that_goes_on_still_tells_of_them(
        self, spoilt: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options: dict[str, Any] = {"model": PixelNet(), "classes": CLASSES, "window": 64, "on_error": "nodata"}
        whole = predict(*spoilt, out=tmp_path / "whole.tif", **options)
        genuine = mapping.map_rows

        def failing(*arguments: Any) -> Iterator[Any]:
            rows = genuine(*arguments)
            yield from (next(rows) for _ in range(2))
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(mapping, "map_rows", failing)
            with pytest.raises(KeyboardInterrupt):
                predict(*spoilt, out=tmp_path / "map.tif", **options)
        assert finished_pieces(tmp_path)
        with pytest.raises(ConfigError, match=r"left out what it could not read.*1 block.*--on-error nodata"):
            predict(*spoilt, out=tmp_path / "map.tif", **options | {"on_error": "fail"})
        done = predict(*spoilt, out=tmp_path / "map.tif", **options)
        assert done.warnings == whole.warnings
        assert done.map.read_bytes() == whole.map.read_bytes()


def test_no_thread_reads_on_after_an_error(scene_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is closed while another thread reads it ends the process."""

    class Failing(PixelNet):
        def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
            raise MemoryError

    genuine = Scene.read_layer

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.02)
        return genuine(*arguments)

    monkeypatch.setattr(Scene, "read_layer", slowly)
    with pytest.raises(DeviceError) as kept:
        predict(*scene_files(1500, 64), model=Failing(), classes=CLASSES, out=tmp_path / "map.tif", window=64)
    assert kept.tb is not None  # the frames are alive, as in a debugger
    assert not [thread for thread in threading.enumerate() if thread.name == "geoasanet-read"]


class TestFullDisk:
    """Said, resumable, and never half a map."""

    def test_while_rows_are_kept(self, scene_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rgb, sar = scene_files(400, 131)
        options: dict[str, Any] = {"model": PixelNet(), "classes": CLASSES, "window": 64}
        whole = predict(rgb, sar, out=tmp_path / "whole.tif", **options)
        fsync, calls = os.fsync, []

        def full(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) > 4:
                raise OSError(28, "No space left on device")
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match=r"classes-.*No space left on device.*goes on"):
                predict(rgb, sar, out=tmp_path / "map.tif", **options)
        assert finished_pieces(tmp_path) == 3  # the first file is the journal
        assert not (tmp_path / "map.tif").exists()
        done = predict(rgb, sar, out=tmp_path / "map.tif", **options)
        assert done.map.read_bytes() == whole.map.read_bytes()

    @pytest.mark.parametrize("product", ["map", "confidence"])
    def test_files_that_cannot_grow_are_never_taken_as_whole(self, tmp_path: Path, product: str) -> None:
        """GDAL does not say so when the last bytes of a file are lost."""
        from geoasanet.raster.grid import Grid
        from geoasanet.sample import RowBand

        rng = np.random.default_rng(0)
        grid = Grid(rasterio.crs.CRS.from_epsg(32650), rasterio.Affine(10, 0, 5e5, 0, -10, 3e6), 600, 700)
        spool = RowSpool(tmp_path / "spool", grid)
        for row in range(0, 600, 150):
            classes = rng.integers(0, 6, (150, 700)).astype(np.uint8)
            spool.write(RowBand(row, classes, rng.random((150, 700), dtype=np.float32)))
        schema, out = ClassSchema.from_names(list("abcdef")), tmp_path / f"{product}.tif"

        def write() -> None:
            with written(out, "It goes on."), atomic_output(out) as temporary:
                if product == "map":
                    spool.write_map(temporary, schema, {}, spool.counts()[0])
                else:
                    spool.write_confidence(temporary, {})

        write()
        whole = out.read_bytes()
        out.unlink()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            for share in (0.01, 0.2, 0.5, 0.7, 0.9, 0.97, 0.999):
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(len(whole) * share), before[1]))
                with pytest.raises(OutputError, match=rf"{product}\.tif.*(cannot|could not) be written.*It goes on"):
                    write()
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
                assert not out.exists()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        write()
        assert out.read_bytes() == whole

    def test_too_little_room_is_said_before_the_work(
        self, scene_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = dryrun.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(dryrun.shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(OutputError, match=r"Not enough room in .* are needed, 1 kB are free"):
            predict(*scene_files(), model=PixelNet(), classes=CLASSES, out=tmp_path / "map.tif", window=64)
        assert not list(tmp_path.glob(".*"))


def test_pieces_that_a_power_cut_damaged_are_mapped_again(
    scene_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, sar = scene_files(300, 131)
    options: dict[str, Any] = {"model": PixelNet(), "classes": CLASSES, "window": 64, "confidence": tmp_path / "c.tif"}
    whole = predict(rgb, sar, out=tmp_path / "whole.tif", **options)
    bytes_of = [path.read_bytes() for path in (whole.map, tmp_path / "c.tif")]
    with monkeypatch.context() as patch:
        patch.setattr(RowSpool, "write_map", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(rgb, sar, out=tmp_path / "map.tif", overwrite=True, **options)
    classes = sorted(tmp_path.glob(".map.tif.partial/classes-*"))
    confidence = sorted(tmp_path.glob(".map.tif.partial/confidence-*"))
    os.truncate(classes[0], classes[0].stat().st_size // 2)
    os.truncate(classes[1], 0)
    os.truncate(confidence[3], confidence[3].stat().st_size * 2 // 3)
    done = predict(rgb, sar, out=tmp_path / "map.tif", overwrite=True, **options)
    assert any("3 damaged pieces" in note for note in done.warnings), done.warnings
    assert [path.read_bytes() for path in (done.map, tmp_path / "c.tif")] == bytes_of


@pytest.mark.parametrize("last", ["confidence", "map", "polygons", "quicklook"])
def test_outputs_that_a_killed_run_has_finished_are_known_for_its_own(
    scene_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    rgb, sar = scene_files(150, 131)

    def options(folder: Path) -> dict[str, Any]:
        folder.mkdir()
        extras = {"confidence": folder / "c.tif", "vectorize": folder / "p.gpkg", "quicklook": folder / "q.png"}
        return {"model": PixelNet(), "classes": CLASSES, "window": 64, "out": folder / "map.tif", **extras}

    expected = predict(rgb, sar, **options(tmp_path / "expected"))
    genuine = Published.output

    @contextlib.contextmanager
    def killed(self: Published, out: Path) -> Iterator[Path]:
        with genuine(self, out) as temporary:
            yield temporary
        if out.name == {"confidence": "c.tif", "map": "map.tif", "polygons": "p.gpkg", "quicklook": "q.png"}[last]:
            raise KeyboardInterrupt

    found = options(tmp_path / "found")
    with monkeypatch.context() as patch:
        patch.setattr(Published, "output", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(rgb, sar, **found)
    with pytest.raises(OutputExistsError):
        predict(rgb, sar, **found, resume=False)
    done = predict(rgb, sar, **found)
    assert done.class_pixels == expected.class_pixels
    assert not list((tmp_path / "found").glob(".*"))
    for name in ("map.tif", "map.tif.aux.xml", "c.tif", "q.png"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    with pytest.raises(OutputExistsError):
        predict(rgb, sar, **found)


def test_a_file_put_there_since_is_not_replaced(
    scene_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, sar = scene_files(150, 131)
    options: dict[str, Any] = {"model": PixelNet(), "classes": CLASSES, "window": 64, "confidence": tmp_path / "c.tif"}
    with monkeypatch.context() as patch:
        patch.setattr(RowSpool, "write_map", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(rgb, sar, out=tmp_path / "map.tif", **options)
    (tmp_path / "c.tif").write_bytes(b"another's")
    with pytest.raises(OutputExistsError, match=r"c\.tif exists"):
        predict(rgb, sar, out=tmp_path / "map.tif", **options)


class TestMemory:
    """Smaller batches, then a clear end."""

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("x"), RuntimeError("… can't allocate memory: you …")])
    def test_windows_are_run_in_smaller_batches(self, scene_files: Files, tmp_path: Path, error: Exception) -> None:
        class Small(PixelNet):
            def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
                if len(rgb) > 2:
                    raise error
                return super().forward(rgb, sar)

        rgb, sar = scene_files()
        options: dict[str, Any] = {"classes": CLASSES, "window": 64}
        whole = predict(rgb, sar, model=PixelNet(), out=tmp_path / "whole.tif", **options)
        done = predict(rgb, sar, model=Small(), out=tmp_path / "map.tif", batch_size=8, **options)
        assert any("batch size lowered to 2" in note for note in done.warnings)
        with rasterio.open(done.map) as found, rasterio.open(whole.map) as expected:
            np.testing.assert_array_equal(found.read(), expected.read())

    def test_one_window_too_many_is_said(self, scene_files: Files, tmp_path: Path) -> None:
        class Large(PixelNet):
            def forward(self, rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
                raise MemoryError

        with pytest.raises(DeviceError, match="not enough memory for one window of 64 pixels"):
            predict(*scene_files(), model=Large(), classes=CLASSES, out=tmp_path / "map.tif", window=64)

    def test_other_failures_of_the_network_are_not_taken_for_it(self) -> None:
        def broken(rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("shapes do not fit")

        predictor = Predictor(broken, None, 2, device=torch.device("cpu"))
        from tests.test_arithmetic import sample

        with pytest.raises(RuntimeError, match="shapes do not fit"):
            list(predictor.run([sample(1)]))


class TestWorkers:
    """Processes that die."""

    @pytest.fixture
    def scene(self, scene_files: Files) -> tuple[Path, Path]:
        return scene_files(1200, 300)

    @staticmethod
    def workers_of(process: subprocess.Popen[str]) -> list[int]:
        def children(pid: int) -> list[int]:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

        if not Path(f"/proc/{process.pid}/task/{process.pid}/children").exists():
            pytest.skip("needs /proc to find the workers")
        found = []
        for pid in children(process.pid):
            with contextlib.suppress(OSError):  # a child of another kind that has just ended
                if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text():
                    found += children(pid)
        return found

    def test_the_others_map_what_a_dead_one_left(
        self, scene: tuple[Path, Path], checkpoint: Path, tmp_path: Path
    ) -> None:
        whole = predict(*scene, checkpoint=checkpoint, out=tmp_path / "whole.tif", device="cpu")
        run = start(*scene, "-c", checkpoint, "-o", "map.tif", "--gpus", 2, "--device", "cpu", cwd=tmp_path)
        wait_for(lambda: finished_pieces(tmp_path) > 0, run)
        os.kill(self.workers_of(run)[1], signal.SIGKILL)
        _, err = run.communicate(timeout=240)
        assert run.returncode == 0, err
        assert "Worker 2 died (SIGKILL); what it had left was mapped by others." in err
        assert "Traceback" not in err
        assert (tmp_path / "map.tif").read_bytes() == whole.map.read_bytes()

    def test_when_all_die_at_the_start_it_ends(
        self, scene: tuple[Path, Path], checkpoint: Path, tmp_path: Path
    ) -> None:
        run = start(*scene, "-c", checkpoint, "-o", "map.tif", "--gpus", 2, "--device", "cpu", cwd=tmp_path)
        wait_for(lambda: len(self.workers_of(run)) == 2, run)
        for pid in self.workers_of(run):
            os.kill(pid, signal.SIGKILL)
        _, err = run.communicate(timeout=240)
        assert run.returncode == 1
        assert "Error: Worker" in err and "died (SIGKILL)" in err and "goes on where it stopped" in err
        assert "Traceback" not in err and not (tmp_path / "map.tif").exists()


class TestInterruption:
    """Ctrl-C."""

    @pytest.mark.parametrize("gpus", [1, 2])
    def test_it_stops_at_once_and_the_same_command_goes_on(
        self, scene_files: Files, checkpoint: Path, tmp_path: Path, gpus: int
    ) -> None:
        scene = scene_files(1500, 300)
        whole = predict(*scene, checkpoint=checkpoint, out=tmp_path / "whole.tif", device="cpu")
        arguments = (*scene, "-c", checkpoint, "-o", "map.tif", "--gpus", gpus, "--device", "cpu")
        run = start(*arguments, cwd=tmp_path, start_new_session=True)
        wait_for(lambda: finished_pieces(tmp_path) > 1, run)
        begun = time.monotonic()
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, err = run.communicate(timeout=60)
        assert time.monotonic() - begun < 30  # seconds on an idle machine
        assert run.returncode == 130
        assert err.rstrip().endswith("Interrupted; the same command goes on where it stopped.")
        assert "Traceback" not in err and not (tmp_path / "map.tif").exists()
        kept = finished_pieces(tmp_path)
        assert kept > 1
        done = predict(*scene, checkpoint=checkpoint, out=tmp_path / "map.tif", device="cpu", gpus=gpus)
        assert done.map.read_bytes() == whole.map.read_bytes()

    def test_a_long_call_of_a_library_does_not_hold_it_up(self) -> None:
        def interrupt() -> None:
            time.sleep(0.2)
            signal.raise_signal(signal.SIGINT)
            time.sleep(1.0)

        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            interruptible(interrupt)
        assert time.monotonic() - begun < 0.9
        assert unfinished()
        time.sleep(1.2)
        assert not unfinished()

    def test_what_such_a_call_gives_or_raises_arrives(self) -> None:
        assert interruptible(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            interruptible(lambda: 1 // 0)
        assert not unfinished()


class TestReadBack:
    """What was written is read once more."""

    def test_a_file_cut_off_is_found(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 6, (600, 700), np.uint8)
        path = write_raster(tmp_path / "map.tif", pixels, compress="deflate", tiled=True, blockxsize=64, blockysize=64)
        counts = np.bincount(pixels.ravel(), minlength=256)
        check_whole(path, counts)
        with pytest.raises(OutputError, match=r"map\.tif does not hold what was written"):
            check_whole(path, np.roll(counts, 1))
        os.truncate(path, path.stat().st_size - 10)
        with pytest.raises(OutputError, match=r"map\.tif could not be written as a whole"):
            check_whole(path)

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 1001])
    def test_values_are_counted(self, size: int) -> None:
        values = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
        counts = np.ones(256, np.int64)
        count_values(values, counts)
        np.testing.assert_array_equal(counts - 1, np.bincount(values, minlength=256))


class TestDryRun:
    """``--dry-run``."""

    def test_it_says_what_would_be_done_and_writes_nothing(
        self, scene_files: Files, checkpoint: Path, tmp_path: Path
    ) -> None:
        rgb, sar = scene_files(300, 140)
        before = sorted(tmp_path.rglob("*"))
        options: dict[str, Any] = {"checkpoint": checkpoint, "out": tmp_path / "map.tif", "device": "cpu"}
        plan = predict(rgb, sar, confidence=tmp_path / "c.tif", dry_run=True, **options)
        assert sorted(tmp_path.rglob("*")) == before
        done = predict(rgb, sar, **options)
        assert plan.work[0].unit == "windows" and plan.work[0].total == done.windows and plan.work[0].done == 0
        assert [file.path for file in plan.outputs] == [str(tmp_path / "map.tif"), str(tmp_path / "c.tif")]
        assert [(file.role, file.width, file.height) for file in plan.inputs[:2]] == [
            ("RGB", 140, 300),
            ("SAR", 140, 300),
        ]
        assert plan.seconds is not None and 0 < plan.seconds < 300
        assert plan.memory_bytes is not None and 1e8 < plan.memory_bytes < 1e10
        assert "windows timed" in plan.basis
        json.dumps(plan.to_dict())

    def test_it_counts_what_an_unfinished_run_has_done(
        self, scene_files: Files, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rgb, sar = scene_files(300, 140)
        options: dict[str, Any] = {"checkpoint": checkpoint, "out": tmp_path / "map.tif", "device": "cpu"}
        with monkeypatch.context() as patch:
            patch.setattr(RowSpool, "write_map", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                predict(rgb, sar, **options)
        next(iter(tmp_path.glob(".map.tif.partial/classes-*"))).unlink()
        plan = predict(rgb, sar, dry_run=True, **options)
        columns = len({w.col for w in mapping.Tiling.over(300, 140, size=64, overlap=16)})
        assert plan.work[0].remaining == columns
        assert predict(rgb, sar, dry_run=True, resume=False, **options).work[0].done == 0
        assert finished_pieces(tmp_path) == plan.work[0].total // columns - 1

    def test_it_finds_what_the_run_would_stumble_over(self, scene_files: Files, tmp_path: Path) -> None:
        rgb, sar = scene_files()
        model: dict[str, Any] = {"model": PixelNet(), "classes": CLASSES, "window": 64, "dry_run": True}
        with pytest.raises(OutputError, match="exists"):
            predict(rgb, sar, out=write_raster(tmp_path / "map.tif", np.zeros((9, 9), np.uint8)), **model)
        with pytest.raises(SceneError, match="does not exist"):
            predict(rgb, tmp_path / "none.tif", **model)

    def test_a_scene_without_data_has_no_time(self, make_raster: Callable[..., Path], tmp_path: Path) -> None:
        rgb = make_raster("rgb.tif", np.zeros((3, 90, 90), np.uint8), nodata=0)
        sar = make_raster("sar.tif", np.ones((1, 90, 90), np.float32))
        plan = predict(rgb, sar, model=PixelNet(), classes=CLASSES, out=tmp_path / "m.tif", window=64, dry_run=True)
        assert plan.seconds is None and "no window with valid pixels" in plan.basis


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_same_run_twice_gives_the_same_bytes(
    scene_files: Files, checkpoint: Path, tmp_path: Path, batch_size: int
) -> None:
    rgb, sar = scene_files(200, 240)
    found = []
    for name in ("a", "b"):
        out, confidence = tmp_path / f"{name}.tif", tmp_path / f"{name}_c.tif"
        predict(rgb, sar, checkpoint=checkpoint, out=out, confidence=confidence, device="cpu", batch_size=batch_size)
        found.append((out.read_bytes(), confidence.read_bytes()))
    assert found[0] == found[1]
