"""A class schema in a YAML file."""

from __future__ import annotations

from pathlib import Path

from geoasanet.classes import ClassSchema
from geoasanet.errors import ClassSchemaError
from geoasanet.yamltext import YamlError, read_yaml


def read_class_schema(path: str | Path) -> ClassSchema:
    """Return the class schema in a YAML file: ``classes`` (names, or maps of id, name, color), ``ignore_index``.

    Raises:
        ClassSchemaError: If the file is unreadable or malformed.
    """
    try:
        data = read_yaml(Path(path))
    except YamlError as error:
        raise ClassSchemaError(f"Class schema {path} cannot be read ({error}).", "Give a YAML file.") from None
    if isinstance(data, list):
        data = {"classes": data}
    if not isinstance(data, dict):
        raise ClassSchemaError(f"Class schema {path} needs a list 'classes'.")
    try:
        return ClassSchema.from_dict(data)
    except ClassSchemaError as error:
        raise ClassSchemaError(f"Class schema {path}: {error}") from error
