"""Processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, also by a kill that lets it tell nobody.

    To be called in a process of :mod:`multiprocessing`, of any start method.
    """
    threading.Thread(target=_wait, name="geoasanet-parent", daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
