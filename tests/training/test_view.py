"""A training run on the screen."""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console as RichConsole

from geoasanet.cli.console import Console
from geoasanet.cli.trainscreen import Losses, Screen, duration
from geoasanet.cli.trainview import TrainView
from geoasanet.metrics import Metrics
from geoasanet.training.watch import Validation
from tests.training.moments import beginning, step, validation


def text_of(screen: Screen, width: int = 80, height: int = 24) -> list[str]:
    out = io.StringIO()
    RichConsole(width=width, height=height, file=out, color_system=None).print(screen.render(width, height))
    return out.getvalue().splitlines()


class TestScreen:
    """What is drawn."""

    def test_it_tells_the_run_the_pace_and_the_accuracy(self) -> None:
        screen = Screen(beginning(start=7))
        for i in range(8, 41):
            screen.losses.add(2.0 if i == 8 else 0.5)
        screen.step = step(40)
        screen.validated(validation(20, 20, best=True))
        screen.validated(validation(40, 10, best=False))
        shown = "\n".join(text_of(screen))
        for part in (
            "asanet, convnextv2_tiny, 82.12 M parameters",
            "cpu, fp32, 2 processes, 120 train and 30 val tiles",
            "runs/x (goes on at 7)",
            "40/80   1 h 2 min left",
            "lr 1.00e-04  samples/s 12.5  epoch 2.7",
            "mIoU 0.5000 at 40  best 0.6000 at 20  accuracy 0.6667  loss 0.7500",
        ):
            assert part in shown
        assert re.search(r"loss 0\.5\d+ █▁", shown)
        assert re.search(r"water .* 0\.5000  -0\.100", shown)
        assert re.search(r"road .* – ", shown)

    @pytest.mark.parametrize("classes", [1, 2, 9, 40, 255])
    @pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (200, 50), (40, 10)])
    def test_it_fits_every_terminal(self, classes: int, width: int, height: int) -> None:
        names = tuple(f"a class with quite a long name {i}" for i in range(classes))
        screen = Screen(beginning(names))
        screen.step = step(1)
        for k in range(3):
            screen.validated(validation(k, k, best=True, classes=max(2, classes)) if classes > 1 else one_class())
        lines = text_of(screen, width, height)
        assert max(map(len, lines)) <= width
        assert height < 16 or width < 80 or len(lines) < height
        assert any("more" in line for line in lines) or sum("class" in line for line in lines) >= 1

    def test_before_the_first_step(self) -> None:
        assert any("0/80" in line for line in text_of(Screen(beginning())))

    def test_a_task_between_steps_takes_the_place_of_the_time_left(self) -> None:
        screen = Screen(beginning())
        screen.step, screen.task = step(40), ("validating", 3, 12)
        shown = "\n".join(text_of(screen))
        assert "validating 25 %" in shown and "left" not in shown


def one_class() -> Validation:
    return Validation(1, Metrics.from_matrix(np.array([[5]])), 0.1, True, 1.0)


class TestLosses:
    """The history of a run in little memory."""

    def test_the_recent_loss_is_a_running_mean(self) -> None:
        losses = Losses()
        assert math.isnan(losses.recent)
        for value in (1.0, 2.0, 6.0):
            losses.add(value)
        assert losses.recent == pytest.approx(3.0)
        losses.add(math.inf)
        assert losses.recent == pytest.approx(3.0)

    @pytest.mark.parametrize("count", [2, 3, 30, 127, 128, 5000, 80_000])
    def test_a_falling_loss_looks_like_one(self, count: int) -> None:
        losses = Losses()
        for i in range(count):
            losses.add(2 - i / count)
        spark = losses.spark(20)
        assert len(spark) == min(20, count)
        assert spark[0] == "█" and spark[-1] == "▁" and list(spark) == sorted(spark, reverse=True)
        assert len(losses._means) < 128

    def test_a_flat_or_negative_loss_can_be_drawn(self) -> None:
        losses = Losses()
        for value in (0.0, 0.0, 0.0):
            losses.add(value)
        assert losses.spark(9) == "▁▁▁" and losses.spark(0) == ""
        losses.add(-1.0)
        assert losses.spark(9) == "███▁"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (3725, "1 h 2 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class TestPlainLines:
    """Off a terminal."""

    def watch(self, view: TrainView) -> None:
        view.progress("reading tiles", 1, 10)
        view.begin(beginning())
        view.note("A note.")
        for i in range(1, 81):
            view.stepped(step(i))
            if i in (40, 80):
                view.validated(validation(i, 20 if i == 40 else 10, best=i == 40))
        view.close()

    def test_the_first_and_last_step_and_every_validation_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.watch(TrainView(Console()))
        out, err = capsys.readouterr()
        assert out == ""
        assert [re.sub(r"[:,.] .*", "", line) for line in err.splitlines()] == [
            "asanet",
            "A note.",
            "Iteration 1/80",
            "Validation at 40",
            "  IoU",
            "Iteration 80/80",
            "Validation at 80",
            "  IoU",
        ]
        assert "82.12 M parameters. cpu, fp32, 2 processes, 120 train and 30 val tiles. Run: runs/x" in err
        assert "mIoU 0.6000 (the best so far), overall accuracy 0.7500, loss 0.7500, 1 min 1 s" in err
        assert "(best 0.6000)" in err and "water 0.5000, road –, forest 0.5000" in err

    def test_steps_are_told_every_ten_seconds(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        view = TrainView(Console())
        view.begin(beginning())
        for i in range(1, 50):
            view.stepped(step(i))
            now += 1.0
        told = re.findall(r"Iteration (\d+)/", capsys.readouterr().err)
        assert told == ["1", "11", "21", "31", "41"]

    def test_quiet_is_quiet(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.watch(TrainView(Console(quiet=True)))
        assert capsys.readouterr() == ("", "")


def test_it_travels_to_another_process() -> None:
    view = pickle.loads(pickle.dumps(TrainView(Console(verbose=2, quiet=True, as_json=True, bars=False))))
    console = view._console
    assert (console.verbose, console.quiet, console.as_json, console.bars) == (2, True, True, False)
    view.begin(beginning())
    assert pickle.loads(pickle.dumps(view)).run is None


TERMINAL = """
    import signal, sys, time, warnings
    import numpy as np
    from geoasanet.cli.console import Console
    from geoasanet.cli.trainview import TrainView
    from tests.training.moments import beginning, step, validation

    def watch(view):
        view.progress("reading tiles", 3, 10, "tiles")
        view.begin(beginning())
        for i in range(1, 81):
            view.stepped(step(i))
            if i == 40:
                view.validated(validation(i, 9, True))
                view.note("NOTE")
                warnings.warn("WARNING")
            {action}

    {use}
"""
WITH = "with TrainView(Console()) as view: watch(view)"
CHILD = "import pickle; watch(pickle.loads(pickle.dumps(TrainView(Console()))))"
"""As in one of several processes: nobody leaves a with statement."""


class TestTerminal:
    """On a real (pseudo) terminal."""

    def run(self, action: str, use: str, **env: str) -> tuple[int, str]:
        pty = pytest.importorskip("pty", reason="needs a POSIX terminal")
        above, below = pty.openpty()
        code = textwrap.dedent(TERMINAL).format(action=action, use=use)
        env = {
            **os.environ,
            "TERM": "xterm-256color",
            "COLUMNS": "100",
            "LINES": "40",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **env,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", code], stderr=below, stdout=subprocess.DEVNULL, stdin=below, env=env
        )
        os.close(below)
        parts = []
        while True:
            try:
                parts.append(os.read(above, 65536))
            except OSError:  # the other end is closed
                break
            if not parts[-1]:
                break
        os.close(above)
        return process.wait(), b"".join(parts).decode()

    @pytest.mark.parametrize("use", [WITH, CHILD])
    @pytest.mark.parametrize(
        ("action", "code"),
        [("pass", 0), ("assert i < 50", 1), ("i == 50 and signal.raise_signal(signal.SIGINT)", -2)],
    )
    def test_the_terminal_is_given_back(self, use: str, action: str, code: int) -> None:
        found, seen = self.run(action, use)
        assert found == code
        assert "\x1b[?25l" in seen, "no live view was drawn"
        assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")

    def test_a_killed_process_leaves_the_cursor_to_its_parent(self) -> None:
        _, seen = self.run("pass", 'with TrainView(Console()): sys.stderr.write("\\x1b[?25l")')
        assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")

    def test_remarks_stand_above_the_view_on_lines_of_their_own(self) -> None:
        _, seen = self.run("pass", WITH)
        lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in re.split(r"[\r\n]+", seen)]
        assert "NOTE" in lines
        assert any(line.endswith("UserWarning: WARNING") for line in lines)
        assert lines.index("NOTE") < max(i for i, line in enumerate(lines) if "80/80" in line)

    def test_it_is_drawn_at_most_four_times_a_second(self) -> None:
        started = time.monotonic()
        _, seen = self.run("time.sleep(0.02)", WITH)
        seconds = time.monotonic() - started
        assert seconds > 1.6
        assert seen.count("geoasanet train") <= 4 * seconds + 6  # begin, validation, remarks and the end are drawn, too
        assert seen.count("geoasanet train") >= 4

    def test_a_terminal_that_cannot_gets_plain_lines(self) -> None:
        _, seen = self.run("pass", WITH, TERM="dumb")
        assert "Iteration 80/80" in seen and "╭" not in seen


def test_a_step_that_is_not_due_costs_nothing() -> None:
    view = TrainView(Console(bars=False))
    view.begin(beginning())
    view._due = math.inf
    one = step(3)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(500):
            view.stepped(one)
        best = min(best, (time.perf_counter() - start) / 500)
    assert best < 10e-6
