"""The folder that tiles go to: checked before, swapped in when whole."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoasanet.errors import ConfigError, LabelError, ManifestError, OutputError, OutputExistsError
from geoasanet.files import check_local, check_output
from geoasanet.interrupt import interruptible
from geoasanet.raster.manifest import is_ours
from geoasanet.tools.journal import held, open_journal, partial_folder
from geoasanet.tools.tilejournal import TileJournal


def check_folder(out: Path, *, overwrite: bool, inputs: Iterable[str] = ()) -> None:
    """Raise unless ``out`` can become a dataset folder.

    An empty folder may, and with ``overwrite`` one that holds a dataset of this program; nothing else is ever replaced.

    Raises:
        OutputExistsError: If it exists and ``overwrite`` is false.
        OutputError: If it is a file or another folder, or its parent is missing or not writable.
        ConfigError: If an input lies in it.
    """
    check_local(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"Output {out} is a file.", "Give the name of a folder.")
    if out.is_dir():
        for source in inputs:
            if Path(source).exists() and out.resolve() in Path(source).resolve().parents:
                raise ConfigError(f"Input {source} lies in the output folder {out}.", "Choose another output.")
        if any(out.iterdir()):
            if not is_ours(out):
                raise OutputError(
                    f"Output {out} is a folder that geoasanet tile did not write; it is never replaced.",
                    "Choose another name.",
                )
            if not overwrite:
                raise OutputExistsError(f"Output {out} exists.", "Choose another name or add --overwrite.")
    probe = out.resolve()
    check_output(probe.with_name(f".{probe.name}.partial.probe"))


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A dataset that is not yet whole, in a hidden folder beside its place."""

    folder: Path
    """Holds the journal, and what :attr:`data` will replace."""
    target: Path
    """Where the dataset will be."""

    @property
    def data(self) -> Path:
        """The dataset."""
        return self.folder / "data"

    @property
    def replaced(self) -> Path:
        """What was at :attr:`target`, while the two change places."""
        return self.folder / "replaced"

    @classmethod
    def of(cls, target: Path) -> Unfinished:
        """Return where an unfinished dataset for ``target`` is."""
        return cls(partial_folder(target.resolve()), target)

    def restore(self) -> None:
        """Put right what a run that was killed while the two changed places left behind."""
        with held(self.folder):
            if self.replaced.exists() and not self.target.exists():
                self.replaced.rename(self.target)
            elif self.replaced.exists():
                shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def working(self, description: Mapping[str, Any], folders: Iterable[str], *, resume: bool) -> Iterator[TileJournal]:
        """Give the journal of finished pieces; after an error it stays, if the same command can go on from it.

        Raises:
            ConfigError: If there is unfinished work of another description.
            OutputError: If it cannot be written.
        """
        with held(self.folder):
            open_journal(self.folder, description, resume=resume)
        journal = None
        try:
            with held(self.folder):
                journal = TileJournal(self.folder, self.data, folders)
                yield journal
        except BaseException as error:
            worth = journal is not None and journal.count > 0 and not isinstance(error, LabelError | ManifestError)
            if not worth:
                shutil.rmtree(self.folder, ignore_errors=True)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt("the same command goes on where it stopped" if worth else "") from None
            raise

    def publish(self) -> None:
        """Give the finished dataset its name; what was there before goes only then, and comes back if that fails.

        Raises:
            OutputError: If it cannot be renamed.
        """
        try:
            _settle(self.data)
            if self.target.exists():
                self.target.rename(self.replaced)
            try:
                self.data.rename(self.target)
            except OSError:
                with contextlib.suppress(OSError):
                    self.replaced.rename(self.target)
                raise
            _settle(self.folder)
        except OSError as error:
            raise OutputError(
                f"Output {self.target} cannot be written: {error.strerror or error}.", "Choose another name."
            ) from error
        shutil.rmtree(self.folder, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Wait until all that was written on a folder's file system is on the disk, where the system can tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        return
    handle = os.open(folder, os.O_RDONLY)

    def wait() -> int:
        return ctypes.get_errno() if libc.syncfs(handle) else 0

    try:
        number = interruptible(wait)  # a slow disk takes its time
    finally:
        os.close(handle)
    if number:
        raise OSError(number, os.strerror(number))


def check_split(split: Sequence[float]) -> tuple[float, float, float]:
    """Return the shares of train, val and test, which sum to 1; two numbers leave test empty.

    Raises:
        ConfigError: If they are no such shares.
    """
    values = [float(v) for v in split]
    shown = ",".join(f"{v:g}" for v in values)
    if len(values) == 2:
        values.append(0.0)
    if len(values) != 3 or any(not 0 <= v <= 1 for v in values) or not values[0] or abs(sum(values) - 1) > 1e-6:
        raise ConfigError(
            f"--split {shown} is not three shares of train, val and test that sum to 1, the first above 0.",
            "For instance --split 0.7,0.15,0.15",
        )
    return values[0], values[1], values[2]
