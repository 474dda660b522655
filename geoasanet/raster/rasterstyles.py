"""How rasters look in QGIS (QML): class maps by a palette with names, confidence by a colour ramp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geoasanet.classes import ClassSchema, Color
from geoasanet.raster.styles import (
    QML_SUFFIX,
    LegendEntry,
    attribute,
    categorized,
    has_own_style,
    legend_entries,
    qml_document,
)

RAMP: tuple[tuple[float, Color], ...] = (
    (0.0, (165, 0, 38)),
    (0.25, (244, 109, 67)),
    (0.5, (254, 224, 139)),
    (0.75, (102, 189, 99)),
    (1.0, (0, 104, 55)),
)
"""Colours of confidence, red for none to green for 1; ColorBrewer's RdYlGn."""


def class_qml(classes: ClassSchema, legend: Sequence[LegendEntry] | None = None) -> str:
    """Return the QGIS style of a class map and of polygons made of it.

    QGIS looks for the style of ``map.tif`` and of ``map.geojson`` in one file, ``map.qml``; so it is for both.

    Args:
        classes: Names and colours of the map's values.
        legend: Classes of the polygons; all if None.
    """
    shown = legend_entries(classes, range(len(classes))) if legend is None else legend
    return qml_document(_pipe(_paletted(classes)), categorized(shown))


def confidence_qml() -> str:
    """Return the QGIS style of a raster of probabilities: red at 0 to green at 1."""
    return qml_document(_pipe(_pseudocolor()))


def write_style(temporary: Path, out: Path, qml: str, *, overwrite: bool) -> list[str]:
    """Write a style beside an output's temporary path, so that it appears together with the output.

    A style that somebody has saved beside ``out`` stays, unless ``overwrite`` was asked for.

    Returns:
        Warnings.
    """
    style = out.with_suffix(QML_SUFFIX)
    if style == out:
        return []
    if has_own_style(out) and (style.is_dir() or not overwrite):
        return [f"{style} exists and was kept; add --overwrite to replace the style too."]
    temporary.with_suffix(QML_SUFFIX).write_text(qml, encoding="utf-8")
    return []


def _pipe(renderer: str) -> str:
    """Return QGIS's drawing of a raster; the file's own nodata value is transparent."""
    return f"""  <pipe>
    <provider>
      <resampling enabled="false" zoomedInResamplingMethod="nearestNeighbour" \
zoomedOutResamplingMethod="nearestNeighbour" maxOversampling="2"/>
    </provider>
{renderer}
    <brightnesscontrast brightness="0" contrast="0" gamma="1"/>
    <huesaturation colorizeOn="0" grayscaleMode="0" saturation="0"/>
    <rasterresampler maxOversampling="2"/>
  </pipe>"""


def _paletted(classes: ClassSchema) -> str:
    entries = "\n".join(
        f'        <paletteEntry value="{e.class_id}" color="{_hex(e.color)}" label={attribute(e.name)} alpha="255"/>'
        for e in legend_entries(classes, range(len(classes)))
    )
    return f"""    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <rasterTransparency/>
      <colorPalette>
{entries}
      </colorPalette>
    </rasterrenderer>"""


def _pseudocolor() -> str:
    items = "\n".join(
        f'          <item value="{value:g}" color="{_hex(color)}" label="{value:.0%}" alpha="255"/>'
        for value, color in RAMP
    )
    return f"""    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" nodataColor="" \
classificationMin="0" classificationMax="1">
      <rasterTransparency/>
      <minMaxOrigin>
        <limits>None</limits>
        <extent>WholeRaster</extent>
        <statAccuracy>Estimated</statAccuracy>
      </minMaxOrigin>
      <rastershader>
        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" \
maximumValue="1" labelPrecision="2">
{items}
        </colorrampshader>
      </rastershader>
    </rasterrenderer>"""


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
