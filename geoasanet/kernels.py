"""Functions compiled to machine code with numba when they are first called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
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


@intrinsic
def copy_pair(context: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
    """Copy, in a kernel, ``source[start]`` and the value after it to ``target[at]`` and after it, in one move.

    Both arrays have one dimension, are contiguous and of the same dtype; indices are not checked and not negative.
    """
    return types.void(target, at, source, start), _copy_pair


def _copy_pair(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    target, _, source, _ = signature.args
    size = context.get_abi_sizeof(context.get_data_type(source.dtype))
    pair = ir.IntType(2 * 8 * size).as_pointer()

    def place(array: Any, data: Any, index: Any) -> Any:
        if index.type.width < 64:
            index = builder.zext(index, ir.IntType(64))
        return builder.bitcast(builder.gep(context.make_array(array)(context, builder, data).data, [index]), pair)

    moved = builder.load(place(source, arguments[2], arguments[3]))
    kept = builder.store(moved, place(target, arguments[0], arguments[1]))
    moved.align = kept.align = size
    return context.get_dummy_value()
