"""Hiding a kind of Python warning while other threads run."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

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


quiet_georeference = _Quiet(NotGeoreferencedWarning)
"""Context manager that silences rasterio's warning on rasters without georeference; ``grid_of`` explains better."""

quiet_runtime = _Quiet(RuntimeWarning)
"""Context manager that silences what libraries remark on odd vector files, where errors say what matters."""
