"""Ctrl-C while a library is busy in machine code and would not hear it for minutes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

_POLL_SECONDS = 0.1

_running: set[threading.Thread] = set()


def interruptible(call: Callable[[], Result]) -> Result:
    """Return ``call()``, made in another thread, so that this one can be interrupted while it waits.

    After an interruption the call goes on by itself until it ends, or until :func:`unfinished` tells the program to
    leave at once; what it is writing must be a temporary file.
    """
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
