"""What can go wrong, in words for the analyst.

Every failure that is not a bug is a :class:`GeoASANetError`: its message says what was found, where, and what was
needed; its ``hint`` says what to do. Each class also inherits the builtin that means the same, so that callers who
catch ``ValueError`` or ``OSError`` need not know us.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class GeoASANetError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What was wrong, in which file, which value was found.
        hint: What to do about it; shown after the message.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""
        return f"{message} {self.hint}".strip()


class ConfigError(GeoASANetError, ValueError):
    """An option or configuration value is unknown, of the wrong type or impossible."""


class WindowError(GeoASANetError, ValueError):
    """A window, stride or overlap is impossible."""


class SceneError(GeoASANetError, OSError):
    """A raster cannot be opened or read, or is not what was expected."""


class GridError(SceneError):
    """A raster has no usable georeference."""


class NoOverlapError(SceneError):
    """Two inputs do not cover common ground."""


class BandError(SceneError):
    """A raster has the wrong number, type or value range of bands."""


class LabelError(GeoASANetError, ValueError):
    """Labels do not fit the class schema or the scene."""


class ClassSchemaError(GeoASANetError, ValueError):
    """A class schema is malformed."""


class ManifestError(GeoASANetError, ValueError):
    """A dataset folder or list of scenes is incomplete or contradicts itself."""


class CheckpointError(GeoASANetError, ValueError):
    """A checkpoint is unreadable, unsafe, or does not fit the job."""


class ModelError(GeoASANetError, ValueError):
    """A network is unknown, or cannot be built or run with these arguments."""


class VectorError(GeoASANetError, OSError):
    """A vector file cannot be read or written."""


class OutputError(GeoASANetError, OSError):
    """An output cannot be written."""


class OutputExistsError(OutputError, FileExistsError):
    """An output exists and ``overwrite`` was not asked for."""


class DeviceError(GeoASANetError, RuntimeError):
    """The requested device is absent or cannot hold the work."""


class NonFiniteError(GeoASANetError, ArithmeticError):
    """A network or a loss gave NaN or infinity."""

    sample: object = None
    """What the network was given, where that is known."""


@contextlib.contextmanager
def said_of(what: str, *kinds: type[GeoASANetError]) -> Iterator[None]:
    """Put ``what``, the file at fault, before the message of errors of these kinds that do not name it yet."""
    try:
        yield
    except kinds as error:
        if what in str(error.args[0]):
            raise
        raise type(error)(f"{what}: {error.args[0]}", error.hint) from error
