"""Which classes labels hold: from a schema beside them, from their own names, from their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from geoasanet.classes import ClassSchema, Color, default_colors
from geoasanet.errors import ClassSchemaError, LabelError, said_of
from geoasanet.raster.labels import is_vector, tagged_schema
from geoasanet.raster.opening import open_dataset
from geoasanet.raster.polygons.legend import legend_of

BESIDE = "classes.yaml"
"""Class schema that is found in the labels' folder."""


def schema_beside(paths: Sequence[str]) -> Path | None:
    """Return the ``classes.yaml`` in the folder of the labels, None where there is none.

    Raises:
        LabelError: If labels of several folders have different ones.
    """
    found = {Path(path).parent / BESIDE for path in paths if "://" not in path and not path.startswith("/vsi")}
    files = sorted(path for path in found if path.is_file())
    if not files:
        return None
    text = files[0].read_bytes()
    for other in files[1:]:
        if other.read_bytes() != text:
            raise LabelError(f"{files[0]} and {other} differ.", "Name one class schema with --classes.")
    return files[0]


def schema_inside(paths: Sequence[str], field: str | None) -> tuple[ClassSchema | None, str]:
    """Return the classes that labels declare before their pixels are read, and where they come from.

    These are the tags of our own maps, and class names in an attribute of polygons (all names of all files, sorted).

    Raises:
        LabelError: If files declare different ones, or no attribute holds classes.
        SceneError: If a raster cannot be opened.
        VectorError: If a vector file cannot be read.
    """
    declared: list[tuple[str, ClassSchema]] = []
    names: set[str] = set()
    fields: set[str] = set()
    for path in paths:
        if is_vector(path):
            from geoasanet.raster.vectorlabels import VectorLayer  # loads pandas

            layer = VectorLayer.open(path)
            chosen = layer.class_field(field)
            found = layer.class_names(chosen)
            if found is not None:
                names |= set(found)
                fields.add(chosen)
        else:
            schema = tagged_schema(path)
            if schema is not None:
                declared.append((path, schema))
    if declared:
        first_path, first = declared[0]
        for path, schema in declared[1:]:
            _agree(first_path, first, path, schema)
        return first, first_path
    if names:
        with said_of(f"Labels {', '.join(map(str, paths[:3]))}", ClassSchemaError):
            return ClassSchema.from_names(sorted(names)), f"the names in the attribute {', '.join(sorted(fields))}"
    return None, ""


def schema_of_values(paths: Sequence[str], present: Iterable[int], field: str | None) -> ClassSchema:
    """Return the classes of labels of which only the ids were known until their pixels were read.

    Names come from raster legends, and from an attribute of names beside that of ids; "class 7" where there is none.

    Args:
        paths: The label files.
        present: Ids found in them.
        field: Attribute of polygons that holds the ids.

    Raises:
        LabelError: If files name the same id differently.
    """
    ids = list(present)
    names: dict[int, tuple[str, str]] = {}
    colors: dict[int, Color] = {}
    for path in paths:
        for i, (name, color) in _legend(path, ids, field).items():
            known = names.setdefault(i, (name, path))
            if known[0] != name:
                raise LabelError(
                    f"Class {i} is called {known[0]!r} in {known[1]}, but {name!r} in {path}.",
                    "Name one class schema for all with --classes.",
                )
            if color is not None:
                colors.setdefault(i, color)
    count = max([*ids, *names, 0]) + 1
    fallback = default_colors(count)
    unique: list[str] = []
    for i in range(count):
        name = names[i][0] if i in names else f"class {i}"
        unique.append(name if name not in unique else f"{name} ({i})")
    return ClassSchema(tuple(unique), tuple(colors.get(i, fallback[i]) for i in range(count)))


def _legend(path: str, ids: Sequence[int], field: str | None) -> dict[int, tuple[str, Color | None]]:
    """Return the named classes of a label file."""
    if is_vector(path):
        from geoasanet.raster.vectorlabels import VectorLayer  # loads pandas

        layer = VectorLayer.open(path)
        return {i: (name, None) for i, name in layer.names_of(layer.class_field(field)).items()}
    with open_dataset(path, "Label") as dataset:
        legend = legend_of(dataset, ids)
    return {i: (name, legend.colors[i]) for i, name in enumerate(legend.names)}


def _agree(first_path: str, first: ClassSchema, path: str, schema: ClassSchema) -> None:
    if first.names != schema.names:
        raise LabelError(
            f"Labels {first_path} have the classes {', '.join(first.names)}, but {path} has {', '.join(schema.names)}.",
            "Name one class schema for all with --classes.",
        )
