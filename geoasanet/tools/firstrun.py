"""The first run on a machine takes some 10 or 20 s longer, in which numba compiles the kernels; users are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geoasanet.progress import Progress

COMPILING = "compiling (first run only)"
"""What progress calls the time in which numba compiles the kernels and keeps them on disk."""


def announce_compilation(kernel: Any, progress: Progress, warnings: list[str]) -> Callable[[], None]:
    """Say so if the kernels are yet to be compiled, and warn if that happens in every run.

    Args:
        kernel: One from :func:`geoasanet.kernels.kernel` that every such run needs.
        progress: Told of :data:`COMPILING`.
        warnings: Extended.

    Returns:
        What to call when it is over; more than once does no harm.
    """
    folder = cache_folder(kernel)
    if folder is None:
        warnings.append(
            "Kernels are compiled in every run, some 10 to 20 s: set NUMBA_CACHE_DIR to a folder to keep them in."
        )
    waiting = folder is not None and not is_compiled(kernel, folder)
    if waiting:
        progress(COMPILING, 0, 1)

    def over() -> None:
        nonlocal waiting
        if waiting:
            progress(COMPILING, 1, 1)
        waiting = False

    return over


def cache_folder(kernel: Any) -> Path | None:
    """Return where numba keeps the machine code of a kernel, or None if it finds no writable folder."""
    folder = kernel.stats.cache_path
    return None if folder is None else Path(folder)


def is_compiled(kernel: Any, folder: Path) -> bool:
    """Return True if ``folder`` holds the machine code of a kernel, under the name that numba gives it."""
    code = kernel.py_func.__code__
    name = f"{Path(code.co_filename).stem}.{kernel.py_func.__qualname__}-{code.co_firstlineno}"
    return any(folder.glob(f"{name}.py*.nbi"))
