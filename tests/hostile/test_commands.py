"""Hostile and odd inputs through every command: a whole output, or one clear line; nothing else, ever."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.hostile import judge
from tests.hostile.cases import FAMILIES, Case, all_cases
from tests.hostile.good import make_kit
from tests.hostile.runner import Job, Verdict, command_line, jobs_of, run_all

INPUTS = 520


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kit(tmp_path_factory.mktemp("kit"))


def verdicts(jobs: Iterable[Job], kit: Path, folder: Path) -> list[Verdict]:
    """Return the verdicts on all jobs, after saying which are faults."""
    found = list(run_all(jobs, kit, folder))
    faults = [
        f"{v.case.name} | {v.command}: {'; '.join(v.faults)} ({v.message[:300]})" for v in found if v.outcome == "fault"
    ]
    assert not faults, "\n".join(faults)
    return found


def test_inputs_are_mapped_or_refused(kit: Path, tmp_path: Path) -> None:
    found = verdicts(jobs_of(itertools.islice(all_cases(), 130), every=False), kit, tmp_path)
    counts = Counter(v.outcome for v in found)
    assert counts["made"] > 10 and counts["refused"] > 50, counts


@pytest.mark.sweep
def test_five_hundred_inputs_are_mapped_or_refused(kit: Path, tmp_path: Path) -> None:
    cases = list(itertools.islice(all_cases(), INPUTS))
    found = verdicts(jobs_of(cases, every=False), kit, tmp_path)
    counts = Counter(v.outcome for v in found)
    assert len(found) == INPUTS and len(set(cases)) == INPUTS
    assert counts["made"] > 50 and counts["refused"] > 200, counts
    assert {c.name for f in FAMILIES.values() for c in f.commands} == {v.command for v in found}


@pytest.mark.sweep
def test_thousands_of_inputs_through_all_commands(kit: Path, tmp_path: Path) -> None:
    found = verdicts(jobs_of(itertools.islice(all_cases(1), 2500), every=True), kit, tmp_path)
    assert len(found) > 5000


def test_odd_files_of_others(shared: Path, kit: Path, tmp_path: Path) -> None:
    """Real files from the tests of GDAL, rasterio and rio-tiler, beside which nothing may appear either."""
    names = sorted(path.name for path in (shared / "data" / "odd").iterdir() if path.suffix in (".tif", ".vrt"))
    assert len(names) > 60
    roles = itertools.cycle(("rgb", "sar", "classes"))
    jobs = []
    for i, (name, role) in enumerate(zip(names, roles, strict=False)):
        commands = FAMILIES[role].commands
        jobs.append((Case(f"odd {role}", name, 0), commands[i // 3 % len(commands)]))
    before = judge.snapshot(shared / "data" / "odd")
    verdicts(jobs, kit, tmp_path)
    assert judge.snapshot(shared / "data" / "odd") == before


@pytest.mark.parametrize(
    ("family", "kind"),
    [("rgb", "samples"), ("sar", "huge tiles"), ("classes", "escape sequence"), ("pickle", "code in the weights")],
)
def test_what_a_person_sees(kit: Path, tmp_path: Path, family: str, kind: str) -> None:
    """The same in a process of its own, with all that libraries write at its start and end."""
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir(), out.mkdir()
    case, command = Case(family, kind, 0), FAMILIES[family].commands[-1]
    source = case.make(inputs, kit)
    before = judge.snapshot(inputs)
    line = [sys.executable, "-m", "geoasanet", *command_line(command, source)]
    done = subprocess.run(line, cwd=out, capture_output=True, text=True, timeout=120, check=False)
    run = judge.Run(done.returncode, done.stdout, done.stderr, 0.0, 0)
    assert judge.problems(run, command, source, before, out) == []


class TestJudge:
    """It finds what it looks for."""

    command = next(c for c in FAMILIES["rgb"].commands if c.name == "predict RGB")

    @pytest.mark.parametrize(
        ("code", "stderr", "expected"),
        [
            (1, "Error: in/x.tif is cut short.", None),
            (1, "Error: a file is cut short.", "does not name the file"),
            (1, "", "0 error lines"),
            (1, "Error: x.tif\nError: x.tif", "2 error lines"),
            (1, "Error: x.tif\nbye", "something follows"),
            (1, "Traceback (most recent call last):\nError: x.tif", "ugly: Traceback"),
            (1, "a.py:3: RuntimeWarning: overflow\nError: x.tif", "ugly: a.py"),
            (1, "Warning 1: TIFF\nError: x.tif", "ugly: Warning 1"),
            (1, "Error: x.tif \x1b[31m", "control characters"),
            (1, f"Error: x.tif {'y' * 3000}", "3013 characters"),
            (139, "Error: x.tif", "exit code 139"),
            (0, "", "no map.tif"),
        ],
    )
    def test_of_what_is_said(self, tmp_path: Path, code: int, stderr: str, expected: str | None) -> None:
        found = self._ask(tmp_path, code, stderr)
        assert any(expected in fault for fault in found) if expected else found == [], found

    def test_of_what_is_left(self, tmp_path: Path) -> None:
        def leave(inputs: Path, out: Path) -> None:
            (out / "map.tif").touch()
            (inputs / "x.tif.aux.xml").touch()
            (inputs / "x.tif").write_text("changed")
            (tmp_path / "EXECUTED").touch()

        found = " ".join(self._ask(tmp_path, 1, "Error: x.tif", leave))
        for expected in ("left behind: map.tif", "beside the input: x.tif.aux.xml", "modified: x.tif", "was executed"):
            assert expected in found

    def _ask(self, folder: Path, code: int, stderr: str, leave: object = None) -> list[str]:
        inputs, out = folder / "in", folder / "out"
        inputs.mkdir(), out.mkdir()
        source = inputs / "x.tif"
        source.write_text("text")
        before = judge.snapshot(inputs)
        if callable(leave):
            leave(inputs, out)
        return judge.problems(judge.Run(code, "", stderr, 0.1, 0), self.command, source, before, out)
