"""Predictions of rows of windows that two workers need, run by one of them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from geoasanet.errors import OutputError
from geoasanet.windows import RowPlan

_NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class LentRows:
    """A folder of predictions, a file for each row of windows.

    A worker begins with the rows above its own that overlap them. They are the last ones of the worker above, which
    gets there when these files have long been written, and runs the network where one is not.
    """

    folder: Path
    """Empty before the workers begin, so that nothing in it is of another run."""
    rows: frozenset[int]
    """Rows of windows that more than one worker needs."""

    @classmethod
    def between(cls, shares: Sequence[Sequence[range]], plan: RowPlan, folder: Path) -> LentRows:
        """Return those of workers with ``shares`` of the rows of ``plan``, in ``folder``, which is made anew."""
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # then nothing is lent; what is wrong with the disk is told elsewhere
            folder.mkdir()
        above = {row for share in shares for run in share for row in plan.leading_to(run).rows if row not in run}
        return cls(folder, frozenset(above & {row for share in shares for run in share for row in run}))

    @classmethod
    def none(cls) -> LentRows:
        """Return that of a worker who is alone."""
        return cls(Path(), frozenset())

    @contextlib.contextmanager
    def lending(self, index: int) -> Iterator[Callable[[Tensor | None], Tensor | None]]:
        """Give what keeps the predictions of row ``index`` for others, called with each from left to right.

        It returns what it is called with. They can be had once the context is left; not if the disk is full.
        """
        if index not in self.rows:
            yield lambda prediction: prediction
            return
        file = _File(self._path(index).with_suffix(".part"))
        try:
            yield file.keep
        except BaseException:
            file.close()
            raise
        if file.close():
            file.path.replace(self._path(index))

    def lent(self, index: int) -> Iterator[Tensor | None] | None:
        """Return the predictions of row ``index`` as the network gave them, None if nobody has kept them.

        Raises:
            OutputError: By the iterator, if they cannot be read.
        """
        path = self._path(index)
        return self._read(path) if index in self.rows and path.exists() else None

    def _path(self, index: int) -> Path:
        return self.folder / f"{index}.npy"

    @staticmethod
    def _read(path: Path) -> Iterator[Tensor | None]:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                while file.tell() < size:
                    prediction = np.load(file)
                    yield torch.from_numpy(prediction) if prediction.size else None
        except (OSError, ValueError, EOFError) as error:
            raise OutputError(
                f"{path} cannot be read: {error}.", "The same command goes on where it stopped."
            ) from error


class _File:
    """Predictions on their way to the disk; dropped if they do not fit on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        with contextlib.suppress(OSError):
            self._file = path.open("wb")

    def keep(self, prediction: Tensor | None) -> Tensor | None:
        """Write ``prediction`` and return it."""
        if self._file is not None:
            try:
                np.save(self._file, _NOTHING if prediction is None else prediction.numpy())
            except OSError:
                self._drop()
        return prediction

    def close(self) -> bool:
        """Return whether everything has been written."""
        if self._file is None:
            return False
        try:
            self._file.close()
        except OSError:
            self._drop()
        return self._file is not None

    def _drop(self) -> None:
        file, self._file = self._file, None
        with contextlib.suppress(OSError):
            self.path.unlink()
        if file is not None:
            with contextlib.suppress(OSError):  # what waits to be written does not fit, either
                file.close()
