"""Runs inputs through commands in a process of its own, which may crash, hang or eat memory without harm."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.hostile.cases import FAMILIES, Case
from tests.hostile.commands import Command

SECONDS = 60.0
"""Time after which a command counts as hanging; usual ones take less than one second."""
LIFE = 120
"""Commands that one process runs: what libraries keep adds up."""
SPACE = 6 << 30
"""Address space that a command may take beyond what libraries hold."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an input and a command."""

    case: Case
    command: str
    outcome: str
    """"made" (a whole output), "refused" (one clear line) or "fault"."""
    faults: tuple[str, ...]
    """What was wrong; empty unless it is a fault."""
    seconds: float
    message: str
    """The last line on stderr."""


Job = tuple[Case, Command]


def run_all(jobs: Iterable[Job], kit: Path, folder: Path, seconds: float = SECONDS) -> Iterator[Verdict]:
    """Give the verdict on each job; a process that dies or hangs is replaced."""
    worker: _Worker | None = None
    try:
        for case, command in jobs:
            if worker is not None and worker.done >= LIFE:
                worker.stop(0)
                worker = None
            worker = worker or _Worker(kit, folder)
            verdict = worker.ask(case, command, seconds)
            if verdict is None:
                fault = worker.stop(seconds)
                worker = None
                verdict = Verdict(case, command.name, "fault", (fault,), seconds, "")
            yield verdict
    finally:
        if worker is not None:
            worker.stop(0)


class _Worker:
    """A process that runs one command after the other."""

    def __init__(self, kit: Path, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self.done = 0
        self._process = context.Process(target=_serve, args=(far, kit, folder), daemon=True)
        self._process.start()
        far.close()
        self._pipe.poll(120) and self._pipe.recv()  # says that it is ready

    def ask(self, case: Case, command: Command, seconds: float) -> Verdict | None:
        """Return the verdict, None if there was none in time."""
        self.done += 1
        with contextlib.suppress(EOFError, OSError):
            self._pipe.send((case, command))
            if self._pipe.poll(seconds):
                verdict: Verdict = self._pipe.recv()
                return verdict
        return None

    def stop(self, seconds: float) -> str:
        """End the process; return what had become of it."""
        if not seconds:
            with contextlib.suppress(OSError):
                self._pipe.send(None)
        self._process.join(1)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        return f"crash (exit code {code})" if code is not None else f"hang (more than {seconds:.0f} s)"


def _serve(pipe: Connection, kit: Path, folder: Path) -> None:
    """Answer jobs until told to stop."""
    import torch

    from geoasanet.cli.main import COMMANDS, main
    from tests.hostile import judge  # loads everything that commands need

    torch.set_num_threads(1)
    sys.setrecursionlimit(1000)
    for name in COMMANDS:
        main.get_command(None, name)  # type: ignore[arg-type]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPACE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while (job := pipe.recv()) is not None:
        case, command = job
        place = Path(tempfile.mkdtemp(dir=folder))
        try:
            pipe.send(_judge(case, command, place, kit, judge))
        finally:
            os.chdir(folder)
            shutil.rmtree(place, ignore_errors=True)


def _judge(case: Case, command: Command, place: Path, kit: Path, judge: Any) -> Verdict:
    inputs, out = place / "in", place / "out"
    inputs.mkdir(), out.mkdir()
    source = case.make(inputs, kit)
    before = judge.snapshot(inputs)
    line = command_line(command, source)
    os.chdir(out)
    run = _run(line, place, judge.Run)
    faults = judge.problems(run, command, source, before, out)
    outcome = "fault" if faults else "refused" if run.code else "made"
    lines = run.stderr.strip().splitlines()
    return Verdict(case, command.name, outcome, tuple(faults), run.seconds, lines[-1] if lines else "")


def command_line(command: Command, source: Path) -> list[str]:
    """Return the words of a command with the paths of inputs."""
    beside = str(source.parent)
    return [
        word.replace("INPUT", str(source)) if "INPUT" in word else word.replace("IN/", f"{beside}/")
        for word in command.line
    ]


def _run(line: list[str], place: Path, make: Any) -> Any:
    """Run a command in this process with its output, also that of native libraries, in files."""
    from geoasanet.cli.main import main

    Path("/proc/self/clear_refs").write_text("5")  # forget the highest use of memory so far
    held = _memory("VmRSS")
    began = time.monotonic()
    with _captured(place) as texts:
        code = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                main.main(line, prog_name="geoasanet")
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException as error:
            print(f"Traceback: {type(error).__name__}: {error!r:.300}", file=sys.stderr)
            code = 99
    return make(code, *texts, time.monotonic() - began, _memory("VmHWM") - held)


def _memory(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(f"{field}:")[1].split()[0])


@contextlib.contextmanager
def _captured(place: Path) -> Iterator[list[str]]:
    """Give a list that holds what was written to stdout and stderr, once it is over."""
    texts: list[str] = []
    kept = [os.dup(1), os.dup(2)]
    files = [place / "stdout", place / "stderr"]
    try:
        for number, path in enumerate(files, 1):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
            os.close(handle)
        yield texts
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, old in enumerate(kept, 1):
            os.dup2(old, number)
            os.close(old)
        texts += [path.read_text(encoding="utf-8", errors="surrogateescape") for path in files]


def jobs_of(cases: Iterable[Case], *, every: bool) -> Iterator[Job]:
    """Give the jobs of cases: all commands of each, or one in turn."""
    turns: dict[str, int] = {}
    for case in cases:
        commands = FAMILIES[case.family].commands
        if every:
            yield from ((case, command) for command in commands)
        else:
            turn = turns[case.family] = turns.get(case.family, -1) + 1
            yield case, commands[turn % len(commands)]
