"""A synthetic landscape as the three GeoTIFFs of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from geoasanet.classes import NODATA
from geoasanet.files import atomic_output, check_output
from geoasanet.synthetic import CLASSES, Landscape, observe_sar, sar_grid
from geoasanet.synthetic.sensor import LOOKS, RGB_CRS, rgb_transform

NOTE = "Synthetic scene made by geoasanet; no real place."


@dataclass(frozen=True, slots=True)
class ScenePaths:
    """The files of one scene."""

    rgb: Path
    """Optical image: red, green, blue, uint8."""
    sar: Path
    """Radar image: sigma nought in dB, float32, NaN outside the swath; its own CRS and pixel size."""
    labels: Path
    """Class ids on the optical grid, uint8."""


def scene_paths(folder: Path) -> ScenePaths:
    """Return the names that a scene's files have in ``folder``."""
    return ScenePaths(folder / "scene_rgb.tif", folder / "scene_sar.tif", folder / "scene_labels.tif")


def write_scene(landscape: Landscape, folder: Path, *, overwrite: bool = False) -> ScenePaths:
    """Write ``landscape`` as optical image, radar image and labels, each a Cloud Optimized GeoTIFF.

    Raises:
        OutputError: If ``folder`` is missing or not writable, or a file exists and ``overwrite`` is false.
    """
    paths = scene_paths(folder)
    for path in (paths.rgb, paths.sar, paths.labels):
        check_output(path, overwrite=overwrite)
    tags = {"geoasanet_note": NOTE, "geoasanet_seed": str(landscape.seed)}
    transform = Affine(*rgb_transform(landscape.pixel_m))
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    rgb_names = ("red", "green", "blue")
    _write(paths.rgb, landscape.rgb, RGB_CRS, transform, names=rgb_names, tags=tags, colors=colors, predictor="YES")
    grid = sar_grid(*landscape.shape, landscape.pixel_m)
    sigma_db = observe_sar(landscape, grid)
    more = {"units": "dB", "equivalent_number_of_looks": str(LOOKS)}
    own = Affine(*grid.transform)
    _write(paths.sar, sigma_db[None], grid.crs, own, names=("sigma0_dB",), tags=tags | more, nodata=float("nan"))
    mode: dict[str, Any] = {"nodata": NODATA, "resampling": "MODE"}
    _write(paths.labels, landscape.labels[None], RGB_CRS, transform, names=("land cover",), tags=tags, **mode)
    return paths


def _write(
    path: Path,
    data: NDArray[Any],
    crs: str,
    transform: Affine,
    *,
    names: tuple[str, ...],
    tags: dict[str, str],
    colors: tuple[ColorInterp, ...] = (),
    resampling: str = "AVERAGE",
    **options: Any,
) -> None:
    """Write ``data`` (bands, height, width) with band names and tags; class ids get their colours."""
    count, height, width = data.shape
    profile = {"driver": "COG", "dtype": data.dtype.name, "count": count, "height": height, "width": width}
    profile |= {"crs": crs, "transform": transform, "compress": "DEFLATE", "blocksize": 256}
    profile |= {"overview_resampling": resampling} | options
    with atomic_output(path) as temporary, rasterio.open(temporary, "w", **profile) as out:
        out.write(data)
        out.update_tags(**tags)
        for band, name in enumerate(names, start=1):
            out.set_band_description(band, name)
        if colors:
            out.colorinterp = colors
        if data.dtype == np.uint8 and count == 1:
            out.write_colormap(1, {i: (*color, 255) for i, color in enumerate(CLASSES.colors)} | {NODATA: (0, 0, 0, 0)})
