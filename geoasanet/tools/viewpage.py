"""The page as one HTML text that needs nothing else: pictures, figures, map library, our own script and style.

Its content security policy allows no request at all and no script but the two whose hashes it names, so that a name
in a file could do nothing even if it were not escaped, which all are.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from geoasanet.classes import ClassSchema
from geoasanet.printable import escape
from geoasanet.raster.figure import ramp
from geoasanet.tools.viewlayers import Layer
from geoasanet.tools.viewleaflet import Library

_ASSETS = files("geoasanet.tools") / "viewassets"
_KM2, _HA = 1e6, 1e4
_FROM_KM2 = 20 * _KM2
"""Maps of this area on are described in km², smaller ones in ha."""


@dataclass(frozen=True)
class Page:
    """What the page says."""

    title: str
    """Headline: the map's name."""
    note: str
    """At which resolution pictures are shown."""
    layers: Sequence[Layer]
    """Pictures, in the order of choice."""
    classes: ClassSchema
    """Names and colours."""
    class_area_m2: Mapping[str, float]
    """Ground area of each class."""
    confidence_low: float | None
    """Least possible confidence; None without that picture."""
    outlines_note: str
    """What is shown of the polygons; empty without any."""
    facts: Mapping[str, str]
    """More about the map."""
    scene: Mapping[str, Any]
    """What the script needs besides."""


def render(page: Page, library: Library) -> str:
    """Return the HTML of a page."""
    ours = (_ASSETS / "page.js").read_text(encoding="utf-8")
    single = len(page.layers) == 1
    return Template((_ASSETS / "page.html").read_text(encoding="utf-8")).substitute(
        policy=escape(
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
            f"script-src {_hash(library.script)} {_hash(ours)}"
        ),
        title=escape(page.title),
        note=escape(page.note),
        licence=escape(f"Leaflet {library.version}\n\n{library.licence}").replace("--", "- -"),
        version=escape(library.version),
        library_style=library.style,
        style=(_ASSETS / "page.css").read_text(encoding="utf-8"),
        pictures="\n".join(
            f'<img id="picture-{layer.key}" alt="{escape(layer.alt)}" src="{layer.uri}">' for layer in page.layers
        ),
        choices=""
        if single
        else "".join(_choice(side, page.layers, key) for side, key in sides_of(page.layers).items()),
        single=" single" if single else "",
        outlines=_outlines(page.outlines_note),
        legend=_legend(page.classes, page.class_area_m2),
        confidence=_confidence(page.confidence_low),
        facts="".join(f"<dt>{escape(k)}</dt><dd><bdi>{escape(v)}</bdi></dd>" for k, v in page.facts.items()),
        scene=_json({**page.scene, "sides": sides_of(page.layers)}),
        library_script=library.script,
        script=ours,
    )


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def _json(value: Any) -> str:
    """Return JSON without a character that could end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def sides_of(layers: Sequence[Layer]) -> dict[str, str]:
    """Return which picture is first seen left and right of the divider: what the map was made from, and the map."""
    keys = [layer.key for layer in layers]
    return {"left": keys[0], "right": "map" if keys[0] != "map" else keys[-1]}


def _choice(side: str, layers: Sequence[Layer], start: str) -> str:
    options = "".join(
        f'<label><input type="radio" name="{side}" value="{layer.key}"{" checked" * (layer.key == start)}>'
        f"<span>{escape(layer.title)}</span></label>"
        for layer in layers
    )
    return f'<fieldset class="choice"><legend>{side.capitalize()}</legend><div>{options}</div></fieldset>'


def _outlines(note: str) -> str:
    if not note:
        return ""
    return (
        '<p class="outlines"><label><input type="checkbox" id="outlines" checked> Polygons</label>'
        f"<small>{escape(note)}</small></p>"
    )


def _legend(classes: ClassSchema, class_area_m2: Mapping[str, float]) -> str:
    """Return the table of classes with areas and shares, largest first."""
    total = sum(class_area_m2.values())
    unit, size = ("km²", _KM2) if total >= _FROM_KM2 else ("ha", _HA)
    rows = []
    for name, color in sorted(
        zip(classes.names, classes.colors, strict=True), key=lambda pair: -class_area_m2.get(pair[0], 0.0)
    ):
        area = class_area_m2.get(name, 0.0)
        share = 100 * area / total if total else 0.0
        rows.append(
            f'<tr{"" if area else " class=absent"}><th scope="row"><i style="background:{_css(color)}"></i>'
            f"<bdi>{escape(name).replace('_', '_<wbr>')}</bdi></th><td>{_area(area / size)}</td>"
            f"<td>{share:.1f} %</td></tr>"
            f'<tr class="bar" aria-hidden="true"><td colspan="3"><b style="width:{share:.2f}%;'
            f'background:{_css(color)}"></b></td></tr>'
        )
    return (
        f'<table><thead><tr><th scope="col">Class</th><th scope="col">{unit}</th><th scope="col">share</th></tr>'
        "</thead>"
        f'<tbody>{"".join(rows)}</tbody><tfoot><tr><th scope="row">Mapped</th><td>{_area(total / size)}</td>'
        "<td>100 %</td></tr></tfoot></table>"
    )


def _confidence(low: float | None) -> str:
    if low is None:
        return ""
    stops = ",".join(_css(color) for color in ramp(np.linspace(low, 1, 26), low, 1.0).tolist())
    return (
        '<h2>Confidence</h2><div class="ramp" role="img" aria-label="Colours of confidence, violet is low, yellow is '
        f'high" style="background:linear-gradient(90deg,{stops})"></div>'
        f'<p class="ends"><span>{100 * low:.0f} %</span><span>100 %</span></p>'
    )


def _css(color: Sequence[int]) -> str:
    return f"rgb({','.join(str(int(v)) for v in color)})"


def _area(value: float) -> str:
    """Return at least three significant digits, with thin separators of thousands."""
    decimals = 0 if value >= 100 or value == 0 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f}"
