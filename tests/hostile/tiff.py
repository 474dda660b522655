"""GeoTIFF files changed where their structure says how large things are."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, SAMPLE_FORMAT = 322, 323, 324, 325, 339
_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 11: 4, 12: 8, 16: 8}


def directory(data: bytes) -> dict[int, tuple[int, int, int]]:
    """Return type, count and place of the entry of each tag in the first directory of a little-endian classic TIFF."""
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    entries = {}
    for i in range(count):
        place = start + 2 + 12 * i
        tag, kind, number = struct.unpack_from("<HHI", data, place)
        entries[tag] = (kind, number, place)
    return entries


def set_tag(path: Path, tag: int, value: int, *, kind: int = 4) -> Path:
    """Replace the value of a tag by one number, or that at its place if there are several."""
    data = bytearray(path.read_bytes())
    entries = directory(data)
    if tag not in entries:
        return path
    old, count, place = entries[tag]
    if count > 1 and _TYPES.get(old, 1) * count > 4:
        offset = struct.unpack_from("<I", data, place + 8)[0]
        struct.pack_into({3: "<H", 4: "<I"}.get(old, "<I"), data, offset, value & (0xFFFF if old == 3 else 0xFFFFFFFF))
    else:
        struct.pack_into("<HIi" if value < 0 else "<HII", data, place + 2, kind, 1, value)
    path.write_bytes(data)
    return path


def set_type(path: Path, tag: int, kind: int) -> Path:
    """Replace the declared type of a tag."""
    data = bytearray(path.read_bytes())
    entries = directory(data)
    if tag in entries:
        struct.pack_into("<H", data, entries[tag][2] + 2, kind)
        path.write_bytes(data)
    return path


def loop_directories(path: Path) -> Path:
    """Let the list of directories lead back to the first."""
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    path.write_bytes(data)
    return path


def flip_bits(path: Path, rng: np.random.Generator, count: int, first: int = 0, stop: int | None = None) -> Path:
    """Flip ``count`` bits between two places."""
    data = bytearray(path.read_bytes())
    end = min(stop or len(data), len(data))
    for place in rng.integers(min(first, end - 1), end, count):
        data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep the first ``share`` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path
