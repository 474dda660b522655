"""What ``--dry-run`` says: sizes and times in words, room on each file system, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geoasanet.errors import OutputError, SceneError
from geoasanet.tools import dryrun
from geoasanet.tools.dryrun import DryRun, InputFile, OutputFile, Space, Work

TERABYTE = 10**12


def example(**changes: object) -> DryRun:
    fields: dict[str, object] = {
        "command": "predict",
        "inputs": (InputFile("RGB", "rgb.tif", 1_300_000, 640, 480, 3, "uint8", "EPSG:32650", (10.0, 10.0)),),
        "outputs": (OutputFile("map.tif", 2_000_000, True),),
        "work": (Work("windows", 100, 40), Work("pixels", 9000)),
        "memory_bytes": 1_234_000_000,
        "temporary_bytes": 5_000,
        "spaces": (Space("/data", 7_000, TERABYTE),),
        "seconds": 725.0,
        "basis": "8 windows timed",
        "warnings": ("Beware.",),
    }
    return DryRun(**{**fields, **changes})  # type: ignore[arg-type]


def test_lines_have_human_units() -> None:
    text = "\n".join(example().lines())
    for part in (
        "Dry run of predict: nothing was written.",
        "RGB: rgb.tif (640 × 480 px, 3 bands of uint8, EPSG:32650, pixels of 10, 1.3 MB)",
        "map.tif (about 2 MB), replaces what is there",
        "60 of 100 windows (40 were done by an unfinished run), 9000 pixels",
        "about 1.23 GB",
        "about 5 kB of files that are removed at the end",
        "about 7 kB more in /data, where 1 TB are free",
        "about 12 min (8 windows timed)",
    ):
        assert part in text
    assert "unknown" in example(seconds=None).lines()[-1]


def test_to_dict_is_json_with_what_is_left() -> None:
    data = json.loads(json.dumps(example().to_dict(), allow_nan=False))
    assert data["dry_run"] is True and data["warnings"] == ["Beware."]
    assert data["work"][0] == {"unit": "windows", "total": 100, "done": 40, "remaining": 60}
    assert data["spaces"][0]["enough"] is True
    assert data["inputs"][0]["resolution"] == [10.0, 10.0]


def test_a_raster_is_described_by_its_header(make_raster: Callable[..., Path]) -> None:
    path = make_raster("rgb.tif", np.zeros((3, 20, 30), np.uint8))
    found = InputFile.raster(path, "RGB")
    assert (found.width, found.height, found.bands, found.dtype, found.crs) == (30, 20, 3, "uint8", "EPSG:32650")
    assert found.resolution == (10.0, 10.0) and found.bytes == path.stat().st_size
    assert InputFile.other(path, "list").width is None
    with pytest.raises(SceneError, match="does not exist"):
        InputFile.raster(path.with_name("no.tif"), "RGB")


def test_needs_on_one_file_system_are_summed(tmp_path: Path) -> None:
    needs = [(tmp_path / "not" / "yet" / "map.tif", 300), (tmp_path / ".map.tif.partial", 700)]
    (space,) = dryrun.space_needed(needs)
    assert space.needed_bytes == 1000 and space.folder == str(tmp_path) and space.enough
    dryrun.require_space((space,))
    assert dryrun.shortages((space,)) == []


def test_too_little_room_is_said_with_both_numbers(tmp_path: Path) -> None:
    spaces = dryrun.space_needed([(tmp_path / "map.tif", 10**9 * TERABYTE)])
    (warning,) = dryrun.shortages(spaces)
    assert str(tmp_path) in warning and "1000000000 TB are needed" in warning and "are free" in warning
    with pytest.raises(OutputError, match="are needed"):
        dryrun.require_space(spaces)
    assert Space("/full", 0, 0).enough and not Space("/full", 1, 0).enough


def test_numbers_in_words() -> None:
    assert [dryrun.human_bytes(v) for v in (0, 999, 1000, 999_600, 1.5e9, 2e15)] == [
        "0 bytes", "999 bytes", "1 kB", "1 MB", "1.5 GB", "2000 TB",
    ]  # fmt: skip
    assert [dryrun.human_seconds(v) for v in (0.1, 40, 89.6, 600, 12_000)] == [
        "1 s", "40 s", "90 s", "10 min", "3 h 20 min",
    ]  # fmt: skip
    assert dryrun.time_left(2.0, timed=4, remaining=10) == 5.0 and dryrun.time_left(0.0, timed=0, remaining=1) is None
    peak = dryrun.peak_memory_bytes()
    assert peak is not None and peak > 10**7
