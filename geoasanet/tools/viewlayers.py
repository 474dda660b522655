"""The pictures of the page: what is shown of each raster, as text that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoasanet.classes import NODATA, ClassSchema
from geoasanet.errors import NoOverlapError
from geoasanet.progress import Progress, silent
from geoasanet.raster import preview
from geoasanet.raster.bandcheck import check_bands
from geoasanet.raster.figure import BLANK, Pixels, ramp
from geoasanet.raster.grid import Grid
from geoasanet.raster.opening import open_dataset, reading
from geoasanet.raster.source import default_bands

QUALITY = 80
"""Of lossy WebP, for RGB and SAR."""
PERCENT = 100
"""Steps of confidence between 0 and 1, so that the page can read a colour back."""
_PIXELS = "its pixels"


@dataclass(frozen=True)
class Layer:
    """One picture of the page."""

    key: str
    """"rgb", "sar", "map" or "confidence"."""
    title: str
    """What the page calls it."""
    alt: str
    """What it shows, for who cannot see it."""
    uri: str
    """The picture as a data URI."""


@dataclass(frozen=True)
class Bands:
    """Which bands are shown."""

    rgb: tuple[int, ...] | None
    """Those shown as red, green and blue; None for the usual ones of the file."""
    sar: int | None
    """The one shown as grey; None for the file's first."""


def read_layers(
    map_path: str,
    paths: Mapping[str, str],
    bands: Bands,
    grid: Grid,
    classes: ClassSchema,
    low: float,
    progress: Progress = silent,
) -> list[Layer]:
    """Return the pictures of a map and what else is given.

    Args:
        map_path: The class map.
        paths: Any of "rgb", "sar", "confidence".
        bands: What is shown of "rgb" and "sar".
        grid: The grid to show them on.
        classes: The map's classes.
        low: Least possible confidence.
        progress: Told how many are done.

    Raises:
        SceneError: If one cannot be read, or shows nothing of ``grid``.
        BandError: If one lacks a band.
    """
    readers: dict[str, Callable[[str], Layer]] = {
        "rgb": lambda path: optical_layer(path, grid, bands.rgb or default_bands(path, "RGB", 3)),
        "sar": lambda path: radar_layer(path, grid, bands.sar or default_bands(path, "SAR", 1)[0]),
        "map": lambda path: class_layer(path, grid, classes),
        "confidence": lambda path: confidence_layer(path, grid, low),
    }
    todo = [(role, path) for role in readers if (path := map_path if role == "map" else paths.get(role)) is not None]
    layers = []
    for i, (role, path) in enumerate(todo):
        progress("drawing", i, len(todo), "pictures")
        layers.append(readers[role](path))
    progress("drawing", len(todo), len(todo), "pictures")
    return layers


def optical_layer(path: str, grid: Grid, bands: tuple[int, ...]) -> Layer:
    """Return the optical raster on ``grid``.

    Raises:
        SceneError: If it cannot be read.
        BandError: If it lacks a band.
        NoOverlapError: If it shows nothing of ``grid``.
    """
    _check_bands(path, bands, "RGB")
    red, green, blue = bands
    with reading(path, "RGB", _PIXELS):
        pixels = preview.read_rgb(path, grid, (red, green, blue))
    _check_seen(pixels, path, "RGB")
    return Layer("rgb", "RGB", f"Optical image {Path(path).name}", _photograph(pixels))


def radar_layer(path: str, grid: Grid, band: int) -> Layer:
    """Return the SAR raster on ``grid`` as grey.

    Raises:
        SceneError: If it cannot be read.
        BandError: If it lacks a band.
        NoOverlapError: If it shows nothing of ``grid``.
    """
    _check_bands(path, (band,), "SAR")
    with reading(path, "SAR", _PIXELS):
        pixels = preview.read_gray(path, grid, band)
    _check_seen(pixels, path, "SAR")
    return Layer("sar", "SAR", f"Radar image {Path(path).name}, grey", _photograph(pixels))


def class_layer(path: str, grid: Grid, classes: ClassSchema) -> Layer:
    """Return the class map on ``grid`` in the colours of ``classes``.

    Raises:
        SceneError: If it cannot be read.
    """
    palette = np.full((256, 3), BLANK, np.uint8)
    palette[: len(classes)] = classes.colors
    with reading(path, "map", _PIXELS):
        class_ids = preview.read_classes(path, grid)
    uri = _palette_image(class_ids, palette)
    return Layer("map", "Land cover", f"Class map {Path(path).name}", uri)


def confidence_layer(path: str, grid: Grid, low: float) -> Layer:
    """Return the confidence on ``grid``, coloured from ``low`` to 1; see :func:`confidence_colors`.

    Raises:
        SceneError: If it cannot be read.
        NoOverlapError: If it shows nothing of ``grid``.
    """
    _check_bands(path, (1,), "confidence")
    with open_dataset(path, "confidence") as dataset, reading(path, "confidence", _PIXELS):
        values = preview.read_values(path, grid) * dataset.scales[0] + dataset.offsets[0]
    valid = np.isfinite(values)
    if not valid.any():
        raise _unseen(path, "confidence")
    steps = np.clip(np.round(np.where(valid, values, 0) * PERCENT), 0, PERCENT)
    palette = np.full((256, 3), BLANK, np.uint8)
    palette[: PERCENT + 1] = confidence_colors(low)
    uri = _palette_image(np.where(valid, steps, NODATA).astype(np.uint8), palette)
    return Layer("confidence", "Confidence", f"Confidence {Path(path).name}, violet is low, yellow is high", uri)


def confidence_colors(low: float) -> Pixels:
    """Return the colour of each step of confidence, from 0 to 1, uint8 of shape (steps + 1, 3)."""
    return ramp(np.linspace(0, 1, PERCENT + 1), low, 1.0)


def _check_bands(path: str, bands: tuple[int, ...], role: str) -> None:
    with open_dataset(path, role) as dataset:
        check_bands(dataset, bands, path, role)


def _check_seen(pixels: Pixels, path: str, role: str) -> None:
    if (pixels == BLANK).all():
        raise _unseen(path, role)


def _unseen(path: str, role: str) -> NoOverlapError:
    return NoOverlapError(
        f"The {role} raster {path} has no data on the ground of the map.", "Is it the one that the map was made from?"
    )


def _photograph(pixels: Pixels) -> str:
    return _uri(Image.fromarray(np.ascontiguousarray(pixels)), "webp", quality=QUALITY, method=2)


def _palette_image(indices: NDArray[np.uint8], palette: Pixels) -> str:
    """Return indices as a picture of the palette's colours, transparent where they are 255."""
    image = Image.fromarray(indices).convert("L")
    image.putpalette(palette.tobytes())
    return _uri(image, "png", transparency=NODATA)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getbuffer()).decode('ascii')}"
