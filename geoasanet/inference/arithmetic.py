"""In which arithmetic a scene is mapped, and whether the network is compiled first."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Literal

import torch

from geoasanet.device import Precision, choose_precision, has_bf16

WORK_PER_CORE = 3 * 10**10
"""From so much work for each core on, compiling pays on a CPU: it takes half a minute to a minute at the start. Of
ASANet this is 364 windows; on a Zen 4 core each then takes 0.2 s less."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a network computes."""

    precision: Literal["fp32", "bf16", "fp16"]
    compile: bool
    """Whether :func:`torch.compile` is used."""
    note: str = ""
    """Said to the user where the choice is not the usual one."""


def choose_arithmetic(name: Precision, compile: bool, device: torch.device, work: int) -> Arithmetic:
    """Return how to map a scene; the same for the same machine, device and amount of work.

    "auto" on a CPU means fp32, but for large scenes where the processor multiplies bf16 numbers itself and a C++
    compiler is at hand: compiled bf16 is then about twice as fast as fp32 is here. Without such instructions bf16 is
    slower than fp32, and without compilation it gains little.

    Args:
        name: A name from :data:`geoasanet.device.PRECISIONS`.
        compile: Whether the user asks for compilation.
        device: Where to run.
        work: Windows of 256 × 256 px, symmetries counted, times the network's parameters, a rough measure of what they
            take; 0 for a network that must not be compiled unasked.

    Raises:
        ConfigError: If ``name`` is unknown or the device cannot do it.
    """
    large = work >= WORK_PER_CORE * (os.cpu_count() or 1)
    if name == "auto" and device.type == "cpu" and large and has_bf16(device) and _has_compiler():
        note = (
            "A large scene on a processor with bf16 instructions: the network is compiled, half a minute to a minute, "
            "and runs in bf16. --precision fp32 keeps to single precision."
        )
        return Arithmetic("bf16", True, note)
    return Arithmetic(choose_precision(name, device), compile)


def _has_compiler() -> bool:
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++", "c++"]))
