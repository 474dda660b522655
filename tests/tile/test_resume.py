"""An interrupted ``tile`` goes on where it stopped, and its dataset is that of an uninterrupted run to the byte."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoasanet.errors import ConfigError, LabelError, OutputError, OutputExistsError
from geoasanet.raster import tilefile, tiles
from geoasanet.tools import tilefolder, tilejob, tilejournal
from geoasanet.tools.journal import open_journal
from geoasanet.tools.tile import tile
from tests.conftest import ROOT, write_raster
from tests.tile.conftest import NAMES, SIZE, label_polygons
from tests.tile.killing import contents

Arguments = dict[str, Any]

ROWS, COLUMNS = 20, 4
HEIGHT, WIDTH = ROWS * SIZE, COLUMNS * SIZE


@pytest.fixture
def files(tmp_path: Path) -> Arguments:
    """A scene of 20 pieces (one row of tiles each, as its files are striped) with holes, and polygons as labels."""
    rng = np.random.default_rng(3)
    rgb = rng.integers(1, 256, (3, HEIGHT, WIDTH), np.uint8)
    rgb[:, :50, :40] = 0
    ids = np.kron(rng.integers(0, 3, (HEIGHT // 5 + 1, WIDTH // 7 + 1)), np.ones((5, 7))).astype(np.uint8)
    folder = tmp_path / "scene"
    folder.mkdir()
    write_raster(folder / "rgb.tif", rgb, nodata=0)
    write_raster(folder / "sar.tif", rng.gamma(4, 0.05, (1, HEIGHT, WIDTH)).astype(np.float32))
    label_polygons(ids[:HEIGHT, :WIDTH]).to_file(folder / "labels.gpkg")
    paths = {name: str(folder / f"{name}.tif") for name in ("rgb", "sar")}
    return {**paths, "labels": str(folder / "labels.gpkg"), "size": SIZE, "classes": list(NAMES)}


class Stop(BaseException):
    """Ends a run as a signal would."""


def interrupted(arguments: Arguments, out: Path, monkeypatch: pytest.MonkeyPatch, pieces: int = 5) -> Path:
    """Run ``tile`` until it has finished some pieces; return the folder that it leaves."""
    genuine = tilejournal.TileJournal.add
    count = 0

    def add(self: tilejournal.TileJournal, entry: tilejournal.Entry) -> None:
        nonlocal count
        genuine(self, entry)
        count += 1
        if count == pieces:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(tilejournal.TileJournal, "add", add)
        with pytest.raises(Stop):
            tile(**arguments, out=out)
    partial = out.with_name(f".{out.name}.partial")
    assert partial.is_dir() and not out.exists()
    return partial


def pieces_cut(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with the pieces that are cut from now on."""
    cut: list[int] = []
    genuine = tiles._Cutter.__call__

    def call(self: Any, place: int, *rest: Any) -> Any:
        cut.append(place)
        return genuine(self, place, *rest)

    monkeypatch.setattr(tiles._Cutter, "__call__", call)
    return cut


def killing(arguments: Arguments, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    folder.mkdir()
    request = {"arguments": arguments, "folder": str(folder), "kills": kills, "seed": seed}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tile.killing", json.dumps(request)],
        cwd=ROOT, capture_output=True, text=True, timeout=60 + 5 * kills, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.sweep)])
def test_killed_at_random_moments(files: Arguments, tmp_path: Path, workers: int, kills: int) -> None:
    found = killing({**files, "workers": workers}, tmp_path / "out", kills, seed=workers)
    assert found["wrong"] == [] and found["kills"] == kills and found["finished"] >= 1
    assert found["resumed"] >= max(1, kills // 10), "too few kills fell into the work"
    assert found["left"] == ["whole"]


@pytest.mark.parametrize("format", ["tif", "png"])
def test_only_what_is_missing_is_done(
    files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    arguments = {**files, "format": format}
    if format == "png":
        arguments["sar_scale"] = "none"
        write_raster(Path(files["sar"]), np.random.default_rng(0).integers(0, 9, (1, HEIGHT, WIDTH)).astype(np.uint16))
    whole = tile(**arguments, out=tmp_path / "whole")
    interrupted(arguments, tmp_path / "out", monkeypatch)
    cut = pieces_cut(monkeypatch)
    seen: list[tuple[str, float, float]] = []

    def progress(task: str, done: float, total: float, unit: str = "") -> None:
        seen.append((task, done, total))

    found = tile(**arguments, out=tmp_path / "out", workers=1, progress=progress)
    assert len(cut) == 15 and contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert ("Tiling", 5 * COLUMNS, ROWS * COLUMNS) in seen and seen[0] == ("Checking", 1, 5)
    assert (found.tiles, found.left_out, found.class_weights) == (whole.tiles, whole.left_out, whole.class_weights)
    assert {p.name for p in tmp_path.iterdir()} == {"scene", "whole", "out"}


def test_files_that_were_lost_or_spoilt_are_made_again(
    files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut: what was written last may be missing, empty or blank."""
    tile(**files, out=tmp_path / "whole")
    partial = interrupted({**files, "workers": 1}, tmp_path / "out", monkeypatch)
    entries = tilejournal.read_entries(partial)
    images = [sorted(entry["files"]) for entry in entries]
    (partial / "data" / images[0][0]).write_bytes(b"")
    (partial / "data" / images[1][-1]).unlink()
    blank = partial / "data" / images[2][3]
    blank.write_bytes(bytes(blank.stat().st_size))
    (partial / "data/rgb/.x.tif.tmp").write_bytes(b"half")
    (partial / "data/rgb/stray.tif").write_bytes(b"of a piece that was not finished")
    with (partial / "pieces.jsonl").open("ab") as file:
        file.write(b'{"scene":0,"piece":5,"rec')
    cut = pieces_cut(monkeypatch)
    tile(**files, out=tmp_path / "out")
    assert sorted(cut) == sorted({e["piece"] for e in entries[:3]} | set(range(20)) - {e["piece"] for e in entries})
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_second_interruption_after_a_line_that_was_cut_off(
    files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = interrupted({**files, "workers": 1}, tmp_path / "out", monkeypatch, pieces=3)
    with (partial / "pieces.jsonl").open("ab") as file:
        file.write(b'{"scene":0,"pi')
    interrupted({**files, "workers": 1}, tmp_path / "out", monkeypatch, pieces=3)
    assert len(tilejournal.read_entries(partial)) == 6


def test_other_inputs_or_options_are_refused(files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    interrupted(files, out, monkeypatch)
    with pytest.raises(ConfigError, match=r"differs in min_valid \(0\.5 then, 0\.25 now\).*add --no-resume"):
        tile(**files, out=out, min_valid=0.25)
    with pytest.raises(ConfigError, match=r"differs in .*size \(16 then, 32 now\)"):
        tile(**{**files, "size": 32}, out=out, dry_run=True)
    os.utime(files["sar"])
    with pytest.raises(ConfigError, match=r"differs in sar \(the file was changed\)"):
        tile(**files, out=out)
    cut = pieces_cut(monkeypatch)
    tile(**files, out=out, resume=False)
    assert len(cut) == 20


def test_work_that_cannot_be_gone_on_with_is_removed(
    files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise LabelError("Labels hold 77.")

    with monkeypatch.context() as patch:
        patch.setattr(tilejob, "finish", broken)
        with pytest.raises(LabelError):
            tile(**files, out=tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"scene"}


def test_killed_while_old_and_new_change_places(
    files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    tile(**{**files, "size": 32}, out=out)
    old = contents(out)
    tile(**files, out=tmp_path / "whole")
    genuine = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "data":
            raise Stop
        return genuine(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(Stop):
            tile(**files, out=out, overwrite=True)
    assert not out.exists()
    with pytest.raises(OutputExistsError):
        tile(**files, out=out)
    assert contents(out) == old
    cut = pieces_cut(monkeypatch)
    tile(**files, out=out, overwrite=True)
    assert cut == [] and contents(out) == contents(tmp_path / "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"scene", "whole", "out"}


@pytest.mark.parametrize("name", ["rgb_00128_00016.tif", "pieces.jsonl", "train.txt", "dataset.yaml"])
def test_a_full_disk(files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    number = errno.ENOSPC
    tile(**files, out=tmp_path / "whole")
    genuine, opened = Path.open, 0

    def open_(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        nonlocal opened
        if name in self.name and mode[0] in "wa":
            opened += 1
            if name != "pieces.jsonl" or opened > 4:
                raise OSError(number, os.strerror(number), str(self))
        return genuine(self, mode, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        with pytest.raises(OutputError, match=rf"{name}.* cannot be written: {os.strerror(number)}") as caught:
            tile(**files, out=tmp_path / "out", workers=1)
    assert "the same command goes on" in caught.value.hint and not (tmp_path / "out").exists()
    cut = pieces_cut(monkeypatch)
    tile(**files, out=tmp_path / "out")
    assert len(cut) < 20 and contents(tmp_path / "out") == contents(tmp_path / "whole")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from geoasanet.cli.main import main
main(sys.argv[2:])
"""


def command(files: Arguments, out: Path) -> list[str]:
    named = ["--labels", files["labels"], "--size", str(files["size"]), "-o", str(out), "--workers", "2"]
    return ["tile", files["rgb"], files["sar"], *named]


@pytest.mark.parametrize("limit", [300, 6000, 60_000])
def test_a_limit_on_file_sizes(files: Arguments, tmp_path: Path, limit: int) -> None:
    """A real write error of the system: at the start, in the journal, in tiles.gpkg."""
    arguments = command(files, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    error = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and error.startswith("Error: ") and "bug" not in error, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial").exists() == (limit > 300)
    again = subprocess.run(
        [sys.executable, "-m", "geoasanet", *arguments], capture_output=True, timeout=60, check=False
    )
    assert again.returncode == 0 and (tmp_path / "out/dataset.yaml").is_file()
    assert not (tmp_path / ".out.partial").exists()


def test_ctrl_c(files: Arguments, tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(1, 255, (3, 1024, 1024), np.uint8)
    write_raster(Path(files["rgb"]), big)
    write_raster(Path(files["sar"]), big[:1])
    arguments = command({**files, "size": 8}, tmp_path / "out")
    run = [sys.executable, "-m", "geoasanet", *arguments]
    process = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / ".out.partial/pieces.jsonl"
    until = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < until:
        time.sleep(0.01)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - asked < 10
    assert "the same command goes on where it stopped" in text and "Traceback" not in text
    assert journal.exists() and not (tmp_path / "out").exists()


def test_two_runs_at_a_time(files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused, with or without --no-resume, and the first goes on."""
    genuine = tilejournal.TileJournal.add
    refused: list[str] = []

    def add(self: tilejournal.TileJournal, entry: tilejournal.Entry) -> None:
        genuine(self, entry)
        if not refused:
            for resume in (True, False):
                with pytest.raises(ConfigError, match="Another run works in") as caught:
                    tile(**files, out=tmp_path / "out", resume=resume)
                refused.append(str(caught.value))

    monkeypatch.setattr(tilejournal.TileJournal, "add", add)
    tile(**files, out=tmp_path / "out")
    assert len(refused) == 2 and {p.name for p in tmp_path.iterdir()} == {"scene", "out"}


def test_an_archive_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, rng = tmp_path / "archive", np.random.default_rng(0)
    for kind, bands, top in (("optical", 3, 256), ("sar", 1, 256), ("lbl", 1, 8)):
        (root / kind).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, top, (bands, 70, 50), np.uint8) * (10 if kind == "lbl" else 1)
            write_raster(root / kind / f"N{number}.tif", pixels)
    arguments = {"rgb": root, "layout": "whu-opt-sar", "size": 32}
    tile(**arguments, out=tmp_path / "whole")
    interrupted(arguments, tmp_path / "out", monkeypatch, pieces=4)
    done: list[float] = []
    with pytest.raises(ConfigError, match=r"differs in seed \(0 then, 1 now\)"):
        tile(**arguments, out=tmp_path / "out", seed=1)
    tile(
        **arguments,
        out=tmp_path / "out",
        progress=lambda task, count, *_: done.append(count) if task == "Tiling" else None,
    )
    assert done == [4, 5, 6] and contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (tmp_path / "out/tiles.gpkg").exists()


def test_an_exception_in_a_thread_ends_the_run(
    files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = tiles._Cutter.__call__

    def call(self: Any, place: int, *rest: Any) -> Any:
        if place == 7:
            raise MemoryError
        return genuine(self, place, *rest)

    monkeypatch.setattr(tiles._Cutter, "__call__", call)
    with pytest.raises(MemoryError):
        tile(**files, out=tmp_path / "out", workers=2)
    assert (tmp_path / ".out.partial/pieces.jsonl").exists()


def test_a_journal_that_a_power_cut_emptied_is_none(tmp_path: Path) -> None:
    folder = tmp_path / ".out.partial"
    assert not open_journal(folder, {"a": 1}, resume=True)
    (folder / "journal.json").write_bytes(b"\0" * 10)
    assert not open_journal(folder, {"a": 2}, resume=True) and open_journal(folder, {"a": 2}, resume=True)


def test_a_file_appears_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    tilefile.save_bytes(path, b"old")

    def write_bytes(self: Path, data: bytes) -> Iterator[None]:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OutputError, match=r"a\.tif cannot be written: No space left on device"):
        tilefile.save_bytes(path, b"new and longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_disk_is_asked_before_the_dataset_gets_its_name(
    files: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    settle: Callable[[Path], None] = tilefolder._settle
    rename = Path.rename
    monkeypatch.setattr(tilefolder, "_settle", lambda folder: (order.append("settle"), settle(folder))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (order.append("rename"), rename(self, to))[1])
    tile(**files, out=tmp_path / "out")
    assert order == ["settle", "rename", "settle"]
