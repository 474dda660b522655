"""The command's own process: ``geoasanet`` and ``python -m geoasanet``."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

from geoasanet.garbage import own_process


def run() -> None:
    """Run the command line, and end without taking Python's objects apart, which takes a second where torch is loaded.

    All that is to be done at the end of a process is done: threads end, functions that libraries registered are called.
    """
    _open_closed()
    codes: list[int] = []
    atexit.register(_end, codes)  # the last one to be called, since nothing that registers others is imported yet
    own_process()
    from geoasanet.cli.main import main

    try:
        main()
    except SystemExit as exit_:
        if isinstance(exit_.code, int):
            codes.append(exit_.code)
        raise


def _open_closed() -> None:
    """Make input and outputs that the process was started without lead nowhere.

    A file that is opened later would get their number else, and take what a library prints for its own.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w" if number else "r", encoding="utf-8"))  # noqa: SIM115


def _end(codes: list[int]) -> None:
    if not codes:
        return  # an error is on its way, which Python tells
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # that Python tells, too
    os._exit(codes[0])


if __name__ == "__main__":
    run()
