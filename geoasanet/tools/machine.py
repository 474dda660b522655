"""Which machine a measurement was made on."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from geoasanet.device import device_name
from geoasanet.processor import system_fact


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware and software of a measurement."""

    processor: str
    """Name of the CPU."""
    cores: int
    """CPU cores that this process may use."""
    threads: int
    """Threads that torch computes with."""
    memory_bytes: int | None
    """Main memory; ``None`` where the system does not say."""
    device: str
    """What the networks ran on, in words."""
    torch: str
    python: str
    load: float | None
    """Processes that wanted a core in the last minute; ``None`` where the system does not say."""

    @property
    def busy(self) -> bool:
        """True if other programs took so much that the speeds are lower than the machine's."""
        return self.load is not None and self.load > 0.5 * self.cores

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return asdict(self)


def describe_machine(device: torch.device) -> Machine:
    """Return what this machine is."""
    affinity = getattr(os, "sched_getaffinity", None)
    load = None
    with contextlib.suppress(OSError, AttributeError):
        load = round(os.getloadavg()[0], 2)
    return Machine(
        processor=system_fact("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_bytes=_sysconf("SC_PHYS_PAGES"),
        device=device_name(device),
        torch=torch.__version__,
        python=platform.python_version(),
        load=load,
    )


def free_memory_bytes() -> int | None:
    """Return how much main memory a program could still take; ``None`` where the system does not say."""
    kilobytes = system_fact("/proc/meminfo", "MemAvailable").split()
    return int(kilobytes[0]) * 1024 if kilobytes else _sysconf("SC_AVPHYS_PAGES")


def peak_memory_bytes() -> int:
    """Return the largest resident memory of this process so far; 0 where the system does not say."""
    # Linux's getrusage starts a child with its parent's peak; the status file does not.
    kilobytes = system_fact("/proc/self/status", "VmHWM").split()
    if kilobytes:
        return int(kilobytes[0]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024
    return 0


def forget_peak_memory() -> None:
    """Let :func:`peak_memory_bytes` start anew from what this process holds now, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _sysconf(pages: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    return None
