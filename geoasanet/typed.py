"""Values from YAML as the types that annotations ask for. Standard library only."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal


def convert_value(value: Any, hint: Any) -> Any:
    """Return ``value`` as the annotated type.

    Raises:
        TypeError: If it is of another kind.
        ValueError: If it is no such number.
        OverflowError: If it is too large a number.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            try:
                return convert_value(value, option)
            except (TypeError, ValueError, OverflowError):
                continue
        raise TypeError(value)
    if origin is Literal:
        if value is None and "none" in arguments:
            return "none"
        if isinstance(value, str) and value in arguments:
            return value
        raise TypeError(value)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError(value)
        inner = arguments[0]
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise TypeError(value)
        return tuple(convert_value(v, inner) for v in value)
    if hint is type(None):
        if value is None:
            return None
        raise TypeError(value)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float | str) or not math.isfinite(float(value)):
            raise TypeError(value)
        return float(value)  # also "1e-4", which YAML takes for text
    kind = origin or hint
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(value)
    return value


def describe_type(hint: Any) -> str:
    """Return a type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe_type(option) for option in arguments)
    if origin is Literal:
        return " or ".join(str(option) for option in arguments)
    if origin is tuple:
        return "a list of numbers" if arguments[-1] is Ellipsis else f"{len(arguments)} numbers"
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(hint, {dict: "keys and values", list: "a list"}.get(origin or hint, str(hint)))
