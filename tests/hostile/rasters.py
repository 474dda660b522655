"""GeoTIFF files that are odd but whole, or broken: each function makes one kind, from usual pixels of a role."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

from tests.conftest import UTM, write_raster
from tests.hostile import tiff
from tests.hostile.good import SIDE, pixels

Maker = Callable[[Path, str, np.random.Generator], Path]
"""Writes a file of a role ("rgb", "sar", "classes", "confidence") into a folder and returns its path."""

NAME = "hostile.tif"


def plain(folder: Path, role: str, rng: np.random.Generator, **options: Any) -> Path:
    """Write an ordinary raster with creation options."""
    values = options.pop("values", None)
    return write_raster(folder / NAME, pixels(role, rng) if values is None else values, **options)


def shaped(height: int, width: int) -> Maker:
    """Return the maker of rasters of another size."""
    return lambda folder, role, rng: plain(folder, role, rng, values=pixels(role, rng, height, width))


def placed(transform: Affine, crs: str | None = "EPSG:32650") -> Maker:
    """Return the maker of rasters that lie elsewhere."""
    return lambda folder, role, rng: plain(folder, role, rng, transform=transform, crs=crs)


def coded(**options: Any) -> Maker:
    """Return the maker of rasters with GDAL creation options."""
    return lambda folder, role, rng: plain(folder, role, rng, **options)


def typed(dtype: str, scale: float = 1.0, offset: float = 0.0, **options: Any) -> Maker:
    """Return the maker of rasters of another data type."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        values = pixels(role, rng).astype(np.float64) * scale + offset
        return plain(folder, role, rng, values=values.astype(dtype), **options)

    return make


def filled(value: float, dtype: str | None = None, **options: Any) -> Maker:
    """Return the maker of rasters that hold one value everywhere."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        values = pixels(role, rng)
        return plain(folder, role, rng, values=np.full(values.shape, value, dtype or values.dtype), **options)

    return make


def _speckled(*found: float, **options: Any) -> Maker:
    """Return the maker of float rasters with some pixels of each of ``found``."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        values = pixels(role, rng).astype(np.float32)
        for value in found:
            values[:, *rng.integers(0, SIDE, (2, 60))] = value
        return plain(folder, role, rng, values=values, **options)

    return make


def _complex_int16(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = folder / NAME
    options = {"count": 3 if role == "rgb" else 1, "height": SIDE, "width": SIDE, "dtype": "complex_int16"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32650", transform=UTM, **options) as dataset:
        dataset.write(np.ones((options["count"], SIDE, SIDE), np.complex64))
    return path


def _changed(tag: int, *values: int, **options: Any) -> Maker:
    """Return the maker of files whose ``tag`` declares one of ``values``."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        path = plain(folder, role, rng, **options)
        return tiff.set_tag(path, tag, int(rng.choice(values)))

    return make


def _huge(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = plain(folder, role, rng)
    sides = [2**31 - 1, 2**31, 2**32 - 1, 65_536, 10**6, 2**24]
    for tag in (tiff.WIDTH, tiff.HEIGHT):
        tiff.set_tag(path, tag, int(rng.choice(sides)))
    return path


def _huge_sparse(folder: Path, role: str, rng: np.random.Generator) -> Path:
    """A file of some kilobytes with trillions of pixels, or with blocks of gigabytes."""
    side, block = ((17_000_000, 65_520), (3_000_000, 65_520), (65_520, 65_520))[int(rng.integers(3))]
    options = {"tiled": True, "blockxsize": block, "blockysize": block, "SPARSE_OK": True, "BIGTIFF": "YES"}
    count = 3 if role == "rgb" else 1
    with rasterio.open(
        folder / NAME, "w", driver="GTiff", count=count, height=side, width=side, dtype="uint8", crs="EPSG:32650",
        transform=UTM, compress="deflate", nodata=0, **options,
    ):  # fmt: skip
        pass
    return folder / NAME


def _truncated(folder: Path, role: str, rng: np.random.Generator) -> Path:
    options = rng.choice(["none", "deflate", "lzw"])
    path = plain(folder, role, rng, compress=str(options), tiled=bool(rng.integers(2)), blockxsize=16, blockysize=16)
    return tiff.cut(path, float(rng.uniform(0.001, 0.999)))


def _flipped(folder: Path, role: str, rng: np.random.Generator) -> Path:
    codec = str(rng.choice(["none", "deflate", "lzw", "zstd", "packbits"]))
    path = plain(folder, role, rng, compress=codec)
    return tiff.flip_bits(path, rng, int(rng.integers(1, 40)))


def _flipped_header(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = plain(folder, role, rng, tiled=bool(rng.integers(2)), blockxsize=16, blockysize=16)
    return tiff.flip_bits(path, rng, int(rng.integers(1, 8)), 0, 500)


def _flipped_data(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = plain(folder, role, rng, compress=str(rng.choice(["deflate", "lzw", "zstd", "lzma"])))
    return tiff.flip_bits(path, rng, int(rng.integers(1, 200)), 600)


def _zeroed(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = plain(folder, role, rng, compress="deflate")
    data = bytearray(path.read_bytes())
    start = int(rng.integers(0, len(data) - 64))
    data[start : start + 64] = bytes(64)
    path.write_bytes(data)
    return path


def _looped(folder: Path, role: str, rng: np.random.Generator) -> Path:
    return tiff.loop_directories(plain(folder, role, rng))


def _wrong_type(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = plain(folder, role, rng)
    tag = int(rng.choice([tiff.WIDTH, tiff.STRIP_OFFSETS, tiff.BITS, tiff.SAMPLES, tiff.STRIP_BYTES, 33_550, 34_735]))
    return tiff.set_type(path, tag, int(rng.choice([0, 1, 2, 5, 7, 12, 13, 99])))


def _control_points(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = plain(folder, role, rng, crs=None, transform=Affine.identity())
    corners = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)]
    points = [GroundControlPoint(row=r, col=c, x=5e5 + 10 * c, y=3e6 - 10 * r) for r, c in corners]
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = points, rasterio.crs.CRS.from_epsg(32650)
    return path


def _alpha(folder: Path, role: str, rng: np.random.Generator) -> Path:
    values = pixels(role, rng)
    opaque = np.full((1, SIDE, SIDE), 255, values.dtype)
    opaque[:, :10] = 0
    path = plain(folder, role, rng, values=np.concatenate([values, opaque]), ALPHA="YES")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [*dataset.colorinterp[:-1], ColorInterp.alpha]
    return path


def _only_alpha(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = plain(folder, role, rng)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha] * dataset.count
    return path


def _masked(share: float) -> Maker:
    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        mask = np.where(rng.random((SIDE, SIDE)) < share, 0, 255).astype(np.uint8)
        return plain(folder, role, rng, mask=mask)

    return make


def _bands(count: int) -> Maker:
    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        return plain(folder, role, rng, values=np.concatenate([pixels(role, rng)] * count)[:count])

    return make


def _palette(folder: Path, role: str, rng: np.random.Generator) -> Path:
    values = rng.integers(0, 5, (1, SIDE, SIDE), dtype=np.uint8)
    path = plain(folder, role, rng, values=values, photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (i * 40, 9, 200, 255) for i in range(5)})
    return path


def _tagged(folder: Path, role: str, rng: np.random.Generator) -> Path:
    """Our own tags, with anything in them."""
    path = plain(folder, role, rng)
    texts = [
        "{", "[]", "null", '{"classes": 5}', '{"classes": [{"name": 1, "id": 7}]}', '{"classes": [' + '["a"],' * 3,
        '{"classes": ["<script>alert(1)</script>", "b\\u001b[31m", "c", "d", "e"]}', "[" * 100_000, "1" * 5000,
        '{"classes": ["a","b","c","d","e"], "ignore_index": 1e999}', '{"classes": {"a": 1}}',
        '{"classes": ["a","b","c","d","e"], "ignore_index": "x"}', '{"classes": ["a","a"]}',
        '{"classes": [{"name": "a", "color": [1e400, -1, 3]}]}', '{"classes": [{"id": NaN, "name": "a"}]}',
    ]  # fmt: skip
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(GEOASANET_CLASSES=texts[int(rng.integers(len(texts)))], GEOASANET_OPTIONS="{")
    return path


def _named_categories(folder: Path, role: str, rng: np.random.Generator) -> Path:
    """A sidecar with category names that are markup, far too many, or no XML."""
    path = plain(folder, role, rng)
    names = ["&lt;script&gt;alert(1)&lt;/script&gt;", "a\x1bb", "", "x" * 5000, "dup", "dup"]
    bodies = [
        "<CategoryNames>" + "".join(f"<Category>{n}</Category>" for n in names) + "</CategoryNames>",
        "<CategoryNames>" + "<Category>n</Category>" * 20_000 + "</CategoryNames>",
        "<GDALRasterAttributeTable><FieldDefn index='0'><Name>Value</Name><Type>0</Type><Usage>5</Usage></FieldDefn>"
        "<Row index='0'><F>99999999999999999999</F></Row></GDALRasterAttributeTable>",
    ]
    body = bodies[int(rng.integers(len(bodies)))]
    end = "" if rng.integers(4) == 0 else "</PAMRasterBand></PAMDataset>"
    text = f"<PAMDataset><PAMRasterBand band='1'>{body}{end}"
    path.with_name(f"{path.name}.aux.xml").write_text(text)
    return path


_NORTH = from_origin(500_000, 3_000_000, 10, 10)
ODD: dict[str, Maker] = {
    "1-bit": lambda f, r, g: plain(f, r, g, values=(pixels(r, g) > 0).astype(np.uint8), nbits=1),
    "12-bit": typed("uint16", nbits=12),
    "complex64": typed("complex64"),
    "complex int16": _complex_int16,
    "int8": typed("int8", 0.4),
    "int16": typed("int16", 1, -50),
    "int16 nodata": typed("int16", 1, 0, nodata=-9999),
    "uint16": typed("uint16", 40),
    "uint32": typed("uint32", 4000),
    "int32": typed("int32", 1, -3),
    "int64": typed("int64"),
    "uint64": typed("uint64"),
    "float64": typed("float64"),
    "float64 beyond float32": filled(1e300, "float64"),
    "float with NaN and infinity": _speckled(np.nan, np.inf, -np.inf),
    "float with largest values": _speckled(3.4e38, -3.4e38, 1e-45),
    "all NaN": filled(np.nan, "float32"),
    "all infinite": filled(np.inf, "float32"),
    "negative dB": typed("float32", -30, -0.1),
    "negative linear": typed("float32", 1, -5),
    "all zero": filled(0),
    "all nodata": filled(7, nodata=7),
    "nodata NaN": _speckled(np.nan, nodata=float("nan")),
    "nodata out of range": coded(nodata=0),
    "one value": filled(3),
    "JPEG": lambda f, r, g: plain(f, r, g, values=np.clip(pixels(r, g) * 1, 0, 255).astype(np.uint8), compress="jpeg"),
    "JPEG YCbCr": lambda f, r, g: plain(
        f, r, g, values=g.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8), compress="jpeg", photometric="ycbcr"
    ),
    "LERC": coded(compress="lerc"),
    "LERC ZSTD": coded(compress="lerc_zstd", MAX_Z_ERROR=0.1),
    "ZSTD": coded(compress="zstd"),
    "LZMA": coded(compress="lzma"),
    "deflate with predictor": coded(compress="deflate", predictor=2),
    "PackBits": coded(compress="packbits"),
    "WebP": lambda f, r, g: plain(
        f, r, g, values=g.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8), compress="webp", tiled=True,
        blockxsize=16, blockysize=16,
    ),
    "JPEG XL": coded(compress="deflate", interleave="band"),
    "planar": coded(interleave="band", tiled=True, blockxsize=16, blockysize=16),
    "big-endian": coded(ENDIANNESS="BIG"),
    "BigTIFF": coded(BIGTIFF="YES"),
    "sparse": lambda f, r, g: plain(f, r, g, values=pixels(r, g) * 0, SPARSE_OK=True, tiled=True, blockxsize=16,
                                    blockysize=16, nodata=0),
    "internal mask": _masked(0.3),
    "mask of nothing": _masked(1.0),
    "alpha": _alpha,
    "alpha only": _only_alpha,
    "palette": _palette,
    "one pixel": shaped(1, 1),
    "one row": shaped(1, SIDE),
    "one column": shaped(SIDE, 1),
    "two by three": shaped(2, 3),
    "one band": _bands(1),
    "two bands": _bands(2),
    "many bands": _bands(300),
    "rotated": placed(_NORTH @ Affine.rotation(33)),
    "sheared": placed(_NORTH @ Affine.shear(20, 5)),
    "south-up": placed(Affine(10, 0, 500_000, 0, 10, 3_000_000 - 10 * SIDE)),
    "mirrored": placed(Affine(-10, 0, 500_000 + 10 * SIDE, 0, -10, 3_000_000)),
    "geographic": placed(from_origin(117.0, 27.12, 1e-4, 1e-4), "EPSG:4326"),
    "antimeridian": placed(from_origin(179.999, 10, 1e-4, 1e-4), "EPSG:4326"),
    "beyond the pole": placed(from_origin(0, 95, 0.5, 0.5), "EPSG:4326"),
    "far outside its CRS": placed(from_origin(1e12, 1e12, 10, 10)),
    "pixels of no size": placed(Affine(0, 0, 5e5, 0, 0, 3e6)),
    "tiny pixels": placed(from_origin(500_000, 3_000_000, 1e-9, 1e-9)),
    "huge pixels": placed(from_origin(-1e7, 1e7, 1e6, 1e6)),
    "infinite transform": placed(Affine(10, 0, float("inf"), 0, -10, float("nan"))),
    "elsewhere": placed(from_origin(700_000, 100_000, 10, 10)),
    "another zone": placed(from_origin(-94_000, 3_010_000, 20, 20), "EPSG:32651"),
    "local CRS": placed(_NORTH, 'LOCAL_CS["arbitrary",UNIT["metre",1]]'),
    "geocentric CRS": placed(_NORTH, "EPSG:4978"),
    "no CRS": placed(_NORTH, None),
    "no transform": placed(Affine.identity()),
    "control points only": _control_points,
}  # fmt: skip
"""Whole files of unusual make."""

BROKEN: dict[str, Maker] = {
    "truncated": _truncated,
    "bits flipped": _flipped,
    "bits flipped in the header": _flipped_header,
    "bits flipped in the data": _flipped_data,
    "zeroed": _zeroed,
    "huge declared size": _huge,
    "huge sparse": _huge_sparse,
    "zero size": _changed(tiff.WIDTH, 0),
    "zero rows": _changed(tiff.HEIGHT, 0),
    "huge strips": _changed(tiff.ROWS_PER_STRIP, 2**31 - 1, 2**32 - 1, 0),
    "huge tiles": _changed(tiff.TILE_WIDTH, 2**31 - 16, 65_536, 2**20, 0, 17, tiled=True, blockxsize=16, blockysize=16),
    "offset beyond the end": _changed(tiff.STRIP_OFFSETS, 2**32 - 1, 0, 7),
    "size of blocks": _changed(tiff.STRIP_BYTES, 2**32 - 1, 0, 2**31),
    "samples": _changed(tiff.SAMPLES, 0, 65_535, 60_000),
    "bits per sample": _changed(tiff.BITS, 0, 3, 64, 65_535, 128),
    "unknown codec": _changed(tiff.COMPRESSION, 65_000, 7, 6, 34_712, 0),
    "sample format": _changed(tiff.SAMPLE_FORMAT, 0, 4, 6, 99),
    "photometric": _changed(tiff.PHOTOMETRIC, 8, 32_844, 99, 6),
    "types of tags": _wrong_type,
    "directory loop": _looped,
    "tags of our own": _tagged,
    "category names": _named_categories,
}
"""Damaged files, and files that lie about themselves."""
