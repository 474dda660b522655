"""A class schema in a YAML file."""

from __future__ import annotations

from pathlib import Path

from geoasanet.classes import ClassSchema
from geoasanet.errors import ClassSchemaError


def read_class_schema(path: str | Path) -> ClassSchema:
    """Return the class schema in a YAML file: ``classes`` (names, or maps of id, name, color), ``ignore_index``.

    Raises:
        ClassSchemaError: If the file is unreadable or malformed.
    """
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ClassSchemaError(f"Class schema {path} cannot be read ({reason}).", "Give a YAML file.") from error
    if isinstance(data, list):
        data = {"classes": data}
    if not isinstance(data, dict):
        raise ClassSchemaError(f"Class schema {path} needs a list 'classes'.")
    try:
        return ClassSchema.from_dict(data)
    except ClassSchemaError as error:
        raise ClassSchemaError(f"Class schema {path}: {error}") from error
