"""SIGKILL at random moments: the output is whole or as before, and the same command repeated ends as without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.vectorize.conftest import landscape

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and locks of POSIX")


def kill(make_map: Callable[..., Path], folder: Path, suffix: str, kills: int, seed: int) -> None:
    """Kill ``vectorize`` so many times and check what is left."""
    source = make_map(landscape(300, 400))
    (folder / "out").mkdir()
    program = [sys.executable, "-m", "tests.vectorize.killing", source, folder / "out" / f"out{suffix}"]
    done = subprocess.run(
        [*map(str, program), str(kills), str(seed)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["wrong"], found
    assert found["kills"] == kills and found["finished"] and found["left"] > kills / 3, found
    assert not list((folder / "out").glob(".*"))


@pytest.mark.parametrize(("suffix", "kills"), [(".gpkg", 30), (".shp", 5)])
def test_killed(make_map: Callable[..., Path], tmp_path: Path, suffix: str, kills: int) -> None:
    kill(make_map, tmp_path, suffix, kills, seed=1)


@pytest.mark.sweep
@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".fgb", ".parquet", ".geojson"])
def test_killed_often(make_map: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    kill(make_map, tmp_path, suffix, 100, seed=2)
