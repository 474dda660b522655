"""How worker processes start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from geoasanet.inference import starting
from geoasanet.inference.starting import worker_context

linux = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")

SCRIPT = """
import sys

from geoasanet.inference.starting import prepare_workers, worker_context


def tell(pipe):
    pipe.send([name for name in ("torch", "timm", "torchvision", "numba", "__mp_main__") if name in sys.modules])


if __name__ == "__main__":
    prepare_workers("cpu")
    print("torch" in sys.modules)
    context = worker_context("cpu")
    here, there = context.Pipe()
    process = context.Process(target=tell, args=(there,))
    process.start()
    print(*here.recv())
    process.join()
"""


@linux
def test_workers_find_the_libraries_imported_by_another_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=240)
    assert found.stdout.splitlines() == ["False", "torch timm torchvision numba __mp_main__"]


@linux
def test_processes_that_use_a_device_are_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting.multiprocessing.forkserver, "ensure_running", lambda: pytest.fail("server started"))
    assert worker_context("cuda:1").get_start_method() == "spawn"


@linux
@pytest.mark.parametrize("drivers", [True, False])
def test_auto_is_the_cpu_where_no_driver_is_seen(
    drivers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []
    monkeypatch.setattr(starting.multiprocessing.forkserver, "ensure_running", lambda: started.append(True))
    monkeypatch.setattr(starting, "_DEVICE_FILES", (str(tmp_path / "absent"), *([str(tmp_path)] if drivers else [])))
    starting.prepare_workers("auto")
    assert started == ([] if drivers else [True])


def test_elsewhere_workers_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting.sys, "platform", "darwin")
    monkeypatch.setattr(starting.multiprocessing.forkserver, "ensure_running", lambda: pytest.fail("server started"))
    assert worker_context("cpu").get_start_method() == "spawn"
