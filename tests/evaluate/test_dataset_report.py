"""``geoasanet eval`` on a dataset: the command, its report, and which tiles the report shows."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import geoasanet as ga
from geoasanet.classes import ClassSchema
from geoasanet.cli.main import main
from geoasanet.errors import ConfigError, OutputExistsError
from geoasanet.raster.figure import BLANK
from geoasanet.tools.evaluate import evaluate
from geoasanet.tools.evaluate_tiles import KEEP, Extremes, RankedTile, TileScore
from tests.evaluate.conftest import refused
from tests.evaluate.folders import GRAY, NAMES, known, known_tile, random_folder, write_lists
from tests.evaluate.test_command import Page


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small ASANet with random weights, for tiles of 64 px."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    encoder = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
    model = ga.create_model("asanet", 3, (3, 1), encoder=encoder, decoder_channels=16, auxiliary_channels=16)
    ga.save_checkpoint(path, model, classes=ClassSchema.from_names(NAMES), bands=GRAY, window_size=64)
    return path


@pytest.fixture
def workplace(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with what ``tile`` and ``train`` leave: tiles/ and runs/latest."""
    random_folder(tmp_path / "tiles", [(64, 64)] * 3)
    known_tile(tmp_path / "tiles", "t3", np.zeros((64, 64)), np.zeros((64, 64)))
    (tmp_path / "tiles/test.txt").write_text("t3\n")
    (tmp_path / "runs/latest").mkdir(parents=True)
    (tmp_path / "runs/latest/best.safetensors").write_bytes(checkpoint.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestCommand:
    """Defaults, documents, exit codes."""

    def test_alone_in_a_folder_with_a_run(self, workplace: Path) -> None:
        run = CliRunner().invoke(main, ["eval"])
        assert run.exit_code == 0, run.output
        first, second, *_ = run.stdout.splitlines()
        assert first.startswith("runs/latest/best.safetensors on 3 val tiles of tiles: ")
        assert re.fullmatch(r"  overall accuracy 0\.\d{4}   mIoU 0\.\d{4}   mean F1 \S+   kappa \S+", second)
        assert "rows truth, columns prediction" in run.stdout and "Worst tiles by their own" in run.stdout
        assert sorted(p.name for p in workplace.iterdir()) == ["runs", "tiles"]

    def test_json_is_one_document_without_nan(self, workplace: Path) -> None:
        run = CliRunner().invoke(main, ["eval", "--json", "--split", "test", "--batch-size", "2", "--tta"])
        assert run.exit_code == 0, run.output

        def refuse(constant: str) -> None:
            raise AssertionError(constant)

        document = json.loads(run.stdout, parse_constant=refuse)
        assert document["kind"] == "dataset" and document["split"] == "test" and document["tta"] is True
        assert document["metrics"]["pixels"] == document["counts"]["compared"] == 64 * 64
        assert document["metrics"]["classes"]["town"]["recall"] is None
        assert [t["name"] for t in document["best_tiles"]] == ["t3"] and document["worst_tiles"] == []

    def test_it_is_the_function(self, workplace: Path) -> None:
        run = CliRunner().invoke(main, ["eval", "--json", "-c", "runs/latest", "--data", "tiles", "--device", "cpu"])
        found = evaluate(checkpoint="runs/latest", data="tiles")
        assert json.loads(run.stdout)["metrics"] == found.metrics.to_dict(NAMES)

    @pytest.mark.parametrize("arguments", [["--split", "train"], ["--data", "none"], ["-c", "none"]])
    def test_failures_are_one_line(self, arguments: list[str], workplace: Path) -> None:
        run = CliRunner().invoke(main, ["eval", *arguments, "--report", "r.html"])
        assert run.exit_code == 1 and run.stdout == "" and not Path("r.html").exists()
        (line,) = [text for text in run.stderr.splitlines() if not text.startswith("Evaluating")]
        assert line.startswith("Error: ")

    def test_without_a_checkpoint(self, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("geoasanet.tools.checkpoints._FOLDER", workplace)
        (workplace / "runs/latest/best.safetensors").unlink()
        run = CliRunner().invoke(main, ["eval"])
        assert run.exit_code == 1 and "runs/latest/best.safetensors does not exist" in run.stderr


class TestReport:
    """One file that shows the right tiles."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Twelve tiles of which k % of the pixels are wrong in tile k, and one, all wrong, with few labels."""
        tiles = []
        for k in (7, 3, 11, 0, 5, 9, 1, 10, 4, 8, 2, 6):
            label = np.zeros((40, 50), np.uint8)
            label[20:] = 1
            predicted = label.copy()
            predicted.flat[: 20 * k] = 2
            label[39, 49] = 255
            known_tile(tmp_path, f"wrong{k:02d}", predicted, label)
            tiles.append(f"wrong{k:02d}")
        sparse = np.full((40, 50), 255, np.uint8)
        sparse.flat[:99] = 1
        known_tile(tmp_path, "sparse<b>&", np.zeros((40, 50)), sparse)
        return write_lists(tmp_path, {"val": [*tiles[:5], "sparse<b>&", *tiles[5:]]}, ["<i>water</i>", "a & b", "c"])

    def test_best_and_worst_tiles_in_order(self, folder: Path) -> None:
        out = folder / "r.html"
        found = evaluate(checkpoint=known(names=["<i>water</i>", "a & b", "c"]), data=folder, report=out)
        assert [t.name for t in found.worst] == ["wrong11", "wrong10", "wrong09", "wrong08"]
        assert [t.name for t in found.best] == ["wrong00", "wrong01", "wrong02", "wrong03"]
        text = out.read_text(encoding="utf-8")
        names = re.findall(r"<h3>(.*?)</h3>", text)
        assert names == [t.name for t in (*found.worst, *found.best)]
        assert text.count("<image ") == 5 * 8 and "sparse" not in text
        scores = re.findall(r"overall accuracy (0\.\d+|1\.000), mIoU", text)
        assert scores == [f"{1 - 20 * k / 1999:.3f}" for k in (11, 10, 9, 8, 0, 1, 2, 3)]

    def test_the_pictures_are_those_of_the_tile(self, folder: Path) -> None:
        checkpoint = known(names=["<i>water</i>", "a & b", "c"])
        evaluate(checkpoint=checkpoint, data=folder, report=folder / "r.html")
        text = (folder / "r.html").read_text(encoding="utf-8")
        encoded = re.findall(r'href="data:image/png;base64,([^"]+)"', text)
        images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(e))).convert("RGB")) for e in encoded[:5]]
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)[:5]
        assert captions == ["RGB", "SAR", "Label", "Prediction", "Confidence"]
        colors = checkpoint.classes.colors
        label, predicted = images[2], images[3]
        assert {*map(tuple, label[:20].reshape(-1, 3))} == {colors[0]}
        assert {*map(tuple, label[20:].reshape(-1, 3))} == {colors[1], BLANK}
        assert tuple(label[39, 49]) == BLANK and tuple(predicted[39, 49]) == colors[1]
        assert (predicted.reshape(-1, 3) == colors[2]).all(axis=1).sum() == 220  # wrong11 comes first
        assert len({*map(tuple, images[4].reshape(-1, 3))}) == 1  # the same confidence everywhere

    def test_is_whole_and_escaped(self, tmp_path: Path) -> None:
        names = ["<script>alert(1)</script>", "b & c", 'd "e"']
        tiles = []
        for i in range(2):
            tiles.append(f"<u>tile</u> {i}".replace("/", "_"))
            known_tile(tmp_path, tiles[-1], np.zeros((40, 40)), np.full((40, 40), i + 1))
        write_lists(tmp_path, {"val": tiles}, names, origin={"made_by": "<svg onload=x>"})
        found = evaluate(checkpoint=known(names=names), data=tmp_path, report=tmp_path / "r.html")
        text = (tmp_path / "r.html").read_text(encoding="utf-8")
        page = Page(text)
        assert "script" not in page.seen and "u" not in page.seen and "up" not in page.seen
        assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
        for shown in (names[0], "<u>tile<_u> 0", "made <up>", "<svg onload=x>", found.sha256, "known"):
            assert shown in page.text
        assert f"{found.metrics.accuracy:.3f}" in page.text and not re.search(r"\bnan\b", text)
        assert found.report == tmp_path / "r.html" and not list(tmp_path.glob(".*"))

    def test_outputs_are_not_replaced_unasked(self, workplace: Path) -> None:
        (workplace / "r.html").write_text("precious")
        refused(OutputExistsError, r"r\.html exists.*--overwrite", workplace, report="r.html")
        source = workplace / "runs/latest/best.safetensors"
        refused(ConfigError, "is also an input", workplace, report=source, overwrite=True)
        assert evaluate(report="r.html", overwrite=True).report == Path("r.html")
        assert (workplace / "r.html").read_text().startswith("<!DOCTYPE html>")

    def test_pixels_without_data_are_blank(self, tmp_path: Path) -> None:
        mask = np.ones((40, 40), bool)
        mask[:10] = False
        known_tile(tmp_path, "a", np.ones((40, 40)), np.ones((40, 40)), mask=mask)
        evaluate(checkpoint=known(), data=write_lists(tmp_path, {"val": ["a"]}), report=tmp_path / "r.html")
        encoded = re.findall(r'base64,([^"]+)"', (tmp_path / "r.html").read_text())
        for i, text in enumerate(encoded):
            image = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
            blank = (image == BLANK).all(axis=2)
            np.testing.assert_array_equal(blank, ~mask if i != 1 else np.zeros_like(mask))  # the SAR has no mask

    def test_large_tiles_become_small_pictures(self, tmp_path: Path) -> None:
        known_tile(tmp_path, "a", np.zeros((600, 300)), np.zeros((600, 300)))
        evaluate(checkpoint=known(), data=write_lists(tmp_path, {"val": ["a"]}), report=tmp_path / "r.html")
        boxes = re.findall(r'<svg viewBox="0 0 (\d+) (\d+)" role="img"', (tmp_path / "r.html").read_text())
        assert boxes == [("100", "200")] * 5


SCORES = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(1, 3)), max_size=30)


@given(SCORES)
def test_extremes_are_those_of_the_sorted_list(values: list[tuple[float, int]]) -> None:
    scores = [TileScore(f"t{i}", accuracy, accuracy, classes, 9) for i, (accuracy, classes) in enumerate(values)]
    extremes = Extremes()
    for score in scores:
        extremes.offer(score, tuple)
        assert len(extremes._best) <= KEEP and len(extremes._worst) <= KEEP
    order = sorted(scores, key=lambda s: (-s.accuracy, -s.classes, s.name))
    half = min(KEEP, (len(order) + 1) // 2)
    best, worst = (_scores(tiles) for tiles in extremes.chosen)
    assert best == order[:half]
    assert worst == order[::-1][: min(KEEP, len(order) // 2)]


def _scores(tiles: tuple[RankedTile, ...]) -> list[TileScore]:
    return [tile.score for tile in tiles]


def test_pictures_are_made_of_candidates_only() -> None:
    made: list[str] = []
    extremes = Extremes()
    for i in range(100):  # better and better, then nothing new
        score = TileScore(f"t{i}", 0.5 + (0.4 if i < 8 else 0.2) * (i % 8) / 8, 0.5, 1, 9)
        extremes.offer(score, lambda name=score.name: made.append(name) or ())  # type: ignore[misc,func-returns-value]
    assert len(made) < 30
