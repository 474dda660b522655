"""The six land-cover classes of a synthetic landscape."""

from __future__ import annotations

from geoasanet.classes import ClassSchema

WATER, FOREST, CROPLAND, GRASSLAND, BUILT_UP, BARE = range(6)
"""Class ids."""

CLASSES = ClassSchema(
    names=("water", "forest", "cropland", "grassland", "built-up", "bare ground"),
    colors=((66, 133, 190), (48, 110, 66), (238, 210, 130), (166, 204, 112), (205, 75, 68), (172, 160, 150)),
)
"""Built-up takes in settlements with their gardens, and paved roads."""
