"""``geoasanet info`` on folders: what a dataset holds, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import geoasanet as ga
from geoasanet.cli.main import main
from geoasanet.errors import SceneError
from tests.evaluate.folders import known_tile, random_folder, write_lists


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good dataset of five tiles without statistics."""
    random_folder(tmp_path, [(32, 48)] * 5)
    return write_lists(tmp_path, {"train": ["t0", "t1", "t2"], "val": ["t3"], "test": ["t4"]})


def test_a_good_dataset(folder: Path) -> None:
    found = ga.info(folder)
    assert found.kind == "dataset" and found.fit, found.problems
    assert found.facts["tiles"] == {"train": 3, "val": 1, "test": 1}
    assert found.facts["sizes"] == ["32 x 48"] and found.facts["sar_dtypes"] == ["1 x uint8"]
    shares = [entry["share"] for entry in found.facts["classes"]]
    assert sum(shares) == pytest.approx(1, abs=1e-5) and found.facts["shares_of"] == "the train split"


def test_in_words_and_json(folder: Path) -> None:
    bands = {"rgb": {"mean": [1, 2, 3], "std": [4, 5, 6]}, "sar": {"mean": [-9], "std": [3], "scale": "db"}}
    extra = {"class_pixels": [10, 20, 70], "class_weights": [3.5, 2, 0.25], "origin": {"scenes": [{"rgb": "a.tif"}]}}
    write_lists(folder, {}, bands=bands, tile_size=32, **extra)
    run = CliRunner().invoke(main, ["info", str(folder)])
    assert run.exit_code == 0, run.output
    for text in (": dataset", "val: 1", "tile size: 32", "mean: -9", "scale: db", "Fit for use.", "rgb a.tif"):
        assert text in run.stdout
    (line,) = [line for line in run.stdout.splitlines() if " town " in line]
    assert line.endswith("70.00 %  weight 0.25")
    run = CliRunner().invoke(main, ["info", str(folder), "--json"])
    document = json.loads(run.stdout)
    assert document["fit"] and [c["weight"] for c in document["classes"]] == [3.5, 2, 0.25]
    assert document["bands"]["sar"]["scale"] == "db" and document["origin"] == extra["origin"]


def test_everything_that_is_wrong_is_said(folder: Path) -> None:
    known_tile(folder, "t5", np.zeros((32, 48)), np.full((32, 48), 7))
    write_lists(folder, {"train": ["t0", "t5"], "val": [], "test": ["t0", "t9"]}, class_pixels=[5, 0, 0])
    run = CliRunner().invoke(main, ["info", str(folder)])
    assert run.exit_code == 1 and "Not fit for use." in run.stdout
    problems = ga.info(folder).problems
    for part in (
        "val.txt names no tile",
        "train.txt and test.txt share 1 tile, such as 't0'",
        "lacks",
        "label/t5.tif holds class 7",
        "No pixel of the train split is labelled field, town.",
    ):
        assert [p for p in problems if part in p], part
    assert len(problems) == 5


def test_a_class_missing_from_the_labels(tmp_path: Path) -> None:
    known_tile(tmp_path, "a", np.zeros((32, 32)), np.zeros((32, 32)))
    known_tile(tmp_path, "b", np.zeros((32, 32)), np.full((32, 32), 255))
    write_lists(tmp_path, {"train": ["a"], "val": ["b"]})
    assert ga.info(tmp_path).problems == ("No pixel of the train split is labelled field, town.",)
    write_lists(tmp_path, {"train": ["b"], "val": ["a"]})
    assert ga.info(tmp_path).problems == ("No pixel of the train split is labelled.",)


def test_without_names_the_ids_are_counted(folder: Path) -> None:
    (folder / "dataset.yaml").unlink()
    facts = ga.info(folder).facts
    assert set(facts["label_shares"]) == {"0", "1", "2"} and "classes" not in facts


def test_unlabelled_and_missing_lists(folder: Path) -> None:
    (folder / "val.txt").unlink()
    write_lists(folder, {}, label_dir=None)
    assert ga.info(folder).problems == (
        "val.txt is missing: training cannot choose a checkpoint.",
        "There are no labels.",
    )


def test_other_folders(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"neither a dataset .* nor a run"):
        ga.info(tmp_path)


def test_a_run_folder_is_its_best_checkpoint(tmp_path: Path) -> None:
    demo = next(Path(ga.__file__).parent.glob("checkpoints/demo.safetensors"))
    (tmp_path / "best.safetensors").write_bytes(demo.read_bytes())
    assert ga.info(tmp_path).kind == "checkpoint"


def test_the_public_data(shared: Path) -> None:
    found = ga.info(shared / "data/ombria")
    assert found.facts["tiles"] == {"train": 312, "test": 70} and found.facts["shares_of"] == "a sample of 64 tiles"
    assert len(found.problems) == 1 and "val.txt is missing" in found.problems[0]
