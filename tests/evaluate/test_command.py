"""The command, its report, and what it says about bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from geoasanet.classes import ClassSchema
from geoasanet.cli.eval import command
from geoasanet.errors import (
    BandError,
    ConfigError,
    GridError,
    LabelError,
    NoOverlapError,
    OutputError,
    OutputExistsError,
    SceneError,
    VectorError,
)
from geoasanet.tools.evaluate import evaluate
from tests.evaluate.conftest import MakeVector, centres, landscape, pixel_boxes, refused
from tests.vectorize.conftest import METRES

MakeMap = Callable[..., Path]
VOID = {"meta", "link", "img", "br", "wbr", "hr"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and keeps what a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.seen: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open = self.open[:-1] if tag not in VOID else self.open

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def test_command_reports_in_words_and_json(make_map: MakeMap, make_vector: MakeVector, tmp_path: Path) -> None:
    mapped = landscape(60, 50)
    places = np.random.default_rng(2).integers(0, 50, (2, 90))
    labels = make_vector(centres(*places), class_id=np.minimum(mapped[tuple(places)], 2).astype(int))
    options = ["--map", str(make_map(mapped)), "--labels", str(labels), "--confidence-level", "0.9"]
    run = CliRunner().invoke(command, [*options, "--report", str(tmp_path / "r.html")], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert "points compared" in run.stdout and "90 % confidence" in run.stdout
    assert "mapped ha" in run.stdout  # 0.3 km²
    assert "field & <meadow>" in run.stdout and "Report: " in run.stdout
    assert "stratified by map class (Olofsson et al. 2014)" in run.stdout
    run = CliRunner().invoke(command, [*options, "--json"], catch_exceptions=False)
    document = json.loads(run.stdout)
    assert document["kind"] == "points" and document["sample"]["confidence_level"] == 0.9
    assert set(document["sample"]["classes"]["water"]) >= {"users_accuracy", "producers_accuracy", "area_m2"}
    assert document["metrics"]["miou"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map", "m.tif"], "--labels is needed: geoasanet eval --map MAP --labels LABELS"),
        (["--labels", "l.tif"], "--map is needed: geoasanet eval --map MAP --labels LABELS"),
        (["--map", "m.tif", "--labels", "l.tif", "--tta"], "--tta to that of a checkpoint"),
        (["--confidence-level", "2"], "Invalid value for '--confidence-level'"),
        (["--split", "dev"], "Invalid value for '--split'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    run = CliRunner().invoke(command, arguments)
    assert run.exit_code == 2
    assert message in " ".join(run.stderr.split())


class TestReport:
    """One file that needs nothing else and shows what was found."""

    @pytest.mark.parametrize("kind", ["raster", "polygons", "points"])
    def test_is_whole_and_self_contained(
        self, kind: str, make_map: MakeMap, make_vector: MakeVector, tmp_path: Path
    ) -> None:
        mapped = landscape(60, 50)
        schema = ClassSchema.from_names(["<script>alert(1)</script>", "b & c", 'd "e"'])
        source = make_map(mapped, schema=schema)
        with rasterio.open(source, "r+") as dataset:
            dataset.update_tags(GEOASANET_CHECKPOINT="sha256 <abc>")
        rng = np.random.default_rng(0)
        rows, cols = rng.integers(0, 50, (2, 40))
        labels = {
            "raster": lambda: make_map(landscape(60, 50, 2), "labels.tif", schema=schema),
            "polygons": lambda: make_vector(pixel_boxes(rows, cols, 3), class_id=rng.integers(0, 3, 40)),
            "points": lambda: make_vector(centres(rows, cols), class_id=rng.integers(0, 2, 40)),
        }[kind]()
        out = tmp_path / "report.html"
        found = evaluate(map=source, labels=labels, report=out)
        text = out.read_text(encoding="utf-8")
        page = Page(text)
        assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
        assert "script" not in page.seen and "url(" not in text and "@import" not in text
        assert "<script>alert(1)</script>" in page.text and "sha256 <abc>" in page.text
        assert f"{found.metrics.accuracy:.3f}" in page.text
        assert str(int(found.metrics.matrix[0, 0])) in page.text
        assert ("Estimates for the whole map" in page.text) == (kind == "points")
        assert text.count("<image ") == (2 if kind == "points" else 3)
        assert found.report == out and not list(tmp_path.glob(".*"))

    def test_unknown_values_are_dashes(self, make_map: MakeMap, make_vector: MakeVector, tmp_path: Path) -> None:
        source = make_map(np.zeros((20, 30), np.uint8))
        evaluate(map=source, labels=make_vector(centres([1], [1]), class_id=[0]), report=tmp_path / "r.html")
        assert not re.search(r"\bnan\b", (tmp_path / "r.html").read_text())

    def test_outputs_are_not_replaced_unasked(self, make_map: MakeMap, tmp_path: Path) -> None:
        source = make_map(landscape(20, 30))
        there = tmp_path / "r.html"
        there.write_text("precious")
        both = {"map": source, "labels": source}
        refused(OutputExistsError, "r.html exists.*--overwrite", tmp_path, **both, report=there)
        refused(OutputError, "nowhere does not exist", tmp_path, **both, report=tmp_path / "nowhere" / "r.html")
        refused(ConfigError, "is also an input", tmp_path, **both, report=source, overwrite=True)
        assert evaluate(**both, report=there, overwrite=True).report == there
        assert there.read_text().startswith("<!DOCTYPE html>")


class TestBadInput:
    """One readable error each, and nothing written."""

    @pytest.fixture
    def source(self, make_map: MakeMap) -> Path:
        """A map of three classes."""
        return make_map(landscape(20, 30))

    def test_rasters(self, source: Path, make_map: MakeMap, tmp_path: Path) -> None:
        floats = make_map(landscape(20, 30).astype(np.float32), "f.tif")
        report = tmp_path / "r.html"
        refused(BandError, "map .*f.tif holds float32", tmp_path, map=floats, labels=source, report=report)
        refused(BandError, "f.tif have 1 band of float32", tmp_path, map=source, labels=floats, report=report)
        three = make_map(np.stack([landscape(20, 30)] * 3), "three.tif")
        refused(BandError, "three.tif have 3 bands of uint8", tmp_path, map=source, labels=three)
        nowhere = make_map(landscape(20, 30), "n.tif", crs=None)
        refused(GridError, "n.tif has no coordinate reference", tmp_path, map=source, labels=nowhere)
        far = make_map(landscape(20, 30), "far.tif", transform=rasterio.Affine.translation(9e4, 0) @ METRES)
        refused(NoOverlapError, "far.tif and the map .* do not overlap", tmp_path, map=source, labels=far)
        abroad = make_map(landscape(20, 30), "abroad.tif", crs="EPSG:32633")
        refused(NoOverlapError, "abroad.tif and the map .* do not overlap", tmp_path, map=source, labels=abroad)
        empty = make_map(np.full((20, 30), 255, np.uint8), "empty.tif")
        refused(LabelError, "No pixel has both", tmp_path, map=source, labels=empty, report=report)
        refused(LabelError, "No pixel has both", tmp_path, map=empty, labels=source)
        wide = make_map(np.full((20, 30), 300, np.int16), "wide.tif")
        refused(LabelError, "wide.tif has value 300; class ids are 0 to 254", tmp_path, map=source, labels=wide)
        refused(SceneError, "gone.tif does not exist", tmp_path, map=source, labels=tmp_path / "gone.tif")

    def test_vectors(self, source: Path, make_vector: MakeVector, tmp_path: Path) -> None:
        point, box = shapely.Point(1, 1), shapely.box(0, 0, 5, 5)
        line = make_vector([shapely.LineString([(0, 0), (5, 5)])], "line.gpkg", class_id=[1])
        refused(VectorError, "hold 1 lines; all points or all polygons", tmp_path, map=source, labels=line)
        mixed = make_vector([point, box], "mixed.gpkg", class_id=[1, 1])
        refused(VectorError, "hold 1 points and 1 polygons", tmp_path, map=source, labels=mixed)
        empty = make_vector([], "empty.gpkg", class_id=[])
        refused(VectorError, "empty.gpkg hold no feature", tmp_path, map=source, labels=empty)
        with pytest.warns(UserWarning, match="'crs' was not provided"):
            placeless = make_vector([box], "placeless.gpkg", crs=None, class_id=[1])
        refused(VectorError, "have no coordinate reference system", tmp_path, map=source, labels=placeless)
        plain = make_vector([box], "plain.gpkg", kind=["a"], area=[1.0])
        refused(LabelError, "no field 'class_name' or 'class_id'.*kind, area", tmp_path, map=source, labels=plain)
        refused(LabelError, "no field 'x'.*kind", tmp_path, map=source, labels=plain, class_field="x")
        far = make_vector([shapely.box(900, 900, 910, 910)], "far.gpkg", class_id=[1])
        refused(NoOverlapError, "polygons of .*far.gpkg and the map", tmp_path, map=source, labels=far)
        away = make_vector([shapely.Point(-9, 3)], "away.gpkg", class_id=[1])
        refused(NoOverlapError, "None of the 1 points", tmp_path, map=source, labels=away)
        unread = make_vector([point], "unread.gpkg", class_name=[None])
        refused(LabelError, "No point has both", tmp_path, map=source, labels=unread)
        refused(VectorError, "gone.gpkg does not exist", tmp_path, map=source, labels=tmp_path / "gone.gpkg")
        (tmp_path / "text.gpkg").write_text("nothing")
        refused(VectorError, "text.gpkg cannot be read", tmp_path, map=source, labels=tmp_path / "text.gpkg")

    def test_options(self, source: Path, make_vector: MakeVector, tmp_path: Path) -> None:
        points = make_vector(centres([3], [9]), class_id=[1])
        refused(ConfigError, "--class-field is for vector", tmp_path, map=source, labels=source, class_field="a")
        refused(ConfigError, "level lies between", tmp_path, map=source, labels=points, confidence_level=95)
        sizes = tmp_path / "sizes.csv"
        sizes.write_text("stratum,size\na,1\n")
        refused(ConfigError, "--strata is for a sample", tmp_path, map=source, labels=source, strata=sizes)
        refused(ConfigError, "have no field 'stratum'", tmp_path, map=source, labels=points, strata=sizes)
        for text, pattern in (
            ("name,size\na,1\n", "has the columns name, size"),
            ("stratum,size\na,1\na,2\n", "line 3: stratum 'a'"),
            ("stratum,size\na,x\n", "line 2: stratum 'a' with size 'x'"),
            ("stratum,size\n", "lists no stratum"),
        ):
            sizes.write_text(text)
            refused(ConfigError, pattern, tmp_path, map=source, labels=points, strata=sizes)
        refused(ConfigError, "cannot be read", tmp_path, map=source, labels=points, strata=tmp_path / "none.csv")
