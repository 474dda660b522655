"""What is known of this machine's processor, and what is chosen for it before any large library is loaded."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

_ZEN_4 = "25"
"""Family of AMD's Zen 3 and Zen 4; of these the latter alone has AVX-512."""


def system_fact(path: str, key: str) -> str:
    """Return the first value of ``key`` in a file of lines ``key: value``; "" where the system has none."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            name, colon, value = line.partition(":")
            if colon and name.strip() == key:
                return value.strip()
    return ""


def choose_openblas_kernels() -> None:
    """Let OpenBLAS take its kernels for AVX2 on AMD's Zen 4, unless the user chose others or NumPy is loaded already.

    Such a processor does an instruction of AVX-512 in two halves, and OpenBLAS's kernels for it, made for Intel's, are
    slower there: a forward pass of ASANet takes 5 % longer with them.
    """
    if "numpy" in sys.modules or system_fact("/proc/cpuinfo", "vendor_id") != "AuthenticAMD":
        return
    family, flags = (system_fact("/proc/cpuinfo", key) for key in ("cpu family", "flags"))
    if family == _ZEN_4 and "avx512f" in flags.split():
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
