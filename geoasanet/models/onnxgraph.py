"""What an ONNX file is checked for before onnxruntime sees it.

An ONNX graph holds no code, but it may loop for ever, call functions and operators of others, take its weights from
any other file, and ask for more memory than there is. Files of ``geoasanet export`` do nothing of that.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from geoasanet.errors import CheckpointError
from geoasanet.files import read_limited
from geoasanet.printable import one_line

LARGEST_FILE = 2**31
"""Bytes of an ONNX file at most: a limit of its format."""
LARGEST_VALUE = 2**31
"""Elements of a tensor at most, for one window."""
_DOMAINS = ("", "ai.onnx")
_KNOWN_AT_MOST = 1024
"""Elements of weights whose values may decide the shapes of others."""
_AGAIN = "Export the checkpoint again with geoasanet export."


def read_graph(path: Path) -> bytes:
    """Return the bytes of an ONNX file whose graph is safe to run.

    Raises:
        CheckpointError: If it is missing, too large or damaged, or its graph has loops, conditions, functions,
            operators outside the standard, weights in other files, or tensors of more than :data:`LARGEST_VALUE`
            elements.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = read_limited(path, LARGEST_FILE)
        model = onnx.load_model_from_string(data)
    except OSError as error:
        raise CheckpointError(f"ONNX file {path} cannot be read ({error.strerror}).") from error
    except (DecodeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no ONNX file, or is damaged ({line_of(error)}).", "Export it again."
        ) from error
    problem = _problem(model)
    if problem:
        raise CheckpointError(f"The graph in {path} is refused: {problem}.", _AGAIN)
    return data


def _problem(model: Any) -> str | None:
    """Return what is wrong with a model, None if nothing."""
    import onnx

    graph = model.graph
    if model.functions:
        return f"it has functions of its own ({model.functions[0].name[:80]!r})"
    if model.training_info:
        return "it has steps of training"
    if graph.sparse_initializer:
        return "it has sparse weights"
    for node in graph.node:
        if node.domain not in _DOMAINS:
            return f"operator {node.op_type[:80]!r} of {node.domain[:80]!r} is not part of the standard"
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                return f"operator {node.op_type[:80]!r} has a graph of its own, as loops and conditions do"
    constants = [a.t for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            return f"weight {tensor.name[:80]!r} lies in another file"
        if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > LARGEST_VALUE:
            return f"weight {tensor.name[:80]!r} has the shape {list(tensor.dims)[:8]}"
    return _shape_problem(model)


def _shape_problem(model: Any) -> str | None:
    """Return which tensor of a model is too large, None if none is; unknown sizes, such as the batch's, count as 1."""
    import onnx

    try:
        known = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        return line_of(error)
    for value in (*known.graph.value_info, *known.graph.input, *known.graph.output):
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim if size.HasField("dim_value")]
        if any(size < 0 for size in sizes) or math.prod(sizes) > LARGEST_VALUE:
            return f"tensor {value.name[:80]!r} has the shape {sizes[:8]}"
    return None


def _without_weights(model: Any) -> Any:
    """Return a model whose large weights are inputs, of which shapes alone are known."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _KNOWN_AT_MOST:
            light.graph.initializer.append(tensor)
        elif tensor.name not in given:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def line_of(error: Exception) -> str:
    """Return in one line what onnx or onnxruntime says, without places in their sources."""
    text = one_line(error, 2000)
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(cc|h):\d+ .*?\) (?=[A-Z\[])", "", text)[:200]
