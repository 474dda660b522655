"""``.pt2`` files: programs of :func:`torch.export.export`.

:func:`torch.export.load` is not safe with files from elsewhere: it unpickles what the file marks as pickled, looks up
functions of torch by the names in the file, and evaluates its shape expressions with sympy, which uses ``eval``.
So nothing here ever loads a program. What is read are the description (``extra/geoasanet.json``) and the weights,
which the archive holds as plain bytes beside a JSON list of types, shapes and places; the network is then built anew
from the description, as from a checkpoint.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoasanet.errors import CheckpointError
from geoasanet.models.header import METADATA_KEY, CheckpointHeader, parse_description

DESCRIPTION = f"{METADATA_KEY}.json"
PREFIX = "network."
"""How names of the network's own tensors begin; others are statistics of bands, which the description has, too."""
DTYPES = {
    1: torch.uint8,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""Numbers of tensor types in the archive."""
NAMES = {torch.float16: "F16", torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.int64: "I64"}
LARGEST_TEXT = 256 * 2**20
_DAMAGED = (
    zipfile.BadZipFile,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Python and torch raise over a damaged archive."""


def write_pt2(path: Path, program: torch.export.ExportedProgram, text: str) -> None:
    """Write an exported program with a description."""
    torch.export.save(program, path, extra_files={DESCRIPTION: text})


def read_pt2_header(path: Path) -> CheckpointHeader:
    """Return the description of a ``.pt2`` file that ``geoasanet export`` wrote.

    Raises:
        CheckpointError: If it is missing, damaged, or from elsewhere.
    """
    return _Archive(path).header


def read_pt2(path: Path) -> tuple[CheckpointHeader, Iterator[tuple[str, Tensor]]]:
    """Return the description of a ``.pt2`` file and its network's tensors by name; nothing in it is executed.

    Raises:
        CheckpointError: If it is missing, damaged, or from elsewhere.
    """
    archive = _Archive(path)
    return archive.header, archive.tensors()


class _Archive:
    """The records of a ``.pt2`` file that are data."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if path.exists() and not path.is_file():
                raise CheckpointError(f"{path} is no file.", "Give a .pt2 file that geoasanet export wrote.")
            with zipfile.ZipFile(path) as file:
                ends = {name.partition("/")[2]: name for name in file.namelist()}
                if f"extra/{DESCRIPTION}" not in ends:
                    raise CheckpointError(
                        f"{path} is no .pt2 file with a geoasanet description: its bands and classes are not known.",
                        "Give one that geoasanet export wrote.",
                    )
                text = _read(file, ends[f"extra/{DESCRIPTION}"])
                weights = next((name for end, name in ends.items() if end.endswith("weights_config.json")), None)
                if weights is None:
                    raise ValueError("no list of weights")
                config = json.loads(_read(file, weights))["config"]
                self._folder = weights.rpartition("/")[0]
            self._entries = {
                name.removeprefix(PREFIX): _Entry(data) for name, data in config.items() if name.startswith(PREFIX)
            }
        except OSError as error:
            raise CheckpointError(f"File {path} cannot be read ({error.strerror}).") from error
        except CheckpointError:
            raise
        except _DAMAGED as error:
            raise _damaged(path, error) from error
        shapes = {name: entry.shape for name, entry in self._entries.items()}
        dtypes = {NAMES.get(entry.dtype, str(entry.dtype)) for entry in self._entries.values()}
        self.header = parse_description(path, text, shapes, tuple(sorted(dtypes)))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the network's tensors."""
        try:
            with zipfile.ZipFile(self._path) as file:
                for name, entry in self._entries.items():
                    yield name, entry.tensor(file, self._folder)
        except OSError as error:
            raise CheckpointError(f"File {self._path} cannot be read ({error.strerror}).") from error
        except _DAMAGED as error:
            raise _damaged(self._path, error) from error


class _Entry:
    """Type, shape and place of a tensor, from the archive's list."""

    def __init__(self, data: Any) -> None:
        meta = data["tensor_meta"]
        if data["use_pickle"]:
            raise ValueError("a pickled tensor")
        self.record = str(data["path_name"])
        self.dtype = DTYPES[meta["dtype"]]
        self.shape = tuple(_whole(size["as_int"]) for size in meta["sizes"])
        self.strides = tuple(_whole(stride["as_int"]) for stride in meta["strides"])
        self.offset = _whole(meta["storage_offset"]["as_int"])
        if len(self.strides) != len(self.shape):
            raise ValueError("strides")

    def tensor(self, file: zipfile.ZipFile, folder: str) -> Tensor:
        """Return the tensor, with memory of its own."""
        info = file.getinfo(f"{folder}/{self.record}")
        span = self.offset + 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if info.compress_type != zipfile.ZIP_STORED or info.file_size < span * self.dtype.itemsize:
            raise ValueError(self.record)
        if math.prod(self.shape) * self.dtype.itemsize > info.file_size:
            raise ValueError(self.record)  # strides of 0 would repeat values without end
        flat = torch.frombuffer(bytearray(file.read(info)), dtype=self.dtype)
        return flat.as_strided(self.shape, self.strides, self.offset).contiguous()


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(value)
    return value


def _read(file: zipfile.ZipFile, name: str) -> bytes:
    if file.getinfo(name).file_size > LARGEST_TEXT:
        raise ValueError(name)
    return file.read(name)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is no .pt2 file of a layout that is known, or is damaged ({type(error).__name__}: {error}).",
        "Use the checkpoint itself, or export it again with this version of geoasanet and torch.",
    )
