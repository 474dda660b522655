"""``tile --dry-run``: finds what is wrong, says what would be done, writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from geoasanet.cli.tile import command
from geoasanet.errors import GeoASANetError, OutputError
from geoasanet.tools import dryrun, tiledry
from geoasanet.tools.dryrun import DryRun
from geoasanet.tools.tile import tile
from tests.conftest import UTM, write_raster
from tests.tile.conftest import HEIGHT, NAMES, SIZE, WIDTH, label_array, label_polygons
from tests.tile.test_resume import interrupted
from tests.tile.test_tile_files import listing

Maker = Callable[..., dict[str, Any]]


def disk_use(folder: Path) -> int:
    return sum(tiledry.on_disk(p.stat().st_size) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("format", ["tif", "png"])
def test_estimates_are_near_what_a_run_takes(scene: Maker, tmp_path: Path, format: str) -> None:
    files = scene(masked=True)
    before = listing(tmp_path)
    found = tile(**files, out=tmp_path / "out", size=32, format=format, classes=NAMES, dry_run=True)
    assert isinstance(found, DryRun) and listing(tmp_path) == before
    result = tile(**files, out=tmp_path / "out", size=32, format=format, classes=NAMES)
    (output,) = found.outputs
    assert output.bytes == pytest.approx(disk_use(tmp_path / "out"), rel=0.3, abs=150_000)
    work = found.work[0]
    assert (work.unit, work.total, work.done) == (
        "tiles",
        sum(result.tiles.values()) + sum(result.left_out.values()),
        0,
    )
    assert found.seconds is not None and found.seconds < 60 and "tiles timed" in found.basis
    assert found.memory_bytes is not None and found.memory_bytes > 10**7
    assert [(i.role, i.width, i.height) for i in found.inputs] == [
        (role, WIDTH, HEIGHT) for role in ("RGB", "SAR", "Labels")
    ]


def test_what_an_interrupted_run_has_done_is_not_counted(
    scene: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    arguments = {**scene(), "size": SIZE, "classes": NAMES, "workers": 1}
    write_raster(arguments["rgb"], rng.integers(1, 256, (3, 10 * SIZE, 2 * SIZE), np.uint8))
    write_raster(arguments["sar"], rng.integers(1, 256, (1, 10 * SIZE, 2 * SIZE), np.uint8))
    interrupted(arguments, tmp_path / "out", monkeypatch, pieces=4)
    before = listing(tmp_path)
    found, anew = (tile(**arguments, out=tmp_path / "out", dry_run=True, resume=resume) for resume in (True, False))
    assert listing(tmp_path) == before
    assert (found.work[0].total, found.work[0].done, anew.work[0].done) == (20, 8, 0)
    assert found.spaces[0].needed_bytes < anew.spaces[0].needed_bytes


@pytest.mark.parametrize("spoil", ["labels", "class", "crs", "place", "missing", "exists"])
def test_input_problems_are_found(scene: Maker, tmp_path: Path, spoil: str) -> None:
    """In the last of three scenes, too."""
    rows = ["rgb,sar,labels"]
    for number in range(3):
        folder = tmp_path / f"s{number}"
        scene(folder, transform=UTM @ UTM.translation(1000 * number, 0))
        polygons = label_polygons(label_array())
        polygons.geometry = polygons.translate(10_000 * number)
        polygons.to_file(folder / "labels.gpkg")
        rows.append(f"s{number}/rgb.tif,s{number}/sar.tif,s{number}/labels.gpkg")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    last = tmp_path / "s2"
    messages = {
        "labels": r"line 4: .*labels.gpkg",
        "class": "line 4: .*(swamp|class)",
        "crs": "line 4: .*sar.tif",
        "place": "line 4: .*do not reach",
        "missing": "line 4: .*does not exist",
        "exists": "out is a folder that geoasanet tile did not write",
    }
    if spoil == "labels":
        (last / "labels.gpkg").write_bytes(b"no database")
    elif spoil == "class":
        polygons["class_name"] = "swamp"
        polygons.drop(columns="class_id").to_file(last / "labels.gpkg")
    elif spoil == "crs":
        write_raster(last / "sar.tif", np.ones((1, HEIGHT, WIDTH), np.uint8), crs=None)
    elif spoil == "place":
        shutil.copy(tmp_path / "s0/labels.gpkg", last / "labels.gpkg")
    elif spoil == "missing":
        (last / "rgb.tif").unlink()
    else:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/cat.jpg").touch()
    before = listing(tmp_path)
    for dry in (True, False):
        with pytest.raises(GeoASANetError, match=messages[spoil]):
            tile(scenes=tmp_path / "list.csv", out=tmp_path / "out", size=SIZE, classes=NAMES, dry_run=dry)
        assert listing(tmp_path) == before


def test_too_little_room(scene: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning of the dry run, and the end of a run before it begins."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(dryrun.shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    files = scene()
    found = tile(**files, out=tmp_path / "out", size=SIZE, dry_run=True)
    assert any("Not enough room" in w and "20 kB are free" in w for w in found.warnings)
    before = listing(tmp_path)
    with pytest.raises(OutputError, match=r"Not enough room in .*: about .* are needed, 20 kB are free"):
        tile(**files, out=tmp_path / "out", size=SIZE)
    assert listing(tmp_path) == before


def test_room_is_only_tried_out_where_it_is_scarce(
    scene: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An almost empty scene fits where as many full tiles would not."""
    files = scene()
    rgb = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    rgb[:, :SIZE, : 3 * SIZE] = 7
    write_raster(files["rgb"], rgb, nodata=0)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(dryrun.shutil, "disk_usage", lambda _: usage._replace(free=(16 << 20) + 200_000))
    assert sum(tile(**files, out=tmp_path / "out", size=SIZE).tiles.values()) == 3


def test_an_archive(tmp_path: Path) -> None:
    from tests.tile.test_archives import write_image

    rng = np.random.default_rng(0)
    root = tmp_path / "archive"
    for kind, bands, top in (("rgb", 3, 256), ("sar", 1, 256), ("label", 1, 6)):
        (root / kind).mkdir(parents=True)
        for number in range(3):
            write_image(root / kind / f"t{number}.tif", rng.integers(0, top, (bands, 48, 48), np.uint8))
    before = listing(tmp_path)
    found = tile(root, layout="pie-rgb-sar", out=tmp_path / "out", dry_run=True)
    assert listing(tmp_path) == before and (found.work[0].unit, found.work[0].total) == ("files", 3)
    tile(root, layout="pie-rgb-sar", out=tmp_path / "out")
    assert found.outputs[0].bytes == pytest.approx(disk_use(tmp_path / "out"), rel=0.3, abs=150_000)


def test_the_command(scene: Maker, tmp_path: Path) -> None:
    files = scene()
    arguments = [str(files["rgb"]), str(files["sar"]), "--labels", str(files["labels"]), "--size", str(SIZE)]
    arguments += ["-o", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "Dry run of tile: nothing was written." in done.stdout
    assert "70 tiles" in done.stdout and f"{WIDTH} × {HEIGHT} px" in done.stdout
    done = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    assert document["dry_run"] and document["work"][0]["remaining"] == 70
    assert {p.name for p in tmp_path.iterdir()} == {"scene"}
