"""Ctrl-C: heard while a library is busy in machine code, and by the main process alone where there are several."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

Result = TypeVar("Result")

_POLL_SECONDS = 0.1
_AGAIN_SECONDS = 0.02

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
def never_lost() -> Iterator[None]:
    """Raise an interruption again that was raised in a destructor, where Python reports exceptions and goes on.

    Closing a large temporary file takes long enough for Ctrl-C to hit it.
    """
    again: list[threading.Timer] = []
    report = sys.unraisablehook

    def hear(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            report(lost)
            return
        again.append(threading.Timer(_AGAIN_SECONDS, _interrupt_main))  # raised in this hook it would be lost, too
        again[-1].daemon = True
        again[-1].start()

    sys.unraisablehook = hear
    try:
        yield
    finally:
        sys.unraisablehook = report
        for timer in again:
            timer.cancel()


def garbled(error: BaseException) -> bool:
    """Return whether an error is an interruption that compiled code has returned from without noticing.

    Python then raises a ``SystemError``, or several in turn, with the interruption as their cause.
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__
    return isinstance(cause, KeyboardInterrupt) and cause is not error


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # wakes a main thread that waits, too
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


class HeldBack:
    """Ctrl-C is raised where that does no harm, not in Python's code that a library of machine code has called.

    Such a library would take the interruption for an error of its own and lose it. Within the block it waits until
    :meth:`check`, a :meth:`passage`, or the end of the block. In other threads than the main one, where Python raises
    no interruptions, nothing is changed.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._waiting: tuple[Any, ...] | None = None
        self._open = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._before = handler
                signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *failure: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self.check()

    def check(self) -> None:
        """Raise an interruption that waits."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._before(*waiting)

    @contextlib.contextmanager
    def passage(self) -> Iterator[None]:
        """Let interruptions be raised in here as ever."""
        self._open = True
        try:
            self.check()
            yield
        finally:
            self._open = False

    def _hear(self, *signal_and_frame: Any) -> None:
        if self._open:
            self._before(*signal_and_frame)
        else:
            self._waiting = signal_and_frame


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
