"""Scenes from a STAC ItemCollection: optical and SAR items paired by their footprints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from geoasanet.errors import ManifestError
from geoasanet.files import read_limited
from geoasanet.raster.tileplan import SceneFiles

RGB_ASSETS = ("visual", "rgb", "tci", "TCI")
"""Keys of assets that are taken for optical rasters of red, green and blue, the first that an item has."""
SAR_ASSETS = ("sar", "vv", "VV", "hh", "HH")
"""Keys of assets that are taken for SAR rasters."""

_LARGEST = 256 << 20
_COVERED = 0.5
_LONGEST = 8192
"""Characters of a path or address."""


@dataclass(frozen=True, slots=True)
class _Item:
    name: str
    geometry: Any
    """shapely geometry in longitude and latitude."""
    time: float | None
    """Seconds since 1970; None if unknown."""
    assets: Mapping[str, str]


def read_item_collection(
    path: Path, rgb_assets: Sequence[str] = RGB_ASSETS, sar_assets: Sequence[str] = SAR_ASSETS
) -> tuple[list[SceneFiles], list[str]]:
    """Return the scenes of an ItemCollection (a GeoJSON FeatureCollection of STAC Items), and warnings.

    Every optical item makes a scene, with the SAR item that covers the largest part of it; of several that cover as
    much, the one nearest in time. An item with both makes one of its own.

    Args:
        path: The JSON file, such as the saved result of a search.
        rgb_assets: Asset keys of optical rasters.
        sar_assets: Asset keys of SAR rasters.

    Raises:
        ManifestError: If it cannot be read, or no pair is found.
    """
    items = [_item(path, number, feature) for number, feature in enumerate(_features(path), 1)]
    optical = [item for item in items if _asset(item, rgb_assets)]
    radar = [item for item in items if _asset(item, sar_assets)]
    if not optical or not radar:
        missing, wanted = ("optical", rgb_assets) if not optical else ("SAR", sar_assets)
        found = ", ".join(sorted({key for item in items for key in item.assets})[:12]) or "none"
        raise ManifestError(
            f"{path} has no item with {missing} imagery: asset keys are {found}.",
            f"One of {', '.join(wanted)} is needed; name another with --{'rgb' if not optical else 'sar'}-asset.",
        )
    scenes, notes = [], []
    for item in optical:
        partner, share = _partner(item, radar)
        if partner is None:
            notes.append(f"{item.name}: no SAR item overlaps it; it is left out.")
            continue
        if share < _COVERED:
            notes.append(f"{item.name}: {partner.name} covers {100 * share:.0f} % of it; the rest has no SAR data.")
        rgb, sar = _asset(item, rgb_assets), _asset(partner, sar_assets)
        assert rgb is not None and sar is not None
        scenes.append(SceneFiles(rgb, sar, None, None, f"{path}, {item.name}: "))
    if not scenes:
        raise ManifestError(f"No optical item of {path} overlaps a SAR item.", "Do both show the same place?")
    return scenes, notes


def _features(path: Path) -> list[Any]:
    try:
        data = json.loads(read_limited(path, _LARGEST).decode("utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from None
    except (ValueError, RecursionError):
        raise ManifestError(f"{path} is no JSON.", "A STAC ItemCollection is needed.") from None
    features = data.get("features") if isinstance(data, dict) else None
    if not isinstance(features, list) or data.get("type") != "FeatureCollection":
        raise ManifestError(f"{path} is no STAC ItemCollection (a FeatureCollection of Items).", "Save search results.")
    return features


def _item(path: Path, number: int, feature: Any) -> _Item:
    import shapely
    from shapely.geometry import shape

    try:
        name = str(feature.get("id") or f"item {number}")
        geometry = shapely.make_valid(shape(feature["geometry"]))
        if geometry.is_empty:
            raise ValueError("an empty footprint")
        assets = {str(k): _near(path, v["href"]) for k, v in feature.get("assets", {}).items()}
        stamp = feature.get("properties", {}).get("datetime")
        time = datetime.fromisoformat(str(stamp)).timestamp() if stamp else None
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ManifestError(
            f"{path}, item {number} is no STAC Item ({type(error).__name__}: {error}).",
            "It needs a geometry and assets with href.",
        ) from None
    return _Item(name, geometry, time, assets)


def _partner(item: _Item, radar: Sequence[_Item]) -> tuple[_Item | None, float]:
    """Return the SAR item for an optical one, and the part of it that it covers (0 to 1)."""
    if item in radar:
        return item, 1.0
    best: tuple[float, float, _Item] | None = None
    for candidate in radar:
        area = item.geometry.area
        share = round(item.geometry.intersection(candidate.geometry).area / area, 3) if area else 0.0
        apart = abs(item.time - candidate.time) if item.time is not None and candidate.time is not None else 1e18
        if share > 0 and (best is None or (share, -apart) > best[:2]):
            best = share, -apart, candidate
    return (None, 0.0) if best is None else (best[2], best[0])


def _asset(item: _Item, keys: Sequence[str]) -> str | None:
    return next((item.assets[key] for key in keys if key in item.assets), None)


def _near(path: Path, href: Any) -> str:
    if not isinstance(href, str) or not 0 < len(href) <= _LONGEST:
        raise ValueError(f"href is {str(href)[:80]!r}")
    return href if "://" in href or href.startswith("/") else str(path.parent / href)
