"""Functions compiled to machine code with numba when they are first called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.extending import intrinsic


def kernel(function: Callable[..., Any], **more: Any) -> Any:
    """Compile ``function`` without the interpreter's lock; arithmetic on zero gives NaN or infinity, as in NumPy.

    The machine code is kept on disk for later runs. Where no folder for it is writable, as in a read-only container,
    it is compiled anew in every run.

    Args:
        function: What to compile; plain loops over NumPy arrays.
        more: More options of :func:`numba.njit`.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", **more}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba: "no locator available"
        return njit(**options)(function)


@intrinsic
def bits_of_float(context: Any, value: Any) -> Any:
    """Return, in a kernel, the bits of a float32 as an int32."""
    return types.int32(types.float32), _bitcast


@intrinsic
def float_of_bits(context: Any, value: Any) -> Any:
    """Return, in a kernel, the float32 that has the bits of an int32."""
    return types.float32(types.int32), _bitcast


def _bitcast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))
