"""ONNX graphs are refused before onnxruntime sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoasanet.errors import CheckpointError
from geoasanet.models.onnxgraph import line_of, read_graph
from tests.hostile.graphs import GRAPHS

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with a weight, a node and a batch of any size."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((5, 4, 1, 1), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["probabilities"])],
        "good",
        [helper.make_tensor_value_info("image", kind, ["batch", 4, 32, 32])],
        [helper.make_tensor_value_info("probabilities", kind, ["batch", 5, 32, 32])],
        [weight],
    )
    path = tmp_path_factory.mktemp("graph") / "good.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_sound_one_is_read_as_it_is(good: Path) -> None:
    assert read_graph(good) == good.read_bytes()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("endless loop", "'Loop' has a graph of its own"),
        ("expanded without end", "'huge' has the shape"),
        ("filled without end", r"'huge' has the shape \[1048576, 1048576\]"),
        ("another domain", "'Shell' of 'com.x' is not part of the standard"),
        ("contributed operator", "'Gelu' of 'com.microsoft' is not part of the standard"),
        ("function of itself", "functions of its own"),
        ("weights of a system file", "'weight' lies in another file"),
        ("weights in memory", "'weight' lies in another file"),
        ("huge declared weight", "'weight' has the shape"),
        ("weight beyond 64 bits", "'weight' has the shape"),
        ("negative weight", "'weight' has the shape"),
        ("huge input", "has the shape"),
        ("cut short", "no ONNX file"),
        ("text", "no ONNX file"),
    ],
)
def test_others_are_refused(good: Path, tmp_path: Path, kind: str, reason: str) -> None:
    path = GRAPHS[kind](tmp_path, good, np.random.default_rng(1))
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)


def test_pipes_and_missing_files_are_not_waited_for(tmp_path: Path) -> None:
    for name, reason in (("/dev/zero", "pipe or device"), (str(tmp_path), "folder"), ("none.onnx", "No such file")):
        with pytest.raises(CheckpointError, match=reason):
            read_graph(Path(name))


def test_messages_name_no_places_in_sources() -> None:
    said = "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/core/graph/model.cc:25 Model(x&&, y) Unknown version."
    assert line_of(RuntimeError(said)) == "Unknown version."
    assert line_of(RuntimeError("a\x1b[31m\nb")) == "a?[31m b"
