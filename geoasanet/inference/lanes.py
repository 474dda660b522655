"""Several windows in the network at once on a CPU, each with a fixed number of threads.

One window does not keep many cores busy: between two layers all wait for the slowest. Several at a time do. And as
sums are rounded differently when more threads share them, a fixed number of threads for each window makes its result
the same however many processes a map is shared among.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import ParamSpec, TypeVar

import torch

from geoasanet.models.products import multiply_by_numpy, numpy_is_faster, openblas_on_one_thread

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

MOST_LANES = 8
"""Windows in work at once, at most: each needs memory for its maps."""


@dataclass(frozen=True, slots=True)
class LanePlan:
    """How windows share a CPU."""

    lanes: int
    """Windows at once."""
    threads: int
    """Threads for each."""

    @classmethod
    def of_machine(cls, processes: int = 1) -> LanePlan:
        """Return the plan of each of ``processes`` that share this machine; threads do not depend on their number."""
        cores = torch.get_num_threads()
        total = min(cores, MOST_LANES)
        return cls(max(1, total // processes), cores // total)


class Lanes:
    """Runs calls in threads of their own while it is open as a context manager.

    Args:
        plan: How many at once; None runs each call where it is made.
    """

    def __init__(self, plan: LanePlan | None) -> None:
        self._plan = plan
        self._pool: ThreadPoolExecutor | None = None
        self._limits = contextlib.ExitStack()

    def __enter__(self) -> Lanes:
        if self._plan is not None:
            # The number of threads of the linear algebra libraries is one for the whole process.
            self._limits.callback(torch.set_num_threads, torch.get_num_threads())
            by_numpy = self._plan.threads == 1 and numpy_is_faster()
            if by_numpy:
                self._limits.enter_context(openblas_on_one_thread())
            self._pool = ThreadPoolExecutor(
                self._plan.lanes, "geoasanet-network", initializer=_begin, initargs=(self._plan.threads, by_numpy)
            )
        return self

    def submit(
        self, call: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        """Return what ``call(*args, **kwargs)`` will give."""
        if self._pool is not None:
            return self._pool.submit(call, *args, **kwargs)
        done: Future[Result] = Future()
        done.set_result(call(*args, **kwargs))
        return done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._limits.close()


def _begin(threads: int, by_numpy: bool) -> None:
    torch.set_num_threads(threads)
    multiply_by_numpy(by_numpy)
