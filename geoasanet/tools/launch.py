"""Several training processes on this machine, by torch's elastic launcher."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from geoasanet import errors
from geoasanet.errors import DeviceError, GeoASANetError
from geoasanet.training.state import has_state

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    from geoasanet.tools.trainjob import TrainJob, TrainResult


def launch(job: TrainJob, processes: int) -> TrainResult:
    """Run a training in several processes of this machine and return the first one's result.

    Raises:
        GeoASANetError: What the training raised.
        RuntimeError: If a process met a bug; its traceback is a note.
        DeviceError: If a process died.
        KeyboardInterrupt: If the user stopped it.
    """
    from torch.distributed.elastic.agent.server.api import logger as agent_log
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for log in (logging.getLogger("torch.distributed.elastic"), logging.getLogger("torch.multiprocessing"), agent_log):
        log.setLevel(logging.CRITICAL)
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
            raise _cause(Path(folder), failure.get_first_failure()[1], job.out) from None
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
        left = {"kind": type(error).__name__, "message": str(error.args[0]), "hint": error.hint}
    except Exception as error:  # a bug: the launcher raises it, so that one place decides how it is shown
        left = {"kind": "", "message": f"{type(error).__name__}: {error}", "hint": traceback.format_exc()}
    path = Path(folder) / os.environ.get("RANK", "0")
    path.write_text(json.dumps(left), encoding="utf-8")
    path.rename(path.with_suffix(".json"))  # whole, also when the launcher ends this process now
    sys.exit(1)


def _cause(folder: Path, failure: ProcessFailure, out: Path) -> Exception:
    """Return the error that a process left, else what is known of its death."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    for left in found:
        if left["kind"]:
            error: GeoASANetError = getattr(errors, left["kind"], GeoASANetError)(left["message"], left["hint"])
            return error
    if failure.exitcode < 0 or not found:  # what the others then say is that they miss it
        return death_of(failure, out)
    bug = RuntimeError(found[0]["message"])
    bug.add_note(found[0]["hint"])
    return bug


def death_of(failure: ProcessFailure, out: Path) -> DeviceError:
    """Return what is known of a process that died without a word.

    Args:
        failure: What torch knows.
        out: Folder of the run.
    """
    if failure.exitcode == -signal.SIGKILL:
        how = "was killed, as the system does when memory runs out."
    else:
        code = failure.message if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        how = f"died ({code}); what it said is above."
    go_on = f"Go on with --resume {out}." if has_state(out) else "Nothing was saved yet: begin anew."
    return DeviceError(f"Training process {failure.local_rank} {how}", go_on)


def _say_device(job: TrainJob, processes: int) -> None:
    from geoasanet.device import choose_device

    if choose_device(job.device).type != "cuda":
        job.watch.note(
            f"{processes} processes on the CPU (gloo): {'asked for' if job.device == 'cpu' else 'no CUDA device'}."
        )
