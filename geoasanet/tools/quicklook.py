"""One picture of a finished map beside what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geoasanet.classes import ClassSchema
from geoasanet.raster import figure, preview

PANEL_SIDE = 640
"""Longer side of each panel, pixels."""


def quicklook(
    out: Path,
    *,
    rgb: str,
    sar: str,
    map_path: Path,
    confidence: Path,
    classes: ClassSchema,
    class_pixels: Mapping[str, int],
    rgb_bands: tuple[int, ...],
    sar_band: int,
    note: str,
) -> None:
    """Write a PNG of RGB | SAR | map | confidence with a legend of class shares.

    Args:
        out: The PNG.
        rgb: Optical raster.
        sar: SAR raster, on any grid.
        map_path: Class map.
        confidence: Probability of the mapped class, on the map's grid.
        classes: The map's classes.
        class_pixels: Pixels of each class.
        rgb_bands: Bands to show as red, green and blue.
        sar_band: Band to show as grey.
        note: Last line of the picture.

    Raises:
        SceneError: If a raster cannot be read.
        OutputError: If the picture cannot be written.
    """
    grid = preview.preview_grid(map_path, PANEL_SIDE)
    red, green, blue = rgb_bands
    panels = [
        figure.Panel("RGB", preview.read_rgb(rgb, grid, (red, green, blue))),
        figure.Panel("SAR", preview.read_gray(sar, grid, sar_band)),
        figure.Panel("Land cover", figure.colorize(preview.read_classes(map_path, grid), classes)),
        figure.Panel("Confidence", figure.ramp(preview.read_values(confidence, grid), 1 / len(classes), 1.0)),
    ]
    total = max(1, sum(class_pixels.values()))
    figure.render_panels(
        panels,
        classes,
        out,
        title=map_path.name,
        footer=note,
        shares={name: pixels / total for name, pixels in class_pixels.items()},
    )
