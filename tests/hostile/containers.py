"""What is called a raster but is a virtual one, another format, no raster at all, or has an odd name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil

from tests.conftest import UTM, write_raster
from tests.hostile.good import SIDE, pixels
from tests.hostile.rasters import Maker, plain

_GRID = "<SRS>EPSG:32650</SRS><GeoTransform>500000, 10, 0, 3000000, 0, -10</GeoTransform>"


def _virtual(folder: Path, role: str, source: str, *, width: int = SIDE, height: int = SIDE, head: str = "") -> Path:
    """Write a VRT all of whose bands come from ``source``, the XML of a band's content."""
    count = 3 if role == "rgb" else 1
    dtype = "Float32" if role in ("sar", "confidence") else "Byte"
    bands = "".join(
        f"<VRTRasterBand dataType='{dtype}' band='{b}'{head}>{source.replace('BAND', str(b))}</VRTRasterBand>"
        for b in range(1, count + 1)
    )
    path = folder / "hostile.vrt"
    path.write_text(f"<VRTDataset rasterXSize='{width}' rasterYSize='{height}'>{_GRID}{bands}</VRTDataset>")
    return path


def _source(name: str, relative: int = 1) -> str:
    return (
        f"<SimpleSource><SourceFilename relativeToVRT='{relative}'>{name}</SourceFilename>"
        "<SourceBand>BAND</SourceBand></SimpleSource>"
    )


def virtual(name: str, relative: int = 1) -> Maker:
    """Return the maker of VRTs that point to ``name``."""
    return lambda folder, role, rng: _virtual(folder, role, _source(name, relative))


def _mutual(folder: Path, role: str, rng: np.random.Generator) -> Path:
    other = _virtual(folder, role, _source("hostile.vrt")).rename(folder / "other.vrt")
    return _virtual(folder, role, _source(other.name))


def _huge(folder: Path, role: str, rng: np.random.Generator) -> Path:
    width = int(rng.choice([2**31 - 1, 2**24]))
    return _virtual(folder, role, "<NoDataValue>0</NoDataValue>", width=width, height=2**31 - 1)


def _wide(folder: Path, role: str, rng: np.random.Generator) -> Path:
    return _virtual(folder, role, "<NoDataValue>0</NoDataValue>", width=2**31 - 1, height=1)


def _sized(width: int, height: int) -> Maker:
    return lambda folder, role, rng: _virtual(folder, role, "", width=width, height=height)


def _script(folder: Path, role: str, rng: np.random.Generator) -> Path:
    """A pixel function in Python that would leave a file behind."""
    code = f"open({str(folder.parent / 'EXECUTED')!r}, 'w')\ndef run(*a, **k): open('EXECUTED', 'w')"
    function = (
        "<PixelFunctionType>run</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode><![CDATA[{code}]]></PixelFunctionCode>"
    )
    return _virtual(folder, role, function, head=" subClass='VRTDerivedRasterBand'")


def _unknown_function(folder: Path, role: str, rng: np.random.Generator) -> Path:
    function = "<PixelFunctionType>no_such_function</PixelFunctionType>"
    return _virtual(folder, role, function, head=" subClass='VRTDerivedRasterBand'")


def _raw(folder: Path, role: str, rng: np.random.Generator) -> Path:
    """A band that shows the bytes of another file as pixels."""
    body = "<SourceFilename relativeToVRT='0'>/etc/passwd</SourceFilename><ImageOffset>0</ImageOffset>"
    return _virtual(folder, role, body, head=" subClass='VRTRawRasterBand'")


def _text(name: str, text: str | bytes) -> Maker:
    """Return the maker of files that hold ``text``."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


_MAGIC = (
    b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a",
    b"\x89HDF\r\n\x1a\n", b"SQLite format 3\0", b"PK\3\4", b"BM", b"CDF\1", b"GRIB", b"%PDF-1.4",
    b"\0\0\0\x0cjP  \r\n\x87\n",
)  # fmt: skip


def _noise(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = folder / "hostile.tif"
    path.write_bytes(rng.bytes(int(rng.integers(1, 4000))))
    return path


def _magic_noise(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = folder / "hostile.tif"
    path.write_bytes(_MAGIC[int(rng.integers(len(_MAGIC)))] + rng.bytes(int(rng.integers(1, 3000))))
    return path


def _folder(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = folder / "hostile.tif"
    path.mkdir()
    return path


def _dangling(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = folder / "hostile.tif"
    path.symlink_to("nowhere.tif")
    return path


def _link_loop(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = folder / "hostile.tif"
    path.symlink_to("hostile.tif")
    return path


def _pipe(folder: Path, role: str, rng: np.random.Generator) -> Path:
    path = folder / "hostile.tif"
    os.mkfifo(path)
    return path


def _missing(folder: Path, role: str, rng: np.random.Generator) -> Path:
    return folder / "hostile.tif"


def _format(driver: str, suffix: str) -> Maker:
    """Return the maker of whole rasters in another format."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        path = folder / f"hostile{suffix}"
        values = pixels(role, rng)
        if driver in ("PNG", "JPEG", "GIF"):
            values = np.clip(values, 0, 255).astype(np.uint8)
        values = values[:1] if driver in ("GIF", "AAIGrid") else values
        with rasterio.MemoryFile() as memory, rasterio.Env(GDAL_PAM_ENABLED=False):
            profile = {"count": len(values), "height": SIDE, "width": SIDE, "dtype": values.dtype}
            with memory.open(driver="GTiff", crs="EPSG:32650", transform=UTM, **profile) as dataset:
                dataset.write(values)
            with memory.open() as dataset:
                rasterio.shutil.copy(dataset, path, driver=driver)
        return path

    return make


def _side_georeference(text: str, suffix: str) -> Maker:
    """Return the maker of rasters whose georeference lies in a broken sidecar."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        path = plain(folder, role, rng, crs=None, transform=rasterio.Affine.identity())
        path.with_suffix(suffix).write_text(text)
        return path

    return make


def named(name: str | bytes) -> Maker:
    """Return the maker of ordinary rasters with an odd name."""

    def make(folder: Path, role: str, rng: np.random.Generator) -> Path:
        path = folder / (os.fsdecode(name) if isinstance(name, bytes) else name)
        write_raster(folder / "plain.tif", pixels(role, rng)).rename(path)
        return path

    return make


_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
NAMES: dict[str, Maker] = {
    "spaces": named("my scene  (final).tif"),
    "unicode": named("снимок_影像_Zürich_🛰.tif"),
    "newline": named("two\nlines.tif"),
    "escape sequence": named("red\x1b[31mname\x07.tif"),
    "leading dash": named("--overwrite.tif"),
    "quotes": named('it\'s "quoted" $(touch EXECUTED).tif'),
    "percent and braces": named("100%s {0} %(x)d.tif"),
    "no suffix": named("scene"),
    "two suffixes": named("scene.tar.tif.tif"),
    "longest": named(_ALPHABET * 9 + ".tif"),
    "not UTF-8": named(b"latin1_\xe9\xff.tif"),
    "colon": named("HDF5:scene.tif"),
    "looks like XML": named("<b>&amp;.tif"),
    "looks like a URL": named("http:example.tif"),
}
"""Ordinary rasters with odd names."""

CONTAINERS: dict[str, Maker] = {
    "VRT of nothing": _sized(SIDE, SIDE),
    "VRT of a missing file": virtual("missing.tif"),
    "VRT of itself": virtual("hostile.vrt"),
    "VRTs of each other": _mutual,
    "VRT of a system file": virtual("/etc/passwd", 0),
    "VRT of raw bytes": _raw,
    "VRT of a URL": virtual("/vsicurl/http://127.0.0.1:9/a.tif", 0),
    "VRT with Python code": _script,
    "VRT with an unknown function": _unknown_function,
    "VRT of huge size": _huge,
    "VRT of huge width": _wide,
    "VRT of zero size": _sized(0, 0),
    "VRT of negative size": _sized(-5, 5),
    "VRT cut short": _text("hostile.vrt", "<VRTDataset rasterXSize='48' rasterYSize='48'><SRS>EPSG"),
    "VRT called .tif": lambda f, r, g: virtual("missing.tif")(f, r, g).rename(f / "hostile.tif"),
    "XML bomb": _text(
        "hostile.vrt",
        "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
        "<VRTDataset rasterXSize='48' rasterYSize='48'><SRS>&b;</SRS></VRTDataset>",
    ),
    "deep XML": _text("hostile.vrt", "<VRTDataset rasterXSize='4' rasterYSize='4'>" + "<a>" * 20_000),
    "web map": _text(
        "hostile.tif",
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl></Service>"
        "<DataWindow><UpperLeftX>500000</UpperLeftX><UpperLeftY>3000000</UpperLeftY><LowerRightX>500480</LowerRightX>"
        "<LowerRightY>2999520</LowerRightY><SizeX>48</SizeX><SizeY>48</SizeY></DataWindow>"
        "<Projection>EPSG:32650</Projection><BandsCount>3</BandsCount></GDAL_WMS>",
    ),
    "empty file": _text("hostile.tif", b""),
    "one byte": _text("hostile.tif", b"I"),
    "text": _text("hostile.tif", "this is no raster\n"),
    "web page": _text("hostile.tif", "<html><body>404 not found</body></html>"),
    "Git LFS pointer": _text(
        "hostile.tif", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    ),
    "JSON": _text("hostile.tif", '{"type": "FeatureCollection", "features": []}'),
    "noise": _noise,
    "noise behind a magic number": _magic_noise,
    "folder": _folder,
    "dangling link": _dangling,
    "link to itself": _link_loop,
    "named pipe": _pipe,
    "missing": _missing,
    "PNG": _format("PNG", ".png"),
    "JPEG": _format("JPEG", ".jpg"),
    "GIF": _format("GIF", ".gif"),
    "ASCII grid": _format("AAIGrid", ".asc"),
    "Erdas": _format("HFA", ".img"),
    "ENVI": _format("ENVI", ".bin"),
    "world file of words": _side_georeference("ten\n0\n0\n-10\n5e5\n3e6\n", ".tfw"),
    "world file of infinities": _side_georeference("inf\n0\n0\n-1e400\nnan\n3e6\n", ".tfw"),
    "projection file of words": _side_georeference("PROJCS[", ".prj"),
}
"""Virtual rasters, other formats, and what is no raster."""
