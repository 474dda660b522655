"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = """
import multiprocessing, sys, time
from geoasanet.orphans import end_with_parent

def work(path):
    end_with_parent()
    import os
    with open(path + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".part", path)
    time.sleep(300)

if __name__ == "__main__":
    multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(sys.argv[2],)).start()
    time.sleep(300)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_ends_with_its_parent_however_that_ends(tmp_path: Path, method: str) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc to see whether a process is there")
    main, number = tmp_path / "main.py", tmp_path / "number"
    main.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(main), method, str(number)], env=environment)
    try:
        while not number.exists() and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    worker = Path("/proc") / number.read_text()
    end = time.monotonic() + 20
    while worker.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not worker.exists()


def test_a_worker_does_not_hear_what_a_terminal_sends_to_all(tmp_path: Path) -> None:
    """Not even while it imports: there, Python would show where."""
    main = tmp_path / "main.py"
    main.write_text(
        "import multiprocessing, os, signal, time\n"
        "from geoasanet.interrupt import unheard\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=time.sleep, args=(1,))\n"
        "    with unheard():\n"
        "        process.start()\n"
        "    for _ in range(50):\n"
        "        os.kill(process.pid, signal.SIGINT)\n"
        "        time.sleep(0.01)\n"
        "    process.join()\n"
        "    print(process.exitcode)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(main)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
