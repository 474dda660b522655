"""A Dask scheduler with its workers, each a process of its own as on several machines."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from geoasanet.tools.cluster import connect
from tests.conftest import ROOT

Loopback = tuple[str, list[subprocess.Popen[bytes]]]
"""A scheduler's address, and its workers."""


@contextlib.contextmanager
def running_cluster(folder: Path, workers: int = 3) -> Iterator[Loopback]:
    """Start a scheduler and workers that run in ``folder``; end them at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--port", address.rsplit(":")[-1]]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard", "--no-nanny"]
    with contextlib.ExitStack() as stack, (folder / "log").open("wb") as log:

        def start(command: list[str]) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        start([*dask, "--host", "127.0.0.1"])
        started = [start([*worker, "--nthreads", "1"]) for _ in range(workers)]
        with connect(address, 1) as cluster:
            until = time.monotonic() + 60
            while cluster.workers < workers:
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.1)
        yield address, started
