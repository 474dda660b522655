"""What a command would do, found out without doing it: ``--dry-run`` of predict, tile and vectorize.

A tool with ``dry_run=True`` opens and checks everything that the real run does, times a few pieces of the work without
writing, and returns a :class:`DryRun` instead of its result::

    spaces = space_needed([(out, map_bytes), (partial_folder(out), spool_bytes)])   # summed for each file system
    return DryRun(
        command="predict",
        inputs=(InputFile.raster(rgb, "RGB"), InputFile.other(aoi, "area")),
        outputs=(OutputFile.of(out, map_bytes),),
        work=(Work("windows", total=3249, done=1200), Work("pixels", total=120_560_400)),
        memory_bytes=peak_memory_bytes(),              # after the timed pieces: what they needed
        temporary_bytes=spool_bytes,
        spaces=spaces,
        seconds=time_left(timed_seconds, timed=8, remaining=2049),
        basis="8 windows timed",
        warnings=(*notes, *shortages(spaces)),
    )

The real run calls ``require_space(spaces)`` before the long work. The command adds ``options.dry_run`` and prints
``console.warn(dry.warnings)`` and ``console.report(dry.to_dict(), dry.lines())``.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geoasanet.errors import OutputError
from geoasanet.raster.opening import open_dataset
from geoasanet.raster.quiet import quiet_georeference

PathLike = str | os.PathLike[str]

_LEFT_FREE = 16 << 20
"""Bytes that stay free on a disk; a file system cannot be filled to its last byte."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that would be read."""

    role: str
    """What it is to the user: "RGB", "SAR", "labels", …"""
    path: str
    bytes: int | None
    """Its size on disk; None for what is no local file, or a folder."""
    width: int | None = None
    """Pixels; this and what follows is None for what is no raster."""
    height: int | None = None
    bands: int | None = None
    dtype: str | None = None
    crs: str | None = None
    """Its authority's code, or its name."""
    resolution: tuple[float, float] | None = None
    """Width and height of a pixel in units of the CRS."""

    @classmethod
    def raster(cls, path: PathLike, role: str) -> InputFile:
        """Look into a raster's header.

        Raises:
            SceneError: If it cannot be opened.
        """
        with open_dataset(str(path), role) as dataset, quiet_georeference():
            t = dataset.transform
            types = sorted(set(dataset.dtypes))
            return cls(
                role=role,
                path=str(path),
                bytes=_file_bytes(path),
                width=dataset.width,
                height=dataset.height,
                bands=dataset.count,
                dtype="/".join(types),
                crs=_crs_name(dataset.crs),
                resolution=(math.hypot(t.a, t.d), math.hypot(t.b, t.e)),
            )

    @classmethod
    def other(cls, path: PathLike, role: str) -> InputFile:
        """Describe a file that is no raster: polygons, a checkpoint, a list."""
        return cls(role, str(path), _file_bytes(path))

    def line(self) -> str:
        """Return all of it in one line."""
        facts = []
        if self.width is not None:
            facts.append(f"{self.width} × {self.height} px")
            facts.append(f"{self.bands} band{'s' * (self.bands != 1)} of {self.dtype}")
            facts.append(self.crs or "no CRS")
        if self.resolution is not None:
            x, y = (f"{v:.6g}" for v in self.resolution)
            facts.append(f"pixels of {x}" if x == y else f"pixels of {x} × {y}")
        if self.bytes is not None:
            facts.append(human_bytes(self.bytes))
        return f"{self.role}: {self.path}" + (f" ({', '.join(facts)})" if facts else "")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file or folder that would be written."""

    path: str
    bytes: int | None
    """Estimated; None if unknown."""
    exists: bool
    """True if it would be replaced."""

    @classmethod
    def of(cls, path: PathLike, size: int | None) -> OutputFile:
        """Describe an output of about ``size`` bytes."""
        return cls(str(path), size, Path(path).exists())

    def line(self) -> str:
        """Return all of it in one line."""
        size = "" if self.bytes is None else f" (about {human_bytes(self.bytes)})"
        return f"{self.path}{size}{', replaces what is there' if self.exists else ''}"


@dataclass(frozen=True, slots=True)
class Work:
    """An amount of work in one unit."""

    unit: str
    """"windows", "tiles", "pixels", …"""
    total: int
    done: int = 0
    """Of these, how many an unfinished run has done, which this one would skip."""

    @property
    def remaining(self) -> int:
        """What is left to do."""
        return self.total - self.done

    def line(self) -> str:
        """Return all of it in one line."""
        if not self.done:
            return f"{self.total} {self.unit}"
        return f"{self.remaining} of {self.total} {self.unit} ({self.done} were done by an unfinished run)"


@dataclass(frozen=True, slots=True)
class Space:
    """Room on one file system."""

    folder: str
    """The folder, present now, that outputs or temporary files would lie in."""
    needed_bytes: int
    """All that would be written there, still to come."""
    free_bytes: int
    """What this user can still write there."""

    @property
    def enough(self) -> bool:
        """True if it fits."""
        return not self.needed_bytes or self.needed_bytes + _LEFT_FREE <= self.free_bytes

    def shortage(self) -> str:
        """Return in words what is missing, "" if it fits."""
        if self.enough:
            return ""
        return (
            f"Not enough room in {self.folder}: about {human_bytes(self.needed_bytes)} are needed, "
            f"{human_bytes(self.free_bytes)} are free."
        )


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a command would do. Nothing was written."""

    command: str
    inputs: tuple[InputFile, ...]
    outputs: tuple[OutputFile, ...]
    work: tuple[Work, ...]
    memory_bytes: int | None
    """Estimated peak of resident memory, all processes together; None if unknown."""
    temporary_bytes: int
    """Estimated size of what is written meanwhile and removed at the end."""
    spaces: tuple[Space, ...]
    """Room needed and free on each file system; from :func:`space_needed`."""
    seconds: float | None
    """Estimated; None if unknown."""
    basis: str
    """What the estimates rest on: "8 windows timed"."""
    notes: tuple[str, ...] = field(default=())
    """What was found or chosen."""
    warnings: tuple[str, ...] = field(default=())
    """What the user should know, shortage of disk space included."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        data = asdict(self)
        data["seconds"] = None if self.seconds is None else round(self.seconds, 3)
        data["work"] = [{**asdict(work), "remaining": work.remaining} for work in self.work]
        data["spaces"] = [{**asdict(space), "enough": space.enough} for space in self.spaces]
        return {"dry_run": True, **{k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}}

    def lines(self) -> list[str]:
        """Return the description for a terminal, without the warnings."""
        found = [f"Dry run of {self.command}: nothing was written."]
        found += ["Reads", *(f"  {file.line()}" for file in self.inputs)]
        found += ["Writes", *(f"  {file.line()}" for file in self.outputs)]
        found += [f"Work    {', '.join(work.line() for work in self.work)}"]
        if self.memory_bytes is not None:
            found.append(f"Memory  about {human_bytes(self.memory_bytes)}")
        if self.temporary_bytes:
            found.append(f"Disk    about {human_bytes(self.temporary_bytes)} of files that are removed at the end")
        for space in self.spaces:
            needed, free = human_bytes(space.needed_bytes), human_bytes(space.free_bytes)
            found.append(f"Disk    about {needed} more in {space.folder}, where {free} are free")
        basis = f" ({self.basis})" if self.basis else ""
        time = "unknown" if self.seconds is None else f"about {human_seconds(self.seconds)}"
        return [*found, f"Time    {time}{basis}", *self.notes]


def space_needed(needs: Iterable[tuple[PathLike, int]]) -> tuple[Space, ...]:
    """Return how much room there is for files and folders of given sizes, those on one file system together.

    Args:
        needs: Paths, which need not exist yet, and bytes still to be written there.
    """
    found: dict[int, Space] = {}
    for path, size in needs:
        folder = Path(path).absolute()
        while not folder.is_dir():
            folder = folder.parent
        device = folder.stat().st_dev
        before = found.get(device)
        if before is None:
            found[device] = Space(str(folder), size, shutil.disk_usage(folder).free)
        else:
            found[device] = Space(before.folder, before.needed_bytes + size, before.free_bytes)
    return tuple(found.values())


def shortages(spaces: Iterable[Space]) -> list[str]:
    """Return a warning for each file system that lacks room."""
    return [text for space in spaces if (text := space.shortage())]


def require_space(spaces: Iterable[Space]) -> None:
    """Raise before the long work if its files will not fit.

    Raises:
        OutputError: Names what is needed and what is free.
    """
    for text in shortages(spaces):
        raise OutputError(text, "Free space on that disk, or choose another for the output.")


def time_left(seconds: float, *, timed: int, remaining: int) -> float | None:
    """Return the seconds that ``remaining`` pieces take, after ``timed`` ones took ``seconds``; None after none."""
    return seconds / timed * remaining if timed else None


def peak_memory_bytes() -> int | None:
    """Return the largest resident memory of this process so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def human_bytes(size: float) -> str:
    """Return a size in words: "1.3 GB" (powers of 1000)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB" if size < 999.5 else f"{size:.0f} TB"


def human_seconds(seconds: float) -> str:
    """Return a duration in words: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _file_bytes(path: PathLike) -> int | None:
    local = Path(path)
    try:
        return local.stat().st_size if local.is_file() else None
    except OSError:
        return None


def _crs_name(crs: Any) -> str | None:
    if not crs:
        return None
    name = str(crs.to_string())
    return name if len(name) < 40 else str(crs.to_dict().get("proj") or "custom CRS")
