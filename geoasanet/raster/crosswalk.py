"""From the values of labels to the class ids of a map: by name where both have names, else by id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import LabelError
from geoasanet.raster.polygons.legend import legend_of

Value = int | str
"""A class in labels: its id or its name."""


@dataclass(frozen=True)
class MapClasses:
    """The classes of a map, as labels are compared with them."""

    path: str
    """The map, for messages."""
    schema: ClassSchema
    """Names and colours; "class 3" where the map has no name for an id."""
    named: bool
    """True if the map names its classes; if not, any id 0..254 is possible."""

    @classmethod
    def of(cls, dataset: Any, path: str) -> MapClasses:
        """Return the classes of an open map."""
        schema = legend_of(dataset, [])
        return cls(path, schema, any(name != f"class {i}" for i, name in enumerate(schema.names)))

    def listing(self) -> str:
        """Return ids and names in one line."""
        if not self.named:
            return "numbers without names"
        return ", ".join(f"{i} {name}" for i, name in enumerate(self.schema.names))

    def ids_of(self, values: Iterable[Value | None], source: str) -> dict[Value | None, int]:
        """Return the map's class id for each value in the labels; None and the ignored value become 255.

        Names are compared without regard to case and surrounding blanks. Text that is a number is an id.

        Args:
            values: Distinct values of the labels.
            source: The labels, for messages.

        Raises:
            LabelError: If a value is no class of the map; both lists are in the message.
        """
        known = {name.strip().casefold(): i for i, name in enumerate(self.schema.names)} if self.named else {}
        found: dict[Value | None, int] = {}
        unknown: list[Value] = []
        everything = list(values)
        for value in everything:
            if value is None or value in (NODATA, self.schema.ignore_index):
                found[value] = NODATA
                continue
            text = str(value).strip().casefold()
            number = value if isinstance(value, int) else (int(text) if text.isdecimal() else None)
            stop = len(self.schema) if self.named else NODATA
            if isinstance(value, str) and text in known:
                found[value] = known[text]
            elif number is not None and 0 <= number < stop:
                found[value] = number
            elif number == NODATA:
                found[value] = NODATA
            else:
                unknown.append(value)
        if unknown:
            raise LabelError(
                f"{source}: {_words(unknown)} {'is' if len(unknown) == 1 else 'are'} no class of the map. "
                f"The labels have {_words([v for v in everything if v is not None])}; "
                f"the map {self.path} has {self.listing()}.",
                "Rename or renumber the classes, empty those that should not count, or choose another field with "
                "--class-field.",
            )
        return found

    def table(self, names: Mapping[int, str], source: str) -> LookupTable:
        """Return how the ids of a label raster become the map's, by name if ``names`` and the map have any."""
        return LookupTable(self, dict(names), source)


class LookupTable:
    """Turns a label raster's ids into the map's, refusing those that are no class when they first occur.

    Args:
        classes: The map's classes.
        names: The label raster's names by id; empty if it has none.
        source: The label raster, for messages.
    """

    def __init__(self, classes: MapClasses, names: Mapping[int, str], source: str) -> None:
        self._classes = classes
        self._names = names if classes.named else {}
        self._source = source
        self._table = np.full(NODATA + 1, -1, np.int16)
        self._table[NODATA] = NODATA

    def apply(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the map's class ids, uint8 of the shape of ``values``, 255 where there is no label.

        Args:
            values: Label values, integers of any type.
            valid: True where the raster has data.

        Raises:
            LabelError: If a value is no class.
        """
        wide = values.dtype != np.uint8
        odd = valid & ((values < 0) | (values > NODATA)) if wide else np.zeros((0,), bool)
        if odd.any():
            raise LabelError(
                f"{self._source} has value {values[odd][0]}; class ids are 0 to {NODATA - 1}, {NODATA} is unlabelled.",
                "Renumber the classes, or set the nodata value: gdal_edit.py -a_nodata VALUE FILE",
            )
        ids = np.where(valid, values, NODATA).astype(np.uint8)
        present = np.flatnonzero(np.bincount(ids.ravel(), minlength=NODATA + 1))
        new = [int(i) for i in present if self._table[i] < 0]
        if new:
            seen = [int(i) for i in np.flatnonzero(self._table[:NODATA] >= 0)]
            wanted = [self._names.get(i, i) for i in sorted({*new, *seen})]
            found = self._classes.ids_of(wanted, self._source)
            for i in new:
                self._table[i] = found[self._names.get(i, i)]
        return np.asarray(self._table[ids], np.uint8)


def plain(value: Any) -> Value | None:
    """Return an attribute as an id, a name, or None where it is empty.

    Raises:
        LabelError: If it is a number with a fraction.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value.strip() or None
    try:
        number = int(value)
    except (TypeError, ValueError):
        return str(value).strip() or None
    except OverflowError:  # infinity
        number = None
    if number is None or number != value:
        raise LabelError(f"{value!r} is no class id.", "Ids are whole numbers; choose another --class-field.")
    return number


def _words(values: Iterable[Value], most: int = 20) -> str:
    words = [repr(v) if isinstance(v, str) else str(v) for v in sorted(values, key=lambda v: (str(type(v)), v))]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
