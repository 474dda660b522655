"""Which pieces of a dataset are finished, so that an interrupted ``geoasanet tile`` goes on with the others.

A line of JSON is added when a piece's files are written. A line that was cut off is passed over, and files that are
not as their line says (a power cut may take back what was not yet on the disk) make their piece undone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from geoasanet.errors import OutputError
from geoasanet.progress import Progress, silent
from geoasanet.raster.tilefile import save_bytes

FOLDERS = ("rgb", "sar", "label")
_NAME = "pieces.jsonl"

Entry = dict[str, Any]
"""What is known of a finished piece; ``files`` holds size and CRC-32 of each of its files by path."""


class TileJournal:
    """The finished pieces of an unfinished dataset.

    Args:
        folder: Where the journal is.
        data: The dataset's folder; the folders for images are made in it.
        folders: Their names.

    Raises:
        OutputError: If they cannot be made.
    """

    def __init__(self, folder: Path, data: Path, folders: Iterable[str]) -> None:
        self.data = data
        self._path = folder / _NAME
        self.earlier = read_entries(folder)
        """Pieces that an earlier run noted; not yet checked."""
        self.count = len(self.earlier)
        """Pieces that are finished."""
        try:
            for name in folders:
                (data / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(data, error) from error

    def recover(
        self, workers: int, progress: Progress = silent, wanted: Callable[[Entry], bool] = lambda entry: True
    ) -> list[Entry]:
        """Return the pieces of an earlier run whose files are whole; remove all other files.

        Args:
            workers: Threads that read the files.
            progress: Told how many pieces are checked.
            wanted: Tells which pieces are to be kept, if their files are whole.

        Raises:
            OutputError: If the journal cannot be written.
        """
        entries, whole = [entry for entry in self.earlier if wanted(entry)], []
        with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
            try:
                for number, good in enumerate(pool.map(self._is_whole, entries), 1):
                    if good:
                        whole.append(entries[number - 1])
                    progress("Checking", number, len(entries), "pieces")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        known = {path for entry in whole for path in entry["files"]}
        for path in self.data.rglob("*"):
            if path.is_file() and path.relative_to(self.data).as_posix() not in known:
                path.unlink()
        content = b"".join(map(_line, whole))
        if not self._path.exists() or self._path.read_bytes() != content:  # a line that was cut off must go, too
            save_bytes(self._path, content)
        self.earlier, self.count = [], len(whole)
        return whole

    def add(self, entry: Entry) -> None:
        """Note a finished piece; its files must have been written.

        Raises:
            OutputError: If the disk is full.
        """
        try:
            with self._path.open("ab") as file:
                file.write(_line(entry))
        except OSError as error:
            raise _cannot_write(self._path, error) from error
        self.count += 1

    def _is_whole(self, entry: Mapping[str, Any]) -> bool:
        for path, (size, checksum) in entry["files"].items():
            try:
                data = (self.data / path).read_bytes()
            except OSError:
                return False
            if len(data) != size or zlib.crc32(data) != checksum:
                return False
        return True


def read_entries(folder: Path) -> list[Entry]:
    """Return the finished pieces in a folder's journal; none if it has no journal."""
    entries: list[Entry] = []
    path = folder / _NAME
    if not path.is_file():
        return entries
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # cut off, or blank after a power cut
            break
        if not isinstance(entry, dict) or not isinstance(entry.get("files"), dict):
            break
        entries.append(entry)
    return entries


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}.",
        "Free space on that disk; the same command goes on where it stopped.",
    )
