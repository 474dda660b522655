"""What a vector file is: its layer, features, reference system and fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyogrio

from geoasanet.errors import VectorError
from geoasanet.raster.vectorread import reading_vector


def describe_vector(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return facts about the first layer of a vector file and the problems that keep it from being used.

    Raises:
        VectorError: If it cannot be opened.
    """
    with reading_vector(path, "Vector file"):
        layers = [str(name) for name, *_ in pyogrio.list_layers(path)]
        if not layers:
            raise VectorError(f"Vector file {path} holds no layer.", "Choose another file.")
        facts = pyogrio.read_info(path, layer=layers[0], force_feature_count=True, force_total_bounds=True)
    bounds = facts["total_bounds"]
    described = {
        "driver": facts["driver"],
        "layers": layers,
        "features": int(facts["features"]),
        "geometry": facts["geometry_type"],
        "crs": facts["crs"],
        "bounds": [float(v) for v in bounds] if bounds is not None else None,
        "fields": {str(k): str(v) for k, v in zip(facts["fields"], facts["dtypes"], strict=True)},
    }
    problems = []
    if described["features"] == 0:
        problems.append("The layer holds no feature.")
    if described["crs"] is None:
        problems.append("The layer has no coordinate reference system: assign it with ogr2ogr -a_srs EPSG:XXXX.")
    return described, problems
