"""Class schemas, configurations, lists and STAC Items of scenes, and sizes of strata that are hostile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

Maker = Callable[[Path, np.random.Generator], Path]

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
"""A YAML document of 500 bytes with 10⁹ elements."""
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
"""The same with keys that are merged."""

YAML: dict[str, str | bytes] = {
    "python object": "!!python/object/apply:os.system ['touch EXECUTED']",
    "python name": "classes: !!python/name:os.system",
    "python module": "classes: [!!python/object/new:subprocess.Popen [['touch', 'EXECUTED']]]",
    "unknown tag": "classes: !whatever [a, b]",
    "alias bomb": LAUGHS + "classes: *j\n",
    "alias bomb in values": LAUGHS + "classes: [a, b]\nignore_index: *j\nclass_pixels: *j\nbands: *j\nlr: *j\n",
    "merge bomb": MERGES + "classes: *j\n",
    "alias of itself": "classes: &a [*a]",
    "mapping of itself": "&a {classes: *a, rgb_dir: *a}",
    "deep lists": "[" * 20_000,
    "deep mappings": "{a: " * 5_000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(1500)),
    "huge number": "classes: " + "9" * 6000,
    "huge hexadecimal": "classes: [a, b]\nignore_index: 0x" + "f" * 6000 + "\nlr: 0x" + "f" * 6000,
    "a billion classes": "classes: 1000000000",
    "ten thousand classes": "classes: [" + ", ".join(f"c{i}" for i in range(10_000)) + "]",
    "megabytes": "classes: [a, b]\nremark: '" + "x" * 9_000_000 + "'",
    "megabytes of lists": "classes: [" + "[a], " * 1_500_000 + "]",
    "impossible date": "classes: [2024-99-99]\nlr: 2024-13-45",
    "infinite": "classes: [a, b]\nignore_index: .inf\nlr: .inf\ntile_size: .inf",
    "not a number": "classes: [a, b]\nignore_index: .nan\nlr: .nan\ntile_size: .nan",
    "words for numbers": "classes: [a, b]\nignore_index: many\nlr: much\ntile_size: big",
    "null everywhere": "classes: null\nrgb_dir: null\nsar_dir: null\nbands: null\nlr: null",
    "binary value": "classes: !!binary gIGC\nlr: !!binary gIGC",
    "set": "classes: !!set {a, b}",
    "ordered map": "classes: !!omap [a: 1]",
    "key of lists": "? [a, b]\n: c\n? {a: b}\n: d",
    "numbers as keys": "1: a\n2.5: b\nnull: c\ntrue: d",
    "empty": "",
    "only a comment": "# nothing\n",
    "text": "hello",
    "number": "5",
    "date": "2024-01-01",
    "several documents": "---\nclasses: [a]\n---\nclasses: [b]\n",
    "tabs": "classes:\n\t- a\n",
    "unclosed": "classes: [a, b",
    "control characters": b"classes: [a\x00b, \x1b]",
    "control characters in names": 'classes: ["a\\e[31mb", "two\\nlines", "bell\\a"]',
    "bytes": bytes(range(128, 256)),
    "UTF-16": "classes: [a, b]".encode("utf-16"),
    "byte order mark": "\ufeffclasses: [a, b]\n",
    "markup": "classes: ['<script>alert(1)</script>', 'b&c']",
    "names of numbers": "classes: [1, 2.5, true, null]",
    "empty names": "classes: ['', ' ']",
    "same names": "classes: [a, a]",
    "no names": "classes: [{id: 0}, {color: [1, 2, 3]}]",
    "lists as names": "classes: [[a, b], [c]]",
    "mappings as names": "classes: [{name: {a: b}}]",
    "ids that are lists": "classes: [{id: [0], name: a}, {id: {b: c}, name: b}]",
    "ids that are floats": "classes: [{id: 0.0, name: a}, {id: 1.0, name: b}]",
    "ids not numbers": "classes: [{id: .nan, name: a}, {id: true, name: b}]",
    "ids of words": "classes: [{id: one, name: a}, {id: two, name: b}]",
    "huge ids": f"classes: [{{id: {10**30}, name: a}}]",
    "bad colours": "classes: [{name: a, color: [1, 2]}, {name: b, color: red}]",
    "colours beyond": "classes: [{name: a, color: [256, -1, 1e400]}]",
    "colours of lists": "classes: [{name: a, color: [[1], [2], [3]]}]",
    "colours of letters": "classes: [{name: a, color: '#zzzzzz'}]",
    "wrong kinds": "classes: [a, b]\nrgb_dir: 5\nsar_dir: [x]\nlabel_dir: {a: b}\nlr: [1]\nencoder: [1]\nmodel: 7",
    "paths": "classes: [a, b]\nrgb_dir: ../../etc\nsar_dir: /etc\nmodel: ../../x\nencoder_weights: /etc/passwd",
    "long line": "classes: [" + "a" * 200_000 + "]",
}
"""YAML documents, for whatever reads one."""

CONFIGS: dict[str, str] = {
    "absurd network": "encoder: {depths: [1000000, 1, 1, 1], dims: [8, 16, 24, 32]}",
    "absurd widths": "encoder: {depths: [1, 1, 1, 1], dims: [1000000000000, 1, 1, 1]}",
    "wide network": "encoder: {depths: [1, 1, 1, 1], dims: [1000000, 1000000, 1000000, 1000000]}",
    "encoder of words": "encoder: {depths: [one, two], dims: x}",
    "encoder without dims": "encoder: {depths: [1, 1, 1, 1]}",
    "unknown encoder": "encoder: ../../etc/passwd",
    "weights of a system file": "encoder_weights: /etc/passwd",
    "weights of a device": "encoder_weights: /dev/zero",
    "unknown model": "model: __import__('os')",
    "model arguments": "model_args: {num_classes: 5}",
    "unknown model arguments": "model_args: {__class__: 5, 'a b': {}}",
    "wrong model arguments": "model_args: {decoder_channels: 1000000000000}",
    "model arguments of words": "model_args: {decoder_channels: many}",
    "negative batch": "batch_size: -1",
    "huge batch": "batch_size: 65536\ncrop_size: 8192",
    "huge crop": "crop_size: 1000000000",
    "odd crop": "crop_size: 33",
    "resize to nothing": "resize: [1.0e-9, 1.0e-9]",
    "resize to everything": "resize: [1000000.0, 1000000.0]",
    "resize backwards": "resize: [2.0, 0.5]",
    "infinite rate": "lr: 1.0e+999",
    "statistics of zero": "rgb_mean: [1, 1, 1]\nrgb_std: [0, 0, 0]\nsar_mean: [0]\nsar_std: [0]",
    "statistics of other bands": "rgb_mean: [1]\nrgb_std: [1]\nsar_mean: [1, 2, 3]\nsar_std: [1, 2, 3]",
    "class weights of others": "class_weights: [1, 2]",
    "huge class weights": "class_weights: [1.0e+308, 1.0e+308, 1.0e+308, 1.0e+308, 1.0e+308]",
    "classes of others": "classes: [a, b]",
    "data elsewhere": "data: /etc",
    "thousands of workers": "workers: 100000",
    "negative workers": "workers: -3",
    "unknown key": "__class__: 5",
    "nearly a key": "iteration: 5",
}
"""Training configurations."""

SCENES: dict[str, str | bytes] = {
    "traversal": "rgb,sar,labels\n../../../../etc/passwd,../../../etc/shadow,../../x\n",
    "absolute": "rgb,sar,labels\n/etc/passwd,/etc/hostname,/etc/hosts\n",
    "virtual": "rgb,sar\n/vsicurl/http://127.0.0.1:9/a.tif,/vsizip/nowhere.zip/a.tif\n",
    "URL": "rgb,sar\nhttp://127.0.0.1:9/a.tif,s3://bucket/x.tif\n",
    "itself": "rgb,sar\nhostile.csv,hostile.csv\n",
    "inline XML": "rgb,sar\n<VRTDataset rasterXSize='9' rasterYSize='9'/>,good_sar.tif\n",
    "missing": "rgb,sar\nnone.tif,none.tif\n",
    "folders": "rgb,sar\n.,..\n",
    "empty": "",
    "only a header": "rgb,sar,labels\n",
    "wrong header": "a,b,c\n1,2,3\n",
    "header twice": "rgb,rgb,sar\na,b,c\n",
    "few values": "rgb,sar,labels\ngood_rgb.tif\n",
    "many values": "rgb,sar\n" + "good_rgb.tif," * 50 + "\n",
    "huge field": "rgb,sar\n" + "x" * 300_000 + ",good_sar.tif\n",
    "open quote": 'rgb,sar\n"good_rgb.tif,good_sar.tif\n',
    "zero bytes": b"rgb,sar\nbad\x00name.tif,good_sar.tif\n",
    "zero byte in the header": b"rgb\x00,sar\ngood_rgb.tif,good_sar.tif\n",
    "control characters": "rgb,sar\nred\x1b[31m.tif,good_sar.tif\n",
    "line breaks": 'rgb,sar\n"two\nlines.tif",good_sar.tif\n',
    "old line ends": "rgb,sar\rgood_rgb.tif,good_sar.tif\r",
    "bytes": bytes(range(128, 256)),
    "UTF-16": "rgb,sar\ngood_rgb.tif,good_sar.tif\n".encode("utf-16"),
    "semicolons": "rgb;sar\ngood_rgb.tif;good_sar.tif\n",
    "unknown split": "rgb,sar,labels,split\ngood_rgb.tif,good_sar.tif,good_map.tif,everything\n",
    "one scene without labels": "rgb,sar,labels\ngood_rgb.tif,good_sar.tif,good_map.tif\ngood_rgb.tif,good_sar.tif,\n",
    "the same twice": "rgb,sar,labels\n" + "good_rgb.tif,good_sar.tif,good_map.tif\n" * 2,
    "ten thousand lines": "rgb,sar,labels\n" + "none.tif,none.tif,none.tif\n" * 10_000,
    "spreadsheet formula": "rgb,sar\n=cmd|'/c calc'!A0,good_sar.tif\n",
}
"""Lists of scenes."""

STRATA: dict[str, str | bytes] = {
    "empty": "",
    "only a header": "stratum,size\n",
    "wrong header": "a,b\n1,2\n",
    "words": "stratum,size\nwater,many\n",
    "negative": "stratum,size\nwater,-5\n",
    "infinite": "stratum,size\nwater,inf\nforest,nan\n",
    "huge": "stratum,size\nwater,1e308\nforest,1e308\nfield,1e308\ntown,1e308\nbare,1e308\n",
    "zero bytes": b"stratum,size\nwa\x00ter,5\n",
    "huge field": "stratum,size\n" + "x" * 300_000 + ",5\n",
    "bytes": bytes(range(128, 256)),
    "unknown": "stratum,size\nmars,5\n",
}
"""Sizes of strata."""


def _item(name: str, **changes: object) -> dict[str, object]:
    """Return a STAC Item of the good scene, with some of its entries replaced."""
    ring = [[117, 34], [118, 34], [118, 35], [117, 35], [117, 34]]
    item: dict[str, object] = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [117, 34, 118, 35],
        "properties": {"datetime": "2024-05-01T10:00:00Z"},
        "assets": {"visual": {"href": "good_rgb.tif"}, "vv": {"href": "good_sar.tif"}},
        "links": [],
    }
    return {**item, **changes}


def _items(*items: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(items)})


def _assets(rgb: object, sar: object) -> str:
    return _items(_item("a", assets={"visual": {"href": rgb}, "vv": {"href": sar}}))


_BOW = [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]
ITEMS: dict[str, str | bytes] = {
    "empty": "",
    "text": "hello",
    "number": "5",
    "null": "null",
    "list": "[1, 2]",
    "deep": "[" * 200_000,
    "bytes": bytes(range(128, 256)),
    "UTF-16": _items(_item("a")).encode("utf-16"),
    "byte order mark": "\ufeff" + _items(_item("a")),
    "huge number": '{"type": "FeatureCollection", "features": [' + "9" * 6000 + "]}",
    "no items": _items(),
    "items of numbers": _items(1, None, "x"),
    "features are a mapping": '{"type": "FeatureCollection", "features": {"a": 1}}',
    "an Item alone": json.dumps(_item("a")),
    "no geometry": _items(_item("a", geometry=None)),
    "geometry of words": _items(_item("a", geometry={"type": "Polygon", "coordinates": "here"})),
    "geometry of lists": _items(_item("a", geometry={"type": "Polygon", "coordinates": [[[[[1]]]]]})),
    "unknown geometry": _items(_item("a", geometry={"type": "Circle", "coordinates": [1, 2]})),
    "geometry not finite": _items(_item("a", geometry={"type": "Point", "coordinates": [float("nan"), 1e999]})),
    "a bow": _items(_item("a", geometry={"type": "Polygon", "coordinates": _BOW})),
    "a line": _items(_item("a", geometry={"type": "LineString", "coordinates": [[0, 0], [1, 1]]})),
    "assets are a list": _items(_item("a", assets=[1])),
    "assets are null": _items(_item("a", assets=None)),
    "asset without href": _items(_item("a", assets={"visual": {}, "vv": {}})),
    "href is a list": _assets(["good_rgb.tif"], {"a": 1}),
    "href upwards": _assets("../../../../etc/passwd", "../../../etc/shadow"),
    "href absolute": _assets("/etc/passwd", "/etc/hosts"),
    "href of a device": _assets("/dev/zero", "/dev/urandom"),
    "href is a URL": _assets("http://127.0.0.1:9/a.tif", "https://127.0.0.1:9/b.tif"),
    "href is virtual": _assets("/vsizip/nowhere.zip/a.tif", "/vsimem/x"),
    "href is a document": _assets("<VRTDataset rasterXSize='9' rasterYSize='9'/>", "good_sar.tif"),
    "href with zero bytes": _assets("a\x00b.tif", "good_sar.tif"),
    "href with control characters": _assets("a\x1b[31m.tif", "good_sar.tif"),
    "href is empty": _assets("", ""),
    "href is endless": _assets("x" * 300_000, "good_sar.tif"),
    "missing": _assets("none.tif", "none.tif"),
    "name upwards": _items(_item("../../../x")),
    "name with control characters": _items(
        _item("a\x1b[31m\nb", assets={"visual": {"href": "none.tif"}, "vv": {"href": "x"}})
    ),
    "name is a list": _items(_item("a", id=[1])),
    "names are the same": _items(_item("a"), _item("a")),
    "time of words": _items(_item("a", properties={"datetime": "yesterday"})),
    "time of numbers": _items(_item("a", properties={"datetime": 10**30})),
    "properties are a list": _items(_item("a", properties=[1])),
    "nothing of SAR": _items(_item("a", assets={"visual": {"href": "good_rgb.tif"}})),
    "sides apart": _items(
        _item("a", assets={"visual": {"href": "good_rgb.tif"}}),
        _item("b", assets={"vv": {"href": "good_sar.tif"}}, geometry={"type": "Point", "coordinates": [9, 9]}),
    ),
    "ten thousand": _items(*(_item(f"a{i}", assets={"visual": {"href": "none.tif"}}) for i in range(10_000))),
}
"""STAC ItemCollections."""
ITEM_COLLECTION = _items(_item("a"))
"""One without fault."""


def writer(name: str, content: str | bytes) -> Maker:
    """Return the maker of a file with this content."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def garbled(name: str, content: str) -> Maker:
    """Return the maker of a file with this content, some of whose bytes were replaced."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        data = bytearray(content.encode())
        for place in rng.integers(0, len(data), int(rng.integers(1, 12))):
            data[place] = int(rng.choice([0, 9, 10, 32, 34, 38, 42, 45, 58, 91, 93, 123, 125, 33, 255, 57, 101]))
        path = folder / name
        path.write_bytes(bytes(data))
        return path

    return make


def no_file(name: str, kind: str) -> Maker:
    """Return the maker of what is no file: "folder", "pipe", "missing", "device"."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        path = folder / name
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        return path

    return make
