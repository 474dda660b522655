"""The folder of a training run, and ``runs/latest``, which leads to the newest."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import geoasanet
from geoasanet.config import TrainConfig
from geoasanet.errors import ConfigError, OutputError, OutputExistsError
from geoasanet.files import atomic_output, check_local
from geoasanet.training.log import CURVES, EVENTS, METRICS
from geoasanet.training.loop import BEST, LAST
from geoasanet.training.processes import started_by_torchrun
from geoasanet.training.state import NAME, PREVIOUS, has_state

RUNS = Path("runs")
CONFIG = "config.yaml"
_FILES = (BEST, LAST, NAME, PREVIOUS, METRICS, CURVES, EVENTS, CONFIG)
"""What a run writes into its folder; nothing else in it is ever removed."""
_MARK = "# geoasanet "
"""How the configuration in the folder of a run begins."""
_MAY_CHANGE = ("data", "iterations", "workers", "cache", "log_every", "validate_every", "save_every", "compile")
"""Keys that a resumed run may have otherwise than it began with."""


@contextlib.contextmanager
def new_folder(name: str, out: Path | None, overwrite: bool) -> Iterator[Path]:
    """Give the folder of a new run, made so that no other run takes it; removed again if nothing comes into it.

    Args:
        name: What the run is called where ``out`` is not given.
        out: The folder that was asked for.
        overwrite: Allow replacing a run in it.

    Raises:
        OutputExistsError: If ``out`` holds a run and ``overwrite`` is false, or something else.
        OutputError: If it cannot be made or written into.
        ConfigError: If torchrun's processes were not told the folder.
    """
    if out is None:
        if started_by_torchrun():
            raise ConfigError("Under torchrun every process must know the folder of the run.", "Give --out runs/NAME.")
        wanted = RUNS / f"{name}_{datetime.now():%Y%m%d-%H%M%S}"
    else:
        _check_free(out, overwrite)
        wanted = out
    missing = [parent for parent in wanted.parents if not parent.exists()]
    folder, made = _make(wanted, taken_ok=out is not None)
    try:
        check_writable(folder)
        yield folder
    except OutputError:  # it may be another run's by now
        raise
    except BaseException:
        if made and not has_state(folder):  # nothing to go on with
            _clear(folder, whole=True)
            _unpoint_latest()
        raise
    finally:
        with contextlib.suppress(OSError):  # those that are not empty stay
            for empty in [folder, *missing] if made else []:
                empty.rmdir()


def _check_free(out: Path, overwrite: bool) -> None:
    check_local(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputExistsError(f"{out} exists and is no folder of a run.", "Choose another name for --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not _is_run(out):
        raise OutputExistsError(f"Folder {out} holds something else than a run.", "Choose another name for --out.")
    if not overwrite:
        raise _taken(out)


def _taken(out: Path) -> OutputExistsError:
    return OutputExistsError(
        f"Folder {out} holds a run.", f"Go on with it (--resume {out}), choose another --out, or add --overwrite."
    )


def _is_run(folder: Path) -> bool:
    """Tell whether a folder holds a run of ours and not the configuration of something else."""
    try:
        return (folder / CONFIG).read_bytes().startswith(_MARK.encode())
    except OSError:
        return False


def _make(wanted: Path, *, taken_ok: bool) -> tuple[Path, bool]:
    """Return a folder and whether it is new; unless ``taken_ok``, one of that name or with a number behind it."""
    try:
        if taken_ok:
            new = not wanted.exists()
            wanted.mkdir(parents=True, exist_ok=True)
            return wanted, new
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            candidate = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            with contextlib.suppress(FileExistsError):
                candidate.mkdir()
                return candidate, True
    except OSError as error:
        raise OutputError(
            f"Run folder {wanted} cannot be made ({error.strerror or error}).", "Choose another place with --out."
        ) from None
    raise AssertionError


def check_writable(out: Path) -> None:
    """Raise unless files can be made in the folder of a run.

    Raises:
        OutputError: If they cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OutputError(f"Run folder {out} is not writable ({error.strerror or error}).") from None


def check_recipe(before: Mapping[str, Any], config: TrainConfig, folder: Path) -> None:
    """Raise unless a run can go on with a configuration.

    Args:
        before: Keys and values that it began with.
        config: What it is to go on with.
        folder: Its folder.

    Raises:
        ConfigError: If a key that decides the weights differs.
    """
    for key, value in config.to_dict().items():
        if key not in _MAY_CHANGE and key in before and before[key] != value:
            raise ConfigError(
                f"The run in {folder} began with {key} = {before[key]!r}, it cannot go on with {value!r}.",
                f"What may change are {', '.join(_MAY_CHANGE)}. Begin a new run for others; if {folder / CONFIG} was "
                "changed or damaged, restore it.",
            )


def prepare_folder(out: Path, config: TrainConfig, *, resume: bool, replace: bool) -> None:
    """Give the folder of a run its configuration, and let ``runs/latest`` lead to it.

    Args:
        out: The folder; it exists.
        config: What is trained.
        resume: Keep what the run has written so far.
        replace: Otherwise, remove what a run in it has written; other files stay.

    Raises:
        OutputExistsError: If there is a run and neither is wanted: it came while this one was checked.
        OutputError: If the folder cannot be written.
    """
    import yaml

    if not (resume or replace) and (out / CONFIG).exists():
        raise _taken(out)
    try:
        _clear(out, whole=not resume)
        text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None)
        with atomic_output(out / CONFIG) as temporary:
            temporary.write_text(f"{_MARK}{geoasanet.__version__}\n{text}", encoding="utf-8")
        _point_latest(out)
    except OSError as error:
        raise OutputError(f"Run folder {out} cannot be written ({error.strerror or error}).") from None


def _clear(out: Path, *, whole: bool) -> None:
    """Remove what a run has written, or only what a kill while writing has left."""
    for name in _FILES:
        for left in out.glob(f".{name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        path = out / name
        if whole and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif whole:
            path.unlink(missing_ok=True)


def _point_latest(out: Path) -> None:
    """Let ``runs/latest`` of the folder that holds the run lead to it."""
    link, run = RUNS / "latest", out.resolve()  # what is resumed may be the link itself
    if RUNS.resolve() != run.parent or (link.exists() and not link.is_symlink()):
        return
    temporary = RUNS / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(run.name, target_is_directory=True)
    temporary.replace(link)


def _unpoint_latest() -> None:
    """Take ``runs/latest`` away if it leads to a run of which nothing is left."""
    link = RUNS / "latest"
    if link.is_symlink() and not (link / CONFIG).exists():
        with contextlib.suppress(OSError):
            link.unlink()
