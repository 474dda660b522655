"""The STAC Item of a map: what it shows, where and when, what it was made from and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyproj

import geoasanet
from geoasanet.classes import NODATA, ClassSchema
from geoasanet.raster.acquired import acquired
from geoasanet.raster.grid import Grid
from geoasanet.raster.lonlat import footprint, pixel_side
from geoasanet.raster.mosaic import is_mosaic, mosaic_members
from geoasanet.tools.stac import classification, file_facts, href, item, slug

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_VECTOR_TYPES = {
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".shp": "application/vnd.shp",
}


@dataclass(frozen=True, slots=True)
class MapFacts:
    """What an Item tells of a map."""

    grid: Grid
    """The map's grid."""
    classes: ClassSchema
    pixels: Mapping[int, int]
    """Pixels of each value."""
    outputs: Mapping[str, Path]
    """The files, by "map", "confidence", "probabilities", "polygons" and "quicklook"."""
    rgb: str
    """Optical input."""
    sar: str
    """SAR input."""
    checkpoint: Path | None
    """The network's file, if it came from one."""
    tags: Mapping[str, str]
    """The map's tags."""


def map_item(facts: MapFacts, folder: Path, made: datetime | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return the Item of a map and warnings.

    ``datetime`` is when the optical raster was taken, and ``start_datetime`` and ``end_datetime`` span all inputs that
    say when they were. Where none does, ``datetime`` is when the map was made, since an Item must have one.

    Args:
        facts: About the map, whose files are whole.
        folder: Where the Item will be.
        made: When the map was made; now if None.

    Raises:
        GridError: If the map's CRS knows no longitude and latitude there.
        SceneError: If an input cannot be opened.
    """
    made = made or datetime.now(UTC)
    geometry, bbox = footprint(facts.grid)
    times, notes = _times(facts, made)
    extensions = ["classification", "file", "processing", "projection", "raster"]
    document = item(
        slug(facts.outputs["map"].stem, "map"),
        extensions,
        geometry=geometry,
        bbox=bbox,
        properties={
            "title": f"Land cover, {facts.outputs['map'].stem}",
            "created": _iso(made),
            **times,
            **_projection(facts.grid),
            "processing:software": {"geoasanet": geoasanet.__version__},
            **{name.lower().replace("_", ":", 1): value for name, value in _own_tags(facts.tags).items()},
        },
        links=_links(facts, folder),
        assets={name: _asset(name, path, facts, folder) for name, path in facts.outputs.items()},
    )
    return document, notes


def _times(facts: MapFacts, made: datetime) -> tuple[dict[str, str], list[str]]:
    taken = [
        [time for member in _members(path, role) if (time := acquired(member, role)) is not None]
        for path, role in ((facts.rgb, "RGB"), (facts.sar, "SAR"))
    ]
    times = sorted(time for of_one in taken for time in of_one)
    if not times:
        return {"datetime": _iso(made)}, [
            "Neither input says when it was taken, so the STAC Item's datetime is when the map was made: correct it."
        ]
    found = {"datetime": _iso(min(taken[0] or times))}
    if times[0] != times[-1]:
        found |= {"start_datetime": _iso(times[0]), "end_datetime": _iso(times[-1])}
    return found, []


def _projection(grid: Grid) -> dict[str, Any]:
    crs = pyproj.CRS.from_user_input(grid.crs.to_wkt())
    authority = crs.to_authority(min_confidence=100)
    return {
        "proj:code": ":".join(authority) if authority else None,
        **({} if authority else {"proj:wkt2": crs.to_wkt()}),
        "proj:bbox": list(grid.bounds),
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [float(v) for v in tuple(grid.transform)[:6]],
    }


def _own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name.startswith("GEOASANET_")}


def _links(facts: MapFacts, folder: Path) -> list[dict[str, str]]:
    inputs = [(f"{role} raster", member) for role, path in (("Optical", facts.rgb), ("SAR", facts.sar))
              for member in _members(path, role)]  # fmt: skip
    links = [{"rel": "derived_from", "href": href(path, folder), "title": title} for title, path in inputs]
    if facts.checkpoint is not None:
        links.append({"rel": "derived_from", "href": href(facts.checkpoint, folder), "title": "Checkpoint"})
    return links


def _asset(name: str, path: Path, facts: MapFacts, folder: Path) -> dict[str, Any]:
    asset = {"href": href(path, folder), **_ASSETS[name], **file_facts(path)}
    if name == "polygons":
        return {**asset, "type": _VECTOR_TYPES.get(path.suffix.lower(), "application/octet-stream")}
    if name == "quicklook":
        return asset
    side = round(pixel_side(facts.grid), 4)
    asset |= {"type": _COG, "raster:spatial_resolution": side, "raster:sampling": "area"}
    if name == "map":
        listed = classification(facts.classes, facts.pixels, nodata=True)
        return {**asset, **_values("uint8", NODATA, ["land-cover"]), "classification:classes": listed}
    bands = ["confidence"] if name == "confidence" else list(facts.classes.names)
    return {**asset, **_values("float32", "nan", bands)}


def _values(data_type: str, nodata: int | str, bands: Sequence[str]) -> dict[str, Any]:
    return {"data_type": data_type, "nodata": nodata, "bands": [{"name": name} for name in bands]}


_ASSETS: dict[str, dict[str, Any]] = {
    "map": {"title": "Land-cover classes", "roles": ["data"]},
    "confidence": {"title": "Probability of the mapped class", "roles": ["data", "confidence"]},
    "probabilities": {"title": "Probability of every class", "roles": ["data", "probabilities"]},
    "polygons": {"title": "Land-cover polygons", "roles": ["data"]},
    "quicklook": {"title": "RGB, SAR, map and confidence", "roles": ["overview"], "type": "image/png"},
}


def _members(path: str, role: str) -> list[str]:
    return mosaic_members(path, role) if is_mosaic(path) else [path]


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
