"""ONNX files that lie, never end, or reach for other files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import tiff
from tests.hostile.makers import Maker, changed_bytes, content, setting

Model = Any
"""onnx.ModelProto."""


def _graph(change: Callable[[Model, Any], None]) -> Maker:
    """Return the maker of files whose graph was changed; ``change`` gets the model and the module onnx."""

    def make(folder: Path, good: Path, rng: np.random.Generator) -> Path:
        import onnx

        model = onnx.load(good)
        change(model, onnx)
        path = folder / "hostile.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


def _description(change: Callable[[dict[str, Any]], Any]) -> Maker:
    """Return the maker of files whose description was changed."""

    def change_text(model: Model, onnx: Any) -> None:
        for entry in model.metadata_props:
            if entry.key == "geoasanet":
                data = json.loads(entry.value)
                changed = change(data)
                entry.value = changed if isinstance(changed, str) else json.dumps(data)

    return _graph(change_text)


def _set(*keys: str, value: Any) -> Maker:
    return _description(setting(*keys, value=value))


def _after(*nodes: Callable[[Any, str, str], Any]) -> Maker:
    """Return the maker of files that pass the output through further nodes; each gets onnx, input and output name."""

    def change(model: Model, onnx: Any) -> None:
        graph = model.graph
        last = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["before" if name == last else name for name in node.output]
            node.input[:] = ["before" if name == last else name for name in node.input]
        names = ["before", *(f"between_{i}" for i in range(len(nodes) - 1)), last]
        for make, first, then in zip(nodes, names, names[1:], strict=False):
            made = make(onnx, first, then)
            graph.node.extend(made if isinstance(made, list) else [made])

    return _graph(change)


def _endless(onnx: Any, first: str, then: str) -> list[Any]:
    """A loop of 2^62 turns."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    value = onnx.TensorProto
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Identity", ["x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", value.INT64, []),
            helper.make_tensor_value_info("going", value.BOOL, []),
            helper.make_tensor_value_info("x", value.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", value.BOOL, []),
            helper.make_tensor_value_info("y", value.FLOAT, None),
        ],
    )
    turns = helper.make_node(
        "Constant", [], ["turns"], value=numpy_helper.from_array(np.array(2**62, np.int64), "turns")
    )
    always = helper.make_node("Constant", [], ["always"], value=numpy_helper.from_array(np.array(True), "always"))
    return [turns, always, helper.make_node("Loop", ["turns", "always", first], [then], body=body)]


def _expanded(onnx: Any, first: str, then: str) -> list[Any]:
    """A tensor of 2^36 copies, of which the largest is taken."""
    shape = onnx.numpy_helper.from_array(np.array([2**36, 1, 1, 1, 1], np.int64), "shape")
    axes = onnx.numpy_helper.from_array(np.array([0], np.int64), "axes")
    helper = onnx.helper
    return [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("Expand", [first, "shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge", "axes"], [then], keepdims=0),
    ]


def _filled(onnx: Any, first: str, then: str) -> list[Any]:
    """A constant of 2^40 values, of which the largest is added."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    shape = numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "shape")
    value = numpy_helper.from_array(np.array([1.0], np.float32), "value")
    return [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"], value=value),
        helper.make_node("ReduceMax", ["huge"], ["one"], keepdims=0),
        helper.make_node("Add", [first, "one"], [then]),
    ]


def _scaled(factor: float) -> Maker:
    """Return the maker of files whose output is multiplied."""

    def nodes(onnx: Any, first: str, then: str) -> list[Any]:
        value = onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor")
        return [
            onnx.helper.make_node("Constant", [], ["factor"], value=value),
            onnx.helper.make_node("Mul", [first, "factor"], [then]),
        ]

    return _after(nodes)


def _external(location: str, offset: str = "0", length: str | None = None) -> Maker:
    """Return the maker of files one of whose weights lies in another file."""

    def change(model: Model, onnx: Any) -> None:
        tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            if value is not None:
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value

    return _graph(change)


def _weight(change: Callable[[Any], None]) -> Maker:
    """Return the maker of files whose largest weight was changed."""
    return _graph(lambda model, onnx: change(max(model.graph.initializer, key=lambda t: len(t.raw_data))))


def _dims(*dims: int) -> Maker:
    def change(tensor: Any) -> None:
        tensor.dims[:] = dims

    return _weight(change)


def _not_a_number(tensor: Any) -> None:
    tensor.raw_data = b"\xff" * len(tensor.raw_data)


def _function_of_itself(model: Model, onnx: Any) -> None:
    helper = onnx.helper
    node = helper.make_node("Again", ["x"], ["y"], domain="own")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "Again", ["x"], ["y"], [node], opsets))
    model.opset_import.append(opsets[1])
    last = model.graph.output[0].name
    for made in model.graph.node:
        made.output[:] = ["before" if name == last else name for name in made.output]
    model.graph.node.append(helper.make_node("Again", ["before"], [last], domain="own"))


def _renamed(kind: str) -> Callable[[Model, Any], None]:
    def change(model: Model, onnx: Any) -> None:
        value = getattr(model.graph, kind)[0]
        old, value.name = value.name, "\x1b[31m<script>alert(1)</script>"
        for node in model.graph.node:
            node.output[:] = [value.name if name == old else name for name in node.output]
            node.input[:] = [value.name if name == old else name for name in node.input]

    return change


def _cycle(model: Model, onnx: Any) -> None:
    node = model.graph.node[0]
    node.input[0] = model.graph.node[-1].output[0]


def _side(kind: str, axis: int, size: int) -> Callable[[Model, Any], None]:
    def change(model: Model, onnx: Any) -> None:
        getattr(model.graph, kind)[0].type.tensor_type.shape.dim[axis].dim_value = size

    return change


def _no_description(model: Model, onnx: Any) -> None:
    del model.metadata_props[:]


def _twice(model: Model, onnx: Any) -> None:
    entry = next(e for e in model.metadata_props if e.key == "geoasanet")
    model.metadata_props.add(key="geoasanet", value=entry.value.replace("asanet", "nobody"))


GRAPHS: dict[str, Maker] = {
    "sound": _graph(lambda model, onnx: None),
    "endless loop": _after(_endless),
    "expanded without end": _after(_expanded),
    "filled without end": _after(_filled),
    "another domain": _after(lambda onnx, first, then: onnx.helper.make_node("Shell", [first], [then], domain="com.x")),
    "contributed operator": _after(
        lambda onnx, first, then: onnx.helper.make_node("Gelu", [first], [then], domain="com.microsoft")
    ),
    "unknown operator": _after(lambda onnx, first, then: onnx.helper.make_node("Touch", [first], [then])),
    "function of itself": _graph(_function_of_itself),
    "output in circles": _graph(_cycle),
    "output times zero": _scaled(0.0),
    "output times infinity": _scaled(float("inf")),
    "output times NaN": _scaled(float("nan")),
    "output negative": _scaled(-1.0),
    "weights elsewhere": _external("weights.bin"),
    "weights of a system file": _external("/etc/passwd"),
    "weights of a device": _external("/dev/zero", length=str(2**40)),
    "weights above": _external("../../../../../../../etc/passwd"),
    "weights at a huge offset": _external("hostile.onnx", offset=str(2**62), length=str(2**62)),
    "weights of words": _external("hostile.onnx", offset="many", length="few"),
    "weights in memory": _external("*/_ORT_MEM_ADDR_/*", offset="140000000000000", length="4096"),
    "weights NaN": _weight(_not_a_number),
    "huge declared weight": _dims(2**40, 2**20),
    "weight beyond 64 bits": _dims(2**62, 2**62),
    "negative weight": _dims(-1, -4),
    "other weight": _dims(1),
    "renamed input": _graph(_renamed("input")),
    "renamed output": _graph(_renamed("output")),
    "huge input": _graph(_side("input", 2, 2**40)),
    "other input": _graph(_side("input", 1, 7)),
    "negative input": _graph(_side("input", 2, -5)),
    "no output": _graph(lambda model, onnx: model.graph.output.pop() and None),
    "no nodes": _graph(lambda model, onnx: model.graph.ClearField("node")),
    "no graph": _graph(lambda model, onnx: model.ClearField("graph")),
    "operators of tomorrow": _graph(lambda model, onnx: setattr(model.opset_import[0], "version", 999)),
    "format of tomorrow": _graph(lambda model, onnx: setattr(model, "ir_version", 999)),
    "no description": _graph(_no_description),
    "two descriptions": _graph(_twice),
    "description is no JSON": _description(lambda data: "hello"),
    "description is deep": _description(lambda data: "[" * 50_000),
    "description of another format": _set("format", value=99),
    "no export": _description(lambda data: data.pop("export") and None),
    "export of words": _description(lambda data: data.update(export=dict.fromkeys(data["export"], "x"))),
    "export of lists": _description(lambda data: data.update(export={k: [1] for k in data["export"]})),
    "no window": _set("export", "window", value=0),
    "huge window": _set("export", "window", value=10**12),
    "negative window": _set("export", "window", value=-32),
    "no batch": _set("export", "batch", value=0),
    "negative batch": _set("export", "batch", value=-3),
    "huge batch": _set("export", "batch", value=10**12),
    "another form": _set("export", "form", value="separate"),
    "parameters are a list": _set("export", "parameters", value=[1]),
    "hash of markup": _set("export", "checkpoint_sha256", value="<script>alert(1)</script>\x1b[31m"),
    "infinite temperature": _set("temperature", value=1e999),
    "tiny temperature": _set("temperature", value=1e-320),
    "classes of others": _set("classes", value={"classes": ["a", "b"]}),
    "classes of markup": _set(
        "classes", value={"classes": ["<script>alert(1)</script>", "a&b", "'\"><img src=x>", "]]>", "{{7*7}}"]}
    ),
    "statistics of others": _set("bands", "sar", value={"mean": [1, 2], "std": [1, 1], "scale": "db"}),
    "network of others": _set("name", value="../../etc/passwd"),
    "bits flipped": changed_bytes(
        "hostile.onnx", lambda path, rng: tiff.flip_bits(path, rng, int(rng.integers(1, 20)))
    ),
    "bits flipped at the start": changed_bytes("hostile.onnx", lambda path, rng: tiff.flip_bits(path, rng, 3, 0, 300)),
    "cut short": changed_bytes("hostile.onnx", lambda path, rng: tiff.cut(path, float(rng.uniform(0, 0.999)))),
    "empty": content("hostile.onnx", b""),
    "text": content("hostile.onnx", b"hello"),
    "web page": content("hostile.onnx", b"<html>404</html>"),
    "a field of gigabytes": content("hostile.onnx", b"\x3a\xff\xff\xff\xff\x07" + bytes(100)),
    "deep fields": content("hostile.onnx", b"\x3a" * 50_000),
}
"""ONNX files by kind."""
