"""TensorBoard events of a training run: an extra, which must not stop it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class Events:
    """Writes numbers for TensorBoard; where that fails, it leaves one note and is silent from then on.

    Args:
        folder: Folder for the events.
        iteration: Iterations done before; what earlier files hold beyond it is no longer shown.
        notes: Receives what went wrong.
    """

    def __init__(self, folder: Path, iteration: int, notes: list[str]) -> None:
        self._notes = notes
        self._writer: SummaryWriter | None = None
        try:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=iteration + 1)
        except Exception as error:  # an extra that fails in many ways must not stop a training
            self._fail(error)

    def write(self, values: Mapping[str, float], iteration: int) -> None:
        """Add values; those that are no number are left out."""
        try:
            for name, value in values.items():
                if self._writer is not None and math.isfinite(value):
                    self._writer.add_scalar(name, value, iteration)
        except Exception as error:  # see above
            self._fail(error)

    def flush(self) -> None:
        """Write to the disk."""
        try:
            if self._writer is not None:
                self._writer.flush()
        except Exception as error:  # see above
            self._fail(error)

    def close(self) -> None:
        """Close the file."""
        try:
            if self._writer is not None:
                self._writer.close()
        except Exception as error:  # see above
            self._fail(error)
        self._writer = None

    def _fail(self, error: Exception) -> None:
        self._writer = None
        self._notes.append(f"No TensorBoard events ({' '.join(str(error).split())}); the log has the numbers.")
