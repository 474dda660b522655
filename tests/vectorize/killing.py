"""Kills ``vectorize`` at random moments and repeats the command, again and again; run as a program by test_killed.

It imports what is needed once and forks, so that the moments fall into the work rather than into imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.tile.killing import contents, wait


def start(arguments: dict[str, Any]) -> int:
    """Run ``vectorize`` in a process of its own."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        from geoasanet.tools.vectorize import vectorize

        vectorize(**arguments)
        code = 0
    finally:
        os._exit(code)


def main(source: Path, out: Path, kills: int, seed: int) -> dict[str, Any]:
    """Return how often it was killed and ended, how often something was left, and what was wrong.

    Every other time a file is there that is to be replaced.
    """
    import geoasanet.tools.vectorize  # noqa: F401

    rng = random.Random(seed)
    began = time.monotonic()
    assert wait(start({"map_path": source, "out": out}), 60) == 0
    expected = contents(out.parent)
    took = time.monotonic() - began
    found: dict[str, Any] = {"kills": 0, "finished": 0, "left": 0, "wrong": [], "seconds": took}
    replace = False
    while found["kills"] < kills or hidden(out):
        if not hidden(out):
            replace = not replace
            for name in expected:
                (out.parent / name).unlink(missing_ok=True)
                if replace:
                    (out.parent / name).write_bytes(b"what was there")
        child = start({"map_path": source, "out": out, "workers": 2, "overwrite": replace})
        code = wait(child, rng.uniform(0, 1.2 * took) if found["kills"] < kills else 60)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found["kills"] += 1
            found["left"] += bool(hidden(out))
            if out.exists() and out.read_bytes() not in (expected[out.name], b"what was there" if replace else b""):
                found["wrong"].append("half of an output")
        elif out.exists() and not replace and code:
            found["finished"] += 1  # killed after it was done: the same command says that the output exists
        elif code or hidden(out) or contents(out.parent) != expected:
            found["wrong"].append(f"exit code {code}, {sorted(p.name for p in out.parent.iterdir())}")
        else:
            found["finished"] += 1
    return found


def hidden(out: Path) -> list[Path]:
    """Return what killed runs left beside an output."""
    return list(out.parent.glob(".*"))


if __name__ == "__main__":
    source, out, kills, seed = sys.argv[1:]
    json.dump(main(Path(source), Path(out), int(kills), int(seed)), sys.stdout)
