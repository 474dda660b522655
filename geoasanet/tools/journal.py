"""What an unfinished run was about, so that it is only taken up by the same command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geoasanet.errors import ConfigError, OutputError
from geoasanet.raster.mosaic import is_mosaic, mosaic_members

_NAME = "journal.json"
_SHORT = 60


def partial_folder(out: Path) -> Path:
    """Return the folder beside ``out`` that keeps finished work until the output is whole."""
    return out.with_name(f".{out.name}.partial")


def find_journal(folder: Path, description: Mapping[str, Any], *, resume: bool) -> bool:
    """Return whether a run would go on with work of an earlier one; changes nothing.

    Args:
        folder: From :func:`partial_folder`.
        description: All that decides the result: inputs, options, checkpoint. JSON-serialisable.
        resume: Go on with earlier work; if False there is none.

    Raises:
        ConfigError: If the folder belongs to a run with another description.
    """
    found = _earlier(folder / _NAME) if resume else None
    if found is None:
        return False
    differing = _differences(found, json.loads(json.dumps(description)))
    if not differing:
        return True
    raise ConfigError(
        f"{folder} holds an unfinished run that differs in {', '.join(differing)}.",
        "Repeat the command as it was to go on with it, or add --no-resume to start anew.",
    )


def open_journal(folder: Path, description: Mapping[str, Any], *, resume: bool) -> bool:
    """Make ``folder`` ready for a run; return whether it holds work of an earlier one.

    Args:
        folder: From :func:`partial_folder`.
        description: All that decides the result: inputs, options, checkpoint. JSON-serialisable.
        resume: Go on with earlier work; if False it is removed.

    Raises:
        ConfigError: If the folder belongs to a run with another description.
        OutputError: If it cannot be written.
    """
    if find_journal(folder, description, resume=resume):
        return True
    text = json.dumps(description, indent=1, sort_keys=True)
    journal = folder / _NAME
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.mkdir()
        temporary = journal.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a renamed file is empty after a power cut unless its bytes were on disk before
        temporary.replace(journal)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.strerror or error
        raise OutputError(f"{folder} cannot be written: {reason}.", "Is there room on the disk?") from error
    return False


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other runs from working in a folder of unfinished work; the system lets go of it with the process.

    Raises:
        ConfigError: If another run works in it.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (ImportError, OSError):  # Windows; or there is no such folder yet
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"Another run works in {folder}.", "Wait until it ends, or stop it, or choose another output."
                ) from None
        yield
    finally:
        os.close(handle)


def file_stamp(path: str) -> dict[str, Any]:
    """Return what identifies a file's state: its name and, for local ones, size and time of change."""
    if is_mosaic(path):
        return {"path": path, "files": [file_stamp(name) for name in mosaic_members(path, "A")]}
    local = Path(path)
    try:
        state = local.stat()
    except (OSError, ValueError):  # an address, or none of this system's names
        return {"path": path}
    if not stat.S_ISREG(state.st_mode):
        return {"path": path}
    return {"path": str(local.resolve()), "bytes": state.st_size, "changed_ns": state.st_mtime_ns}


def _earlier(journal: Path) -> dict[str, Any] | None:
    """Return the description in a journal; None if there is none, or it is no JSON (cut off by a power cut)."""
    try:
        found = json.loads(journal.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return what differs, with both values where they are short."""
    found = []
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        name = f"{prefix}{key}"
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            if "path" not in before or "path" not in now:
                found += _differences(before, now, f"{name}.")
                continue
            before, now = before["path"], now["path"]
            if before == now:
                found.append(f"{name} (the file was changed)")
                continue
        short = all(len(str(value)) <= _SHORT and not isinstance(value, dict) for value in (before, now))
        found.append(f"{name} ({_plain(before)} then, {_plain(now)} now)" if short else name)
    return found


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    return "none" if value is None else str(value)
