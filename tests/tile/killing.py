"""Kills ``tile`` at random moments and lets it go on, again and again; run as a program by test_resume.

It imports what is needed once and forks, so that a run takes a fraction of a second and the moments fall into the work
rather than into the imports.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def start(arguments: dict[str, Any], out: Path) -> int:
    """Run ``tile`` in a process of its own."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        from geoasanet.tools.tile import tile

        tile(**arguments, out=out)
        code = 0
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> int | None:
    """Return the exit code if the process ends in time."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)


def main(arguments: dict[str, Any], folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Return how often it was killed, and what was wrong."""
    import geoasanet.raster.footprints
    import geoasanet.raster.vectorlabels
    import geoasanet.tools.tile  # noqa: F401

    rng = random.Random(seed)
    began = time.monotonic()
    assert wait(start(arguments, folder / "whole"), 60) == 0
    took = time.monotonic() - began
    expected = contents(folder / "whole")
    found: dict[str, Any] = {"kills": 0, "finished": 0, "wrong": [], "resumed": 0, "seconds": took}
    out, partial = folder / "out", folder / ".out.partial"
    while found["kills"] < kills or partial.exists():
        found["resumed"] += (partial / "pieces.jsonl").exists() and (partial / "pieces.jsonl").stat().st_size > 0
        child = start(arguments, out)
        code = wait(child, rng.uniform(0, took) if found["kills"] < kills else 60)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found["kills"] += 1
        elif code:
            found["wrong"].append(f"exit code {code}")
            break
        if out.exists():
            found["finished"] += 1
            if contents(out) != expected:
                found["wrong"].append(f"other bytes after {found['kills']} kills")
            shutil.rmtree(out)
            shutil.rmtree(partial, ignore_errors=True)  # killed between the renaming and the tidying up
    found["left"] = sorted(p.name for p in folder.iterdir())
    return found


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    json.dump(main(request["arguments"], Path(request["folder"]), request["kills"], request["seed"]), sys.stdout)
