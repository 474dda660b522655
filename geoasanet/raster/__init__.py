"""Georeferenced rasters: reading scenes, writing maps, making polygons. Nothing here imports torch."""
