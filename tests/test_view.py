"""The page of ``geoasanet view``: it needs nothing else, says what is true, and can be used in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from click.testing import CliRunner
from PIL import Image
from rasterio.transform import from_origin

import geoasanet as ga
from geoasanet.classes import CLASSES_TAG
from geoasanet.cli.main import main
from geoasanet.errors import BandError, ConfigError, NoOverlapError, OutputExistsError, SceneError, VectorError
from geoasanet.tools import viewleaflet
from tests.chromium import Chromium, find_chromium
from tests.conftest import write_raster

NAMES = ["open water", "forest", "built-up"]
COLORS = [[30, 90, 200], [40, 140, 60], [220, 60, 50]]
HOSTILE = '</script><script>alert(1)</script> & "x" <img src=x onerror=alert(1)> {{7*7}} $title'


def write_map(path: Path, pixels: np.ndarray, names: list[str] = NAMES, **options: Any) -> Path:
    import rasterio

    write_raster(path, pixels.astype(np.uint8), nodata=255, **options)
    classes = [{"name": name, "color": color} for name, color in zip(names, COLORS, strict=True)]
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**{CLASSES_TAG: json.dumps({"classes": classes})})
    return path


def blocks(height: int = 90, width: int = 130) -> np.ndarray:
    """Three classes in stripes, and a corner without data."""
    pixels = np.repeat(np.arange(width)[None] * 3 // width, height, axis=0)
    pixels[:20, :30] = 255
    return pixels


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Path]:
    """A map of stripes, the RGB raster blue with a red right half, SAR linear, confidence rising from left to right."""
    pixels = blocks()
    height, width = pixels.shape
    rgb = np.zeros((3, height, width), np.uint8)
    rgb[2], rgb[:, :, width // 2 :] = 180, np.array([200, 20, 20], np.uint8)[:, None, None]
    sar = np.random.default_rng(0).gamma(4, 0.05, (1, height, width)).astype(np.float32)
    confidence = np.repeat(np.linspace(0.4, 1, width, dtype=np.float32)[None], height, axis=0)
    confidence[pixels == 255] = np.nan
    return {
        "map": write_map(tmp_path / "map.tif", pixels),
        "rgb": write_raster(tmp_path / "rgb.tif", rgb),
        "sar": write_raster(tmp_path / "sar.tif", sar),
        "confidence": write_raster(tmp_path / "c.tif", confidence),
    }


@pytest.fixture
def polygons(scene: dict[str, Path], tmp_path: Path) -> Path:
    return ga.vectorize(scene["map"], out=tmp_path / "p.gpkg").path


def scene_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="scene">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def picture(page: str, key: str) -> Image.Image:
    found = re.search(rf'<img id="picture-{key}" alt="[^"]+" src="data:image/(?:png|webp);base64,([^"]+)">', page)
    assert found is not None, key
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


class TestPage:
    """What the file holds."""

    def test_it_needs_no_other_file_and_no_network(
        self, scene: dict[str, Path], polygons: Path, tmp_path: Path
    ) -> None:
        result = ga.view(**scene, polygons=polygons, out=tmp_path / "v.html")
        page = result.path.read_text()
        page = re.sub(r'src="data:[^"]*"', 'src="data:"', page)  # base64 may look like anything
        outside_scripts = re.sub(r"<script.*?</script>|<!--.*?-->|/\*.*?\*/", "", page, flags=re.DOTALL)
        for reference in re.findall(r"""(?:src|href|url|@import)\s*[=(]\s*["']?([^"')>\s]*)""", outside_scripts):
            assert reference.startswith(("data:", "#")), reference[:80]
        assert "<link" not in outside_scripts and "//" not in outside_scripts
        assert "default-src &#x27;none&#x27;; img-src data:" in page
        assert str(tmp_path) not in page

    def test_legend_pictures_and_resolution(self, scene: dict[str, Path], tmp_path: Path) -> None:
        result = ga.view(**scene, out=tmp_path / "v.html")
        page = result.path.read_text()
        for name, color in zip(NAMES, COLORS, strict=True):
            assert f"<bdi>{name}</bdi>" in page and f"rgb({','.join(map(str, color))})" in page
        assert result.layers == ("rgb", "sar", "map", "confidence") and (result.height, result.width) == (90, 130)
        assert "Shown at the map&#x27;s full resolution, 10 m per pixel." in page
        shown = np.asarray(picture(page, "map").convert("RGBA"))
        expected = np.array([*COLORS], np.uint8)[np.where(blocks() == 255, 0, blocks())]
        np.testing.assert_array_equal(shown[..., 3] == 0, blocks() == 255)
        np.testing.assert_array_equal(shown[..., :3][blocks() != 255], expected[blocks() != 255])

    def test_confidence_can_be_read_back_from_its_colours(self, scene: dict[str, Path], tmp_path: Path) -> None:
        page = ga.view(scene["map"], confidence=scene["confidence"], out=tmp_path / "v.html").path.read_text()
        colors = scene_data(page)["confidence"]
        above = [tuple(color) for color in colors[34:]]
        assert len(set(above)) == len(above) == 67
        shown = np.asarray(picture(page, "confidence").convert("RGB"))
        found = np.array([34 + above.index(tuple(color)) for color in shown[50].tolist()])
        np.testing.assert_allclose(found, 100 * np.linspace(0.4, 1, 130), atol=0.51)

    def test_large_maps_are_shown_coarser_and_measured_whole(self, tmp_path: Path) -> None:
        pixels = np.zeros((700, 300), np.uint8)
        pixels[:, 1::3] = 2
        path = write_map(tmp_path / "map.tif", pixels)
        result = ga.view(path, out=tmp_path / "v.html", max_side=100)
        page = result.path.read_text()
        assert (result.height, result.width) == (100, 43) and picture(page, "map").size == (43, 100)
        assert "7 times coarser than the map" in page
        assert result.class_area_m2["built-up"] == pytest.approx(70_000 * 100, rel=2e-3)
        assert result.file_size < 400_000

    def test_a_map_alone_has_no_choice(self, scene: dict[str, Path], tmp_path: Path) -> None:
        page = ga.view(scene["map"], out=tmp_path / "v.html").path.read_text()
        assert '<body class="page single">' in page and "<fieldset" not in page

    def test_bands_are_those_asked_for(self, scene: dict[str, Path], tmp_path: Path) -> None:
        page = ga.view(scene["map"], rgb=scene["rgb"], rgb_bands=(3, 2, 1), out=tmp_path / "v.html").path.read_text()
        red, green, blue = picture(page, "rgb").convert("RGB").getpixel((10, 60))
        assert red > 150 and green < 30 and blue < 30


class TestAreas:
    """On the ground, in any projection."""

    def test_geographic(self, tmp_path: Path) -> None:
        pixels, step = blocks(80, 90), 0.002
        path = write_map(tmp_path / "map.tif", pixels, transform=from_origin(10, 60, step, step), crs="EPSG:4326")
        geod = pyproj.Geod(ellps="WGS84")
        rows = [
            abs(geod.geometry_area_perimeter(shapely.segmentize(shapely.box(10, lat - step, 10 + step, lat), 1e-4))[0])
            for lat in 60 - step * np.arange(80)
        ]
        expected = {n: float((np.array(rows)[:, None] * (pixels == i)).sum()) for i, n in enumerate(NAMES)}
        result = ga.view(path, out=tmp_path / "v.html")
        assert result.class_area_m2 == pytest.approx(expected, rel=1e-5)
        width, height = result.pixel_m
        assert width == pytest.approx(0.5 * height, rel=0.02)  # at 60° north
        self._in_the_legend(result.path, expected, 1e6)

    def test_projected(self, scene: dict[str, Path], tmp_path: Path) -> None:
        result = ga.view(scene["map"], out=tmp_path / "v.html")
        expected = {n: float((blocks() == i).sum()) * 100 for i, n in enumerate(NAMES)}
        assert result.class_area_m2 == pytest.approx(expected, rel=2e-3)  # the scale of UTM at the central meridian
        self._in_the_legend(result.path, result.class_area_m2, 1e4)

    @staticmethod
    def _in_the_legend(path: Path, areas: dict[str, float], unit: float) -> None:
        rows = re.findall(r"<bdi>([^<]+)</bdi></th><td>([\d.,]+)</td><td>([\d.]+) %</td>", path.read_text())
        total = sum(areas.values())
        assert [name for name, *_ in rows] == sorted(areas, key=lambda name: -areas[name])
        for name, area, share in rows:
            assert float(area.replace(",", "")) == pytest.approx(areas[name] / unit, rel=5e-3)
            assert float(share) == pytest.approx(100 * areas[name] / total, abs=0.051)

    def test_polygons(self, tmp_path: Path) -> None:
        pixels = blocks(80, 90)
        path = write_map(tmp_path / "m.tif", pixels, transform=from_origin(10, 60, 0.002, 0.002), crs="EPSG:4326")
        vector = ga.vectorize(path, out=tmp_path / "p.gpkg").path
        frame = pyogrio.read_dataframe(vector, layer="landcover")
        entries = scene_data(ga.view(path, polygons=vector, out=tmp_path / "v.html").path.read_text())["outlines"]
        assert {entry["c"]: entry["a"] for entry in entries} == pytest.approx(
            dict(zip(frame.class_id.tolist(), frame.area_m2.tolist(), strict=True)), rel=1e-5
        )


class TestPolygons:
    """Outlines are where the classes are, few and small enough."""

    def test_they_lie_on_their_classes(self, scene: dict[str, Path], polygons: Path, tmp_path: Path) -> None:
        result = ga.view(scene["map"], polygons=polygons, out=tmp_path / "v.html")
        data = scene_data(result.path.read_text())
        assert result.polygons == 3 and result.polygons_left_out == 0
        for entry in data["outlines"]:
            (((*steps,),),) = entry["p"]
            corners = np.cumsum(np.reshape(steps, (-1, 2)), axis=0) / data["units"]
            expected = blocks() == entry["c"]
            area = shapely.area(shapely.polygons(corners))
            assert area == expected.sum()
            rows, cols = np.nonzero(expected)
            assert corners.min(axis=0).tolist() == [cols.min(), rows.min()]
            assert corners.max(axis=0).tolist() == [cols.max() + 1, rows.max() + 1]

    def test_many_are_limited_to_the_largest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from geoasanet.tools import viewpolygons

        pixels = np.indices((60, 60)).sum(axis=0) % 2
        pixels[:20] = 2
        path = write_map(tmp_path / "map.tif", pixels)
        vector = ga.vectorize(path, out=tmp_path / "p.gpkg").path
        monkeypatch.setattr(viewpolygons, "MOST_POLYGONS", 50)
        result = ga.view(path, polygons=vector, out=tmp_path / "v.html")
        assert (result.polygons, result.polygons_left_out) == (50, 60 * 40 + 1 - 50)
        assert "The 50 largest of 2,401 are shown" in result.path.read_text()
        assert any("50 largest of 2401" in warning for warning in result.warnings)
        assert scene_data(result.path.read_text())["outlines"][0]["c"] == 2

    def test_vertices_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from geoasanet.tools import viewpolygons

        rng = np.random.default_rng(1)
        pixels = np.kron(rng.integers(0, 3, (4, 4)), np.ones((40, 40), int))
        edges = rng.random(pixels.shape) < 0.05
        pixels[edges] = 1
        path = write_map(tmp_path / "map.tif", pixels)
        vector = ga.vectorize(path, out=tmp_path / "p.gpkg", dissolve=True).path
        monkeypatch.setattr(viewpolygons, "MOST_VERTICES", 3000)
        result = ga.view(path, polygons=vector, out=tmp_path / "v.html")
        entries = scene_data(result.path.read_text())["outlines"]
        assert sum(len(ring) // 2 for entry in entries for part in entry["p"] for ring in part) <= 3000
        assert "simplified borders" in result.path.read_text() or result.polygons_left_out

    def test_points_are_refused(self, scene: dict[str, Path], tmp_path: Path) -> None:
        import geopandas

        points = geopandas.GeoDataFrame(
            {"class_id": [1]}, geometry=[shapely.Point(500_100, 2_999_900)], crs="EPSG:32650"
        )
        points.to_file(tmp_path / "points.gpkg")
        with pytest.raises(VectorError, match=r"points\.gpkg holds points"):
            ga.view(scene["map"], polygons=tmp_path / "points.gpkg", out=tmp_path / "v.html")


class TestHostile:
    """Names come from anywhere."""

    def test_names_are_text(self, tmp_path: Path) -> None:
        path = write_map(tmp_path / "<b>&map.tif", blocks(), [HOSTILE, "<!--<script>", "c\u202edrow"])
        vector = ga.vectorize(path, out=tmp_path / "p.gpkg").path
        page = ga.view(path, polygons=vector, out=tmp_path / "v.html").path.read_text()
        assert page.count("<script") == page.count("</script") == 3 and page.count("<!--") == page.count("-->") == 1
        assert "<img src=x" not in page and "<b>&map" not in page and "&lt;b&gt;&amp;map.tif" in page
        assert scene_data(page)["classes"][0]["name"] == HOSTILE
        assert "$title" in page

    def test_the_policy_names_the_scripts_of_the_page(self, scene: dict[str, Path], tmp_path: Path) -> None:
        import hashlib

        page = ga.view(scene["map"], out=tmp_path / "v.html").path.read_text()
        scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
        assert len(scripts) == 2
        for script in scripts:
            assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in page

    def test_a_library_that_was_changed_is_refused(
        self, scene: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(viewleaflet._SHA256, "leaflet.js", "0" * 64)
        with pytest.raises(ConfigError, match=r"leaflet\.js .* is not that of Leaflet"):
            ga.view(scene["map"], out=scene["map"].with_name("v.html"))
        assert not scene["map"].with_name("v.html").exists()

    def test_a_library_that_is_absent_is_named(self, scene: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(viewleaflet, "WHEEL", "no-such-wheel-of-leaflet")
        with pytest.raises(ConfigError, match="not installed"):
            ga.view(scene["map"], out=scene["map"].with_name("v.html"))


class TestRefusals:
    """What cannot be shown is said before or instead of a page."""

    def test_another_place(self, scene: dict[str, Path], tmp_path: Path, make_raster: Callable[..., Path]) -> None:
        far = make_raster("far.tif", np.full((3, 9, 9), 99, np.uint8), transform=from_origin(700_000, 3e6, 10, 10))
        with pytest.raises(NoOverlapError, match=r"RGB raster .*far\.tif has no data on the ground of the map"):
            ga.view(scene["map"], rgb=far, out=tmp_path / "v.html")

    def test_polygons_of_another_place(self, scene: dict[str, Path], tmp_path: Path) -> None:
        far = write_map(tmp_path / "far.tif", blocks(), transform=from_origin(700_000, 3e6, 10, 10))
        vector = ga.vectorize(far, out=tmp_path / "far.gpkg").path
        with pytest.raises(NoOverlapError, match=r"No polygon of .*far\.gpkg"):
            ga.view(scene["map"], polygons=vector, out=tmp_path / "v.html")

    @pytest.mark.parametrize("role", ["rgb", "sar", "confidence"])
    def test_damaged_rasters_are_named(self, role: str, scene: dict[str, Path], tmp_path: Path) -> None:
        whole = scene[role].read_bytes()
        scene[role].write_bytes(whole[: len(whole) // 2])
        with pytest.raises(SceneError, match=scene[role].name):
            ga.view(**scene, out=tmp_path / "v.html")
        assert not (tmp_path / "v.html").exists()

    def test_bands_that_are_not_there(self, scene: dict[str, Path], tmp_path: Path) -> None:
        with pytest.raises(BandError, match="SAR"):
            ga.view(scene["map"], sar=scene["sar"], sar_band=4, out=tmp_path / "v.html")
        with pytest.raises(ConfigError, match="--rgb-bands"):
            ga.view(scene["map"], rgb=scene["rgb"], rgb_bands=(1, 2), out=tmp_path / "v.html")

    def test_an_existing_page_stays(self, scene: dict[str, Path], tmp_path: Path) -> None:
        page = tmp_path / "v.html"
        page.write_text("mine")
        with pytest.raises(OutputExistsError):
            ga.view(scene["map"], out=page)
        assert page.read_text() == "mine"
        ga.view(scene["map"], out=page, overwrite=True)
        assert page.read_text() != "mine"


def test_the_command(scene: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or False)
    done = CliRunner().invoke(main, ["view", "map.tif", "--rgb", "rgb.tif", "--open", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["path"] == "view.html" and document["map"] == "map.tif" and document["layers"] == ["rgb", "map"]
    assert opened == [(tmp_path / "view.html").as_uri()]
    assert any("open view.html in one" in text for text in document["warnings"])


@pytest.fixture(scope="module")
def chromium() -> str:
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium, none is here")
    return program


class TestBrowser:
    """In headless Chromium, with real mouse and keyboard events."""

    def test_map_legend_and_swipe(self, chromium: str, scene: dict[str, Path], polygons: Path, tmp_path: Path) -> None:
        page = ga.view(**scene, polygons=polygons, out=tmp_path / "v.html").path
        with Chromium(chromium, tmp_path, width=1100, height=700) as browser:
            browser.resize(1100, 700)
            browser.open(page.as_uri())
            browser.wait("[...document.images].every(i => i.complete && i.naturalWidth)")
            frame = browser.run(
                "(({width, height}) => [width, height])(document.getElementById('map').getBoundingClientRect())"
            )
            assert frame[0] > 700 and frame[1] == 700
            middle, y = int(frame[0] // 2), 400
            before = browser.screenshot(tmp_path / "before.png")
            # left of the divider the blue of the optical image, right of it the map's classes
            assert self._near(before[y, middle - 60], (0, 0, 180)) and self._near(before[y, middle + 40], COLORS[1])
            assert browser.run("document.querySelector('aside table').innerText").count("built-up") == 1
            assert self._visible(browser, "aside table") and self._visible(browser, "#swipe .knob")
            assert self._visible(browser, ".leaflet-control-scale-line")

            browser.mouse("mousePressed", middle, y + 50)
            browser.mouse("mouseMoved", middle - 150, y + 50, held=True)
            browser.mouse("mouseReleased", middle - 150, y + 50)
            after = browser.screenshot(tmp_path / "after.png")
            assert browser.run("+document.getElementById('swipe').getAttribute('aria-valuenow')") < 40
            assert self._near(after[y, middle - 60], COLORS[1])  # what was optical is now the map

            browser.key("End")
            assert browser.run("document.getElementById('swipe').getAttribute('aria-valuenow')") == "100"
            assert self._near(browser.screenshot()[y, middle + 40], (200, 20, 20))
            browser.key("ArrowLeft")
            text = browser.run("document.getElementById('swipe').getAttribute('aria-valuetext')")
            assert text == "98 %: RGB left, Land cover right"

            browser.mouse("mouseMoved", middle - 30, y)
            browser.mouse("mouseMoved", middle - 31, y)
            browser.wait("document.querySelector('.region') !== null")
            assert browser.run("document.querySelector('.region').innerText").startswith("forest")
            assert re.match(r"forest · \d+ % · 500\d{3}, 2999\d{3} \(EPSG:32650\)", browser.run("readout.innerText"))

            browser.run("document.querySelector('input[name=left][value=map]').click()")
            chosen = browser.run("[...document.querySelectorAll('.choice input:checked')].map(i => i.value).join()")
            assert chosen == "map,rgb"  # they change places
            assert browser.errors == []
            assert all(url.startswith(("file:", "data:", "about:")) for url in browser.requests)

    def test_hostile_names_run_nothing(self, chromium: str, tmp_path: Path) -> None:
        path = write_map(tmp_path / "map.tif", blocks(), [HOSTILE, "<i onclick=x>", "fine"])
        vector = ga.vectorize(path, out=tmp_path / "p.gpkg").path
        page = ga.view(path, polygons=vector, out=tmp_path / "v.html").path
        with Chromium(chromium, tmp_path) as browser:
            browser.resize(900, 600)
            browser.open(page.as_uri())
            left = browser.run("document.getElementById('map').getBoundingClientRect().width") / 5
            browser.mouse("mouseMoved", left, 300)
            browser.mouse("mouseMoved", left + 1, 300)
            browser.wait("document.querySelector('.region') !== null")
            assert browser.run("document.querySelector('.region').innerText").startswith(HOSTILE)
            assert HOSTILE in browser.run("document.querySelector('table').innerText")
            assert browser.run("document.scripts.length") == 3 and browser.errors == []

    @staticmethod
    def _visible(browser: Chromium, selector: str) -> bool:
        return bool(
            browser.run(
                f"(({{left, top, width, height}}) => width > 0 && height > 0 && left >= 0 && top >= 0 && "
                f"left < innerWidth && top < innerHeight)(document.querySelector('{selector}').getBoundingClientRect())"
            )
        )

    @staticmethod
    def _near(found: np.ndarray, expected: Any) -> bool:
        return bool(np.abs(found.astype(int) - np.asarray(expected)).max() < 25)
