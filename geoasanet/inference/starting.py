"""How worker processes start: on a CPU as copies of one that has imported the libraries, once for all of them.

Importing torch and what networks are built of takes a processor five seconds, most of what a worker does before its
first window. Here one process imports them, while the main process does so too, and every worker is a fork of it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import sys
from multiprocessing.context import BaseContext
from pathlib import Path

from geoasanet.interrupt import unheard

_DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What NVIDIA's and AMD's drivers and Windows' subsystem for Linux show where there is a device."""


def prepare_workers(device: str) -> None:
    """Begin, in the background, to import what workers on this device will need; returns at once.

    Args:
        device: As a user names it; "auto" is "cpu" where no driver of another device is seen. For other devices nothing
            is begun: they may be initialised in one process only, and a process that has done so must not be forked.
    """
    if device == "auto" and not any(Path(file).exists() for file in _DEVICE_FILES):
        device = "cpu"
    if device == "cpu" and _forks():
        with unheard():
            multiprocessing.forkserver.set_forkserver_preload(["geoasanet.inference.preload"])
            multiprocessing.forkserver.ensure_running()


def worker_context(device: str) -> BaseContext:
    """Return what workers on ``device`` ("cpu", "cuda:1" and so on) are started by."""
    prepare_workers(device)
    return multiprocessing.get_context("forkserver" if device == "cpu" and _forks() else "spawn")


def _forks() -> bool:
    """Return True on Linux; elsewhere the system's own libraries do not bear it."""
    return sys.platform == "linux"
