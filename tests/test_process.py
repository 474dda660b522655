"""The command's process: how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import atexit
import sys
import threading
import time

from geoasanet.__main__ import run


class Object:
    def __del__(self):
        print("taken apart")


def late():
    time.sleep(0.5)
    print("thread")


sys.argv[1:] = {arguments}
kept = Object()
{more}
run()
"""


def ended(arguments: list[str], more: str = "") -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(arguments=arguments, more=more)
    return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["info", "nothing.tif"], 1), (["fly"], 2)])
def test_objects_are_not_taken_apart(arguments: list[str], code: int) -> None:
    done = ended(arguments)
    assert done.returncode == code and "taken apart" not in done.stdout
    assert done.stdout or done.stderr


def test_what_else_is_due_at_the_end_is_done() -> None:
    done = ended(
        ["--version"],
        "threading.Thread(target=late).start()\nimport geoasanet.cli.main as cli\n"
        "choose = cli.choose_openblas_kernels\n"
        "cli.choose_openblas_kernels = lambda: (atexit.register(print, 'registered'), choose())",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["thread", "registered"]


def test_an_error_that_is_to_be_seen_is_seen() -> None:
    done = ended(["--debug", "info", "nothing.tif"])
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_told() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "geoasanet", "models"], check=False, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode != 0 and "No space left" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(("closed", "printed"), [(">&-", ""), ("<&- 2>&-", "asanet"), ("<&- >&- 2>&-", "")])
def test_closed_input_and_outputs_are_no_error(closed: str, printed: str) -> None:
    command = f'exec "$0" -m geoasanet models {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert printed in done.stdout


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of open files")
def test_no_file_takes_the_number_of_a_closed_output() -> None:
    script = "import os, sys; from geoasanet.__main__ import _open_closed; _open_closed(); "
    script += "file = open(sys.executable); print(os.readlink('/proc/self/fd/1'), file.fileno() > 2, file=sys.stderr)"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "{script}" <&- >&-', sys.executable], check=False, stderr=subprocess.PIPE, text=True
    )
    assert done.stderr.split() == ["/dev/null", "True"]
