"""Hiding what libraries say to their developers: kinds of Python warnings, also in other threads, and HDF5's."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from rasterio.errors import NotGeoreferencedWarning


class _Quiet:
    """Hides a kind of warning while anyone asks for it, in any thread; what Python offers is for one thread."""

    def __init__(self, category: type[Warning]) -> None:
        self._category = category
        self._lock = threading.Lock()
        self._users = 0
        self._saved = warnings.catch_warnings()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore", self._category)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._saved.__exit__(None, None, None)


@contextlib.contextmanager
def quiet_hdf5(path: str) -> Iterator[None]:
    """Keep what the library HDF5 writes on stderr about a damaged file from there; GDAL reports it as well.

    Its setting for that holds for one thread. For other files nothing is changed.
    """
    try:
        with Path(path).open("rb") as file:
            hdf5 = file.read(len(_HDF5)) == _HDF5
    except (OSError, ValueError):  # an address, or a description in XML
        hdf5 = False
    if not hdf5:
        yield
        return
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_HDF5 = b"\x89HDF\r\n\x1a\n"
"""What HDF5 files begin with."""

quiet_georeference = _Quiet(NotGeoreferencedWarning)
"""Context manager that silences rasterio's warning on rasters without georeference; ``grid_of`` explains better."""

quiet_runtime = _Quiet(RuntimeWarning)
"""Context manager that silences what libraries remark on odd vector files, where errors say what matters."""
