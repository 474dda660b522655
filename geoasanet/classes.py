"""The class schema: ordered class names, one colour each, and the value to ignore.

It travels inside the dataset, the checkpoint, the map and the polygons. Standard library only, so that the command
line can read it without importing anything heavy.
"""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geoasanet.errors import ClassSchemaError

NODATA = 255
"""Value of pixels without a class in every map and label raster."""

CLASSES_TAG = "GEOASANET_CLASSES"
"""Dataset tag in which a map carries its class schema as JSON."""

Color = tuple[int, int, int]

_NO_TEXT = ("Cc", "Cs")
"""Unicode's categories of control characters and of halves of surrogate pairs: neither XML nor UTF-8 can hold them."""


@dataclass(frozen=True, slots=True)
class ClassSchema:
    """Ordered land-cover classes; a class's id is its position.

    Raises:
        ClassSchemaError: If a name is empty, repeated or holds control characters, a colour is not three bytes, or
            there are no or more than 255 classes.
    """

    names: tuple[str, ...]
    """Class names; ``names[i]`` belongs to class id ``i``."""
    colors: tuple[Color, ...]
    """One (red, green, blue) per class, 0..255."""
    ignore_index: int = NODATA
    """Label value that training and evaluation leave out."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= NODATA:
            raise ClassSchemaError(f"A class schema needs 1 to {NODATA} classes, found {len(self.names)}.")
        if len(self.names) != len(self.colors):
            raise ClassSchemaError(f"Found {len(self.names)} class names but {len(self.colors)} colours.")
        seen: set[str] = set()
        for name in self.names:
            if not isinstance(name, str) or not name.strip():
                raise ClassSchemaError(f"Class names must be non-empty text, found {name!r}.")
            if any(unicodedata.category(letter) in _NO_TEXT for letter in name):
                raise ClassSchemaError(f"Class names must be without control characters, found {name[:100]!r}.")
            if name in seen:
                raise ClassSchemaError(f"Class name {name!r} appears twice.")
            seen.add(name)
        for name, color in zip(self.names, self.colors, strict=True):
            if len(color) != 3 or any(not isinstance(v, int) or not 0 <= v <= 255 for v in color):
                raise ClassSchemaError(f"Colour of class {name!r} must be three values 0..255, found {color!r}.")
        if not 0 <= self.ignore_index <= 255:
            raise ClassSchemaError(f"ignore_index must be 0..255, found {self.ignore_index!r}.")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_names(cls, names: Sequence[str], colors: Sequence[Sequence[int]] | None = None) -> ClassSchema:
        """Return a schema of ``names``, with distinct colours where none are given."""
        chosen = default_colors(len(names)) if colors is None else colors
        return cls(tuple(names), tuple(_as_color(c) for c in chosen))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClassSchema:
        """Return the schema described by ``{"classes": [{"id", "name", "color"}, …], "ignore_index"}``.

        ``classes`` may also be a plain list of names. ``id`` and ``color`` may be left out; ids, where given, must
        count up from 0.
        """
        entries = data.get("classes")
        if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
            raise ClassSchemaError(f"A class schema needs a list 'classes', found {type(entries).__name__}.")
        if len(entries) > NODATA:
            raise ClassSchemaError(f"A class schema needs 1 to {NODATA} classes, found {len(entries)}.")
        rows = [entry if isinstance(entry, Mapping) else {"name": entry} for entry in entries]
        ids = [row.get("id", position) for position, row in enumerate(rows)]
        whole = all(isinstance(i, int) and not isinstance(i, bool) for i in ids)
        if not whole or sorted(ids) != list(range(len(rows))):
            raise ClassSchemaError(
                f"Class ids must be 0 to {len(rows) - 1}, each once, found {ids}.",
                "Renumber the classes without gaps.",
            )
        rows = [row for _, row in sorted(zip(ids, rows, strict=True), key=lambda pair: pair[0])]
        fallback = default_colors(len(rows))
        colors = tuple(
            _as_color(row["color"]) if row.get("color") is not None else fallback[i] for i, row in enumerate(rows)
        )
        ignore = data.get("ignore_index", data.get("nodata", NODATA))
        if isinstance(ignore, bool) or not isinstance(ignore, int):
            raise ClassSchemaError(f"ignore_index must be a whole number 0..255, found {ignore!r}.")
        return cls(tuple(_as_name(row.get("name", "")) for row in rows), colors, ignore)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description, read back by :meth:`from_dict`."""
        classes = [
            {"id": i, "name": name, "color": list(color)}
            for i, (name, color) in enumerate(zip(self.names, self.colors, strict=True))
        ]
        return {"classes": classes, "ignore_index": self.ignore_index}


def default_colors(count: int) -> tuple[Color, ...]:
    """Return ``count`` colours that differ from one another: hues a golden angle apart."""
    result: list[Color] = []
    for i in range(count):
        hue = (0.58 + i * 0.61803398875) % 1.0
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.65, 0.45)[i % 2], (0.78, 0.92)[i // 2 % 2])
        result.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(result)


def _as_name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(
        value, str | int | float
    ):  # YAML takes 2020 for a number, no for false
        raise ClassSchemaError(f"Class names must be non-empty text, found {value!r}.", "Put names in quotes.")
    return str(value)


def _as_color(value: Any) -> Color:
    if isinstance(value, str) and value.startswith("#") and len(value) == 7:
        try:
            return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
        except ValueError:
            raise ClassSchemaError(f"Colour {value!r} is not of the form #rrggbb.") from None
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ClassSchemaError(f"A colour is three values 0..255 or '#rrggbb', found {value!r}.")
    items = tuple(value)
    if len(items) != 3 or any(isinstance(v, bool) or not isinstance(v, int) for v in items):
        raise ClassSchemaError(f"A colour is three values 0..255 or '#rrggbb', found {value!r}.")
    return items
