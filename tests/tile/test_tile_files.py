"""Outputs that appear whole, lists of scenes, options that cannot be, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rasterio.transform import from_origin

from geoasanet.cli.tile import command
from geoasanet.errors import (
    BandError,
    ConfigError,
    GeoASANetError,
    LabelError,
    ManifestError,
    OutputError,
    OutputExistsError,
    SceneError,
)
from geoasanet.raster import tiles
from geoasanet.raster.dataset import open_dataset_folder
from geoasanet.tools.tile import tile
from tests.conftest import write_raster
from tests.tile.conftest import HEIGHT, NAMES, SIZE, WIDTH, label_array

Maker = Callable[..., dict[str, Any]]


def listing(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


class TestOutput:
    """The dataset folder appears whole or not at all; only datasets of ours are replaced."""

    def test_a_failure_leaves_nothing(self, scene: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = scene()
        before = listing(tmp_path)

        def broken(*_: Any) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(tiles, "write_label", broken)
        with pytest.raises(OSError, match="no space left"):
            tile(**files, out=tmp_path / "out", size=SIZE)
        assert listing(tmp_path) == before

    def test_a_failure_keeps_what_was_there(self, scene: Maker, tmp_path: Path) -> None:
        files = scene()
        tile(**files, out=tmp_path / "out", size=SIZE)
        before = listing(tmp_path)
        with pytest.raises(LabelError):
            tile(**files, out=tmp_path / "out", size=SIZE, classes=["only"], overwrite=True)
        assert listing(tmp_path) == before

    def test_replacing(self, scene: Maker, tmp_path: Path) -> None:
        files = scene()
        first = tile(**files, out=tmp_path / "out", size=SIZE)
        with pytest.raises(OutputExistsError, match="exists"):
            tile(**files, out=tmp_path / "out", size=SIZE)
        second = tile(**files, out=tmp_path / "out", size=32, overwrite=True)
        assert sum(second.tiles.values()) < sum(first.tiles.values())
        assert len(list((tmp_path / "out/rgb").iterdir())) == sum(second.tiles.values())
        assert {p.name for p in tmp_path.iterdir()} == {"scene", "out"}

    def test_a_foreign_folder_is_never_replaced(self, scene: Maker, tmp_path: Path) -> None:
        files = scene()
        (tmp_path / "out").mkdir()
        assert tile(**files, out=tmp_path / "out", size=SIZE).tiles["train"]
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos/cat.jpg").touch()
        with pytest.raises(OutputError, match="did not write; it is never replaced"):
            tile(**files, out=tmp_path / "photos", overwrite=True)
        with pytest.raises(OutputError, match="is a file"):
            tile(**files, out=tmp_path / "photos/cat.jpg", overwrite=True)
        with pytest.raises(OutputError, match="does not exist"):
            tile(**files, out=tmp_path / "none/out")
        with pytest.raises(ConfigError, match="lies in the output folder"):
            tile(**files, out=tmp_path / "scene", overwrite=True)

    def test_inputs_stay_as_they_are(self, scene: Maker, tmp_path: Path) -> None:
        files = scene()
        before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files["rgb"].parent.iterdir()}
        tile(**files, out=tmp_path / "out", size=SIZE)
        assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files["rgb"].parent.iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": (0.5, 0.2, 0.2)}, "--split 0.5,0.2,0.2 is not three shares"),
        ({"split": (0, 0.5, 0.5)}, "the first above 0"),
        ({"split": (float("nan"), 0.5, 0.5)}, "is not three shares"),
        ({"min_valid": 1.5}, "--min-valid must be 0 to 1"),
        ({"format": "jpg"}, "--format 'jpg' is unknown"),
        ({"workers": 0}, "--workers must be 1"),
        ({"size": 2}, "--size must be at least 8"),
        ({"size": 16, "overlap": 16}, "--overlap must be 0 to 15"),
        ({"block": 0}, "--block must be at least 1"),
        ({"sar_scale": "power"}, "--sar-scale 'power' is unknown"),
        ({"labels": None, "classes": ["a"]}, "--classes needs labels"),
        ({"labels": None, "class_field": "a"}, "--class-field needs labels"),
        ({"scenes": "list.csv"}, "do not go with it"),
        ({"sar": None}, "RGB and SAR raster are needed"),
        ({"rgb_bands": [1]}, "3 are needed"),
        ({"rgb": "none.tif"}, "none.tif does not exist"),
        ({"labels": "none.tif"}, "none.tif does not exist"),
    ],
)
def test_impossible_options(scene: Maker, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    before = listing(tmp_path)
    files = scene()
    with pytest.raises(GeoASANetError, match=message):
        tile(**{**files, **options}, out=tmp_path / "out")
    assert listing(tmp_path) - before == {"scene", "scene/rgb.tif", "scene/sar.tif", "scene/labels.tif"}


def test_png_cannot_hold_floats(scene: Maker, tmp_path: Path) -> None:
    files = scene()
    write_raster(files["sar"], np.ones((1, HEIGHT, WIDTH), np.float32))
    with pytest.raises(BandError, match="PNG cannot hold 1 SAR band of type float32"):
        tile(**files, out=tmp_path / "out", format="png")


class TestScenes:
    """Many scenes from a CSV file."""

    @pytest.fixture
    def two(self, scene: Maker, tmp_path: Path) -> Path:
        """Two scenes side by side, in folders of the same file names."""
        scene(tmp_path / "a", seed=1)
        scene(tmp_path / "b", seed=2, transform=from_origin(600_000, 3_000_000, 10, 10))
        path = tmp_path / "list.csv"
        path.write_text("rgb,sar,labels\na/rgb.tif,a/sar.tif,a/labels.tif\nb/rgb.tif,b/sar.tif,b/labels.tif\n")
        return path

    def test_both_are_in_one_dataset(self, two: Path, tmp_path: Path) -> None:
        result = tile(scenes=two, out=tmp_path / "out", size=SIZE, classes=NAMES)
        dataset = open_dataset_folder(result.path)
        names = [n for split in dataset.splits for n in dataset.names(split)]
        single = -(-HEIGHT // SIZE) * -(-WIDTH // SIZE)
        assert len(names) == len(set(names)) and single < len(names) <= 2 * single
        assert {n.split("_")[1] for n in names} == {"001", "002"}

    def test_a_given_split(self, two: Path, tmp_path: Path) -> None:
        two.write_text(
            "rgb;sar;labels;split\na/rgb.tif;a/sar.tif;a/labels.tif;train\nb/rgb.tif;b/sar.tif;b/labels.tif;val\n"
        )
        result = tile(scenes=two, out=tmp_path / "out", size=SIZE)
        dataset = open_dataset_folder(result.path)
        assert all(n.startswith("rgb_001") for n in dataset.names("train"))
        assert all(n.startswith("rgb_002") for n in dataset.names("val"))
        assert any("test.txt is empty" in w for w in result.warnings)

    def test_scenes_of_the_same_ground_do_not_leak(self, two: Path, tmp_path: Path, scene: Maker) -> None:
        scene(tmp_path / "b", seed=2)
        result = tile(scenes=two, out=tmp_path / "out", size=SIZE, block=2)
        dataset = open_dataset_folder(result.path)
        owner: dict[str, str] = {}
        for split in dataset.splits:
            for name in dataset.names(split):
                assert owner.setdefault(name.split("_", 2)[2], split) == split
        assert all(result.tiles.values())

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            ("", ManifestError, "line 1: the columns are none"),
            ("rgb,sar,label\n", ManifestError, "line 1: the columns are rgb, sar, label"),
            ("rgb,sar,labels\n", ManifestError, "names no scene"),
            ("rgb,sar,labels\na/rgb.tif,a/sar.tif\n", ManifestError, "line 2: 3 values are needed"),
            ("rgb,sar,labels\na/rgb.tif,,a/labels.tif\n", ManifestError, "line 2: sar is empty"),
            ("rgb,sar,labels,split\na/rgb.tif,a/sar.tif,,dev\n", ManifestError, "line 2: the split is 'dev'"),
            (
                "rgb,sar,labels\na/rgb.tif,a/sar.tif,\nb/rgb.tif,b/sar.tif,b/labels.tif\n",
                ManifestError,
                "line 2: labels is empty",
            ),
            ("rgb,sar\na/rgb.tif,a/sar.tif\n\na/rgb.tif,a/none.tif\n", SceneError, "line 4: .*none.tif does not exist"),
            ("rgb,sar\na/rgb.tif,a/sar.tif\nb/rgb.tif,b/float.tif\n", BandError, "line 3: .*SAR values in"),
        ],
    )
    def test_errors_name_the_line(
        self, two: Path, tmp_path: Path, text: str, error: type[GeoASANetError], message: str
    ) -> None:
        shifted = from_origin(600_000, 3_000_000, 10, 10)
        write_raster(tmp_path / "b/float.tif", np.ones((1, HEIGHT, WIDTH), np.float32), transform=shifted)
        two.write_text(text)
        with pytest.raises(error, match=message) as caught:
            tile(scenes=two, out=tmp_path / "out", size=SIZE)
        assert "list.csv" in str(caught.value)

    def test_a_bad_label_names_the_line(self, two: Path, tmp_path: Path) -> None:
        labels = label_array()
        labels[3, 4] = 77
        write_raster(tmp_path / "b/labels.tif", labels, transform=from_origin(600_000, 3_000_000, 10, 10))
        with pytest.raises(LabelError, match=r"line 3: Labels .*b/labels\.tif hold 77"):
            tile(scenes=two, out=tmp_path / "out", size=SIZE, classes=NAMES)

    def test_missing_list(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="cannot be read"):
            tile(scenes=tmp_path / "none.csv", out=tmp_path / "out")


class TestCommand:
    """The command line."""

    def test_no_network_code_is_loaded(self) -> None:
        code = "import sys, geoasanet.tools.tile; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_report(self, scene: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = scene()
        monkeypatch.chdir(tmp_path)
        arguments = [str(files["rgb"]), str(files["sar"]), "--labels", str(files["labels"]), "--size", str(SIZE)]
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert "Dataset: tiles (" in done.stdout and "class 1" in done.stdout
        assert open_dataset_folder("tiles").names("train")
        done = CliRunner().invoke(command, [*arguments, "--overwrite", "--json"], catch_exceptions=False)
        document = json.loads(done.stdout)
        assert document["path"] == "tiles" and sum(document["tiles"].values()) == 54

    @pytest.mark.parametrize("arguments", [["--split", "a,b"], ["--size", "0"], ["--format", "gif"]])
    def test_wrong_usage(self, arguments: list[str]) -> None:
        assert CliRunner().invoke(command, ["rgb", "sar", *arguments]).exit_code == 2


@pytest.mark.slow
def test_a_real_scene(shared: Path, tmp_path: Path) -> None:
    """Raster labels and the polygons made from them give the same dataset but for border pixels."""
    folder = shared / "data/los_angeles"
    results = [
        tile(folder / "la_rgb.tif", folder / "la_sar.tif", labels=folder / name, out=tmp_path / name.split(".")[1])
        for name in ("la_labels.tif", "la_labels.gpkg")
    ]
    raster, vector = (open_dataset_folder(result.path) for result in results)
    assert raster.splits == vector.splits and raster.bands == vector.bands and raster.classes == vector.classes
    same = total = 0
    for name in raster.names("train"):
        a, b = raster.read(name).label, vector.read(name).label
        assert a is not None and b is not None
        same += np.count_nonzero(a == b)
        total += a.size
    assert same / total > 0.98
