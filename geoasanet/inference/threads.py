"""Reading ahead and writing behind: a bounded queue on either side of the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

_END = object()


def prefetch(items: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Yield ``items``, made in another thread, at most ``depth`` of them ahead, the one in the making included.

    An exception there is raised here, in place of the item that failed. Closing the generator stops the thread, and
    closes ``items`` if they come from a generator.
    """
    made: queue.SimpleQueue[object] = queue.SimpleQueue()
    places: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each item that may be made
    stop = threading.Event()
    failure: list[BaseException] = []
    for _ in range(depth):
        places.put(None)

    def work() -> None:
        try:
            source = iter(items)
            while True:
                places.get()
                if stop.is_set() or (item := next(source, _END)) is _END:
                    break
                made.put(item)
        except BaseException as error:  # handed to the consumer, whatever it is
            failure.append(error)
        finally:
            if isinstance(items, Generator):
                items.close()
            made.put(_END)

    thread = threading.Thread(target=work, name="geoasanet-read", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            places.put(None)
            yield item  # type: ignore[misc]  # the queue holds Items and the end mark
        if failure:
            raise failure[0]
    finally:
        stop.set()
        places.put(None)
        thread.join()


class Background(Generic[Item]):
    """Hands items to ``sink`` in another thread, at most ``depth`` of them waiting.

    Used as a context manager: leaving it without an error waits for the last item. An exception in ``sink`` is
    raised by the next :meth:`put` or on leaving.
    """

    def __init__(self, sink: Callable[[Item], None], depth: int = 2) -> None:
        self._sink = sink
        self._waiting: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._failure: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="geoasanet-write", daemon=True)

    def __enter__(self) -> Background[Item]:
        self._thread.start()
        return self

    def put(self, item: Item) -> None:
        """Queue ``item``; waits while the queue is full."""
        self._raise()
        self._waiting.put(item)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandoned = error is not None
        self._waiting.put(_END)
        self._thread.join()
        if error is None:
            self._raise()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not _END:
            if self._failure is None and not self._abandoned:
                try:
                    self._sink(item)  # type: ignore[arg-type]  # the queue holds Items and the end mark
                except BaseException as failure:  # handed to the producer, whatever it is
                    self._failure = failure

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
