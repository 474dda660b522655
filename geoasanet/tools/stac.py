"""What STAC Items of maps and of models have in common (STAC 1.1.0, https://stacspec.org)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import OutputError
from geoasanet.raster.remote import is_remote

VERSION = "1.1.0"
SUFFIX = ".stac.json"
"""What the names of Items end in."""
EXTENSIONS = {
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "mlm": "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "projection": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
}
_SHA256 = "1220"
"""How a multihash says that 32 bytes of SHA-256 follow."""


def item(identifier: str, extensions: Sequence[str], **fields: Any) -> dict[str, Any]:
    """Return an Item with some of :data:`EXTENSIONS`."""
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [EXTENSIONS[name] for name in sorted(extensions)],
        "id": identifier,
        **fields,
    }


def slug(text: str, otherwise: str) -> str:
    """Return a name for machines: letters, digits, "-" and "_"."""
    return re.sub(r"[^0-9A-Za-z_]+", "-", text).strip("-") or otherwise


def classification(
    classes: ClassSchema, pixels: Mapping[int, int] | None = None, *, nodata: bool = False
) -> list[dict[str, Any]]:
    """Return the classes in the words of the classification extension.

    Args:
        classes: Names and colours.
        pixels: Pixels of each value, if they were counted.
        nodata: Also list the value of pixels without a class.
    """
    entries: list[dict[str, Any]] = []
    for value, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)):
        short = slug(name, f"class-{value}")
        if any(entry["name"] == short for entry in entries):
            short = f"{short}-{value}"
        hint = "{:02X}{:02X}{:02X}".format(*color)
        entries.append({"value": value, "name": short, "title": name, "description": name, "color_hint": hint})
    if nodata:
        words = "Pixels without a class"
        entries.append({"value": NODATA, "name": "nodata", "title": "No data", "description": words, "nodata": True})
    total = sum(pixels.values()) if pixels else 0
    for entry in entries:
        if pixels and total:
            count = pixels.get(entry["value"], 0)
            entry |= {"count": count, "percentage": round(100 * count / total, 4)}
    return entries


def file_facts(path: Path) -> dict[str, Any]:
    """Return size and hash of a file in the words of the file extension."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file:size": path.stat().st_size, "file:checksum": _SHA256 + digest}


def href(target: str | Path, folder: Path) -> str:
    """Return how an Item in ``folder`` refers to a file or URL.

    Files are named relative to the Item, so that both can move together. Of URLs, queries and passwords are left out,
    since they may be secrets.
    """
    name = str(target)
    if is_remote(name) or name.startswith("/vsi"):
        name = name.removeprefix("/vsicurl/").split("?", 1)[0]
        return re.sub(r"(?<=://)[^/@]*@", "", name)
    relative = os.path.relpath(Path(name).absolute(), folder.absolute())
    return Path(relative).as_posix() if relative.startswith("..") else f"./{Path(relative).as_posix()}"


def write_item(path: Path, document: Mapping[str, Any]) -> None:
    """Write an Item.

    Raises:
        OutputError: If it holds a number that JSON does not have.
    """
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise OutputError(f"{path.name} cannot be written: {error}.") from None
    path.write_text(text + "\n", encoding="utf-8")
