"""Which outputs an unfinished run has already given their names, so that going on takes them for its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from geoasanet.files import atomic_output

_NAME = "published.json"


class Published:
    """Outputs of a run that has several, noted in the folder that keeps its finished work.

    Args:
        folder: From :func:`geoasanet.tools.journal.partial_folder`; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._note = folder / _NAME
        self._stamps: dict[str, list[int]] = {}
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            found = json.loads(self._note.read_text(encoding="utf-8"))
            self._stamps = found if isinstance(found, dict) else {}

    def holds(self, out: Path) -> bool:
        """Return whether the file at ``out`` is the one that this run has put there."""
        try:
            return self._stamps.get(str(out.absolute())) == _stamp(out)
        except OSError:
            return False

    @contextlib.contextmanager
    def output(self, out: Path) -> Iterator[Path]:
        """Give a temporary path; on success it replaces ``out``, and the run knows it for its own.

        Raises:
            OSError: If the disk is full.
        """
        with atomic_output(out) as temporary:
            yield temporary
            self._stamps[str(out.absolute())] = _stamp(temporary)  # renaming changes none of it
            with atomic_output(self._note) as note:
                note.write_text(json.dumps(self._stamps), encoding="utf-8")


def _stamp(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ino]
