"""Matrix products on a CPU by the library that multiplies fastest there.

torch brings Intel's library, NumPy OpenBLAS. On AMD's processors OpenBLAS is faster: by 5 to 15 %, measured for the
products of a ConvNeXt on Zen 4. Both sum in float32, in another order.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from geoasanet.processor import system_fact


class _Thread(threading.local):
    by_numpy = False


_thread = _Thread()


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b``; by NumPy in threads that called :func:`multiply_by_numpy`, for float32 without autocast.

    Args:
        a: Shape (…, M, K).
        b: Shape (…, K, N).
    """
    if torch.compiler.is_compiling() or not _thread.by_numpy:
        return a @ b
    if not (a.dtype == b.dtype == torch.float32) or torch.is_autocast_enabled("cpu"):
        return a @ b
    import numpy as np

    shape = *max(a.shape[:-2], b.shape[:-2], key=len), a.shape[-2], b.shape[-1]
    result = a.new_empty(shape)
    np.matmul(a.numpy(), b.numpy(), out=result.numpy())
    return result


def multiply_by_numpy(wanted: bool) -> None:
    """Choose, for the calling thread, whether NumPy multiplies; it should then have :func:`openblas_on_one_thread`."""
    _thread.by_numpy = wanted


@contextlib.contextmanager
def openblas_on_one_thread() -> Iterator[None]:
    """Let OpenBLAS take one thread a call, in the whole process: several at a time would wait for each other."""
    with _openblas().limit(limits=1):
        yield


@functools.cache
def numpy_is_faster() -> bool:
    """Return True on AMD's processors, where torch has Intel's library and NumPy OpenBLAS."""
    vendor = system_fact("/proc/cpuinfo", "vendor_id") or platform.processor()
    if "AuthenticAMD" not in vendor or not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False
    return any("numpy" in library["filepath"] for library in _openblas().info())


@functools.cache
def _openblas() -> Any:
    import numpy as np  # noqa: F401 - loads its library
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(internal_api="openblas")
