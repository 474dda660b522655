"""metrics.csv, curves.png and TensorBoard events."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoasanet.errors import OutputError
from geoasanet.metrics import Metrics
from geoasanet.training import curves, log
from geoasanet.training.curves import draw_curves
from geoasanet.training.log import RunLog
from geoasanet.training.watch import Step, Validation

CLASSES = ("water", "road, paved", "$trees_")
MATRIX = np.array([[6, 2, 0], [2, 10, 0], [0, 0, 0]])
"""IoU 0.6, 10/14, and none: the third class is nowhere."""


def step(iteration: int, loss: float = 1.0, iterations: int = 100) -> Step:
    return Step(iteration, iterations, iteration / 8, loss, 1e-4 / iteration, 12.5, 3.0)


def validation(iteration: int, best: bool = True) -> Validation:
    return Validation(iteration, Metrics.from_matrix(MATRIX), 0.75, best, 2.0)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(folder: Path, first: int, last: int, iteration: int = 0, classes: tuple[str, ...] = CLASSES) -> RunLog:
    """Log the steps ``first`` to ``last``; the loss of a step is its number."""
    run = RunLog(folder, classes, 4, iteration)
    for i in range(first, last + 1):
        run.stepped(step(i, float(i)))
    run.close()
    return run


@pytest.fixture(autouse=True)
def no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests of the curves draw them: that takes a second."""
    if "curves" not in request.node.name:
        monkeypatch.setattr(log, "draw_curves", lambda *_: None)


def test_a_row_holds_the_mean_loss_since_the_last(tmp_path: Path) -> None:
    assert train(tmp_path, 1, 8).notes == []
    rows = table(tmp_path)
    assert [row["iteration"] for row in rows] == ["4", "8"]
    assert [float(row["loss"]) for row in rows] == [2.5, 6.5]
    assert [float(row["lr"]) for row in rows] == [1e-4 / 4, 1e-4 / 8]
    assert [float(row["epoch"]) for row in rows] == [0.5, 1.0]
    assert rows[0]["samples_per_second"] == "12.5" and rows[0]["miou"] == rows[0]["best"] == ""


def test_the_end_of_a_run_is_logged_too(tmp_path: Path) -> None:
    train(tmp_path, 1, 7)
    assert [(row["iteration"], row["loss"]) for row in table(tmp_path)] == [("4", "2.5"), ("7", "6")]


def test_a_validation_shares_its_steps_row_or_has_its_own(tmp_path: Path) -> None:
    run = RunLog(tmp_path, CLASSES, 4)
    for i in range(1, 9):
        run.stepped(step(i, float(i)))
        if i in (4, 6):
            run.validated(validation(i, best=i == 4))
    run.close()
    merged, alone, last = table(tmp_path)
    assert (merged["iteration"], merged["loss"], merged["val_loss"], merged["best"]) == ("4", "2.5", "0.75", "1")
    assert (alone["iteration"], alone["loss"], alone["val_loss"], alone["best"]) == ("6", "", "0.75", "0")
    assert float(alone["epoch"]) == 6 / 8
    assert last["loss"] == "6.5" and last["miou"] == ""  # 5 to 8: the validation between them ends no mean
    assert float(merged["iou_water"]) == pytest.approx(0.6)
    assert float(merged["iou_road, paved"]) == pytest.approx(10 / 14)
    assert merged["iou_$trees_"] == ""
    assert float(merged["miou"]) == pytest.approx((0.6 + 10 / 14) / 2)
    assert float(merged["overall_accuracy"]) == pytest.approx(0.8)


class TestResume:
    """A resumed run's log is that of a run that was never interrupted."""

    @pytest.mark.parametrize("killed_at", [8, 11, 20])
    def test_rows_beyond_the_saved_state_are_dropped(self, tmp_path: Path, killed_at: int) -> None:
        (tmp_path / "whole").mkdir()
        (tmp_path / "parts").mkdir()
        train(tmp_path / "whole", 1, 20)
        train(tmp_path / "parts", 1, killed_at)
        assert train(tmp_path / "parts", 9, 20, iteration=8).notes == []
        whole, parts = table(tmp_path / "whole"), table(tmp_path / "parts")
        for rows in (whole, parts):
            for row in rows:
                del row["seconds"]
        assert parts == whole

    @pytest.mark.parametrize("stopped_at", [6, 7, 8])
    def test_an_interruption_between_two_rows_leaves_no_trace(self, tmp_path: Path, stopped_at: int) -> None:
        logs = []
        for name, starts in (("whole", (1,)), ("parts", (1, stopped_at + 1))):
            (tmp_path / name).mkdir()
            for first in starts:
                run = RunLog(tmp_path / name, CLASSES, 4, first - 1)
                for i in range(first, 13 if first == starts[-1] else starts[-1]):
                    run.stepped(step(i, float(i)))
                    if i == 7:
                        run.validated(validation(i))
                run.close()
            logs.append([{**row, "seconds": ""} for row in table(tmp_path / name)])
        assert logs[1] == logs[0]

    def test_the_clock_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = iter(range(0, 1000, 1))
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        train(tmp_path, 1, 8)
        train(tmp_path, 9, 16, iteration=8)
        seconds = [float(row["seconds"]) for row in table(tmp_path)]
        assert seconds == sorted(set(seconds)) and seconds[2] < seconds[1] + 5

    def test_a_new_run_starts_anew(self, tmp_path: Path) -> None:
        train(tmp_path, 1, 20)
        train(tmp_path, 1, 4)
        assert [row["iteration"] for row in table(tmp_path)] == ["4"]

    @pytest.mark.parametrize(
        ("old", "new", "kept"),
        [
            ("8,1,", "8,abc,", ["4"]),
            ("8,1,", "3,1,", ["4"]),
            ("8,1,", "8,nan,", ["4"]),
            ("\n8,1,", "\n8", ["4"]),
            ("iou_water", "iou_forest", []),
            ("iteration", "\0\xff", []),
        ],
    )
    def test_damage_costs_rows_not_the_run(self, tmp_path: Path, old: str, new: str, kept: list[str]) -> None:
        train(tmp_path, 1, 12)
        path = tmp_path / "metrics.csv"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_bytes(text.replace(old, new).encode("latin-1"))
        run = train(tmp_path, 13, 16, iteration=12)
        (note,) = run.notes
        assert "metrics.csv is damaged" in note and f"the first {len(kept)} are kept" in note
        assert [row["iteration"] for row in table(tmp_path)] == [*kept, "16"]

    def test_a_missing_log_is_said(self, tmp_path: Path) -> None:
        (note,) = train(tmp_path, 9, 12, iteration=8).notes
        assert "metrics.csv is missing" in note


def test_a_full_disk_is_one_readable_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunLog(tmp_path, CLASSES, 4)
    run.stepped(step(4))
    run.flush()
    before = (tmp_path / "metrics.csv").read_bytes()

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    run.stepped(step(8))
    with monkeypatch.context() as patch, pytest.raises(OutputError, match=r"metrics.csv cannot be written \(No space"):
        patch.setattr(log, "_cell", full)
        run.flush()
    assert (tmp_path / "metrics.csv").read_bytes() == before


class TestTensorBoard:
    """Events are an extra."""

    def scalars(self, folder: Path) -> dict[str, list[tuple[int, float]]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    def test_they_hold_what_the_table_holds(self, tmp_path: Path) -> None:
        run = RunLog(tmp_path, CLASSES, 4)
        for i in range(1, 9):
            run.stepped(step(i, float(i)))
        run.validated(validation(8))
        run.close()
        found = self.scalars(tmp_path)
        assert found["loss"] == [(4, 2.5), (8, 6.5)]
        assert found["val/loss"] == [(8, 0.75)]
        assert found["val/iou/water"][0] == (8, pytest.approx(0.6))
        assert {"lr", "samples_per_second", "val/miou", "val/overall_accuracy"} < set(found)
        assert not any("trees" in tag for tag in found)

    def test_those_beyond_the_saved_state_are_no_longer_shown(self, tmp_path: Path) -> None:
        train(tmp_path, 1, 16)
        train(tmp_path, 9, 12, iteration=8)
        assert [i for i, _ in self.scalars(tmp_path)["loss"]] == [4, 8, 12]

    def test_without_tensorboard_the_run_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
        (note,) = train(tmp_path, 1, 8).notes
        assert note.startswith("No TensorBoard events (") and len(table(tmp_path)) == 2

    def test_when_it_fails_the_run_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        def fail(*_: object) -> None:
            raise OSError("disk on fire")

        monkeypatch.setattr(SummaryWriter, "add_scalar", fail)
        (note,) = train(tmp_path, 1, 8).notes
        assert "disk on fire" in note and len(table(tmp_path)) == 2


class TestCurves:
    """The picture; what it looks like was judged by eye."""

    def rows(self, count: int, every: int = 0) -> list[dict[str, float]]:
        rows = [{"iteration": float(i), "loss": 1 / i, "lr": 1e-4} for i in range(1, count + 1)]
        for row in rows[every - 1 :: every] if every else []:
            row |= {"miou": 0.5, "val_loss": 0.4, "best": 1.0, "iou_water": 0.7, "iou_road, paved": 0.3}
        return rows

    @pytest.mark.parametrize(("count", "every"), [(0, 0), (1, 0), (1, 1), (100, 100), (500, 10)])
    def test_curves_of_any_run_are_drawn(self, tmp_path: Path, count: int, every: int) -> None:
        out = tmp_path / "curves.png"
        draw_curves(self.rows(count, every), CLASSES, out, ((0, 0, 255), (255, 255, 255), (0, 128, 0)))
        pixels = np.asarray(Image.open(out).convert("RGB"))
        assert pixels.shape[0] > 500 and pixels.shape[1] > 1000
        assert len(list(tmp_path.iterdir())) == 1
        blue = (pixels == (0, 0, 255)).all(axis=2).any()
        assert blue == bool(every)  # the class's own colour, where it was seen

    @pytest.mark.parametrize(("count", "every"), [(0, 0), (90, 0), (90, 90)])
    def test_curves_fill_the_picture(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, every: int
    ) -> None:
        from matplotlib.figure import Figure

        widths: list[float] = []
        save = Figure.savefig

        def watched(figure: Figure, path: Path) -> None:
            save(figure, path)
            widths.extend(axes.get_position().width for axes in figure.axes)

        monkeypatch.setattr(Figure, "savefig", watched)
        draw_curves(self.rows(count, every), CLASSES, tmp_path / "curves.png")
        assert len(widths) == 4 and min(widths) > 0.35

    def test_curves_need_no_sign_of_a_font(self, tmp_path: Path) -> None:
        draw_curves([{"iteration": 1.0, "iou_水": 0.5}], ("水",), tmp_path / "curves.png")

    def test_curves_are_drawn_after_a_validation_and_at_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: list[int] = []
        monkeypatch.setattr(log, "draw_curves", lambda rows, *_: drawn.append(len(rows)))
        monkeypatch.setattr(log, "_DRAWING_SHARE", 1e-9)
        clock = iter(range(10**6))
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        run = RunLog(tmp_path, CLASSES, 1)
        for i in range(1, 7):
            run.stepped(step(i))
            if i == 4:
                run.validated(validation(i))
            run.flush()
        run.close()
        assert drawn == [1, 4, 6]

    def test_curves_that_fail_leave_one_note(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        run = RunLog(tmp_path, CLASSES, 1)
        for i in range(1, 4):
            run.stepped(step(i))
            run.validated(validation(i))
            run.flush()
        run.close()
        (note,) = run.notes
        assert note.startswith("curves.png cannot be drawn") and len(table(tmp_path)) == 3


def test_smoothing_keeps_lines_and_means() -> None:
    line = np.linspace(3, 1, 1000)
    half = 1000 // 80
    smooth = curves._smoothed(line)
    np.testing.assert_allclose(smooth[: 1000 - half], line[: 1000 - half])
    assert math.isclose(smooth[-1], line[-1 - half :].mean())
    np.testing.assert_array_equal(curves._smoothed(line[:79]), line[:79])


@pytest.mark.parametrize("count", [1, 5, 14])
def test_names_do_not_overlap(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(50):
        wanted = sorted(rng.random(count) ** 3)
        places = curves._apart(wanted, 0.07)
        assert np.diff(places).min(initial=1) >= 0.07 - 1e-9 and max(places) <= 1 and min(places) > -1e-9
    assert curves._apart([0.1, 0.5, 0.9], 0.07) == [0.1, 0.5, 0.9]
