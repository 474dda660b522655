"""The command, its defaults, and what it says about bad input."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.transform import from_origin

from geoasanet.cli.vectorize import command
from geoasanet.errors import (
    BandError,
    ConfigError,
    GeoASANetError,
    GridError,
    OutputError,
    OutputExistsError,
    SceneError,
    VectorError,
)
from geoasanet.raster.polygons.runs import count_runs
from geoasanet.tools.firstrun import COMPILING
from geoasanet.tools.vectorize import vectorize
from tests.vectorize.conftest import METRES, landscape

MakeMap = Callable[..., Path]


def refused(error: type[GeoASANetError], pattern: str, folder: Path, *args: object, **options: object) -> None:
    """Check that vectorize raises one readable error and leaves the folder as it was."""
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(error) as caught:
        vectorize(*args, **options)
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_command_finds_the_newest_map(make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_map(landscape(20, 30, 1), "old_landcover.tif")
    make_map(landscape(20, 30, 2), "new_landcover.tif")
    os.utime(old, (1, 1))
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(command, ["--json"], catch_exceptions=False)
    assert run.exit_code == 0
    report = json.loads(run.stdout)
    assert report["map"] == "new_landcover.tif"
    assert report["path"] == "new_landcover.gpkg"
    assert (tmp_path / "new_landcover.gpkg").exists()
    assert "newest of 2" in run.stderr


def test_command_passes_its_options(make_map: MakeMap, tmp_path: Path) -> None:
    source = str(make_map(landscape(40, 50)))
    out = str(tmp_path / "o.parquet")
    options = ["--min-area", "600", "--simplify", "15", "--smooth", "1", "--classes", "water, 1", "--dissolve"]
    run = CliRunner().invoke(command, [source, "-o", out, *options, "--workers", "1"], catch_exceptions=False)
    assert run.exit_code == 0
    assert "2 multipolygons" in run.stdout
    assert "water:" in run.stdout and "forest:" in run.stdout and "field" not in run.stdout
    again = CliRunner().invoke(command, [source, "-o", out, "--overwrite"], catch_exceptions=False)
    assert again.exit_code == 0
    for wrong in (["--smooth", "99"], ["--min-area", "-1"], ["--workers", "0"]):
        assert CliRunner().invoke(command, [source, *wrong]).exit_code == 2


def test_no_map_in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(ConfigError, r"no \*_landcover.tif in .*predict", tmp_path)


def test_unreadable_maps(make_map: MakeMap, tmp_path: Path) -> None:
    out = tmp_path / "o.gpkg"
    refused(SceneError, "missing.tif does not exist", tmp_path, tmp_path / "missing.tif", out=out)
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    refused(SceneError, "text.tif cannot be opened", tmp_path, text, out=out)
    noise = np.random.default_rng(0).integers(0, 3, (200, 300), dtype=np.uint8)
    whole = make_map(noise, "whole.tif", compress="deflate", blockysize=8)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused(SceneError, "cut.tif (cannot be opened|is unreadable)", tmp_path, cut, out=out)


def test_maps_that_are_no_class_maps(make_map: MakeMap, tmp_path: Path) -> None:
    out = tmp_path / "o.gpkg"
    classes = landscape(20, 30)
    floats = make_map(classes.astype(np.float32), "float.tif")
    refused(BandError, "float.tif holds float32 values", tmp_path, floats, out=out)
    two = make_map(np.stack([classes, classes]), "two.tif")
    refused(BandError, "two.tif has 2 bands, one is needed", tmp_path, two, out=out)
    large = classes.astype(np.int16)
    large[3, 4] = 300
    path = make_map(large, "large.tif")
    refused(BandError, "large.tif has value 300 at row 3, column 4", tmp_path, path, out=out)
    negative = make_map(np.where(classes == 2, -1, classes.astype(np.int16)), "negative.tif")
    refused(BandError, "value -1 at row", tmp_path, negative, out=out)


def test_maps_without_place(make_map: MakeMap, tmp_path: Path) -> None:
    out = tmp_path / "o.gpkg"
    path = make_map(landscape(20, 30), "nocrs.tif", crs=None)
    refused(GridError, "nocrs.tif has no coordinate reference system.*gdal_edit", tmp_path, path, out=out)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = make_map(landscape(20, 30), "notransform.tif", transform=rasterio.Affine.identity())
    refused(GridError, "notransform.tif has a CRS but no geotransform", tmp_path, path, out=out)


def test_outputs_that_cannot_be(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(20, 30))
    there = tmp_path / "there.gpkg"
    there.write_text("precious")
    refused(OutputExistsError, "there.gpkg exists.*--overwrite", tmp_path, source, out=there)
    dbf = tmp_path / "table.dbf"
    dbf.write_text("precious")
    refused(OutputExistsError, "table.dbf exists", tmp_path, source, out=tmp_path / "table.shp")
    refused(OutputError, "folder .*nowhere does not exist", tmp_path, source, out=tmp_path / "nowhere/o.gpkg")
    refused(ConfigError, "o.kml ends in '.kml'.*gpkg, .fgb", tmp_path, source, out=tmp_path / "o.kml")
    assert there.read_text() == dbf.read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(20, 30))
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(OutputError, "locked is not writable", tmp_path, source, out=locked / "o.gpkg")


def test_folder_that_cannot_be_written(make_map: MakeMap, tmp_path: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc, where nobody may create files")
    source = make_map(landscape(20, 30))
    refused(OutputError, "/proc/self is not writable", tmp_path, source, out="/proc/self/o.gpkg")


def test_options_that_cannot_be(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(20, 30))
    out = tmp_path / "o.gpkg"
    refused(ConfigError, "no class 'swamp'.*0 water, 1 forest", tmp_path, source, out=out, classes=["swamp"])
    refused(ConfigError, "no class '7'", tmp_path, source, out=out, classes=[7])
    refused(ConfigError, "No class was chosen", tmp_path, source, out=out, classes=[])
    refused(ConfigError, "--min-area must be 0 or more m²", tmp_path, source, out=out, min_area=-1)
    refused(ConfigError, "--simplify must be 0 or more metres", tmp_path, source, out=out, simplify=float("nan"))
    refused(ConfigError, "--smooth must be 0 to 6", tmp_path, source, out=out, smooth=7)
    refused(ConfigError, "--workers must be 1 or more", tmp_path, source, out=out, workers=0)


def test_confidence_that_does_not_fit(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(20, 30))
    out = tmp_path / "o.gpkg"
    half = np.full((20, 30), 0.5, np.float32)
    for name, options in {
        "size.tif": {"classes": half[:-1]},
        "shifted.tif": {"classes": half, "transform": from_origin(500_010, 3_000_000, 10, 10)},
        "crs.tif": {"classes": half, "crs": "EPSG:32651"},
    }.items():
        path = make_map(name=name, nodata=None, **options)
        refused(GridError, f"{name} is on another grid", tmp_path, source, out=out, confidence=path)
    path = make_map(half * 100, "percent.tif", nodata=None)
    refused(BandError, "percent.tif has value 50 at row 0, column 0", tmp_path, source, out=out, confidence=path)
    path = make_map(np.full((20, 30), 90, np.uint8), "bytes.tif", nodata=None)
    refused(BandError, "bytes.tif holds integers .uint8. without a scale", tmp_path, source, out=out, confidence=path)
    refused(SceneError, "gone.tif does not exist", tmp_path, source, out=out, confidence=tmp_path / "gone.tif")


def test_shapefile_too_large(make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoasanet.raster.vectorfile.SHAPEFILE_LIMIT", 1000)
    source = make_map(landscape(20, 30))
    refused(VectorError, r"a Shapefile holds 2 GiB.*\.gpkg", tmp_path, source, out=tmp_path / "o.shp")


def test_other_nodata_and_masks_are_honoured(make_map: MakeMap, tmp_path: Path) -> None:
    classes = np.array([[0, 1, 1], [0, 2, 255]], np.uint8)
    zero = vectorize(make_map(classes, "zero.tif", nodata=0), out=tmp_path / "zero.gpkg")
    assert set(zero.class_area_m2) == {"forest", "field & <meadow>"}
    masked = make_map(classes, "masked.tif", nodata=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(masked, "r+") as dataset:
        dataset.write_mask(np.array([[255, 255, 255], [255, 0, 255]], np.uint8))
    result = vectorize(masked, out=tmp_path / "masked.gpkg")
    assert set(result.class_area_m2) == {"water", "forest"}
    short = vectorize(
        make_map(np.where(classes == 255, -9999, classes.astype(np.int16)), "short.tif", nodata=-9999),
        out=tmp_path / "short.gpkg",
    )
    assert short.polygons == 3


def test_names_without_our_tag(make_map: MakeMap, tmp_path: Path) -> None:
    classes = np.array([[0, 1], [3, 3]], np.uint8)
    plain = make_map(classes, "plain.tif", schema=None)
    assert set(vectorize(plain, out=tmp_path / "plain.gpkg").class_area_m2) == {"class 0", "class 1", "class 3"}
    assert set(vectorize(plain, out=tmp_path / "some.gpkg", classes=["class 3", "1"]).class_area_m2) == {
        "class 1",
        "class 3",
    }
    named = make_map(classes, "named.tif", schema=None)
    (tmp_path / "named.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category>sea</Category><Category>sand</Category>'
        "<Category></Category><Category>sand</Category></CategoryNames></PAMRasterBand></PAMDataset>"
    )
    assert set(vectorize(named, out=tmp_path / "named.gpkg").class_area_m2) == {"sea", "sand", "sand (3)"}
    table = make_map(classes, "table.tif", schema=None)
    with rasterio.open(table, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255), 3: (9, 8, 7, 255)})
    (tmp_path / "table.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><GDALRasterAttributeTable>'
        '<FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>5</Usage></FieldDefn>'
        '<FieldDefn index="1"><Name>Class</Name><Type>2</Type><Usage>2</Usage></FieldDefn>'
        '<Row index="0"><F>0</F><F>rock</F></Row><Row index="1"><F>3</F><F>ice</F></Row>'
        "</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"
    )
    vectorize(table, out=tmp_path / "table.fgb")
    style = (tmp_path / "table.qml").read_text()
    assert "rock" in style and "ice" in style and "class 1" in style and "9,8,7,255" in style


def test_inputs_are_not_touched(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(20, 30), transform=METRES)
    before = source.read_bytes()
    vectorize(source, out=tmp_path / "o.gpkg")
    assert source.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.gpkg", "scene_landcover.tif"]
    refused(ConfigError, "is also an input", tmp_path, source, out=tmp_path / "o.gpkg", confidence=tmp_path / "o.gpkg")


def test_first_run_says_that_it_compiles(make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tasks = make_map(landscape(20, 30)), list[str]()

    def note(task: str, done: float, total: float, unit: str = "") -> None:
        tasks.append(task)

    def run() -> tuple[str, ...]:
        tasks.clear()
        return vectorize(path, out=tmp_path / "a.gpkg", overwrite=True, progress=note).warnings

    monkeypatch.setattr("geoasanet.tools.firstrun.cache_folder", lambda kernel: tmp_path)
    assert run() == () and tasks.count(COMPILING) == 2
    line = count_runs.py_func.__code__.co_firstlineno
    (tmp_path / f"runs.count_runs-{line - 1}.py311.nbi").touch()  # of another version
    assert run() == () and COMPILING in tasks
    (tmp_path / f"runs.count_runs-{line}.py311.nbi").touch()
    assert run() == () and COMPILING not in tasks
    monkeypatch.setattr("geoasanet.tools.firstrun.cache_folder", lambda kernel: None)
    assert "NUMBA_CACHE_DIR" in run()[0] and COMPILING not in tasks
