"""How the polygons look in QGIS (QML) and in map servers (SLD): one filled symbol for each class, named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from geoasanet.classes import ClassSchema, Color

FIELD = "class_id"
"""The attribute that the style goes by."""
OUTLINE_MM = 0.1
"""Width of the outline in the fill's own colour, which closes the hairlines between antialiased neighbours."""
QML_SUFFIX = ".qml"
"""QGIS takes the style of a file from the file of the same name with this ending."""
MARK = "<!-- Made by geoasanet -->"
"""Tells our styles from those that somebody has saved from QGIS, which leaves comments out."""

_NOT_IN_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One class of the legend."""

    class_id: int
    """Value of the attribute."""
    name: str
    """Label."""
    color: Color
    """Fill."""


def legend_entries(classes: ClassSchema, class_ids: Sequence[int]) -> list[LegendEntry]:
    """Return the legend of some classes, in order."""
    return [LegendEntry(i, classes.names[i], classes.colors[i]) for i in class_ids]


def qml(legend: Sequence[LegendEntry]) -> str:
    """Return a QGIS layer style: a categorized renderer on ``class_id``."""
    return qml_document(categorized(legend))


def qml_document(*renderers: str) -> str:
    """Return a QGIS style of one renderer, or of one for rasters and one for polygons: a layer takes what fits it."""
    body = "\n".join(renderers)
    return f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
{MARK}
<qgis version="3.22.0" styleCategories="Symbology">
{body}
  <blendMode>0</blendMode>
  <featureBlendMode>0</featureBlendMode>
  <layerGeometryType>2</layerGeometryType>
</qgis>
"""


def has_own_style(path: Path) -> bool:
    """Tell whether the style beside ``path`` is somebody's own work, and not ours."""
    try:
        return MARK not in path.with_suffix(QML_SUFFIX).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


def categorized(legend: Sequence[LegendEntry]) -> str:
    """Return QGIS's renderer of polygons by ``class_id``."""
    categories = "\n".join(
        f'      <category render="true" type="long" value="{e.class_id}" symbol="{k}" label={attribute(e.name)}/>'
        for k, e in enumerate(legend)
    )
    symbols = "\n".join(_qml_symbol(k, e.color) for k, e in enumerate(legend))
    return f"""  <renderer-v2 type="categorizedSymbol" attr="{FIELD}" forceraster="0" symbollevels="0" \
enableorderby="0">
    <categories>
{categories}
    </categories>
    <symbols>
{symbols}
    </symbols>
    <rotation/>
    <sizescale/>
  </renderer-v2>"""


def sld(legend: Sequence[LegendEntry], layer: str) -> str:
    """Return a Styled Layer Descriptor 1.1 with one rule for each class."""
    rules = "\n".join(_sld_rule(e) for e in legend)
    name = _text(layer)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<StyledLayerDescriptor xmlns="http://www.opengis.net/sld" xmlns:se="http://www.opengis.net/se" \
xmlns:ogc="http://www.opengis.net/ogc" version="1.1.0">
  <NamedLayer>
    <se:Name>{name}</se:Name>
    <UserStyle>
      <se:Name>{name}</se:Name>
      <se:FeatureTypeStyle>
{rules}
      </se:FeatureTypeStyle>
    </UserStyle>
  </NamedLayer>
</StyledLayerDescriptor>
"""


def _qml_symbol(index: int, color: Color) -> str:
    rgba = ",".join(map(str, (*color, 255)))
    settings = {
        "color": rgba,
        "outline_color": rgba,
        "outline_style": "solid",
        "outline_width": str(OUTLINE_MM),
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
        "style": "solid",
    }
    # QGIS before 3.20 reads <prop>, later versions <Option>.
    options = "\n".join(f'            <Option type="QString" name="{k}" value="{v}"/>' for k, v in settings.items())
    props = "\n".join(f'          <prop k="{k}" v="{v}"/>' for k, v in settings.items())
    return f"""      <symbol type="fill" name="{index}" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleFill" enabled="1" locked="0" pass="0">
          <Option type="Map">
{options}
          </Option>
{props}
        </layer>
      </symbol>"""


def _sld_rule(entry: LegendEntry) -> str:
    color = "#{:02x}{:02x}{:02x}".format(*entry.color)
    return f"""        <se:Rule>
          <se:Name>{_text(entry.name)}</se:Name>
          <ogc:Filter>
            <ogc:PropertyIsEqualTo>
              <ogc:PropertyName>{FIELD}</ogc:PropertyName>
              <ogc:Literal>{entry.class_id}</ogc:Literal>
            </ogc:PropertyIsEqualTo>
          </ogc:Filter>
          <se:PolygonSymbolizer>
            <se:Fill><se:SvgParameter name="fill">{color}</se:SvgParameter></se:Fill>
            <se:Stroke>
              <se:SvgParameter name="stroke">{color}</se:SvgParameter>
              <se:SvgParameter name="stroke-width">0.3</se:SvgParameter>
            </se:Stroke>
          </se:PolygonSymbolizer>
        </se:Rule>"""


def attribute(value: str) -> str:
    """Return a text as the quoted value of an XML attribute."""
    return quoteattr(_printable(value))


def _text(value: str) -> str:
    return _printable(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _printable(value: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", value)
