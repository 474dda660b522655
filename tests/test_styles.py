"""Styles: QGIS opens maps, confidence and polygons coloured and named, and so does GDAL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil

from geoasanet.classes import ClassSchema
from geoasanet.raster.rasterstyles import class_qml, confidence_qml, write_style
from geoasanet.raster.styles import MARK, LegendEntry, qml, sld
from geoasanet.tools.predict import predict
from geoasanet.tools.vectorize import vectorize
from tests.conftest import PixelNet

Files = Callable[..., tuple[Path, Path]]
NAMES = ("water & ice", 'field "A" <new>', "forêt", "town", "bare")
COLORS = ((1, 2, 3), (250, 128, 0), (0, 90, 10), (255, 0, 255), (200, 200, 200))
SCHEMA = ClassSchema(NAMES, COLORS)
HEX = ["#010203", "#fa8000", "#005a0a", "#ff00ff", "#c8c8c8"]


@pytest.fixture
def outputs(scene_files: Files, tmp_path: Path) -> dict[str, Path]:
    """A map with confidence and two files of polygons, of random pixels."""
    rgb, sar = scene_files(90, 100)
    paths = {"confidence": tmp_path / "sure.tif", "polygons": tmp_path / "map.gpkg"}
    result = predict(
        rgb,
        sar,
        model=PixelNet(),
        classes=SCHEMA,
        out=tmp_path / "map.tif",
        confidence=paths["confidence"],
        vectorize=paths["polygons"],
        window=64,
    )
    assert not result.warnings
    return {"map": result.map, **paths}


def parse(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


def labels(style: ElementTree.Element) -> list[tuple[str | None, ...]]:
    renderer = style.find("pipe/rasterrenderer")
    assert renderer is not None and renderer.get("type") == "paletted"
    assert (renderer.get("band"), renderer.get("nodataColor"), renderer.get("alphaBand")) == ("1", "", "-1")
    entries = renderer.findall("colorPalette/paletteEntry")
    assert {e.get("alpha") for e in entries} == {"255"}
    return [(e.get("value"), e.get("color"), e.get("label")) for e in entries]


EXPECTED = [(str(i), color, name) for i, (color, name) in enumerate(zip(HEX, NAMES, strict=True))]


def test_gdal_shows_the_maps_colours_and_names(outputs: dict[str, Path], tmp_path: Path) -> None:
    with rasterio.open(outputs["map"]) as dataset:
        assert dataset.nodata == 255
        assert [dataset.colormap(1)[i] for i in range(5)] == [(*color, 255) for color in COLORS]
    rasterio.shutil.copy(outputs["map"], tmp_path / "seen.vrt", driver="VRT")
    band = parse(tmp_path / "seen.vrt").find("VRTRasterBand")
    assert band is not None
    assert [c.text for c in band.findall("CategoryNames/Category")][:5] == list(NAMES)


def test_a_map_has_a_style_beside_it(outputs: dict[str, Path]) -> None:
    style = parse(outputs["map"].with_suffix(".qml"))
    assert labels(style) == EXPECTED


def test_the_style_of_a_map_fits_polygons_of_the_same_name(outputs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "map.geojson"
    result = vectorize(outputs["map"], out=path)
    assert not any(".qml" in w for w in result.warnings)
    style = parse(path.with_suffix(".qml"))
    assert labels(style) == EXPECTED
    categories = style.findall("renderer-v2/categories/category")
    found = {c.get("value"): c.get("label") for c in categories}
    table = pyogrio.read_dataframe(path)
    assert found == dict(zip(table["class_id"].astype(str), table["class_name"], strict=True))
    symbols = {s.get("name"): s.find("layer/Option/Option[@name='color']") for s in style.iter("symbol")}
    for category in categories:
        symbol = symbols[category.get("symbol")]
        assert symbol is not None
        assert symbol.get("value") == ",".join(map(str, (*COLORS[int(category.get("value") or "")], 255)))


def test_ogr_finds_the_style_in_a_geopackage(outputs: dict[str, Path]) -> None:
    layers = [str(name) for name in pyogrio.list_layers(outputs["polygons"])[:, 0]]
    assert sorted(layers) == ["landcover", "layer_styles"]
    styles = pyogrio.read_dataframe(outputs["polygons"], layer="layer_styles", read_geometry=False)
    assert list(styles["f_table_name"]) == ["landcover"] and list(styles["useAsDefault"]) == [1]
    style = ElementTree.fromstring(styles["styleQML"][0])
    polygons = pyogrio.read_dataframe(outputs["polygons"], layer="landcover")
    found = {c.get("value"): c.get("label") for c in style.iter("category")}
    assert found == dict(zip(polygons["class_id"].astype(str), polygons["class_name"], strict=True))


def test_confidence_has_a_colour_ramp(outputs: dict[str, Path]) -> None:
    renderer = parse(outputs["confidence"].with_suffix(".qml")).find("pipe/rasterrenderer")
    assert renderer is not None and renderer.get("type") == "singlebandpseudocolor"
    shader = renderer.find("rastershader/colorrampshader")
    assert shader is not None and shader.get("colorRampType") == "INTERPOLATED"
    values = [float(item.get("value") or "nan") for item in shader.findall("item")]
    assert values == sorted(values) and values[0] == 0 and values[-1] == 1
    with rasterio.open(outputs["confidence"]) as dataset:
        pixels = dataset.read(1, masked=True)
    assert pixels.min() >= 0 and pixels.max() <= 1


def test_a_style_that_somebody_saved_stays_unless_overwritten(scene_files: Files, tmp_path: Path) -> None:
    rgb, sar = scene_files(70, 70)
    style, options = tmp_path / "map.qml", {"model": PixelNet(), "classes": SCHEMA, "window": 64}
    style.write_text("<qgis/>")
    result = predict(rgb, sar, out=tmp_path / "map.tif", **options)  # type: ignore[call-overload]
    assert style.read_text() == "<qgis/>"
    assert any("map.qml exists and was kept" in w for w in result.warnings)
    result = predict(rgb, sar, out=tmp_path / "map.tif", overwrite=True, **options)  # type: ignore[call-overload]
    assert labels(parse(style)) == EXPECTED and not result.warnings


def test_ours_is_replaced_and_a_folder_is_not(tmp_path: Path) -> None:
    out, temporary = tmp_path / "map.tif", tmp_path / "new" / "map.tif"
    temporary.parent.mkdir()
    (tmp_path / "map.qml").write_text(confidence_qml())
    assert not write_style(temporary, out, class_qml(SCHEMA), overwrite=False)
    assert MARK in (temporary.parent / "map.qml").read_text()
    (tmp_path / "map.qml").unlink()
    (tmp_path / "map.qml").mkdir()
    assert write_style(temporary, out, class_qml(SCHEMA), overwrite=True)
    assert not write_style(temporary, tmp_path / "map.qml", class_qml(SCHEMA), overwrite=True)


@pytest.mark.parametrize("name", ["a\x00b", "bell\x07", "\ufffe", "half \ud83c"])
def test_names_that_xml_cannot_hold_are_made_to_fit(name: str) -> None:
    legend = [LegendEntry(0, name, (0, 0, 0)), LegendEntry(1, "]]> & <b>", (9, 9, 9))]
    style = ElementTree.fromstring(qml(legend).encode("utf-8"))
    assert [c.get("label") for c in style.iter("category")][1] == legend[1].name
    rules = ElementTree.fromstring(sld(legend, name).encode("utf-8")).iter("{http://www.opengis.net/se}Rule")
    assert [rule.findtext("{http://www.opengis.net/se}Name") for rule in rules][1] == legend[1].name


def test_all_255_classes_fit() -> None:
    schema = ClassSchema.from_names([f"class {i}" for i in range(255)])
    found = labels(ElementTree.fromstring(class_qml(schema)))
    assert [int(value or "") for value, *_ in found] == list(np.arange(255))
