"""Measuring in a process of its own: whatever it breaks or takes is gone when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geoasanet
from geoasanet.errors import GeoASANetError


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    """What a child process left."""

    records: tuple[dict[str, Any], ...]
    """What it reported until its end."""
    failure: str
    """Why it ended early, one line; empty if it did not."""


def run_child(module: str, task: Mapping[str, Any]) -> ChildOutcome:
    """Run ``python -m module`` on a task in a fresh process; see :func:`serve`.

    Args:
        module: Full name of a module that calls :func:`serve` when run.
        task: What it gets; JSON-serialisable.
    """
    home = str(Path(geoasanet.__file__).parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory(prefix="geoasanet-") as name:
        folder = Path(name)
        output, log = folder / "output.jsonl", folder / "log.txt"
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        command = [sys.executable, "-P", "-m", module, str(folder / "task.json"), str(output)]
        with log.open("wb") as stream:
            code = subprocess.run(  # noqa: S603 - our own module, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                check=False,
            ).returncode
        lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
        records = [json.loads(line) for line in lines]
        failures = [record["failure"] for record in records if "failure" in record]
        if code != 0 and not failures:
            failures = [_cause(code, log.read_text(encoding="utf-8", errors="replace"))]
        return ChildOutcome(tuple(r for r in records if "failure" not in r), "; ".join(failures))


def serve(work: Callable[[dict[str, Any]], Iterator[dict[str, Any]]]) -> None:
    """Be the child process: do the task named on the command line and leave what ``work`` yields, record by record."""
    task, output = map(Path, sys.argv[1:3])
    with output.open("a", encoding="utf-8") as stream:

        def leave(record: dict[str, Any]) -> None:
            stream.write(json.dumps(record, allow_nan=False) + "\n")
            stream.flush()

        try:
            for record in work(json.loads(task.read_text(encoding="utf-8"))):
                leave(record)
        except GeoASANetError as error:
            leave({"failure": str(error)})


def _cause(code: int, log: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        why = " (probably out of memory)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{why}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with exit code {code}"
