"""Checkpoints, pickles and saved states that lie, or would run code where they could."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile import tiff
from tests.hostile.makers import Maker, content, setting


class Attack:
    """Pickles to a call that leaves a file named EXECUTED behind, where pickles are obeyed."""

    def __init__(self, function: Callable[..., Any] = os.system, *arguments: Any) -> None:
        self.call = function, arguments or ("touch EXECUTED",)

    def __reduce__(self) -> Any:
        return self.call


def _parts(good: Path) -> tuple[dict[str, Any], bytes]:
    data = good.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _assemble(folder: Path, header: bytes | str | dict[str, Any], body: bytes, length: int | None = None) -> Path:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    path = folder / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + body)
    return path


def _header(change: Callable[[dict[str, Any], np.random.Generator], Any]) -> Maker:
    """Return the maker of checkpoints whose tensor list was changed."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        header, body = _parts(good)
        changed = change(header, rng)
        return _assemble(folder, header if changed is None else changed, body)

    return make


def _description(change: Callable[[dict[str, Any]], Any]) -> Maker:
    """Return the maker of checkpoints whose description was changed."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        header, body = _parts(good)
        data = json.loads(header["__metadata__"]["geoasanet"])
        changed = change(data)
        text = changed if isinstance(changed, str) else json.dumps(data)
        header["__metadata__"]["geoasanet"] = text
        return _assemble(folder, header, body)

    return make


def _set(*keys: str, value: Any) -> Maker:
    return _description(setting(*keys, value=value))


def _tensor(key: str, value: Any) -> Maker:
    """Return the maker of checkpoints one of whose tensors is described wrongly."""

    def change(header: dict[str, Any], rng: np.random.Generator) -> None:
        names = [name for name in header if name != "__metadata__"]
        header[names[int(rng.integers(len(names)))]][key] = value

    return _header(change)


def _overlap(header: dict[str, Any], rng: np.random.Generator) -> None:
    """Let every tensor lie on the first that is as large."""
    places: dict[int, list[int]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            entry["data_offsets"] = places.setdefault(end - begin, [begin, end])


def _flipped(first: int, stop: int | None) -> Maker:
    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        path = folder / "hostile.safetensors"
        path.write_bytes(good.read_bytes())
        return tiff.flip_bits(path, rng, int(rng.integers(1, 20)), first, stop)

    return make


def _cut(folder: Path, good: Path, rng: np.random.Generator) -> Path:
    path = folder / f"hostile{good.suffix}"
    path.write_bytes(good.read_bytes())
    return tiff.cut(path, float(rng.uniform(0, 0.999)))


def _not_finite(folder: Path, good: Path, rng: np.random.Generator) -> Path:
    header, body = _parts(good)
    values = np.frombuffer(body, np.float32).copy()
    values[rng.integers(0, len(values), 5)] = np.nan
    return _assemble(folder, header, values.tobytes())


def _huge_values(folder: Path, good: Path, rng: np.random.Generator) -> Path:
    """Finite weights whose products are not."""
    header, body = _parts(good)
    values = np.frombuffer(body, np.float32).copy()
    return _assemble(folder, header, (np.sign(values) * np.float32(3e38)).tobytes())


def raw(text: str | bytes, length: int | None = None, body: bytes = b"") -> Maker:
    """Return the maker of files with this header, said to be ``length`` bytes long."""
    return lambda folder, good, rng: _assemble(folder, text, body, length)


_DEEP = "[" * 50_000
CHECKPOINTS: dict[str, Maker] = {
    "header of gigabytes": raw("{}", 2**40),
    "header of 2^63 bytes": raw("{}", 2**63 - 1),
    "negative header": raw("{}", 2**64 - 1),
    "no header": raw("", 0),
    "header is no JSON": raw("hello, this is no JSON"),
    "header is a list": raw("[1, 2]"),
    "header is a number": raw("5"),
    "deep header": raw('{"a":' + _DEEP),
    "header of bytes": raw(bytes(range(128, 256))),
    "header with huge numbers": raw('{"a":{"dtype":"F32","shape":[' + "9" * 6000 + '],"data_offsets":[0,4]}}'),
    "keys twice": raw('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":5}', None, bytes(4)),
    "no tensors": raw('{"__metadata__":{"geoasanet":"{}"}}'),
    "metadata is a list": raw('{"__metadata__":[1]}'),
    "metadata of numbers": raw('{"__metadata__":{"geoasanet":5}}'),
    "no description": _header(lambda header, rng: header.pop("__metadata__") and None),
    "huge declared shape": _tensor("shape", [2**40, 2**40]),
    "shape beyond 64 bits": _tensor("shape", [2**63, 2**63, 2**63]),
    "negative shape": _tensor("shape", [-1, -4]),
    "shape of words": _tensor("shape", ["many"]),
    "shape of fractions": _tensor("shape", [1.5]),
    "no shape": _tensor("shape", None),
    "other shape": _tensor("shape", [1]),
    "deep shape": _tensor("shape", [[[1]]]),
    "offsets backwards": _tensor("data_offsets", [8, 4]),
    "offsets beyond the end": _tensor("data_offsets", [0, 2**62]),
    "offsets of words": _tensor("data_offsets", ["a", "b"]),
    "one offset": _tensor("data_offsets", [0]),
    "unknown dtype": _tensor("dtype", "F8_E4M3"),
    "dtype is a list": _tensor("dtype", ["F32"]),
    "integers for weights": _tensor("dtype", "I32"),
    "overlapping tensors": _header(_overlap),
    "a tensor missing": _header(
        lambda header, rng: header.pop(next(k for k in header if k != "__metadata__")) and None
    ),
    "a tensor renamed": _header(lambda header, rng: header.update({"x/../../y": header.pop(list(header)[-1])})),
    "bits flipped in the header": _flipped(8, 6000),
    "bits flipped in the length": _flipped(0, 8),
    "bits flipped": _flipped(6000, None),
    "cut short": _cut,
    "not finite": _not_finite,
    "huge weights": _huge_values,
    "description is no JSON": _description(lambda data: "hello"),
    "description is a list": _description(lambda data: "[1]"),
    "description is deep": _description(lambda data: _DEEP),
    "format of tomorrow": _set("format", value=99),
    "format is a list": _set("format", value=[1]),
    "huge window": _set("window_size", value=10**9),
    "window of words": _set("window_size", value="big"),
    "infinite window": _set("window_size", value=1e999),
    "odd window": _set("window_size", value=65_537),
    "unknown model": _set("name", value="__import__('os').system('touch EXECUTED')"),
    "model is a list": _set("name", value=[["asanet"]]),
    "model path": _set("name", value="../../etc/passwd"),
    "a billion classes": _set("arguments", "num_classes", value=10**9),
    "a billion bands": _set("arguments", "in_channels", value=[3, 10**9]),
    "bands of words": _set("arguments", "in_channels", value="many"),
    "no bands": _set("arguments", "in_channels", value=[]),
    "absurd depth": _set("arguments", "encoder", "depths", value=[10**6, 1, 1, 1]),
    "deep stages": _set("arguments", "encoder", "depths", value=[1000, 1000, 1000, 1000]),
    "absurd width": _set("arguments", "encoder", "dims", value=[10**12, 16, 24, 32]),
    "widths beyond 64 bits": _set("arguments", "encoder", "dims", value=[2**70, 16, 24, 32]),
    "negative width": _set("arguments", "encoder", "dims", value=[-8, 16, 24, 32]),
    "width of words": _set("arguments", "encoder", "dims", value="wide"),
    "thousands of stages": _set("arguments", "encoder", value={"depths": [1] * 10_000, "dims": [8] * 10_000}),
    "encoder path": _set("arguments", "encoder", value="../../../etc/passwd"),
    "encoder is a number": _set("arguments", "encoder", value=5),
    "encoder weights": _set("arguments", "encoder_weights", value="/etc/passwd"),
    "absurd decoder": _set("arguments", "decoder_channels", value=10**12),
    "decoder of words": _set("arguments", "decoder_channels", value="wide"),
    "unknown argument": _set("arguments", "__class__", value=5),
    "arguments are a list": _set("arguments", value=[1]),
    "classes are a number": _set("classes", value=10**9),
    "classes of markup": _set(
        "classes", value={"classes": ["<script>alert(1)</script>", "a&b", "'\"><img src=x>", "]]>", "{{7*7}}"]}
    ),
    "classes of control characters": _set(
        "classes", value={"classes": ["a\x1b[31m", "b\nc", "d\x00e", "\u202ef", "g"]}
    ),
    "surrogates in classes": _set("classes", value={"classes": ["\ud800", "b", "c", "d", "e"]}),
    "long class names": _set("classes", value={"classes": ["x" * 200_000, "b", "c", "d", "e"]}),
    "classes without schema": _set("classes", value=None),
    "ignore index of words": _set("classes", "ignore_index", value="x"),
    "infinite ignore index": _set("classes", "ignore_index", value=1e999),
    "no statistics": _set("bands", value={}),
    "statistics of words": _set("bands", "rgb", "mean", value="abc"),
    "infinite statistics": _set("bands", "rgb", "mean", value=[1e999, 0, 0]),
    "no deviation": _set("bands", "sar", "std", value=[0]),
    "tiny deviation": _set("bands", "sar", "std", value=[1e-320]),
    "huge statistics": _set("bands", "rgb", "mean", value=[1e300, 1e300, 1e300]),
    "unknown scale": _set("bands", "sar", "scale", value="../x"),
    "scale is a list": _set("bands", "sar", "scale", value=["db"]),
    "band names are a number": _set("bands", "rgb", "names", value=5),
    "training is a list": _set("training", value=[1]),
    "training of markup": _set("training", value={"data": "<script>alert(1)</script>", "a": {"b": ["c" * 9000]}}),
    "version is a list": _set("version", value=["<b>"]),
    "pickle inside": lambda folder, good, rng: _dumped(folder / "hostile.safetensors", Attack()),
    "archive inside": lambda folder, good, rng: _saved(folder / "hostile.safetensors", {"a": Attack()}),
}
"""Checkpoints of ours by kind; all but the last few are made of a good one."""


def _dumped(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def _saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def _pth(content: Callable[[dict[str, Any]], Any]) -> Maker:
    """Return the maker of ``.pth`` files with other content."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        return _saved(folder / "hostile.pth", content(torch.load(good, weights_only=False)))

    return make


def _archive(change: Callable[[dict[str, bytes]], dict[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Maker:
    """Return the maker of ``.pth`` files whose records were changed."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        with zipfile.ZipFile(good) as source:
            records = {name: source.read(name) for name in source.namelist()}
        path = folder / "hostile.pth"
        with zipfile.ZipFile(path, "w", compression) as target:
            for name, data in change(records).items():
                target.writestr(name, data)
        return path

    return make


def _pickle(data: bytes) -> Maker:
    return _archive(lambda records: {name: data if name.endswith("data.pkl") else v for name, v in records.items()})


def _flipped_pth(folder: Path, good: Path, rng: np.random.Generator) -> Path:
    path = folder / "hostile.pth"
    path.write_bytes(good.read_bytes())
    size = path.stat().st_size
    where = [(0, 20_000), (size - 12_000, size), (0, size)][int(rng.integers(3))]
    return tiff.flip_bits(path, rng, int(rng.integers(1, 30)), *where)


def _billion() -> bytes:
    """A pickle of nested tuples, each of which holds the one before ten times."""
    parts = [b"\x80\x02", b"U\x03lol", b"q\x00"]
    parts += [b"(" + (b"h" + bytes([level - 1])) * 10 + b"tq" + bytes([level]) for level in range(1, 12)]
    return b"".join([*parts, b"."])


PICKLES: dict[str, Maker] = {
    "code in the weights": _pth(lambda good: {**good, "state_dict": {**good["state_dict"], "x": Attack()}}),
    "code at the top": _pth(lambda good: Attack()),
    "code in keys": _pth(lambda good: {**good, "hook": [Attack(eval, "open('EXECUTED','w')")]}),
    "code in the configuration": _pth(
        lambda good: {**good, "meta": {**good["meta"], "cfg": "__import__('os').system('touch EXECUTED')"}}
    ),
    "configuration of megabytes": _pth(lambda good: {**good, "meta": {**good["meta"], "cfg": "a=" + "[" * 5_000_000}}),
    "configuration is deep": _pth(lambda good: {**good, "meta": {**good["meta"], "cfg": "a=" + "-" * 200_000 + "1"}}),
    "classes are a bomb": _pth(
        lambda good: {**good, "meta": {**good["meta"], "dataset_meta": {"classes": ["<script>"] * 10**6}}}
    ),
    "meta is a list": _pth(lambda good: {**good, "meta": [1, 2]}),
    "no weights": _pth(lambda good: {"state_dict": {}}),
    "weights are a list": _pth(lambda good: {"state_dict": [1]}),
    "a tensor": _pth(lambda good: torch.zeros(3)),
    "a number": _pth(lambda good: 5),
    "other weights": _pth(lambda good: {"state_dict": {"a": torch.zeros(3)}}),
    "not finite": _pth(
        lambda good: {**good, "state_dict": {k: v.float() * float("nan") for k, v in good["state_dict"].items()}}
    ),
    "other shapes": _pth(
        lambda good: {**good, "state_dict": {k: v[:1] if v.ndim else v for k, v in good["state_dict"].items()}}
    ),
    "one shape wrong": _pth(
        lambda good: {
            **good,
            "state_dict": {k: v if i != 9 else v[None] for i, (k, v) in enumerate(good["state_dict"].items())},
        }
    ),
    "views that overlap": _pth(
        lambda good: {"state_dict": {f"x{i}": torch.zeros(9).as_strided((9, 9), (0, 1)) for i in range(50)}}
    ),
    "empty tensors": _pth(lambda good: {"state_dict": {k: torch.empty(0) for k in good["state_dict"]}}),
    "old format": lambda folder, good, rng: _dumped(folder / "hostile.pth", Attack()),
    "zip bomb": _archive(lambda records: {**records, "archive/data.pkl": bytes(60_000_000)}, zipfile.ZIP_DEFLATED),
    "path traversal": _archive(lambda records: {f"../../{name}": data for name, data in records.items()}),
    "absolute names": _archive(lambda records: {f"/tmp/{name}": data for name, data in records.items()}),
    "two pickles": _archive(lambda records: {**records, "other/data.pkl": b"\x80\x02N."}),
    "records missing": _archive(lambda records: {k: v for k, v in records.items() if "/data/" not in k}),
    "records too small": _archive(lambda records: {k: v[:4] if "/data/" in k else v for k, v in records.items()}),
    "big-endian": _archive(lambda records: {k: b"big" if k.endswith("byteorder") else v for k, v in records.items()}),
    "zip of nothing": _archive(lambda records: {}),
    "pickle: empty": _pickle(b""),
    "pickle: cut short": _pickle(b"\x80\x02}q\x00("),
    "pickle: billion": _pickle(_billion()),
    "pickle: deep": _pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "pickle: huge memo": _pickle(b"\x80\x02Nr\xff\xff\xff\x7f."),
    "pickle: huge string": _pickle(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc."),
    "pickle: huge number": _pickle(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc."),
    "pickle: long text number": _pickle(b"I" + b"9" * 100_000 + b"\n."),
    "pickle: extension": _pickle(b"\x80\x02\x82\x01."),
    "pickle: stray global": _pickle(b"cos\nsystem\n(S'touch EXECUTED'\ntR."),
    "pickle: stack empty": _pickle(b"\x80\x020."),
    "noise": lambda folder, good, rng: content("hostile.pth", rng.bytes(2000))(folder, good, rng),
    "bits flipped": _flipped_pth,
    "cut short": _cut,
    "empty": content("hostile.pth", b""),
    "text": content("hostile.pth", b"hello"),
    "web page": content("hostile.pth", b"<html>404</html>"),
}
"""Checkpoints of the original code by kind, made of a good one."""


def _state(content: Any, *, digest: bool = True) -> Maker:
    """Return the maker of a saved state with a correct checksum."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        path = folder / "state.pt"
        mark = b"geoasanet state 1\n"
        path.write_bytes(mark + (hashlib.sha256(data).digest() if digest else bytes(32)) + data)
        return path

    return make


def _changed_state(change: Callable[[dict[str, Any]], Any]) -> Maker:
    """Return the maker of a saved state that was opened, changed and closed with a correct checksum."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        state = torch.load(io.BytesIO(good.read_bytes()[50:]), weights_only=True)
        changed = change(state)
        return _state(state if changed is None else changed)(folder, good, rng)

    return make


def _damaged_state(folder: Path, good: Path, rng: np.random.Generator) -> Path:
    path = folder / "state.pt"
    path.write_bytes(good.read_bytes())
    return tiff.flip_bits(path, rng, 3) if rng.integers(2) else tiff.cut(path, float(rng.uniform(0, 0.99)))


STATES: dict[str, Maker] = {
    "damaged": _damaged_state,
    "wrong checksum": _state({"a": 1}, digest=False),
    "code": _state({"a": Attack()}),
    "code at the top": _state(Attack()),
    "empty": _state({}),
    "a list": _state([1, 2]),
    "words": _state(dict.fromkeys(("iteration", "model", "optimizer", "rng", "scheduler", "sampler"), "x")),
    "text": lambda folder, good, rng: content("hostile.pth", b"hello")(folder, good, rng).rename(folder / "state.pt"),
    "every entry null": _changed_state(dict.fromkeys),
    "every entry a number": _changed_state(lambda state: dict.fromkeys(state, -7)),
    "one entry missing": _changed_state(lambda state: {k: v for i, (k, v) in enumerate(state.items()) if i != 1}),
    "an entry empty": _changed_state(lambda state: {k: {} if isinstance(v, dict) else v for k, v in state.items()}),
}
"""Saved states of a run by kind."""
