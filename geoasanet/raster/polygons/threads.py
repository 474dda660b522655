"""Work on all cores, results in order. The kernels release the GIL, so threads suffice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(task: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """Yield ``task(item)`` in the order of ``items``, at most ``2 * workers`` results ahead of the consumer.

    A single worker is the consumer's own thread: one beside it gained nothing where batches are made for a file, since
    nearly all of that time is the writer's.
    """
    if workers <= 1:
        yield from map(task, items)
        return
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(pool.submit(task, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
