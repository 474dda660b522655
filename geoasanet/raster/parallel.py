"""Work in threads, taken as it is finished."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Result = TypeVar("Result")


def as_finished(
    pool: ThreadPoolExecutor, calls: Iterable[Callable[[], Result]], ahead: int
) -> Generator[Result, None, None]:
    """Yield what ``calls`` return, in the order in which they are finished.

    An exception in one of them is raised here, and those that have not begun are dropped; so they are when the
    generator is closed.

    Args:
        pool: The threads.
        calls: What to do.
        ahead: Calls that are handed to the threads at a time, at most.
    """
    left = iter(calls)
    waiting: set[Future[Result]] = set()
    try:
        while True:
            waiting |= {pool.submit(call) for call in itertools.islice(left, ahead - len(waiting))}
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()
