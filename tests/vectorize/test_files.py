"""Files: every format says the same, looks right, and appears whole or not at all."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import shapely

from geoasanet.classes import ClassSchema
from geoasanet.tools.vectorize import VectorizeResult, vectorize
from tests.vectorize.conftest import COLORS, NAMES, landscape

MakeMap = Callable[..., Path]
SUFFIXES = (".gpkg", ".fgb", ".parquet", ".geojson", ".shp")


def read(path: Path) -> geopandas.GeoDataFrame:
    """Return a file's features by first pixel, whatever order the format keeps."""
    options = {"layer": "landcover"} if path.suffix == ".gpkg" else {}  # the other one is layer_styles
    frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path, **options)
    return frame.rename(columns={"perim_m": "perimeter_m"})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_the_same(make_map: MakeMap, tmp_path: Path, suffix: str) -> None:
    source = make_map(landscape(60, 70))
    reference = read(vectorize(source, out=tmp_path / "reference.parquet").path)
    result = vectorize(source, out=tmp_path / f"out{suffix}")
    frame = read(result.path)
    assert len(frame) == result.polygons == result.features
    assert shapely.get_num_coordinates(frame.geometry.values).sum() == result.vertices
    assert (frame.geom_type == "Polygon").all()
    assert frame.geometry.is_valid.all()
    assert set(frame.columns) == {"class_id", "class_name", "area_m2", "perimeter_m", "geometry"}
    if suffix == ".geojson":
        assert frame.crs == "EPSG:4326"
        reference = reference.to_crs(4326)
        tolerance = 1e-6
    else:
        assert frame.crs == reference.crs == "EPSG:32650"
        tolerance = 0
    if suffix == ".fgb":
        frame, reference = (f.sort_values(["area_m2", "perimeter_m"]) for f in (frame, reference))
    for name in ("class_id", "class_name"):
        assert frame[name].tolist() == reference[name].tolist()
    for name in ("area_m2", "perimeter_m"):
        np.testing.assert_allclose(frame[name], reference[name], rtol=1e-9)
    if suffix not in (".shp", ".fgb"):
        for one, other in zip(frame.geometry, reference.geometry, strict=True):
            assert one.equals_exact(other, tolerance, normalize=True)
    assert {NAMES[i] for i in frame.class_id} == set(frame.class_name)


def test_geopackage_carries_its_style(make_map: MakeMap, tmp_path: Path) -> None:
    path = vectorize(make_map(landscape(40, 50)), out=tmp_path / "out.gpkg").path
    with sqlite3.connect(path) as database:
        row = database.execute("SELECT * FROM layer_styles").fetchone()
        names = [d[0] for d in database.execute("SELECT * FROM layer_styles").description]
        style = dict(zip(names, row, strict=True))
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM rtree_landcover_geom").fetchone()[0] > 10
    assert style["f_table_name"] == "landcover"
    assert style["f_geometry_column"] == "geom"
    assert style["useAsDefault"] == 1
    check_qml(style["styleQML"])
    rules = ElementTree.fromstring(style["styleSLD"]).iter("{http://www.opengis.net/se}Rule")
    assert [rule.findtext("{http://www.opengis.net/se}Name") for rule in rules] == list(NAMES)


def check_qml(text: str) -> None:
    renderer = ElementTree.fromstring(text).find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == "class_id"
    categories = renderer.findall("categories/category")
    assert [c.get("label") for c in categories] == list(NAMES)
    assert [c.get("value") for c in categories] == ["0", "1", "2"]
    fills = [s.find("layer/Option/Option[@name='color']").get("value") for s in renderer.findall("symbols/symbol")]
    assert fills == [f"{r},{g},{b},255" for r, g, b in COLORS]


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_other_formats_have_a_style_beside_them(make_map: MakeMap, tmp_path: Path, suffix: str) -> None:
    vectorize(make_map(landscape(40, 50)), out=tmp_path / f"out{suffix}")
    check_qml((tmp_path / "out.qml").read_text(encoding="utf-8"))


def test_geoparquet_metadata(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(40, 50))
    path = vectorize(source, out=tmp_path / "out.parquet", classes=["water"]).path
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32650}
    assert column["bbox"] == pytest.approx(read(path).total_bounds)


def test_shapefile_is_whole(make_map: MakeMap, tmp_path: Path) -> None:
    schema = ClassSchema.from_names(["Wasser über Öl", "林地", "c"])
    folder = tmp_path / "shp"
    folder.mkdir()
    result = vectorize(make_map(landscape(40, 50), schema=schema), out=folder / "out.shp")
    assert {p.suffix for p in folder.iterdir()} == {".shp", ".shx", ".dbf", ".prj", ".cpg", ".qml"}
    assert (folder / "out.cpg").read_text().strip().upper() == "UTF-8"
    assert set(geopandas.read_file(result.path).class_name) == set(schema.names)
    assert any("perim_m" in w for w in result.warnings)


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb"])
def test_same_map_gives_the_same_bytes(make_map: MakeMap, tmp_path: Path, suffix: str) -> None:
    source = make_map(landscape(60, 70))
    one = vectorize(source, out=tmp_path / f"one{suffix}", workers=1).path
    other = vectorize(source, out=tmp_path / f"two{suffix}", workers=2).path
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_map_gives_an_empty_layer_and_a_warning(make_map: MakeMap, tmp_path: Path, suffix: str) -> None:
    source = make_map(np.full((5, 7), 255, np.uint8))
    result = vectorize(source, out=tmp_path / f"out{suffix}", min_area=10, simplify=5, smooth=1)
    assert result.polygons == 0
    assert any("no valid pixel" in w for w in result.warnings)
    frame = read(result.path)
    assert len(frame) == 0
    if suffix != ".geojson":
        assert "class_name" in frame


def test_dissolve_gives_a_multipolygon_per_class(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(60, 70))
    parts = vectorize(source, out=tmp_path / "parts.gpkg")
    whole = vectorize(source, out=tmp_path / "whole.gpkg", dissolve=True)
    assert (whole.features, whole.polygons, whole.vertices) == (3, parts.polygons, parts.vertices)
    frame, pieces = read(whole.path), read(parts.path)
    assert (frame.geom_type == "MultiPolygon").all()
    assert frame.geometry.is_valid.all()
    assert shapely.coverage_is_valid(frame.geometry.values)
    for row in frame.itertuples():
        mine = pieces[pieces.class_id == row.class_id]
        assert row.area_m2 == pytest.approx(mine.area_m2.sum())
        assert row.geometry.equals(mine.union_all())
    assert whole.class_area_m2 == pytest.approx(parts.class_area_m2)


def test_classes_leave_out_the_others_only(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(60, 70))
    options = {"min_area": 500, "simplify": 15}
    everything = read(vectorize(source, out=tmp_path / "all.parquet", **options).path)
    for classes in (["forest", "0"], ["FOREST", 0]):
        some = vectorize(source, out=tmp_path / "some.parquet", classes=classes, overwrite=True, **options)
        expected = everything[everything.class_id.isin([0, 1])]
        assert read(some.path).geometry.tolist() == expected.geometry.tolist()
        assert set(some.class_area_m2) == {"water", "forest"}


def test_confidence_is_the_mean_of_the_pixels(make_map: MakeMap, tmp_path: Path) -> None:
    classes = np.array([[0, 0, 1], [0, 1, 1], [255, 2, 2]], np.uint8)
    values = np.array([[0.5, np.nan, 0.25], [1.0, 0.75, 0.5], [0.9, np.nan, np.nan]], np.float32)
    source = make_map(classes)
    confidence = make_map(values, "c.tif", nodata=np.nan)
    frame = read(vectorize(source, out=tmp_path / "out.gpkg", confidence=confidence).path)
    np.testing.assert_allclose(frame.confidence, [0.75, 0.5, np.nan], rtol=1e-6)
    whole = read(vectorize(source, out=tmp_path / "whole.gpkg", confidence=confidence, dissolve=True).path)
    np.testing.assert_allclose(whole.confidence, [0.75, 0.5, np.nan], rtol=1e-6)
    stored = make_map(np.round(np.nan_to_num(values, nan=0) * 200).astype(np.uint8), "i.tif", nodata=0)
    with rasterio.open(stored, "r+") as dataset:
        dataset.scales = (0.005,)
    frame = read(vectorize(source, out=tmp_path / "scaled.gpkg", confidence=stored).path)
    np.testing.assert_allclose(frame.confidence, [0.75, 0.5, np.nan], rtol=1e-6)


def test_result_tells_what_was_written(make_map: MakeMap, tmp_path: Path) -> None:
    calls: list[tuple[str, float, float]] = []
    source = make_map(landscape(60, 70))
    result = vectorize(
        source, out=tmp_path / "o.fgb", progress=lambda task, done, total, unit="": calls.append((task, done, total))
    )
    assert isinstance(result, VectorizeResult)
    assert json.loads(json.dumps(result.to_dict()))["polygons"] == result.polygons
    assert sum(result.class_area_m2.values()) == pytest.approx(read(result.path).area_m2.sum())
    assert {task for task, _, _ in calls} == {"reading map", "tracing borders", "writing"}
    assert calls[-1] == ("writing", result.features, result.features)


def test_overwrite_replaces_stale_companions(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(40, 50))
    for suffix, stale in ((".gpkg", "out.gpkg-wal"), (".shp", "out.qix")):
        vectorize(source, out=tmp_path / f"out{suffix}")
        (tmp_path / stale).write_bytes(b"left by another program")
        vectorize(source, out=tmp_path / f"out{suffix}", overwrite=True)
        assert not (tmp_path / stale).exists()
        assert len(read(tmp_path / f"out{suffix}")) > 0


def test_own_style_stays_unless_overwritten(make_map: MakeMap, tmp_path: Path) -> None:
    source = make_map(landscape(40, 50))
    style = tmp_path / "out.qml"
    style.write_text("mine")
    result = vectorize(source, out=tmp_path / "out.fgb")
    assert style.read_text() == "mine"
    assert any("out.qml" in w for w in result.warnings)
    vectorize(source, out=tmp_path / "out.fgb", overwrite=True)
    check_qml(style.read_text())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failure_while_writing_leaves_nothing(
    make_map: MakeMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    import geoasanet.raster.polygons.coverage as coverage

    source = make_map(landscape(40, 50))
    target = tmp_path / f"out{suffix}"
    vectorize(source, out=target)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*args: object) -> None:
        raise InterruptedError("pulled the plug")

    monkeypatch.setattr(coverage, "polygons_wkb", fail)
    with pytest.raises(OSError, match="pulled the plug"):
        vectorize(source, out=target, overwrite=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_real_map_opens_everywhere(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/los_angeles/la_labels.tif"
    result = vectorize(source, out=tmp_path / "la.gpkg", min_area=2000, simplify=15, smooth=1)
    frame = read(result.path)
    assert shapely.coverage_is_valid(frame.geometry.values)
    assert frame.geometry.is_valid.all()
    with rasterio.open(source) as dataset:
        valid = dataset.read_masks(1) != 0
    assert frame.area.sum() / 100 / valid.sum() == pytest.approx(1, abs=3e-3)
    if shutil.which("ogrinfo"):
        listed = subprocess.run(["ogrinfo", "-q", result.path], capture_output=True, text=True, check=True).stdout
        assert "landcover (Polygon)" in listed
    assert "landcover" in {str(name) for name, _ in pyogrio.list_layers(result.path)}
    assert [p.name for p in tmp_path.iterdir()] == ["la.gpkg"]
