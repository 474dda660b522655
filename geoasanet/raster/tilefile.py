"""The image files of one tile: GeoTIFF, PNG or JPEG, with or without georeference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from geoasanet.errors import ManifestError
from geoasanet.raster.source import quiet_georeference
from geoasanet.sample import BoolArray


def read_image(path: Path) -> tuple[NDArray[Any], BoolArray]:
    """Return the bands but alpha, shape (bands, height, width), and validity, shape (height, width).

    Pixels that are not valid (nodata value, alpha, mask band, not finite) are 0.

    Raises:
        ManifestError: If the file is missing or unreadable.
    """
    if not path.is_file():
        raise ManifestError(f"Tile file {path} does not exist.", "Add it, or take its name out of the lists.")
    try:
        with quiet_georeference(), rasterio.open(path) as dataset:
            alpha = [c == ColorInterp.alpha for c in dataset.colorinterp]
            bands = [i + 1 for i, is_alpha in enumerate(alpha) if not is_alpha]
            pixels = dataset.read(bands)
            if all(MaskFlags.all_valid in dataset.mask_flag_enums[b - 1] for b in bands):
                valid = np.ones(pixels.shape[1:], bool)
            else:
                masks = dataset.read_masks(bands) != 0
                valid = masks.any(axis=0) if pixels.dtype.kind == "u" else masks.all(axis=0)
    except (RasterioError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise ManifestError(f"Tile file {path} cannot be read: {reason}.", "Copy or make it anew.") from None
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    if not valid.all():
        pixels[:, ~valid] = 0
    return pixels, valid


def as_gray(sar: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return one band of a grey picture that was saved as three equal ones (JPEG writers do that)."""
    if path.suffix.lower() in (".jpg", ".jpeg", ".png") and sar.shape[0] == 3:
        near = max(np.abs(sar[0].astype(np.int32) - sar[k]).max() for k in (1, 2))
        if near <= 2:
            return np.ascontiguousarray(sar[:1])
    return sar
