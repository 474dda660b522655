"""The saved state of a run: everything a killed run needs to go on as if nothing had happened.

``state.pt`` is replaced atomically and the one before is kept as ``state.previous.pt``; each carries a checksum, so
that a truncated or damaged one is recognised. It is read without executing anything from it.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoasanet.errors import CheckpointError, OutputError
from geoasanet.files import atomic_output

NAME, PREVIOUS = "state.pt", "state.previous.pt"
_MARK = b"geoasanet state 1\n"
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class Loaded:
    """A state that was read."""

    state: dict[str, Any]
    path: Path
    notes: tuple[str, ...]
    """What the user should know, such as that the newest state was damaged."""


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state.pt``; the one before becomes ``state.previous.pt``.

    Raises:
        OutputError: If it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    path = folder / NAME
    try:
        with atomic_output(path) as temporary:
            with temporary.open("wb") as file:
                file.write(_MARK + hashlib.sha256(data).digest())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                path.replace(folder / PREVIOUS)
    except OSError as error:
        raise OutputError(
            f"State {path} cannot be written ({error.strerror or error}).",
            f"Make room, then go on with --resume {folder}.",
        ) from error


def has_state(folder: Path) -> bool:
    """Tell whether a folder holds a saved state, whole or not."""
    return any((folder / name).is_file() for name in (NAME, PREVIOUS))


def load_state(folder: Path) -> Loaded:
    """Return the newest state that is whole, its tensors on the CPU.

    Raises:
        CheckpointError: If there is none.
    """
    notes: list[str] = []
    for name in (NAME, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            return Loaded(_read(path), path, tuple(notes))
        except CheckpointError as error:
            notes.append(f"{error} The one saved before it is used.")
    if notes:
        raise CheckpointError(
            f"No saved state in {folder} is whole: {notes[0].removesuffix(' The one saved before it is used.')}",
            "Train anew.",
        )
    raise CheckpointError(f"{folder} holds no {NAME}: nothing to resume.", "Give the folder of a run.")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"State {path} cannot be read ({error.strerror or error}).") from None
    start = len(_MARK) + _DIGEST
    body = memoryview(data)[start:]
    if not data.startswith(_MARK) or hashlib.sha256(body).digest() != data[len(_MARK) : start]:
        raise CheckpointError(f"State {path} is damaged or cut short ({len(data)} bytes).")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes; whatever it is, the file is no state of ours
        raise CheckpointError(f"State {path} cannot be read ({type(error).__name__}).") from None
    if not isinstance(state, dict) or not isinstance(state.get("config", {}), dict):
        raise CheckpointError(f"State {path} is no saved state.")
    return state
