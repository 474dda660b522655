"""YAML from anywhere: nothing in it is run, and it cannot grow beyond what was written.

``yaml.safe_load`` runs nothing, but a text of 500 bytes may describe 10⁹ values that refer to one another, nest lists
until Python's stack is full, or hold dates that are none. Here all of that is a :class:`YamlError`. Standard library
only; YAML is imported when a text is read.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

LARGEST_BYTES = 4 * 2**20
"""Most bytes of a file."""
MOST_VALUES = 100_000
"""Most values, each counted wherever an alias repeats it."""
DEEPEST = 32
"""Most lists and mappings within one another."""
LONGEST_NUMBER = 40
"""Most characters of a whole number; longer ones cannot be printed."""


class YamlError(ValueError):
    """A text is no YAML, or more than is read; the message says why in a few words."""


def read_yaml(path: Path) -> Any:
    """Return the value in a YAML file.

    Raises:
        YamlError: If it cannot be read, is too large, or :func:`parse_yaml` refuses it.
    """
    try:
        if not path.is_file():
            raise YamlError("it is no file" if path.exists() else "it does not exist")
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise YamlError(str(error.strerror or error)) from None
    if len(data) > LARGEST_BYTES:
        raise YamlError(f"it is larger than {LARGEST_BYTES // 2**20} MiB")
    try:
        return parse_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise YamlError(f"it is no UTF-8 text: {error.reason} at byte {error.start}") from None


def parse_yaml(text: str) -> Any:
    """Return the value that a YAML text describes.

    Raises:
        YamlError: If it is no YAML, holds more than one document or a tag of Python's, refers to itself, or describes
            more than :data:`MOST_VALUES` values, :data:`DEEPEST` levels or a number of more than
            :data:`LONGEST_NUMBER` digits.
    """
    import yaml

    try:
        loader = _loader_class()(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Census().measure(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
    except YamlError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise YamlError(f"a value is not what its form promises: {' '.join(str(error).split())}") from None


@functools.cache
def _loader_class() -> Any:
    """Return a safe loader that stops at the limits while it reads."""
    import yaml

    class Loader(yaml.SafeLoader):
        values = 0
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.values += 1
            if self.values > MOST_VALUES:
                raise _too_many()
            if self.depth > DEEPEST:
                raise _too_deep()
            self.depth += 1
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

    return Loader


class _Census:
    """Counts values and levels with aliases followed, each node once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int] | None] = {}

    def measure(self, node: Any) -> tuple[int, int]:
        """Return how many values a node describes, and in how many levels."""
        key = id(node)
        if key in self._known:
            found = self._known[key]
            if found is None:
                raise YamlError("a value contains itself")
            return found
        self._known[key] = None
        count, levels = 1, 0
        for child in _children(node):
            values, depth = self.measure(child)
            count, levels = count + values, max(levels, depth + 1)
        if count > MOST_VALUES:
            raise _too_many()
        if levels > DEEPEST:
            raise _too_deep()
        if node.tag.endswith(":int") and len(node.value) > LONGEST_NUMBER:
            raise YamlError(f"a number of {len(node.value)} characters")
        self._known[key] = count, levels
        return count, levels


def _children(node: Any) -> list[Any]:
    if isinstance(node.value, str):
        return []
    return [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]


def _too_many() -> YamlError:
    return YamlError(f"it describes more than {MOST_VALUES} values")


def _too_deep() -> YamlError:
    return YamlError(f"it nests more than {DEEPEST} levels")
