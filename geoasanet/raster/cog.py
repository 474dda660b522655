"""Finished maps: Cloud Optimized GeoTIFFs with colours, class names, overviews and tags.

Rows are spooled as they are finished, one small file each, so that a run can be taken up again and several workers
can write at once; at the end GDAL reads them through one virtual raster into the final file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray

from geoasanet.classes import CLASSES_TAG, NODATA, ClassSchema
from geoasanet.errors import OutputError
from geoasanet.interrupt import interruptible
from geoasanet.raster.faults import ReadFaults
from geoasanet.raster.grid import Grid
from geoasanet.raster.opening import GDAL_ERRORS
from geoasanet.raster.overviews import refer_to_overviews, write_overviews
from geoasanet.raster.pieces import COUNTS_TAG, PRODUCTS, STRIP_ROWS, encode_faults, encode_rows, piece_name
from geoasanet.raster.readback import check_whole, written
from geoasanet.sample import RowBand

_TILE = 512
_REALS = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "LEVEL": "4"}
"""How probabilities are compressed: GDAL's level 6 takes twice the time for a file that is 1 % smaller."""


class RowSpool:
    """A folder of finished rows.

    Args:
        folder: Where the rows are kept; made if missing.
        grid: The output's grid.
        first_row: Row of the scene that is the output's first.
    """

    def __init__(self, folder: Path, grid: Grid, first_row: int = 0) -> None:
        self.folder = folder
        self.grid = grid
        self._first_row = first_row
        folder.mkdir(exist_ok=True)

    def write(self, band: RowBand) -> None:
        """Keep finished rows; they count as done only when whole.

        Raises:
            OutputError: If the disk is full or not writable.
        """
        self.keep(encode_rows(band, self.grid, self._first_row))

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Keep the files of finished rows, from :mod:`geoasanet.raster.pieces`, in their order.

        Raises:
            OutputError: If the disk is full or not writable.
        """
        for name, content in files.items():
            self._keep(self.folder / name, content)

    def keep_faults(self, row: int, faults: ReadFaults) -> None:
        """Keep what could not be read so far, before the rows from ``row`` (of the scene) on are kept.

        Raises:
            OutputError: If the disk is full or not writable.
        """
        self.keep(encode_faults(row - self._first_row, faults))

    def faults(self) -> ReadFaults:
        """Return what could not be read of the inputs, in this run and in those that it goes on from."""
        faults = ReadFaults()
        for path in sorted(self.folder.glob("faults-*.json")):
            faults.add_dicts(json.loads(path.read_text(encoding="utf-8")))
        return faults

    def drop_damaged(self) -> int:
        """Remove pieces that cannot be read as a whole, as a power cut may leave; return their number."""
        pieces, damaged = self.done(), 0
        for row, rows in pieces.items():
            paths = [path for name in PRODUCTS if (path := self._path(name, row, rows)).exists()]
            try:
                with rasterio.open(self._path("classes", row, rows)) as dataset:
                    counts = np.array(json.loads(dataset.tags()[COUNTS_TAG])["classes"], np.int64)
                for path in paths:
                    check_whole(path, counts if path.name.startswith("classes") else None)
            except (OutputError, KeyError, ValueError, *GDAL_ERRORS):
                damaged += 1
                for path in reversed(paths):  # classes first: without them the others do not count
                    path.unlink()
        return damaged

    def done(self) -> dict[int, int]:
        """Return the finished pieces: first row (of the output) and number of rows."""
        pieces = {}
        for path in self.folder.glob("classes-*.tif"):
            row, rows = path.stem.split("-")[1:]
            pieces[int(row)] = int(rows)
        return dict(sorted(pieces.items()))

    def counts(self) -> tuple[NDArray[np.int64], int]:
        """Return pixels of each value 0..255 and the number of mapped pixels that had no SAR data."""
        total, filled = np.zeros(NODATA + 1, np.int64), 0
        for row, rows in self.done().items():
            with rasterio.open(self._path("classes", row, rows)) as dataset:
                counts = json.loads(dataset.tags()[COUNTS_TAG])
            total += np.array(counts["classes"], np.int64)
            filled += int(counts["filled"])
        return total, filled

    def write_map(self, out: Path, classes: ClassSchema, tags: Mapping[str, str], counts: NDArray[np.int64]) -> None:
        """Write the class map as a COG to ``out``, a temporary path: what stays there after an error is not whole.

        Args:
            out: Where to write.
            classes: Names and colours.
            tags: Metadata.
            counts: Pixels of each value 0..255, from :meth:`counts`; the finished file is held against them.

        Raises:
            OutputError: If the disk is full or not writable.
        """
        vrt = self._virtual("classes", 1, {CLASSES_TAG: json.dumps(classes.to_dict()), **tags})
        band = vrt.find("VRTRasterBand")
        assert band is not None
        describe_classes(band, classes)
        # GDAL's own resampling to the commonest value takes longer than the map's compression.
        with written(out), rasterio.Env(**self._copy_options(vrt)):
            overviews = write_overviews(Xml.tostring(vrt, encoding="unicode"), self.folder)
        refer_to_overviews(band, overviews)
        self._copy(vrt, out, counts, COMPRESS="DEFLATE")

    def write_confidence(self, out: Path, tags: Mapping[str, str]) -> None:
        """Write the probability of the mapped class (float32, nodata NaN) as a COG; see :meth:`write_map`."""
        vrt = self._virtual("confidence", 1, tags, ["confidence"])
        self._copy(vrt, out, None, OVERVIEW_RESAMPLING="AVERAGE", **_REALS)

    def write_probabilities(self, out: Path, classes: ClassSchema, tags: Mapping[str, str]) -> None:
        """Write one band per class with its probability (float32, nodata NaN) as a COG; see :meth:`write_map`."""
        vrt = self._virtual("probabilities", len(classes), tags, list(classes.names))
        options = dict(_REALS)
        if tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) >= (3, 11):
            options["INTERLEAVE"] = "BAND"  # one class is read without the others; older GDAL lacks it for COGs
        self._copy(vrt, out, None, OVERVIEW_RESAMPLING="AVERAGE", **options)

    def _path(self, product: str, row: int, rows: int) -> Path:
        return self.folder / piece_name(product, row, rows)

    def _keep(self, final: Path, content: bytes) -> None:
        """Write a file that is there only when whole, after a power cut too."""
        temporary = final.with_name(f"{final.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise OutputError(
                f"{final.name} cannot be written to {self.folder}: {error.strerror or error}.",
                "Free space on that disk. The same command goes on where it stopped.",
            ) from None

    def _virtual(
        self, name: str, count: int, tags: Mapping[str, str], descriptions: list[str] | None = None
    ) -> Xml.Element:
        """Return the virtual raster of all pieces of one product."""
        grid, pieces = self.grid, self.done()
        vrt = Xml.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
        Xml.SubElement(vrt, "SRS").text = grid.crs.to_wkt()
        Xml.SubElement(vrt, "GeoTransform").text = ", ".join(repr(float(v)) for v in grid.transform.to_gdal())
        metadata = Xml.SubElement(vrt, "Metadata")
        for key, value in sorted(tags.items()):
            Xml.SubElement(metadata, "MDI", key=key).text = value
        dtype, nodata = ("Byte", str(NODATA)) if name == "classes" else ("Float32", "nan")
        for index in range(count):
            band = Xml.SubElement(vrt, "VRTRasterBand", dataType=dtype, band=str(index + 1))
            Xml.SubElement(band, "NoDataValue").text = nodata
            if descriptions:
                Xml.SubElement(band, "Description").text = descriptions[index]
            for row, rows in pieces.items():
                source = Xml.SubElement(band, "SimpleSource")
                path = Xml.SubElement(source, "SourceFilename", relativeToVRT="0")
                path.text = str(self._path(name, row, rows).absolute())
                Xml.SubElement(source, "SourceBand").text = str(index + 1)
                area = {"xOff": "0", "xSize": str(grid.width), "ySize": str(rows)}
                Xml.SubElement(
                    source,
                    "SourceProperties",
                    RasterXSize=str(grid.width),
                    RasterYSize=str(rows),
                    DataType=dtype,
                    BlockXSize=str(grid.width),
                    BlockYSize=str(min(STRIP_ROWS, rows)),
                )
                Xml.SubElement(source, "SrcRect", {**area, "yOff": "0"})
                Xml.SubElement(source, "DstRect", {**area, "yOff": str(row)})
        return vrt

    def _copy_options(self, vrt: Xml.Element) -> dict[str, int]:
        """Return GDAL settings for the copy: a cache that holds a row of tiles, few spooled files open at once."""
        pixel = 1 if vrt.find("VRTRasterBand[@dataType='Byte']") is not None else 4
        return {
            "GDAL_CACHEMAX": int(1.5 * _TILE * self.grid.width * pixel) + (8 << 20),
            "GDAL_MAX_DATASET_POOL_SIZE": 8,
        }

    def _copy(self, vrt: Xml.Element, out: Path, counts: NDArray[np.int64] | None, **options: str) -> None:
        """Write a virtual raster as a COG and read it back; see :func:`check_whole` for ``counts``."""
        text = Xml.tostring(vrt, encoding="unicode")

        def copy() -> None:
            with rasterio.Env(**self._copy_options(vrt)):  # settings hold in one thread
                rasterio.shutil.copy(
                    text,
                    out,
                    driver="COG",
                    BLOCKSIZE=str(_TILE),
                    NUM_THREADS="ALL_CPUS",
                    BIGTIFF="IF_SAFER",
                    **options,
                )
                check_whole(out, counts)

        with written(out):
            interruptible(copy)


def describe_classes(band: Xml.Element, classes: ClassSchema) -> None:
    """Add class names, colours and an attribute table to a band of a virtual raster."""
    Xml.SubElement(band, "ColorInterp").text = "Palette"
    Xml.SubElement(band, "Description").text = "land cover"
    colors = Xml.SubElement(band, "ColorTable")
    for red, green, blue in classes.colors:
        Xml.SubElement(colors, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4="255")
    names = Xml.SubElement(band, "CategoryNames")
    for name in classes.names:
        Xml.SubElement(names, "Category").text = name
    table = Xml.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # GDAL's codes: type 0 integer, 2 text; usage 5 value, 2 name, 6 to 8 red, green, blue.
    fields = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
    for index, (name, kind, usage) in enumerate(fields):
        field = Xml.SubElement(table, "FieldDefn", index=str(index))
        Xml.SubElement(field, "Name").text = name
        Xml.SubElement(field, "Type").text = str(kind)
        Xml.SubElement(field, "Usage").text = str(usage)
    for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)):
        row = Xml.SubElement(table, "Row", index=str(index))
        for value in (index, name, *color):
            Xml.SubElement(row, "F").text = str(value)
