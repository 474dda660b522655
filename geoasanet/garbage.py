"""Python's search for cyclic garbage, left out where it costs much and finds nothing."""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
import threading
from collections.abc import Iterator

_own = threading.Event()


def own_process() -> None:
    """Leave what libraries have made by the end of :func:`uncollected` out of all later searches in this process.

    For processes of the command alone. In another, objects of the user's would be left out as well, and those that
    refer to each other would never be freed.
    """
    _own.set()
    atexit.register(gc.unfreeze)  # some libraries complain of objects that are still there when Python ends


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import large libraries in here: a sixth of the time goes otherwise into searches among what is there to stay."""
    before, imported = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if before:
            if _own.is_set() and len(sys.modules) > imported:
                gc.freeze()
            gc.enable()
