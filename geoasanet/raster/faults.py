"""Blocks of the inputs that cannot be read, left out instead of ending the run: ``--on-error nodata``.

A tool makes one :class:`ReadFaults` with :func:`faults_for` and gives it to every raster that it opens
(``Scene.open(..., faults=faults)``); None means that such a block is an error. At the end,
``faults.warnings()`` says what was left out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from geoasanet.errors import ConfigError
from geoasanet.windows import Window

OnError = Literal["fail", "nodata"]
"""What a block that cannot be read is: the end of the run, or pixels without data."""

ON_ERRORS: tuple[str, ...] = get_args(OnError)

_SHOWN = 3


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A block that could not be read, in pixels of its own file."""

    path: str
    row: int
    col: int
    height: int
    width: int
    role: str
    """What the raster is to the user."""
    reason: str

    @property
    def window(self) -> Window:
        """The block."""
        return Window(self.row, self.col, self.height, self.width)


class ReadFaults:
    """Collects blocks that could not be read, each once; used by several threads and rasters at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, int, int], Fault] = {}

    def add(self, path: str, role: str, block: Window, reason: str) -> None:
        """Note a block."""
        self._keep(Fault(path, block.row, block.col, block.height, block.width, role, reason))

    def add_all(self, faults: Iterable[Fault]) -> None:
        """Note blocks that another collection found."""
        for fault in faults:
            self._keep(fault)

    def add_dicts(self, faults: Iterable[Mapping[str, Any]]) -> None:
        """Note what :meth:`to_dicts` gave in an earlier run, or in another process."""
        self.add_all(Fault(**fault) for fault in faults)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return all blocks in JSON-serialisable form, in a fixed order."""
        return [asdict(fault) for fault in self.found()]

    def found(self) -> list[Fault]:
        """Return all blocks, by file, from the top."""
        with self._lock:
            return sorted(self._found.values())

    def take(self) -> list[Fault]:
        """Return all blocks and forget them."""
        with self._lock:
            taken, self._found = self._found, {}
        return sorted(taken.values())

    def warnings(self) -> list[str]:
        """Return a sentence for each file: how many blocks were left out, and where."""
        files: dict[str, list[Fault]] = {}
        for fault in self.found():
            files.setdefault(fault.path, []).append(fault)
        return [_sentence(faults) for faults in files.values()]

    def _keep(self, fault: Fault) -> None:
        with self._lock:
            self._found.setdefault((fault.path, fault.row, fault.col), fault)


def faults_for(on_error: str) -> ReadFaults | None:
    """Return what the option ``--on-error`` means to the rasters that are opened.

    Raises:
        ConfigError: If it is neither "fail" nor "nodata".
    """
    if on_error not in ON_ERRORS:
        raise ConfigError(f"--on-error {on_error!r} is unknown; fail or nodata is needed.")
    return ReadFaults() if on_error == "nodata" else None


def _sentence(faults: list[Fault]) -> str:
    first, count = faults[0], len(faults)
    places = "; ".join(str(fault.window) for fault in faults[:_SHOWN])
    more = f"; and {count - _SHOWN} more down to row {max(f.window.row_stop for f in faults) - 1}"
    return (
        f"{first.role} raster {first.path}: {count} block{'s' * (count != 1)} could not be read and count as without "
        f"data ({places}{more if count > _SHOWN else ''}: {first.reason})."
    )
