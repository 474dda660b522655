"""Tensors out of PyTorch ``.pth`` files, without executing anything that the file says.

A ``.pth`` file is a zip archive: ``data.pkl``, a pickle of the Python objects, and one record of raw bytes per tensor
storage. A pickle may name any function of any installed module and have it called; here no name is ever looked up.
The few harmless constructors that tensors need are replaced by ours, which only take notes; every other name becomes
an :class:`Inert` stand-in that does nothing when it is called, filled or indexed. Tensors are made afterwards, one by
one, after their declared sizes were checked against the bytes that are there.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geoasanet.errors import CheckpointError

LARGEST_PICKLE = 256 * 2**20
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Storage classes of torch that may hold a tensor's values."""
MALFORMED = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What Python raises while it reads a damaged archive or pickle."""


class Inert:
    """Stands for any object that is not needed: takes everything, does nothing, gives itself."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Ignore the arguments."""
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """Ignore ``value``."""

    def extend(self, values: Any) -> None:
        """Ignore ``values``."""

    def add(self, value: Any) -> None:
        """Ignore ``value``."""


class Table(dict[Any, Any]):
    """Stands for ``OrderedDict``: keeps entries, ignores attributes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None: ...


class StorageNote(NamedTuple):
    """What the pickle says of a storage; nothing of it is checked yet."""

    kind: Any
    key: Any
    count: Any


class TensorNote(NamedTuple):
    """What the pickle says of a tensor; nothing of it is checked yet."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any


class StorageKind(NamedTuple):
    """Name of a storage class."""

    name: str


class _RebuildTensor:
    """Takes note of a tensor in place of ``torch._utils._rebuild_tensor_v2``."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorNote:
        return TensorNote(storage, offset, shape, stride)

    def __setstate__(self, state: Any) -> None: ...


class _RebuildParameter:
    """Gives the tensor of a parameter in place of ``torch._utils._rebuild_parameter``."""

    __slots__ = ()

    def __call__(self, tensor: Any, *rest: Any) -> Any:
        return tensor

    def __setstate__(self, state: Any) -> None: ...


class _NoteTaker(pickle.Unpickler):
    """Reads a pickle whose every name is replaced by something harmless."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return Table
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _RebuildParameter()
        if module == "torch" and name in DTYPES:
            return StorageKind(name)
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage":
            return StorageNote(pid[1], pid[2], pid[4])
        raise pickle.UnpicklingError("a reference that is no storage")


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A ``.pth`` file: its objects with notes in place of tensors, and the way to the tensors."""

    path: Path
    """The file."""
    root: str
    """Folder inside the archive, with trailing slash."""
    content: Any
    """The pickled object: plain Python values, :class:`Table`, :class:`TensorNote` and :class:`Inert`."""

    def shapes(self, table: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor in ``table``, after checking it against the archive.

        Raises:
            CheckpointError: If a tensor's sizes contradict themselves or the archive, or all together are more than
                the file can hold.
        """
        with self._archive() as archive:
            notes = {str(key): note for key, note in table.items() if isinstance(note, TensorNote)}
            sizes = [self._check(archive, key, note)[1] for key, note in notes.items()]
        # Tied tensors are stored once and listed twice.
        if sum(sizes) > 2 * self.path.stat().st_size:
            raise CheckpointError(f"{self.path} declares more tensors than it holds.", "Do not use it.")
        return {key: tuple(note.shape) for key, note in notes.items()}

    def tensors(self, table: Mapping[Any, Any]) -> dict[str, Tensor]:
        """Return every tensor in ``table`` as an own copy in memory.

        Raises:
            CheckpointError: As :meth:`shapes`, or if the archive is damaged.
        """
        self.shapes(table)
        result: dict[str, Tensor] = {}
        with self._archive() as archive:
            for key, note in table.items():
                if not isinstance(note, TensorNote):
                    continue
                dtype, _ = self._check(archive, str(key), note)
                try:
                    data = bytearray(archive.read(self._record(note)))
                except (OSError, *MALFORMED) as error:
                    raise _damaged(self.path, error) from error
                flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
                result[str(key)] = flat.as_strided(note.shape, note.stride, note.offset).clone()
        return result

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, *MALFORMED) as error:
            raise _damaged(self.path, error) from error

    def _record(self, note: TensorNote) -> str:
        return f"{self.root}data/{note.storage.key}"

    def _check(self, archive: zipfile.ZipFile, key: str, note: TensorNote) -> tuple[torch.dtype, int]:
        """Return type and size in bytes of a tensor whose every number is possible."""
        storage = note.storage
        try:
            if not isinstance(storage, StorageNote) or not isinstance(storage.kind, StorageKind):
                raise TypeError("its storage is of no known type")
            dtype = DTYPES[storage.kind.name]
            count = math.prod(_naturals(note.shape))
            _naturals((storage.count, note.offset))
            if len(_naturals(note.stride)) != len(note.shape):
                raise ValueError("shape and stride differ in length")
            reach = sum((n - 1) * step for n, step in zip(note.shape, note.stride, strict=True))
            last = note.offset + reach if count else 0
            record = archive.getinfo(self._record(note))
            if record.compress_type != zipfile.ZIP_STORED or record.file_size > self.path.stat().st_size:
                raise ValueError("its record is compressed")
            if record.file_size != storage.count * dtype.itemsize:
                raise ValueError(f"it declares {storage.count} values, its record has {record.file_size} bytes")
            if count > storage.count or (count and last >= storage.count):
                raise ValueError(f"its shape {tuple(note.shape)} does not fit a storage of {storage.count} values")
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"Tensor {key} in {self.path} is impossible: {error}.", "Do not use it.") from error
        return dtype, count * dtype.itemsize


def read_tensor_file(path: str | Path) -> TensorFile:
    """Return the objects in a ``.pth`` file, with notes in place of tensors.

    Raises:
        CheckpointError: If the file is missing, not in PyTorch's zip format, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} does not exist or is no file.", "Give the path of a .pth file.")
    try:
        if not zipfile.is_zipfile(path):
            raise _not_a_zip(path)
        with zipfile.ZipFile(path) as archive:
            found = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
            if len(found) != 1 or found[0].filename.count("/") != 1:
                raise CheckpointError(f"{path} is a zip archive, but no PyTorch checkpoint.", "Give a .pth file.")
            entry = found[0]
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > min(LARGEST_PICKLE, path.stat().st_size):
                raise CheckpointError(f"{path} holds a compressed or absurdly large pickle.", "Do not use it.")
            root = entry.filename.removesuffix("data.pkl")
            if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
                raise CheckpointError(f"{path} was written in big-endian byte order.", "Save it on another machine.")
            data = archive.read(entry)
        _check_memo(data)
        content = _NoteTaker(io.BytesIO(data)).load()
    except CheckpointError:
        raise
    except (OSError, *MALFORMED) as error:
        raise _damaged(path, error) from error
    return TensorFile(path, root, content)


def _check_memo(data: bytes) -> None:
    """Raise for a memo index beyond the pickle's length: Python would allocate a table of that many entries."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise pickle.UnpicklingError("an absurd memo index")


def _naturals(values: Any) -> tuple[int, ...]:
    """Return ``values`` if they are a short tuple or list of whole numbers from 0 on."""
    if not isinstance(values, tuple | list) or len(values) > 16:
        raise ValueError("its sizes are no list of numbers")
    if any(type(value) is not int or value < 0 for value in values):
        raise ValueError(f"its sizes are {tuple(values)!r}")
    return tuple(values)


def _not_a_zip(path: Path) -> CheckpointError:
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] == b"\x80":
        return CheckpointError(
            f"{path} is in PyTorch's old format, from before version 1.6.",
            "Where you trust it, load it with torch.load and save it again with torch.save.",
        )
    return CheckpointError(
        f"{path} is no PyTorch checkpoint, or is cut short.", "Give an intact .pth file of the official code."
    )


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(f"{path} is damaged or no PyTorch checkpoint ({reason}).", "Fetch it again.")
