"""Outputs that appear under their final name only when whole."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows: scratch folders of killed runs stay
    fcntl = None  # type: ignore[assignment]

from geoasanet.errors import ConfigError, OutputError, OutputExistsError

_SUFFIX, _RANDOM = ".tmp", 8
"""Names of scratch folders are .<output>.<8 random letters>.tmp."""
_LOCK = ".lock"
_WHOLE = "whole\n"
"""What a lock file ends in once all files are whole and get their names."""
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]+:/|/vsi[a-z0-9_]+/", re.IGNORECASE)
"""URLs, whose second slash is lost in a :class:`Path`, and paths that only GDAL knows."""
_FOREIGN_SECONDS = 86_400
"""After so long without a change, another machine's scratch folder is taken for a killed run's."""


def read_limited(path: Path, largest: int) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        largest: Bytes that it may have.

    Raises:
        OSError: If it cannot be read, is no file (a folder, pipe or device), or is larger; ``strerror`` says why.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(state.st_mode) else "it is a pipe or device")
    with path.open("rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest >> 20} MiB")
    return data


def check_output(path: Path, *, overwrite: bool = False, inputs: tuple[Path | str, ...] = ()) -> None:
    """Raise unless ``path`` can become an output.

    Args:
        path: Where the output will go.
        overwrite: Allow replacing an existing file.
        inputs: Files that are read; the output must not be one of them.

    Raises:
        OutputExistsError: If ``path`` exists and ``overwrite`` is false.
        OutputError: If its folder is missing or not writable, or ``path`` is a folder, or no local path.
        ConfigError: If ``path`` is one of ``inputs``.
    """
    check_local(path)
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


def check_local(path: Path) -> None:
    """Raise for an output that is a URL or one of GDAL's virtual paths.

    Raises:
        OutputError: If it is.
    """
    if _ELSEWHERE.match(str(path)) and not path.parent.is_dir():
        name = re.sub(r"^([a-z][a-z0-9+.-]+):/(?!/)", r"\1://", str(path), flags=re.IGNORECASE)
        raise OutputError(
            f"Output {name} is not on a disk of this machine.",
            "Write to a local file, then upload it with your own tool (aws s3 cp, gsutil cp, rclone copy, …).",
        )


@contextlib.contextmanager
def scratch_folder(near: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``near`` (same file system, so that renaming is atomic); removed at the end.

    What killed runs left for the same ``near`` goes first; see :func:`clean_up`.
    """
    clean_up(near)
    folder, lock = _locked_folder(near)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Give a temporary path of the same file name; on success it replaces ``path``, on failure it is removed.

    The temporary path lies in a hidden scratch folder beside ``path``. Sidecar files written next to it (such as
    ``<name>.aux.xml``) are moved along, before the file itself. All are on the disk before any gets its name, so that
    a power cut leaves whole files only, and a disk that turns out to be full is told.

    Raises:
        OSError: If the disk is full or fails.
    """
    with scratch_folder(path) as folder:
        temporary = folder / path.name
        yield temporary
        if not temporary.exists():
            return
        _usual_mode(temporary)
        files = [file for file in folder.iterdir() if file.is_file() and file.name != _LOCK]
        for file in files:
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        if len(files) > 1:
            with (folder / _LOCK).open("a") as lock:
                lock.write(_WHOLE)
        _publish(folder, path)


def clean_up(near: Path) -> None:
    """Remove the scratch folders that killed runs left beside ``near``.

    What a run that was killed while it gave its files their names had still to do is done. A folder goes only if it is
    the user's own and nobody holds its lock, which the system drops with the process. Locks may not reach other
    machines on a shared disk: a folder of another machine stays for a day.
    """
    middle = slice(len(near.name) + 2, -len(_SUFFIX))
    with contextlib.suppress(OSError):
        for folder in near.parent.iterdir():
            name = folder.name
            if name.startswith(f".{near.name}.") and name.endswith(_SUFFIX) and len(name[middle]) == _RANDOM:
                with contextlib.suppress(OSError), _lock(folder) as lock:
                    _remove_left(folder, near, lock.read())


def _remove_left(folder: Path, near: Path, note: str) -> None:
    """Remove a folder whose lock is ours, or finish what it was about; ``note`` is what its lock says."""
    status = folder.lstat()
    ours = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    here = not note or bool(set(note.splitlines()[:2]) & set(_machine().splitlines()))
    if not ours or not (here or time.time() - status.st_mtime > _FOREIGN_SECONDS):
        return
    if note.endswith(_WHOLE) and (folder / near.name).exists():
        _publish(folder, near)
    shutil.rmtree(folder)


def _publish(folder: Path, path: Path) -> None:
    """Give finished files their names, ``path`` last."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name not in (_LOCK, path.name):
            file.replace(path.with_name(file.name))
    (folder / path.name).replace(path)


def _locked_folder(near: Path) -> tuple[Path, TextIO | None]:
    """Return a new scratch folder and its lock, which holds until it is closed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{near.name}.", suffix=_SUFFIX, dir=near.parent))
        try:
            lock = _lock(folder)
        except (FileNotFoundError, BlockingIOError):  # another run took it for a killed one's in this very moment
            continue
        except OSError:  # a file system without locks: nobody will ever clean up here
            return folder, None
        lock.write(_machine())
        lock.flush()
        return folder, lock


def _lock(folder: Path) -> TextIO:
    """Return the lock file of a scratch folder, open and held.

    Raises:
        BlockingIOError: If another run holds it.
        FileNotFoundError: If the folder is gone.
        OSError: If the file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "no locks on this system")
    file = os.fdopen(os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(file.fileno()).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "removed by another run", str(folder))
    except BaseException:
        file.close()
        raise
    return file


def _machine() -> str:
    """Return two lines that tell machines apart: the host's name, and the kernel's id, which containers share."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        kernel = ""
    host = os.uname().nodename
    return f"{host}\n{kernel.strip() or host}\n"


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
