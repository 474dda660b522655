"""Polygons of a class map: exact, in strips on all cores, topology first.

A map is read once, as *runs* (``runs``), whose strip-wise components are joined into *regions* (``regions``); small
ones are merged (``merging``). The borders between regions become *arcs*, each traced once (``arcs``) and joined across
strips (``stitch``), simplified (``simplify``) and smoothed (``smooth``) once for both sides, and measured on the
ellipsoid (``measure``, ``totals``). *Rings* of arcs (``rings``) are the polygons. ``coverage`` puts the stages
together; ``source`` and ``legend`` read the map's pixels and its classes.
"""
