"""What an unfinished run was about, so that it is only taken up by the same command."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoasanet.errors import ConfigError

_NAME = "journal.json"


def partial_folder(out: Path) -> Path:
    """Return the folder beside ``out`` that keeps finished work until the output is whole."""
    return out.with_name(f".{out.name}.partial")


def open_journal(folder: Path, description: Mapping[str, Any], *, resume: bool) -> bool:
    """Make ``folder`` ready for a run; return whether it holds work of an earlier one.

    Args:
        folder: From :func:`partial_folder`.
        description: All that decides the result: inputs, options, checkpoint. JSON-serialisable.
        resume: Go on with earlier work; if False it is removed.

    Raises:
        ConfigError: If the folder belongs to a run with another description.
    """
    text = json.dumps(description, indent=1, sort_keys=True)
    journal = folder / _NAME
    if folder.exists() and not resume:
        shutil.rmtree(folder)
    if journal.is_file():
        found = journal.read_text(encoding="utf-8")
        if found == text:
            return True
        differing = ", ".join(_differences(found, description)) or "its description"
        raise ConfigError(
            f"{folder} holds an unfinished run that differs in {differing}.",
            "Repeat the command as it was to go on with it, or add --no-resume to start anew.",
        )
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir()
    temporary = journal.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(journal)
    return False


def file_stamp(path: str) -> dict[str, Any]:
    """Return what identifies a file's state: its name and, for local ones, size and time of change."""
    local = Path(path)
    if not local.is_file():
        return {"path": path}
    state = local.stat()
    return {"path": str(local.resolve()), "bytes": state.st_size, "changed_ns": state.st_mtime_ns}


def _differences(found: str, description: Mapping[str, Any]) -> list[str]:
    try:
        old = json.loads(found)
    except ValueError:
        return []
    present = json.loads(json.dumps(description))
    return sorted(key for key in {*old, *present} if old.get(key) != present.get(key))
