"""Whether the kernels have been compiled before. The first run on a machine takes some 20 s longer; users are told."""

from __future__ import annotations

from pathlib import Path

from geoasanet.raster.polygons import runs


def cache_folder() -> Path | None:
    """Return where numba keeps the kernels' machine code, or None if it finds no writable folder."""
    folder = runs.count_runs.stats.cache_path
    return None if folder is None else Path(folder)


def is_compiled(folder: Path) -> bool:
    """Return True if ``folder`` holds the machine code of the kernel that every run needs first."""
    return any(folder.glob(f"runs.{runs.count_runs.__name__}-*.nbi"))
