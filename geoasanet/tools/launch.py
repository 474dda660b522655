"""Several training processes on this machine, by torch's elastic launcher."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from geoasanet import errors
from geoasanet.errors import DeviceError, GeoASANetError

if TYPE_CHECKING:
    from geoasanet.tools.trainjob import TrainJob, TrainResult


def launch(job: TrainJob, processes: int) -> TrainResult:
    """Run a training in several processes of this machine and return the first one's result.

    Raises:
        GeoASANetError: What the training raised.
        DeviceError: If a process died.
        KeyboardInterrupt: If the user stopped it.
    """
    from torch.distributed.elastic.agent.server.api import logger as agent_log
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    agent_log.setLevel(logging.CRITICAL)
    _say_device(job, processes)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"geoasanet-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    with tempfile.TemporaryDirectory(prefix="geoasanet-") as folder:
        try:
            results = elastic_launch(config, _work)(job, folder)
        except ChildFailedError as failure:
            raise _cause(Path(folder), failure) from None
        except SignalException:
            raise KeyboardInterrupt from None
    result: TrainResult = results[0]
    return result


def _work(job: TrainJob, folder: str) -> TrainResult:
    """Run one of the processes; an error is left in ``folder`` for the launcher."""
    from geoasanet.tools.trainjob import run_job

    try:
        return run_job(job)
    except GeoASANetError as error:
        rank = os.environ.get("RANK", "0")
        text = json.dumps({"kind": type(error).__name__, "message": str(error.args[0]), "hint": error.hint})
        (Path(folder) / f"{rank}.json").write_text(text, encoding="utf-8")
        sys.exit(1)


def _cause(folder: Path, failure: Exception) -> GeoASANetError:
    """Return the error that a process left, else what is known of its death."""
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        kind = getattr(errors, found["kind"], GeoASANetError)
        error: GeoASANetError = kind(found["message"], found["hint"])
        return error
    first = failure.get_first_failure()[1]  # type: ignore[attr-defined]  # torch's ChildFailedError
    return DeviceError(
        f"Training process {first.local_rank} died ({first.message or f'exit code {first.exitcode}'}).",
        "Its output is above. The saved state is intact: go on with --resume.",
    )


def _say_device(job: TrainJob, processes: int) -> None:
    from geoasanet.device import choose_device

    if choose_device(job.device).type != "cuda":
        job.watch.note(
            f"{processes} processes on the CPU (gloo): {'asked for' if job.device == 'cpu' else 'no CUDA device'}."
        )
