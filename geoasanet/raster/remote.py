"""Rasters on web servers and in object stores, of which GDAL reads the bytes that are needed.

A path may be a URL (``https://…``, ``s3://bucket/key``, ``gs://…``, ``az://…``) or one of GDAL's virtual paths
(``/vsicurl/…``, ``/vsis3/…``). Credentials come from where GDAL looks for them: the environment
(``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_NO_SIGN_REQUEST=YES`` for open buckets, ``GDAL_HTTP_HEADERS``, …) and the
clouds' own configuration files; we neither take nor keep any.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

_DEFAULTS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
}
READ_OPTIONS: Mapping[str, str] = {name: value for name, value in _DEFAULTS.items() if name not in os.environ}
"""GDAL settings for reading, which matter for remote files; what the environment sets stays as it is.

A server that is busy or breaks off is asked again after 0.5, 1, 2 and 4 s; a connection over which less than 1 byte a
second comes for 30 s is given up, but a slow one never.
"""
_OPEN_DEFAULTS = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_INGESTED_BYTES_AT_OPEN": "32768"}
_OPEN_OPTIONS = {name: value for name, value in _OPEN_DEFAULTS.items() if name not in os.environ}

UNREACHABLE_HINT = (
    "Check the address, the network and your credentials (GDAL takes them from the environment), or download the file."
)
INTERRUPTED_HINT = "Is the network up? The server may be busy: run the same command again, or download the file first."

_REMOTE = re.compile(
    r"(?!file:)[a-z][a-z0-9+.-]+://|/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(_streaming)?/", re.I
)
_PROBE_SECONDS = 20


def is_remote(path: str) -> bool:
    """Tell whether ``path`` is a URL, or a GDAL path into the network (inside an archive, too)."""
    return bool(_REMOTE.match(path)) or (path.startswith("/vsi") and bool(_REMOTE.search(path)))


def open_options(path: str) -> dict[str, str]:
    """Return the GDAL settings to open a raster with.

    The folder of a remote file is not listed, which many servers cannot and which takes long where they can; files
    beside it that hold its mask, overviews or nodata value are asked for by name, since the map may depend on them.
    """
    return {**READ_OPTIONS, **(_OPEN_OPTIONS if is_remote(path) else {})}


def file_stem(path: str) -> str:
    """Return the name of a file without folder and ending, and of a URL without its query."""
    plain = path.split("?", 1)[0] if is_remote(path) else path
    return Path(plain.rstrip("/").rsplit("/", 1)[-1]).stem


def refusal(path: str) -> str | None:
    """Return why a web server does not give a file, in its words; None if it does, or it is not known.

    GDAL says only that the file was not recognized. Credentials that GDAL has are not sent along.
    """
    url = path.removeprefix("/vsicurl/")
    if not url.startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})  # noqa: S310 - http or https, see above
    try:
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS) as answer:  # noqa: S310
            return None if answer.status == 206 else "the server sends whole files only, not ranges of bytes"
    except urllib.error.HTTPError as error:
        return f"the server answers {error.code} {error.reason}".rstrip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"no answer from the server ({getattr(reason, 'strerror', None) or reason})"
