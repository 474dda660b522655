"""Names and colours of a map's classes, from whatever the map carries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from geoasanet.classes import CLASSES_TAG, NODATA, ClassSchema, Color, default_colors
from geoasanet.errors import ClassSchemaError, ConfigError

USAGE_NAME, USAGE_MIN, USAGE_MINMAX, USAGE_RED = 2, 3, 5, 6
"""Column usages of GDAL's raster attribute tables; green and blue follow red."""


def legend_of(dataset: Any, present: Iterable[int]) -> ClassSchema:
    """Return names and colours for all classes of a map.

    From, in this order: our own tag, category names or raster attribute table in the map's ``.aux.xml``, colour table;
    what is then missing is named "class 7" and gets a colour of its own.

    Args:
        dataset: The open map.
        present: Class ids that occur in it.
    """
    names, colors = _known(dataset)
    count = max([*present, *names, 0]) + 1
    fallback = default_colors(count)
    unique: list[str] = []
    for i in range(count):
        name = names.get(i, "").strip() or _anonymous(i)
        unique.append(name if name not in unique else f"{name} ({i})")
    return ClassSchema(tuple(unique), tuple(colors.get(i, fallback[i]) for i in range(count)))


def choose_classes(dataset: Any, wanted: Sequence[str | int] | None) -> list[int]:
    """Return the ids of the classes of a map that are named, by name or id; all possible ids if ``wanted`` is None.

    Raises:
        ConfigError: If the map's legend has no such class, or none was named.
    """
    if wanted is None:
        return list(range(NODATA))
    names = {i: n for i, n in _known(dataset)[0].items() if n.strip()}
    listing = ", ".join(f"{i} {name}" for i, name in sorted(names.items())) or f"0 to {NODATA - 1}, without names"
    names = names or {i: _anonymous(i) for i in range(NODATA)}
    by_name = {name.casefold(): i for i, name in reversed(names.items())}
    by_name.update({name: i for i, name in reversed(names.items())})
    chosen = set()
    for item in wanted:
        text = str(item).strip()
        found = by_name.get(text, by_name.get(text.casefold()))
        if found is None and text.isdecimal() and int(text) in names:
            found = int(text)
        if found is None:
            raise ConfigError(f"The map {dataset.name} has no class {text!r}.", f"Its classes are: {listing}.")
        chosen.add(found)
    if not chosen:
        raise ConfigError("No class was chosen.", "Name at least one, or leave the option out for all.")
    return sorted(chosen)


def _known(dataset: Any) -> tuple[dict[int, str], dict[int, Color]]:
    """Return the names and colours that the map carries."""
    schema = own_schema(dataset)
    if schema is not None:
        return dict(enumerate(schema.names)), dict(enumerate(schema.colors))
    names, colors = _auxiliary(Path(f"{dataset.name}.aux.xml"))
    return names, {**_color_table(dataset), **colors}


def _anonymous(class_id: int) -> str:
    return f"class {class_id}"


def own_schema(dataset: Any) -> ClassSchema | None:
    """Return the class schema that one of our maps carries in its tags, None where there is none or it is damaged."""
    text = dataset.tags().get(CLASSES_TAG)
    if not text:
        return None
    try:
        return ClassSchema.from_dict(json.loads(text))
    except (ClassSchemaError, ValueError, TypeError, AttributeError):
        return None


def _color_table(dataset: Any) -> dict[int, Color]:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return {}
    return {i: (int(c[0]), int(c[1]), int(c[2])) for i, c in table.items()}


def _auxiliary(path: Path) -> tuple[dict[int, str], dict[int, Color]]:
    """Return names and colours from GDAL's auxiliary file, empty where there are none."""
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 - GDAL parses the same file; no entities are fetched
    except (OSError, ElementTree.ParseError):
        return {}, {}
    band = root.find("PAMRasterBand[@band='1']")
    band = band if band is not None else root.find("PAMRasterBand")
    if band is None:
        return {}, {}
    names = {i: item.text or "" for i, item in enumerate(band.iterfind("CategoryNames/Category"))}
    colors: dict[int, Color] = {}
    table = band.find("GDALRasterAttributeTable")
    if table is not None:
        columns = {field.findtext("Usage", ""): i for i, field in enumerate(table.iterfind("FieldDefn"))}
        value = columns.get(str(USAGE_MINMAX), columns.get(str(USAGE_MIN)))
        name = columns.get(str(USAGE_NAME))
        rgb = [columns.get(str(USAGE_RED + k)) for k in range(3)]
        for row in table.iterfind("Row"):
            cells = [cell.text or "" for cell in row.iterfind("F")]
            try:
                key = int(float(cells[value])) if value is not None else int(row.get("index", ""))
                if name is not None:
                    names.setdefault(key, cells[name])
                if None not in rgb:
                    red, green, blue = (int(float(cells[k])) for k in rgb if k is not None)
                    colors[key] = (red, green, blue)
            except (ValueError, IndexError):
                continue
    names = {i: n for i, n in names.items() if 0 <= i < NODATA}
    colors = {i: c for i, c in colors.items() if 0 <= i < NODATA and all(0 <= v <= 255 for v in c)}
    return names, colors
