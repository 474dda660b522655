"""Polygons of a class map: exact, in strips on all cores, topology first.

A map is read once, as *runs* (``runs``), whose strip-wise components are joined into *regions* (``regions``); small
ones are merged (``merging``). The borders between regions become *arcs*, each traced once (``arcs``) and joined across
strips (``seams``, ``stitch``), simplified (``simplify``) and smoothed (``smooth``) once for both sides, and measured on
the ellipsoid (``measure``, ``totals``). *Rings* of arcs (``rings``) are the polygons (``wkb``), made batch by batch.
``coverage`` puts the stages together; ``source`` and ``legend`` read the map's pixels and its classes.

What grows with the map lies in temporary files (``spool``): runs, borders and their attributes. Memory holds the strips
at work, a few bytes for each region, and while arcs are ordered some 40 bytes for each arc.
"""
