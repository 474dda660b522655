"""Work on a Dask cluster: on other machines, or in several processes of this one.

Only what is computed travels: workers must be able to read the inputs under the same paths or URLs, and have the same
version of geoasanet; outputs and the journal are written by the process that the user started. Dask starts a task
anew on another worker when one dies.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import geoasanet
from geoasanet.errors import ConfigError, DeviceError, GeoASANetError

Result = TypeVar("Result")

LOCAL = "local"
"""As a scheduler: a cluster of processes on this machine, for this run."""

_ANSWER_SECONDS = 20
_RETRIES = 1
"""How often a task that raised an error is tried again, in case a disk or network was at fault."""


class Cluster:
    """A connection to a Dask scheduler.

    Args:
        client: The ``distributed.Client``.
        address: What the user calls it.
    """

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address

    @property
    def workers(self) -> int:
        """Workers that are there now."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    @property
    def has_gpus(self) -> bool:
        """Whether workers declare the resource GPU (``dask worker --resources "GPU=1"``)."""
        found = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return any(worker.get("resources", {}).get("GPU") for worker in found)

    def call(self, function: Callable[..., Result], *arguments: Any, gpu: bool = False) -> Result:
        """Return ``function(*arguments)``, called by one worker."""
        with contextlib.closing(self.run(function, [arguments], gpu=gpu)) as results:
            return next(results)[1]

    @property
    def threads(self) -> int:
        """Threads of the worker that has most."""
        found = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return max((int(worker["nthreads"]) for worker in found), default=1)

    def run(
        self,
        function: Callable[..., Result],
        tasks: Iterable[tuple[Any, ...]],
        *,
        gpu: bool = False,
        each: int | None = None,
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield the position of each task and ``function(*task)``, in the order in which they are finished.

        What is not yet done when this is closed is cancelled.

        Args:
            function: At the top of one of geoasanet's modules, so that workers find it.
            tasks: Arguments for each call; plain values.
            gpu: Whether each call takes the GPU of a worker that declares one.
            each: Calls for each worker that are handed out at a time, where results are large; None: all.

        Raises:
            GeoASANetError: What the function raises.
            DeviceError: If task after task was lost with its worker.
        """
        calls = enumerate(self._calls(function, tasks, gpu))
        finished = _library().as_completed(loop=self._client.loop)
        waiting: dict[str, tuple[int, Any]] = {}
        with self._answers(lambda: [future for _, future in waiting.values()]):
            while True:
                for number, call in itertools.islice(calls, self._room(each, len(waiting))):
                    future = call()
                    waiting[future.key] = number, future
                    finished.add(future)
                if not waiting:
                    return
                future = next(finished)
                result = future.result()
                number, _ = waiting.pop(future.key)
                future.release()
                yield number, result

    def ordered(
        self, function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], *, each: int
    ) -> Generator[Result, None, None]:
        """Yield ``function(*task)`` in the order of the tasks; otherwise as :meth:`run`."""
        calls = self._calls(function, tasks, gpu=False)
        waiting: deque[Any] = deque()
        with self._answers(lambda: list(waiting)):
            while True:
                waiting.extend(call() for call in itertools.islice(calls, self._room(each, len(waiting))))
                if not waiting:
                    return
                result = waiting[0].result()
                waiting.popleft().release()
                yield result

    def everywhere(self, function: Callable[[], None]) -> None:
        """Have all workers that can be reached call ``function``, which must not take long."""
        with contextlib.suppress(Exception):
            self._client.run(function)

    def _calls(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], gpu: bool
    ) -> Iterator[Callable[[], Any]]:
        """Yield what hands out each task and returns its future."""
        batch = uuid.uuid4().hex
        options = {"pure": False, "retries": _RETRIES, "resources": {"GPU": 1} if gpu else None}
        for number, task in enumerate(tasks):
            key = f"{function.__name__}-{number}-{batch}"
            yield partial(self._client.submit, _checked, function, task, geoasanet.__version__, key=key, **options)

    def _room(self, each: int | None, waiting: int) -> int | None:
        """Return how many more calls may be handed out; None for all."""
        if each is None:
            return None
        workers = 1
        with contextlib.suppress(OSError, TimeoutError):  # a scheduler that is lost shows in what it was to answer
            workers = max(1, self.workers)
        return max(0, each * workers - waiting)

    @contextlib.contextmanager
    def _answers(self, futures: Callable[[], list[Any]]) -> Iterator[None]:
        """Say in our words what went wrong with the cluster; cancel at the end what is not yet done."""
        distributed = _library()
        try:
            yield
        except distributed.scheduler.KilledWorker as error:
            raise DeviceError(
                f"Workers of {self._address} died one after the other on the same task.",
                "They may have run out of memory: give them more, or use fewer on each machine. Then give the same "
                "command again.",
            ) from error
        except distributed.client.FutureCancelledError as error:
            raise DeviceError(
                f"The cluster {self._address} was lost.", "Start it anew, then give the same command again."
            ) from error
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._client.cancel(futures(), force=True)


@contextlib.contextmanager
def connect(scheduler: str, processes: int, option: str = "--gpus") -> Iterator[Cluster]:
    """Connect to a Dask scheduler.

    Args:
        scheduler: Its address (``tcp://host:8786``), the scheduler file that it wrote, or :data:`LOCAL`.
        processes: Worker processes of a local cluster.
        option: What the user calls their number.

    Raises:
        ConfigError: If Dask is not installed, the address or file is wrong, or no worker is there.
    """
    if scheduler != LOCAL and processes != 1:
        raise ConfigError(f"{option} {processes} goes with --scheduler local only; a cluster has the workers it has.")
    distributed = _library()
    for name in ("distributed", "distributed.client"):  # what matters is told in our own words
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if scheduler == LOCAL:
            threads = max(1, (os.cpu_count() or 1) // processes)
            options = {"n_workers": processes, "threads_per_worker": threads, "dashboard_address": None}
            server = stack.enter_context(distributed.LocalCluster(silence_logs=logging.CRITICAL, **options))
            client = stack.enter_context(distributed.Client(server, timeout=_ANSWER_SECONDS))
        else:
            client = stack.enter_context(_remote(scheduler))
        cluster = Cluster(client, scheduler)
        try:
            client.wait_for_workers(1, timeout=_ANSWER_SECONDS)
        except TimeoutError:
            raise ConfigError(
                f"No worker has joined the scheduler {scheduler}.", f"Start some: dask worker {scheduler}"
            ) from None
        yield cluster


@contextlib.contextmanager
def connected(scheduler: str | os.PathLike[str] | None, workers: int | None) -> Iterator[Cluster | None]:
    """Connect to a Dask scheduler if there is one, for a command with ``--workers``; see :func:`connect`."""
    if scheduler is None:
        yield None
        return
    with connect(os.fspath(scheduler), 1 if workers is None else workers, "--workers") as cluster:
        yield cluster


def path_for_workers(path: str) -> str:
    """Return the name of a raster or of several, with ``;`` and ``*``, as workers in other folders find it."""
    if path.lstrip().startswith("<"):  # a virtual raster, spelt out
        return path
    if os.path.lexists(path):
        return str(Path(path).absolute())
    parts = [part.strip() for part in path.split(";")]
    return ";".join(str(Path(part).absolute()) if _is_local(part) else part for part in parts)


def _is_local(name: str) -> bool:
    """Return whether a name is a file here, or a pattern for some."""
    if "://" in name or name.startswith("/vsi"):
        return False
    return bool(name) and (os.path.lexists(name) or any(c in name for c in "*?"))


def worker_cores() -> int:
    """Return how many threads the worker that asks was given."""
    return int(_library().get_worker().state.nthreads)


def _library() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise ConfigError(
            "--scheduler needs Dask's distributed scheduler, which is not installed.",
            "pip install 'geoasanet[cluster]'",
        ) from None


def _remote(scheduler: str) -> Any:
    distributed = _library()
    if "://" not in scheduler and not Path(scheduler).is_file():
        raise ConfigError(
            f"--scheduler {scheduler} is neither an address nor a scheduler file.",
            "For instance tcp://host:8786, the path given to dask scheduler --scheduler-file, or local.",
        )
    place = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        return distributed.Client(timeout=_ANSWER_SECONDS, **place)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"No Dask scheduler answers at {scheduler} ({type(error).__name__}).",
            "Is it running, and reachable from here?",
        ) from None


def _checked(function: Callable[..., Result], task: tuple[Any, ...], version: str) -> Result:
    """Call a function on a worker, if that is of the same version."""
    if geoasanet.__version__ != version:
        raise ConfigError(
            f"A worker has geoasanet {geoasanet.__version__}, this process {version}.", "Install the same everywhere."
        )
    try:
        return function(*task)
    except GeoASANetError as error:
        found = error
    found.__cause__ = found.__context__ = None  # those of GDAL cannot be sent, and Dask would send none of it
    raise found
