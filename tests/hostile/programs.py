"""Archives of ``torch.export`` that are damaged, or would run code where they could."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import tiff
from tests.hostile.makers import Maker, changed_bytes, content
from tests.hostile.weights import Attack

Records = dict[str, bytes]


def _records(change: Callable[[Records], Records | None], compression: int = zipfile.ZIP_STORED) -> Maker:
    """Return the maker of files whose records were changed."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        with zipfile.ZipFile(good) as source:
            records = {name: source.read(name) for name in source.namelist()}
        changed = change(records)
        path = folder / "hostile.pt2"
        with zipfile.ZipFile(path, "w", compression) as target:
            for name, data in (records if changed is None else changed).items():
                target.writestr(name, data)
        return path

    return make


def _named(records: Records, end: str) -> str:
    return next(name for name in records if name.endswith(end))


def _entry(change: Callable[[dict[str, Any]], Any]) -> Maker:
    """Return the maker of files whose list of weights describes one of them wrongly."""

    def edit(records: Records) -> None:
        name = _named(records, "weights_config.json")
        data = json.loads(records[name])
        entry = next(v for k, v in data["config"].items() if k.endswith("weight"))
        change(entry)
        records[name] = json.dumps(data).encode()

    return _records(edit)


def _text(end: str, text: str | bytes) -> Maker:
    """Return the maker of files one of whose records holds something else."""

    def edit(records: Records) -> None:
        records[_named(records, end)] = text if isinstance(text, bytes) else text.encode()

    return _records(edit)


def _described(**values: Any) -> Maker:
    def edit(records: Records) -> None:
        name = _named(records, "geoasanet.json")
        records[name] = json.dumps({**json.loads(records[name]), **values}).encode()

    return _records(edit)


def _first_weight(records: Records) -> str:
    return next(name for name in records if "/data/weights/weight_" in name)


def _short(records: Records) -> None:
    records[_first_weight(records)] = b"1234"


def _pickled(records: Records) -> None:
    """All that could be a pickle is one."""
    for name in records:
        if name.endswith((".pt", ".pkl")) or ("/data/" in name and not name.endswith(".json")):
            records[name] = pickle.dumps(Attack())


_META = "tensor_meta"
PROGRAMS: dict[str, Maker] = {
    "sound": _records(lambda records: None),
    "program is code": _text("models/model.json", "__import__('os').system('touch EXECUTED')"),
    "weights are pickles": _records(_pickled),
    "weights said to be pickles": _entry(lambda entry: entry.update(use_pickle=True)),
    "weight elsewhere": _entry(lambda entry: entry.update(path_name="../../../../../etc/passwd")),
    "weight at a path": _entry(lambda entry: entry.update(path_name="/etc/passwd")),
    "weight of a list": _entry(lambda entry: entry.update(path_name=["a"])),
    "huge weight": _entry(lambda entry: entry[_META].update(sizes=[{"as_int": 2**40}, {"as_int": 2**20}])),
    "weight repeated": _entry(
        lambda entry: entry[_META].update(
            sizes=[{"as_int": 2**20}, {"as_int": 2**20}], strides=[{"as_int": 0}, {"as_int": 0}]
        )
    ),
    "negative sizes": _entry(lambda entry: entry[_META].update(sizes=[{"as_int": -4}], strides=[{"as_int": 1}])),
    "negative strides": _entry(lambda entry: entry[_META].update(strides=[{"as_int": -1}] * 4)),
    "huge offset": _entry(lambda entry: entry[_META].update(storage_offset={"as_int": 2**62})),
    "sizes of expressions": _entry(
        lambda entry: entry[_META].update(
            sizes=[{"as_expr": {"expr_str": "__import__('os').system('touch EXECUTED')"}}]
        )
    ),
    "unknown dtype": _entry(lambda entry: entry[_META].update(dtype=99)),
    "no meta": _entry(lambda entry: entry.pop(_META)),
    "short weight": _records(_short),
    "weight missing": _records(lambda records: records.pop(_first_weight(records)) and None),
    "list is no JSON": _text("weights_config.json", "hello"),
    "list is deep": _text("weights_config.json", "[" * 100_000),
    "list of lists": _text("weights_config.json", '{"config": [[1]]}'),
    "list of numbers": _text("weights_config.json", '{"config": {"network.a": 5}}'),
    "no list": _records(lambda records: records.pop(_named(records, "weights_config.json")) and None),
    "description is no JSON": _text("geoasanet.json", "hello"),
    "description of bytes": _text("geoasanet.json", bytes(range(128, 256))),
    "description is deep": _text("geoasanet.json", "[" * 100_000),
    "no description": _records(lambda records: records.pop(_named(records, "geoasanet.json")) and None),
    "description is a bomb": _records(
        lambda records: {**records, _named(records, "geoasanet.json"): bytes(300 << 20)}, zipfile.ZIP_DEFLATED
    ),
    "network of others": _described(name="__import__('os').system('touch EXECUTED')"),
    "classes of markup": _described(
        classes={"classes": ["<script>alert(1)</script>", "a&b", "'\"><img src=x>", "]]>", "{{7*7}}"]}
    ),
    "absurd network": _described(arguments={"num_classes": 10**9, "in_channels": [3, 1]}),
    "export of lists": _described(export=[1]),
    "paths upwards": _records(lambda records: {f"../../{name}": data for name, data in records.items()}),
    "compressed": _records(lambda records: None, zipfile.ZIP_DEFLATED),
    "nothing inside": _records(lambda records: {}),
    "bits flipped": changed_bytes("hostile.pt2", lambda path, rng: tiff.flip_bits(path, rng, int(rng.integers(1, 30)))),
    "bits flipped at the end": changed_bytes(
        "hostile.pt2", lambda path, rng: tiff.flip_bits(path, rng, 9, path.stat().st_size - 20_000)
    ),
    "cut short": changed_bytes("hostile.pt2", lambda path, rng: tiff.cut(path, float(rng.uniform(0, 0.999)))),
    "pickle": content("hostile.pt2", pickle.dumps(Attack())),
    "empty": content("hostile.pt2", b""),
    "text": content("hostile.pt2", b"hello"),
}
"""``.pt2`` files by kind."""
