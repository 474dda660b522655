"""Outputs that appear under their final name only when whole."""

from __future__ import annotations

import contextlib
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from geoasanet.errors import ConfigError, OutputError, OutputExistsError


def check_output(path: Path, *, overwrite: bool = False, inputs: tuple[Path | str, ...] = ()) -> None:
    """Raise unless ``path`` can become an output.

    Args:
        path: Where the output will go.
        overwrite: Allow replacing an existing file.
        inputs: Files that are read; the output must not be one of them.

    Raises:
        OutputExistsError: If ``path`` exists and ``overwrite`` is false.
        OutputError: If its folder is missing or not writable, or ``path`` is a folder.
        ConfigError: If ``path`` is one of ``inputs``.
    """
    for source in inputs:
        if _same_file(path, Path(source)):
            raise ConfigError(f"Output {path} is also an input.", "Choose another output; inputs are never modified.")
    if path.is_dir():
        raise OutputError(f"Output {path} is a folder.", "Give a file name.")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"Output {path} exists.", "Choose another name or add --overwrite.")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"Output folder {folder} does not exist.", f"Create it first: mkdir -p {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Output folder {folder} is not writable ({reason}).", "Choose another folder.") from None


@contextlib.contextmanager
def scratch_folder(near: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``near`` (same file system, so that renaming is atomic); removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f".{near.name}.", suffix=".tmp", dir=near.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Give a temporary path of the same file name; on success it replaces ``path``, on failure it is removed.

    The temporary path lies in a hidden scratch folder beside ``path``. Sidecar files written next to it (such as
    ``<name>.aux.xml``) are moved along, before the file itself.
    """
    with scratch_folder(path) as folder:
        temporary = folder / path.name
        yield temporary
        if not temporary.exists():
            return
        _usual_mode(temporary)
        for sidecar in sorted(folder.iterdir()):
            if sidecar != temporary and sidecar.is_file():
                sidecar.replace(path.with_name(sidecar.name))
        temporary.replace(path)


def _usual_mode(path: Path) -> None:
    """Give a file the permissions of any new file here; some libraries write files that only their owner may read."""
    probe = path.with_name(f"{path.name}.mode")
    probe.touch()
    path.chmod(stat.S_IMODE(probe.stat().st_mode))
    probe.unlink()


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.exists() and second.exists() and first.samefile(second)
    except OSError:
        return False
