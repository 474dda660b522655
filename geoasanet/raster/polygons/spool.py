"""Arrays of a whole map in temporary files: memory holds what is in use, the disk the rest.

Values go to a file that has no name, so that nothing of it is left however the process ends, and are read through a
map of that file. The system takes the memory of a map back whenever it is short; :func:`forget` gives it back at once.
Nothing is ever written through a map: a full disk then shows as an error of ``write`` and not as a crash.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geoasanet.errors import OutputError


class Column:
    """An array that grows at its end.

    Args:
        dtype: Of its values.
        folder: Where its file goes; None: the system's folder for temporary files.

    Raises:
        OutputError: If the file cannot be made.
    """

    def __init__(self, dtype: DTypeLike, folder: Path | None = None) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._folder = folder
        self._size = 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # lives as long as its maps
        except OSError as error:
            raise self._failure(error) from error
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self._size

    def append(self, values: NDArray[Any]) -> slice:
        """Write values at the end; return where they are.

        Raises:
            OutputError: If the disk is full.
        """
        data = np.ascontiguousarray(values, self.dtype).data.cast("B") if len(values) else b""
        try:
            done = 0
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            raise self._failure(error) from error
        start = self._size
        self._size += len(values)
        return slice(start, self._size)

    def array(self) -> NDArray[Any]:
        """Return all values so far, to be read only."""
        if not self._size:
            return np.empty(0, self.dtype)
        try:
            return np.frombuffer(mmap.mmap(self._file.fileno(), self._size * self.dtype.itemsize), self.dtype)
        except (OSError, ValueError):  # a file system without maps, or none with room for them
            self._file.seek(0)
            values = np.empty(self._size, self.dtype)
            data, done = values.data.cast("B"), 0
            while done < len(data):
                done += self._file.readinto(data[done:])
            return values

    def _failure(self, error: OSError) -> OutputError:
        folder = tempfile.gettempdir() if self._folder is None else self._folder.parent
        return OutputError(
            f"Temporary data cannot be written in {folder}: {error.strerror or error}.",
            "Free space on that disk, or choose another for the output.",
        )


def keep(values: NDArray[Any], folder: Path | None = None) -> NDArray[Any]:
    """Move an array to a file; return it, to be read only.

    Raises:
        OutputError: If the disk is full.
    """
    column = Column(values.dtype, folder)
    column.append(values.ravel())
    return column.array().reshape(values.shape)


def forget(*arrays: Any) -> None:
    """Give back the memory of arrays that lie in files; what is needed again is read again. All else stays as it is."""
    for array in arrays:
        base = array
        while isinstance(base, np.ndarray | memoryview):
            base = base.base if isinstance(base, np.ndarray) else base.obj
        if isinstance(base, mmap.mmap):
            with contextlib.suppress(AttributeError, OSError):  # not every system can
                base.madvise(mmap.MADV_DONTNEED)
