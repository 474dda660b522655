"""Leaflet, the map library of the page, read from the wheel that brings it.

Why Leaflet: it shows pictures on plain coordinates (``L.CRS.Simple``), which a scene in any projection needs and
MapLibre (Web Mercator, WebGL, 0.9 MB) does not offer; it is small (147 kB), BSD-2-Clause, and draws without WebGL. Why
this wheel: ``django-js-lib-leaflet`` is the release's files and its licence, nothing else: it depends on nothing (not
on Django either, and no code of it is run here), and its files are those of Leaflet's own release byte by byte, which
is checked against the hashes that Leaflet publishes. ``XStatic-Leaflet`` stops at 1.9.3, ``django-leaflet`` brings
Django, and the widgets of notebooks hold Leaflet only inside bundles of their own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from geoasanet.errors import ConfigError

WHEEL, VERSION = "django-js-lib-leaflet", "1.9.4"
_FOLDER = "js_lib_leaflet/static/js_lib_leaflet"
_SHA256 = {
    "leaflet.js": "db49d009c841f5ca34a888c96511ae936fd9f5533e90d8b2c4d57596f4e5641a",
    "leaflet.css": "a7837102824184820dfa198d1ebcd109ff6d0ff9a2672a074b9a1b4d147d04c6",
}
"""Of Leaflet's release, as its download page gives them (there in base64)."""
_INSTALL = f"Install it: pip install {WHEEL}=={VERSION}.1"


@dataclass(frozen=True)
class Library:
    """A map library to write into a page."""

    version: str
    """Its version."""
    script: str
    """JavaScript."""
    style: str
    """CSS without references to other files."""
    licence: str
    """Its licence, which must go along."""


def leaflet() -> Library:
    """Return Leaflet from the installed wheel.

    Raises:
        ConfigError: If the wheel is not installed, or its files are not those of the release.
    """
    try:
        wheel = distribution(WHEEL)
    except PackageNotFoundError:
        raise ConfigError(f"The map library's package {WHEEL} is not installed.", _INSTALL) from None
    script, style = (_text(wheel, name) for name in _SHA256)
    return Library(
        VERSION,
        re.sub(r"^//# sourceMappingURL=.*$", "", script, flags=re.MULTILINE),
        re.sub(r"url\(images/[^)]*\)", "none", style),  # pictures of controls that the page does not have
        wheel.read_text("LICENSE") or "BSD-2-Clause",
    )


def _text(wheel: Distribution, name: str) -> str:
    """Return a file of the wheel, if it is the release's."""
    path = wheel.locate_file(f"{_FOLDER}/{name}")
    try:
        with open(str(path), "rb") as file:  # noqa: PTH123 - locate_file's SimplePath is no Path in all types
            content = file.read()
    except OSError as error:
        raise ConfigError(f"{name} of the package {WHEEL} cannot be read ({error.strerror}).", _INSTALL) from None
    if hashlib.sha256(content).hexdigest() != _SHA256[name]:
        raise ConfigError(f"{name} of the installed package {WHEEL} is not that of Leaflet {VERSION}.", _INSTALL)
    return content.decode()
