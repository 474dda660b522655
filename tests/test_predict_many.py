"""``predict --scenes``: lists and STAC ItemCollections, scenes that fail, runs that go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

import geoasanet as ga
from geoasanet.cli.main import main
from geoasanet.errors import ConfigError, ManifestError
from geoasanet.tools import predictmany
from geoasanet.tools.predictmany import predict_scenes
from geoasanet.tools.stacscenes import read_item_collection

Make = Callable[..., Path]


@pytest.fixture
def scenes(make_raster: Make, tmp_path: Path) -> Path:
    """A list of three scenes, of which the second's SAR raster is missing."""
    rng = np.random.default_rng(0)
    rows = []
    for name in "abc":
        make_raster(f"{name}_rgb.tif", rng.integers(0, 256, (3, 80, 90), np.uint8))
        if name != "b":
            make_raster(f"{name}_sar.tif", rng.gamma(4, 0.05, (1, 80, 90)).astype(np.float32))
        rows.append(f"{name}_rgb.tif,{name}_sar.tif")
    path = tmp_path / "list.csv"
    path.write_text("rgb,sar\n" + "\n".join(rows))
    return path


def test_every_scene_gets_its_map_and_a_failure_stops_no_other(
    scenes: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"checkpoint": checkpoint, "device": "cpu", "vectorize": str(tmp_path / "maps/{}.gpkg")}
    done = predict_scenes(scenes, out=tmp_path / "maps", **options)
    assert [scene.name for scene in done.scenes] == ["a_rgb", "b_rgb", "c_rgb"]
    assert done.failed == 1 and "b_sar.tif does not exist" in str(done.scenes[1].error)
    single = ga.predict(tmp_path / "c_rgb.tif", tmp_path / "c_sar.tif", checkpoint=checkpoint, out=tmp_path / "c.tif")
    assert (tmp_path / "maps/c_rgb_landcover.tif").read_bytes() == single.map.read_bytes()
    assert (tmp_path / "maps/a_rgb.gpkg").exists() and (tmp_path / "maps/c_rgb.gpkg").exists()
    json.dumps(done.to_dict())

    ran = []
    genuine = predictmany.predict

    def counting(*arguments: Any, **more: Any) -> Any:
        ran.append(arguments[0])
        return genuine(*arguments, **more)

    monkeypatch.setattr(predictmany, "predict", counting)
    again = predict_scenes(scenes, out=tmp_path / "maps", **options)
    assert [Path(path).name for path in ran] == ["b_rgb.tif"]
    assert [scene.earlier for scene in again.scenes] == [True, False, True]
    assert again.scenes[2].class_pixels == done.scenes[2].class_pixels
    other = predict_scenes(scenes, out=tmp_path / "maps", overlap=20, **options)
    assert other.failed == 3 and "exists" in str(other.scenes[0].error)
    (tmp_path / "maps/a_rgb_landcover.tif").write_bytes(b"another's")
    assert "exists" in str(predict_scenes(scenes, out=tmp_path / "maps", **options).scenes[0].error)


def test_on_the_command_line(scenes: Path, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["predict", "--scenes", str(scenes), "-o", str(tmp_path / "maps"), "-c", str(checkpoint), "--json"]
    done = CliRunner().invoke(main, [*arguments, "--device", "cpu", "--no-progress"])
    assert done.exit_code == 1
    assert f"1 of 3 scenes of {scenes} have no map. b_rgb: SAR raster" in done.stderr
    assert [scene["error"] is None for scene in json.loads(done.stdout)["scenes"]] == [True, False, True]
    for wrong in (["predict"], ["predict", "a.tif"], ["predict", "a.tif", "b.tif", "--scenes", "x.csv"]):
        assert CliRunner().invoke(main, wrong).exit_code == 2


def test_what_goes_with_one_scene_only(scenes: Path, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"--confidence c\.tif is one file for many scenes"):
        predict_scenes(scenes, checkpoint=checkpoint, confidence="c.tif")
    with pytest.raises(ConfigError, match="--dry-run looks at one scene"):
        predict_scenes(scenes, checkpoint=checkpoint, dry_run=True)


def item(name: str, box: tuple[float, float, float, float], day: int, **assets: str) -> dict[str, Any]:
    left, bottom, right, top = box
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": f"2024-05-{day:02d}T10:00:00Z"},
        "assets": {key: {"href": href} for key, href in assets.items()},
    }


def write(path: Path, *items: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


class TestStac:
    """Items paired by footprint."""

    def test_the_sar_item_that_covers_most_is_taken_then_the_nearest_in_time(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "found.json",
            item("far", (50, 50, 51, 51), 1, visual="far.tif"),
            item("optical", (0, 0, 1, 1), 10, B04="red.tif", visual="https://host/optical.tif"),
            item("edge", (0.9, 0, 2, 1), 10, vv="edge.tif"),
            item("early", (-1, -1, 2, 2), 2, vv="early.tif"),
            item("near", (-1, -1, 2, 2), 9, vh="no.tif", vv="near.tif"),
            item("both", (5, 5, 6, 6), 3, rgb="b_rgb.tif", sar="/data/b_sar.tif"),
        )
        scenes, notes = read_item_collection(path)
        assert [(scene.rgb, scene.sar) for scene in scenes] == [
            ("https://host/optical.tif", str(tmp_path / "near.tif")),
            (str(tmp_path / "b_rgb.tif"), "/data/b_sar.tif"),
        ]
        assert notes == ["far: no SAR item overlaps it; it is left out."]

    def test_little_cover_is_told_and_assets_can_be_named(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "f.json",
            item("o", (0, 0, 1, 1), 1, mosaic="o.tif"),
            item("s", (0.75, 0, 2, 1), 1, gamma0="s.tif"),
        )
        with pytest.raises(
            ManifestError, match=r"no item with optical imagery: asset keys are gamma0, mosaic.*--rgb-a"
        ):
            read_item_collection(path)
        scenes, notes = read_item_collection(path, ["mosaic"], ["gamma0"])
        assert len(scenes) == 1 and notes == ["o: s covers 25 % of it; the rest has no SAR data."]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "is no JSON"),
            ("[" * 100_000, "is no JSON"),
            ("[]", "no STAC ItemCollection"),
            ('{"type": "FeatureCollection"}', "no STAC ItemCollection"),
            ('{"type": "FeatureCollection", "features": [7]}', "item 1 is no STAC Item"),
            ('{"type": "FeatureCollection", "features": [{"geometry": null}]}', "item 1 is no STAC Item"),
            ('{"type": "FeatureCollection", "features": []}', "no item with optical imagery: asset keys are none"),
        ],
    )
    def test_what_is_no_collection_is_said(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "f.json"
        path.write_text(text)
        with pytest.raises(ManifestError, match=message):
            read_item_collection(path)

    def test_a_collection_is_mapped(self, scenes: Path, checkpoint: Path, tmp_path: Path) -> None:
        path = write(tmp_path / "f.json", item("a", (0, 0, 1, 1), 1, visual="a_rgb.tif", vv="a_sar.tif"))
        done = predict_scenes(path, out=tmp_path / "maps", checkpoint=checkpoint, device="cpu")
        assert done.failed == 0
        with rasterio.open(tmp_path / "maps/a_rgb_landcover.tif") as dataset:
            assert dataset.shape == (80, 90)
