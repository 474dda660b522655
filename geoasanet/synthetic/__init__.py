"""Procedural landscapes with known land cover, seen by an optical and a SAR sensor.

A landscape is drawn from a seed alone: relief, rivers and lakes, parcels, forest, settlements and roads, then the
optical image with clouds and the radar backscatter. It serves the demo, the demo checkpoint's training and tests; it
is no substitute for real scenes.
"""

from geoasanet.synthetic.classes import CLASSES
from geoasanet.synthetic.landscape import Landscape, generate_landscape
from geoasanet.synthetic.sensor import SarGrid, observe_sar, sar_grid

__all__ = ["CLASSES", "Landscape", "SarGrid", "generate_landscape", "observe_sar", "sar_grid"]
