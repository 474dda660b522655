"""Several files as one raster: ``"north.tif;south.tif"``, or a pattern such as ``"sentinel/*_TCI.tif"``.

The files are read through a virtual raster that GDAL makes nothing for on disk. They must share CRS, resolution, data
type and bands, and may lie anywhere: where several have data the last one in the list is on top; where none has, there
is no data.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
from affine import Affine

from geoasanet.errors import SceneError

SEPARATOR = ";"

_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
_TOLERANCE = 1e-3
"""Part of a pixel by which files may be off the grid of the first."""
_MOST_PIXELS = 2**24


@dataclass(frozen=True, slots=True)
class Header:
    """What a mosaic needs to know of a file."""

    path: str
    width: int
    height: int
    crs: Any
    transform: Affine
    types: tuple[str, ...]
    nodata: float | None
    colors: tuple[str, ...]
    """Colour interpretation of each band."""

    @classmethod
    def of(cls, dataset: Any) -> Header:
        """Return that of an open rasterio dataset."""
        return cls(
            path=dataset.name,
            width=dataset.width,
            height=dataset.height,
            crs=dataset.crs,
            transform=dataset.transform,
            types=tuple(dataset.dtypes),
            nodata=None if dataset.nodata is None else float(dataset.nodata),
            colors=tuple(color.name for color in dataset.colorinterp),
        )

    def facts(self) -> dict[str, str]:
        """Return in what all files must agree."""
        return {
            "CRS": self.crs.to_string() if self.crs else "none",
            "bands": str(len(self.types)),
            "data type": "/".join(sorted(set(self.types))),
            "nodata value": str(self.nodata),
            "colours": ",".join(self.colors),
        }


@dataclass(frozen=True, slots=True)
class _Member:
    path: str
    col: int
    row: int
    width: int
    height: int


def is_mosaic(path: str) -> bool:
    """Return whether ``path`` names several files; a file that is really called so does not."""
    if path.lstrip().startswith("<"):
        return False
    remote = "://" in path or path.startswith("/vsi")
    if SEPARATOR not in path and (remote or not any(c in path for c in "*?")):
        return False
    return not os.path.lexists(path)


def mosaic_members(path: str, role: str) -> list[str]:
    """Return the files that ``path`` names: those between semicolons, and those that patterns match, sorted.

    Raises:
        SceneError: If a pattern matches nothing.
    """
    members: list[str] = []
    for part in (part.strip() for part in path.split(SEPARATOR)):
        if not part:
            continue
        if "://" in part or part.startswith("/vsi") or not any(c in part for c in "*?"):
            members.append(part)
            continue
        found = sorted(glob.glob(part))  # noqa: PTH207  # a pattern of any folders
        if not found:
            raise SceneError(f"{role} raster {part}: no file matches.", "Check the pattern; quote it in a shell.")
        members += found
    if not members:
        raise SceneError(f"{role} raster {path!r} names no file.", "Give at least one.")
    return members


def mosaic_vrt(headers: Sequence[Header], path: str, role: str) -> str:
    """Return a virtual raster (XML) over files.

    Args:
        headers: The files, lowest first.
        path: What the user calls them together, for messages.
        role: What they are to the user.

    Raises:
        SceneError: If they do not fit together; the first that does not is named.
    """
    first = headers[0]
    for header in headers:
        _check_fits(header, first, path, role)
    members, origin, shape = _places(headers, path, role)
    transform = first.transform @ Affine.translation(*origin)
    vrt = Xml.Element("VRTDataset", rasterXSize=str(shape[0]), rasterYSize=str(shape[1]))
    if first.crs:
        Xml.SubElement(vrt, "SRS").text = first.crs.to_wkt()
    Xml.SubElement(vrt, "GeoTransform").text = ", ".join(repr(float(v)) for v in transform.to_gdal())
    for number, (dtype, color) in enumerate(zip(first.types, first.colors, strict=True), 1):
        band = Xml.SubElement(vrt, "VRTRasterBand", dataType=_GDAL_TYPES[dtype], band=str(number))
        if first.nodata is not None:
            Xml.SubElement(band, "NoDataValue").text = repr(first.nodata)
        Xml.SubElement(band, "ColorInterp").text = color.capitalize()
        for member in members:
            _add_source(band, member, str(number), first.nodata)
    if first.nodata is None and "alpha" not in first.colors:
        mask = Xml.SubElement(Xml.SubElement(vrt, "MaskBand"), "VRTRasterBand", dataType="Byte")
        for member in members:
            _add_source(mask, member, "mask,1", None)
    return Xml.tostring(vrt, encoding="unicode")


def _check_fits(header: Header, first: Header, path: str, role: str) -> None:
    for what, wanted in first.facts().items():
        found = header.facts()[what]
        if found != wanted:
            raise SceneError(
                f"{role} raster {path}: {header.path} has {what} {found}, {first.path} has {wanted}.",
                "Files of a mosaic must agree; bring them together with gdalwarp, or map them one by one (--scenes).",
            )
    if unknown := set(header.types) - set(_GDAL_TYPES):
        raise SceneError(f"{role} raster {header.path} is of type {', '.join(sorted(unknown))}.", "Convert it first.")


def _places(headers: Sequence[Header], path: str, role: str) -> tuple[list[_Member], tuple[int, int], tuple[int, int]]:
    """Return where the files lie on the first one's grid, that grid's first column and row, and width and height."""
    first = headers[0]
    places = []
    for header in headers:
        relative = ~first.transform @ header.transform
        corners = np.array([relative @ (x, y) for x in (0, header.width) for y in (0, header.height)])
        exact = np.round(corners[0])
        expected = exact + np.array([(x, y) for x in (0, header.width) for y in (0, header.height)])
        if not np.abs(corners - expected).max() < _TOLERANCE:
            raise SceneError(
                f"{role} raster {path}: the pixels of {header.path} do not lie on those of {first.path}.",
                "Files of a mosaic must share one grid; bring them onto it with gdalwarp -tap -tr.",
            )
        places.append((header.path, int(exact[0]), int(exact[1]), header.width, header.height))
    left, top = min(p[1] for p in places), min(p[2] for p in places)
    width, height = max(p[1] + p[3] for p in places) - left, max(p[2] + p[4] for p in places) - top
    if max(width, height) > _MOST_PIXELS:
        raise SceneError(f"{role} raster {path}: its files lie too far apart ({width} × {height} pixels).", "")
    members = [_Member(name, col - left, row - top, w, h) for name, col, row, w, h in places]
    return members, (left, top), (width, height)


def _add_source(band: Xml.Element, member: _Member, number: str, nodata: float | None) -> None:
    source = Xml.SubElement(band, "SimpleSource" if nodata is None else "ComplexSource")
    Xml.SubElement(source, "SourceFilename", relativeToVRT="0").text = member.path
    Xml.SubElement(source, "SourceBand").text = number
    size = {"xSize": str(member.width), "ySize": str(member.height)}
    Xml.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
    Xml.SubElement(source, "DstRect", {"xOff": str(member.col), "yOff": str(member.row), **size})
    if nodata is not None:
        Xml.SubElement(source, "NODATA").text = repr(float(nodata))
