"""Which device a network runs on, and in which arithmetic."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator
from typing import Literal, get_args

import torch

from geoasanet.errors import ConfigError, DeviceError
from geoasanet.processor import system_fact

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Arithmetic of the network; "auto" is bf16 (else fp16) on CUDA and fp32 on CPU, but see
:func:`geoasanet.inference.arithmetic.choose_arithmetic`."""

PRECISIONS: tuple[str, ...] = get_args(Precision)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What :func:`choose_precision` returns, as torch types."""


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1" and so on.

    Raises:
        DeviceError: If it is unknown or absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"Device {name!r} is unknown.", "Use auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError("No CUDA device was found.", "Use --device cpu, or install a CUDA build of torch.")
        if device.index is not None and device.index >= count:
            raise DeviceError(f"Device {name} does not exist: {count} CUDA device(s) found, numbered from 0.")
    elif device.type not in ("cpu", "mps"):
        raise DeviceError(f"Device {name!r} is not supported.", "Use auto, cpu, cuda or cuda:N.")
    return device


def choose_precision(name: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Return the arithmetic that ``name`` means on ``device``.

    Raises:
        ConfigError: If it is unknown or the device cannot do it.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"Precision {name!r} is unknown; one of {', '.join(PRECISIONS)} is needed.")
    if name == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("Precision fp16 is not available on CPU.", "Use --precision fp32 or bf16.")
    return name


def has_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bf16; a CPU without the instructions emulates it, slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = system_fact("/proc/cpuinfo", "flags") or system_fact("/proc/cpuinfo", "Features")
    return not _BF16_FLAGS.isdisjoint(flags.split())


@contextlib.contextmanager
def computing_in(precision: Literal["fp32", "bf16", "fp16"], device: torch.device) -> Iterator[None]:
    """Run a network's forward passes in an arithmetic: what is called inside computes in it.

    On CUDA, fp32 means single precision also inside convolutions (torch's own default is TF32), and of several
    algorithms one is taken that gives the same result every time.
    """
    with contextlib.ExitStack() as stack:
        if precision != "fp32":
            stack.enter_context(torch.autocast(device.type, DTYPES[precision]))
        if device.type == "cuda":
            exact = precision == "fp32"
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=not exact))
        yield


def device_name(device: torch.device) -> str:
    """Return a device in words, such as "NVIDIA H200" or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def keep_freed_memory(most: int | None = None) -> None:
    """Let this process keep what its C library would give back to the system after every large allocation.

    Training on a CPU takes and frees the same large blocks in every step; with glibc's defaults a third of its time
    goes into pages that the system takes back and clears. Of a map it is up to 8 %. Threads that start later share one
    heap: glibc would give each its own and return every 64 MB of it that fall free. Does nothing where the C library is
    another.

    Args:
        most: Bytes to keep, in blocks of less than 32 MiB; None for all.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if most is None:
            mallopt(_M_MMAP_MAX, 0)
        else:
            mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, -1 if most is None else most)
        mallopt(_M_ARENA_MAX, 1)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""How Linux names the instructions, on x86 and on ARM."""
