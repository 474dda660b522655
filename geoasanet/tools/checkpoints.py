"""Finding the checkpoint that a command is to use."""

from __future__ import annotations

import os
from pathlib import Path

from geoasanet.errors import CheckpointError

LATEST = Path("runs/latest/best.safetensors")
DEFAULT_NAME = "s1s2-10m"
_FOLDER = Path(__file__).parents[1] / "checkpoints"


def packaged_checkpoints() -> dict[str, Path]:
    """Return the checkpoints that come with the package, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}


def find_checkpoint(checkpoint: str | os.PathLike[str] | None) -> Path:
    """Return the file of ``checkpoint``: a path or a packaged name.

    None stands for ``runs/latest/best.safetensors`` of the current folder, else for the packaged ``s1s2-10m``.

    Raises:
        CheckpointError: If there is no such file.
    """
    packaged = packaged_checkpoints()
    if checkpoint is None:
        if LATEST.is_file():
            return LATEST
        if DEFAULT_NAME in packaged:
            return packaged[DEFAULT_NAME]
        raise CheckpointError(
            f"No checkpoint was given and {LATEST} does not exist in this folder.",
            "Give one with -c FILE; geoasanet convert makes one of a published .pth file.",
        )
    if str(checkpoint) in packaged:
        return packaged[str(checkpoint)]
    path = Path(checkpoint)
    if path.is_dir() and (path / "best.safetensors").is_file():
        return path / "best.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"Checkpoint {checkpoint} does not exist.",
            f"Give a .safetensors file or one of the packaged names: {', '.join(packaged) or 'none'}.",
        )
    return path
