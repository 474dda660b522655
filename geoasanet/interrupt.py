"""Ctrl-C: heard while a library is busy in machine code, and by the main process alone where there are several."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Result = TypeVar("Result")

_POLL_SECONDS = 0.1

_running: set[threading.Thread] = set()


def interruptible(call: Callable[[], Result]) -> Result:
    """Return ``call()``, made in another thread, so that this one can be interrupted while it waits.

    After an interruption the call goes on by itself until it ends, or until :func:`unfinished` tells the program to
    leave at once; what it is writing must be a temporary file.
    """
    from concurrent.futures import Future  # not needed at start-up

    done: Future[Result] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # handed to the caller, whatever it is
            done.set_exception(error)
        finally:
            _running.discard(threading.current_thread())

    thread = threading.Thread(target=work, name="geoasanet-call", daemon=True)
    _running.add(thread)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
    return done.result()


def unfinished() -> bool:
    """Return whether an interrupted call still goes on."""
    return bool(_running)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Start processes in here that do not hear Ctrl-C, which a terminal sends to all.

    The process that starts them is to end them. Else one that is still importing its libraries would show where.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker  # not needed at start-up

    resource_tracker.ensure_running()  # when this starts with the first process, it lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
