"""The folder that tiles go to: checked before, swapped in when whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from geoasanet.errors import ConfigError, OutputError, OutputExistsError
from geoasanet.files import check_output, scratch_folder
from geoasanet.raster.manifest import is_ours


def check_folder(out: Path, *, overwrite: bool, inputs: Iterable[str] = ()) -> None:
    """Raise unless ``out`` can become a dataset folder.

    An empty folder may, and with ``overwrite`` one that holds a dataset of this program; nothing else is ever replaced.

    Raises:
        OutputExistsError: If it exists and ``overwrite`` is false.
        OutputError: If it is a file or another folder, or its parent is missing or not writable.
        ConfigError: If an input lies in it.
    """
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


def publish(folder: Path, out: Path) -> None:
    """Give a finished folder its final name; what was there before goes only then, and comes back if that fails.

    Raises:
        OutputError: If it cannot be renamed.
    """
    try:
        if not out.exists():
            folder.rename(out)
            return
        with scratch_folder(out) as scratch:
            old = out.rename(scratch / "old")
            try:
                folder.rename(out)
            except OSError:
                with contextlib.suppress(OSError):
                    old.rename(out)
                raise
    except OSError as error:
        raise OutputError(
            f"Output {out} cannot be written: {error.strerror or error}.", "Choose another name."
        ) from error


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
