"""Scratch folders of killed runs: found by the next run of the same output, and removed unless someone uses them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from geoasanet import files
from geoasanet.files import atomic_output, clean_up, scratch_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs locks of POSIX")

KILLED = """
import os, signal, sys
from pathlib import Path
from geoasanet.files import atomic_output
with atomic_output(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def hidden(folder: Path) -> list[Path]:
    """Return the scratch folders in ``folder``."""
    return sorted(folder.glob(".*.tmp"))


def names(folder: Path) -> list[str]:
    """Return the names of all that is in ``folder``."""
    return sorted(path.name for path in folder.iterdir())


def left_by_a_killed_run(target: Path) -> Path:
    """Return the scratch folder of a run that was killed while it wrote ``target``."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = hidden(target.parent)
    return folder


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    target = tmp_path / "a.gpkg"
    left_by_a_killed_run(target)
    assert not target.exists()
    with atomic_output(tmp_path / "a") as temporary:  # another output, whose name begins alike
        temporary.write_text("other")
    assert len(hidden(tmp_path)) == 1
    with atomic_output(target) as temporary:
        assert len(hidden(tmp_path)) == 1 and temporary.parent in hidden(tmp_path)
        temporary.write_text("whole")
    assert target.read_text() == "whole" and not hidden(tmp_path)


def test_the_folder_of_a_run_that_lives_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.gpkg"
    with scratch_folder(target) as first, atomic_output(target) as temporary:
        (first / "work").write_text("precious")
        clean_up(target)
        in_another_process = [sys.executable, "-c", f"from geoasanet.files import *; clean_up(Path({str(target)!r}))"]
        subprocess.run(in_another_process, check=True)
        assert (first / "work").read_text() == "precious" and temporary.parent.is_dir()
        temporary.write_text("whole")
    assert names(tmp_path) == ["a.gpkg"]


def test_the_folder_of_another_machine_stays_for_a_day(tmp_path: Path) -> None:
    folder = left_by_a_killed_run(tmp_path / "a.gpkg")
    (folder / ".lock").write_text("another host\nanother kernel\n")
    clean_up(tmp_path / "a.gpkg")
    assert folder.is_dir()
    os.utime(folder, (1, 1))
    clean_up(tmp_path / "a.gpkg")
    assert not folder.exists()


def test_the_same_machine_started_anew_or_in_another_container(tmp_path: Path) -> None:
    for line in (0, 1):
        folder = left_by_a_killed_run(tmp_path / "a.gpkg")
        note = (folder / ".lock").read_text().splitlines()
        note[line] = "another"
        (folder / ".lock").write_text("\n".join(note) + "\n")
        clean_up(tmp_path / "a.gpkg")
        assert not folder.exists()


def test_the_folder_of_another_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left_by_a_killed_run(tmp_path / "a.gpkg")
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    clean_up(tmp_path / "a.gpkg")
    assert folder.is_dir()


def test_killed_while_files_get_their_names(tmp_path: Path) -> None:
    target = tmp_path / "a.shp"
    folder = left_by_a_killed_run(target)
    (folder / "a.dbf").write_text("table")
    with (folder / ".lock").open("a") as lock:
        lock.write("whole\n")
    clean_up(target)
    assert names(tmp_path) == ["a.dbf", "a.shp"] and target.read_text() == "half"


def test_a_folder_without_a_lock_is_a_killed_run_s(tmp_path: Path) -> None:
    (tmp_path / ".a.gpkg.abcdefgh.tmp").mkdir()
    (tmp_path / ".a.gpkg.notrandom.tmp").mkdir()
    clean_up(tmp_path / "a.gpkg")
    assert names(tmp_path) == [".a.gpkg.notrandom.tmp"]


def test_a_new_folder_that_another_run_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, made = files._lock, list[Path]()

    def removed_meanwhile(folder: Path) -> object:
        made.append(folder)
        if len(made) == 1:
            clean_up_now = lock(folder)
            (folder / ".lock").unlink()
            folder.rmdir()
            clean_up_now.close()
        return lock(folder)

    monkeypatch.setattr(files, "_lock", removed_meanwhile)
    with scratch_folder(tmp_path / "a") as folder:
        assert folder == made[1] and folder.is_dir()
    assert not names(tmp_path)


def test_without_locks_nothing_is_ever_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = left_by_a_killed_run(tmp_path / "a")
    monkeypatch.setattr(files, "fcntl", None)
    with atomic_output(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert left.is_dir() and (tmp_path / "a").read_text() == "whole"
