"""``vectorize --dry-run``: finds what is wrong, says what would be done, writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from geoasanet.cli.vectorize import command
from geoasanet.errors import BandError, GridError, OutputError, OutputExistsError, SceneError
from geoasanet.raster.polygons import source as map_source
from geoasanet.tools import dryrun
from geoasanet.tools.dryrun import DryRun
from geoasanet.tools.vectorize import vectorize
from tests.vectorize.conftest import landscape
from tests.vectorize.test_faults import contents, spoiled
from tests.vectorize.test_files import SUFFIXES

MakeMap = Callable[..., Path]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("strip_pixels", [1 << 22, 40 * 250])
def test_estimates_are_near_what_a_run_writes(
    make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, strip_pixels: int
) -> None:
    monkeypatch.setattr(map_source, "STRIP_PIXELS", strip_pixels)
    source = make_map(landscape(400, 250, salt=0.03))
    before = contents(tmp_path)
    found = vectorize(source, out=tmp_path / f"out{suffix}", dry_run=True, workers=2)
    assert isinstance(found, DryRun) and contents(tmp_path) == before
    result = vectorize(source, out=tmp_path / f"out{suffix}")
    parts = {".shp": (".shp", ".shx", ".dbf")}.get(suffix, (suffix,))
    size = sum(result.path.with_suffix(part).stat().st_size for part in parts)
    (output,), (pixels, polygons) = found.outputs, found.work
    assert output.bytes == pytest.approx(size, rel=0.35, abs=250_000)
    assert (pixels.unit, pixels.total) == ("pixels", 100_000)
    assert polygons.total == pytest.approx(result.features, rel=0.2)
    assert found.seconds is not None and 0 < found.seconds < 60
    assert found.memory_bytes is None or found.memory_bytes > 10**7
    assert found.spaces[0].needed_bytes >= output.bytes
    assert [(i.role, i.width, i.height) for i in found.inputs] == [("map", 250, 400)]


def test_all_options(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(200, 250))
    sure = make_map(np.full((200, 250), 0.5, np.float32), "sure.tif", schema=None, nodata=None)
    before = contents(tmp_path)
    options = {"min_area": 500, "simplify": 15, "smooth": 1, "classes": ["water", "forest"], "dissolve": True}
    found = vectorize(source, out=tmp_path / "out.fgb", confidence=sure, dry_run=True, **options)
    assert found.work[1].total == 2 and [i.role for i in found.inputs] == ["map", "confidence"]
    assert contents(tmp_path) == before
    empty = make_map(np.full((5, 7), 255, np.uint8), "empty.tif")
    assert vectorize(empty, out=tmp_path / "out.fgb", dry_run=True).work[1].total == 0


def test_input_problems_are_found(make_map: MakeMap, tmp_path: Path) -> None:
    """Also those that show only where the last block is read."""
    classes = np.random.default_rng(0).integers(0, 3, (256, 300), dtype=np.uint8)
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "zstd"}
    good = make_map(classes, **tiled)
    values = classes.astype(np.int16)
    values[-1, -1] = 999
    high = make_map(values, "high.tif")
    bad = spoiled(make_map(classes, "bad.tif", **tiled))
    small = make_map(np.ones((25, 30), np.float32), "small.tif", schema=None, nodata=None)
    unsure = make_map(np.where(values == 999, 2, 0.5).astype(np.float32), "unsure.tif", schema=None, nodata=None)
    there = make_map(classes, "there.gpkg.tif").rename(tmp_path / "there.gpkg")
    out = tmp_path / "out.gpkg"
    before = contents(tmp_path)
    for error, match, options in (
        (SceneError, "bad.tif is unreadable in rows", {"map_path": bad, "out": out}),
        (BandError, "high.tif has value 999 at row 255, column 299", {"map_path": high, "out": out}),
        (GridError, "small.tif is on another grid", {"map_path": good, "out": out, "confidence": small}),
        (BandError, "unsure.tif has value 2", {"map_path": good, "out": out, "confidence": unsure}),
        (OutputExistsError, "there.gpkg exists", {"map_path": good, "out": there}),
        (OutputError, "does not exist", {"map_path": good, "out": tmp_path / "no" / "o.gpkg"}),
    ):
        with pytest.raises(error, match=match):
            vectorize(**options, dry_run=True)
    assert contents(tmp_path) == before
    assert vectorize(good, out=there, overwrite=True, dry_run=True).outputs[0].exists


def test_too_little_room(make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_map(landscape(200, 250))
    usage = dryrun.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(dryrun.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    found = vectorize(source, out=tmp_path / "out.gpkg", dry_run=True)
    assert any("Not enough room" in text for text in found.warnings)
    with pytest.raises(OutputError, match="Not enough room"):
        vectorize(source, out=tmp_path / "out.gpkg")
    assert list(contents(tmp_path)) == [source.name]


def test_command(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(60, 70))
    arguments = [str(source), "-o", str(tmp_path / "out.gpkg"), "--dry-run"]
    run = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert run.exit_code == 0 and "nothing was written" in run.stdout and "4200 pixels" in run.stdout
    report = json.loads(CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert report["dry_run"] is True and report["command"] == "vectorize"
    assert list(contents(tmp_path)) == [source.name]
