"""ONNX files: written by torch, run by onnxruntime.

An ONNX file is a graph of numerical operators, without code. Its ``metadata_props`` hold the description of a
checkpoint (key ``geoasanet``, see :mod:`geoasanet.models.header`) and, where the graph has one input, the keys that
the QGIS plugin Deepness reads (:func:`deepness_keys`). onnx, onnxscript and onnxruntime are imported when needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoasanet.classes import ClassSchema
from geoasanet.errors import CheckpointError, ConfigError, ModelError
from geoasanet.models.exportable import Export
from geoasanet.models.header import METADATA_KEY, CheckpointHeader, parse_description
from geoasanet.models.onnxgraph import line_of, read_graph

OPSET = 18
"""Version of the operator set; onnxruntime reads it since 1.14 (2023)."""
LARGEST = 2**31 - 2**24
"""Bytes that one ONNX file can hold, some left for the graph."""


def write_onnx(path: Path, program: torch.export.ExportedProgram, export: Export, metadata: dict[str, str]) -> None:
    """Write an exported program as one ONNX file.

    Raises:
        ConfigError: If onnx or onnxscript is not installed, or the weights are too large for the format.
    """
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size > LARGEST:
        raise ConfigError(
            f"The weights take {size / 2**30:.1f} GiB; an ONNX file holds less than 2 GiB.", "Use --to pt2."
        )
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise ConfigError(f"Writing ONNX needs {error.name}, which is not installed.", INSTALL) from None
    with _quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(export.inputs),
            output_names=[export.output],
            opset_version=OPSET,
            verbose=False,
        )
        assert made is not None
        model = made.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it comes from: paths of this machine
    for value in (*model.graph.input, *model.graph.output):
        if export.batch is None:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.producer_name, model.producer_version = "geoasanet", json.loads(metadata[METADATA_KEY])["version"]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def deepness_keys(classes: ClassSchema, bands: int, window: int, resolution: float | None) -> dict[str, str]:
    """Return what the QGIS plugin Deepness reads from a model, each value in JSON.

    Deepness gives a model one input: the bands of one layer, divided by 255 whatever their type, less
    ``standardization_mean``, divided by ``standardization_std``; a deviation of 1/255 gives the pixel values back. Of
    the output, values below ``seg_thresh`` become 0, and the largest of each pixel wins.

    Args:
        classes: The classes.
        bands: Bands of the input.
        window: Its side, pixels.
        resolution: Side of a pixel, metres; left to the user if None.
    """
    keys: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(classes.names)},
        "tile_size": window,
        "tiles_overlap": 25,  # percent, as predict's 64 of 256 px
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * bands,
        "standardization_std": [1 / 255] * bands,
    }
    if resolution is not None:
        keys["resolution"] = 100 * resolution  # centimetres
    return {key: json.dumps(value) for key, value in keys.items()}


class OnnxNetwork(nn.Module):
    """An exported network that is called as the network itself: normalised images in, logits out.

    It runs on the CPU, wherever the tensors are. The graph normalises pixel values itself, so images are turned back
    into them first, which costs two operations per pixel and rounding of 1e-6.

    Args:
        session: onnxruntime's session of the file.
        header: What the file says about itself.
        export: How it is called.
    """

    def __init__(self, session: Any, header: CheckpointHeader, export: Export) -> None:
        super().__init__()
        self._session, self._export, self._path = session, export, header.path
        self._temperature = header.temperature
        self._mean, self._std = (
            [torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in values]
            for values in zip(*((b.mean, b.std) for b in (header.bands.rgb, header.bands.sar)), strict=True)
        )
        # Here and not above the function, where it would load torch's compiler with this module.
        self._outside_graphs = torch.compiler.disable(self._logits)  # type: ignore[no-untyped-call]
        self.eval()

    @torch.no_grad()
    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor:
        """Return logits (B, K, H, W), float32 on the device of the images.

        From probabilities they are known but for a constant per pixel, which no softmax sees.

        Raises:
            ModelError: If the images are not of the file's window size.
        """
        logits: Tensor = self._outside_graphs(rgb_BCHW, sar_BSHW)
        return logits

    def _logits(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor:
        side = self._export.window
        if rgb_BCHW.shape[2:] != (side, side):
            height, width = rgb_BCHW.shape[2:]
            raise ModelError(
                f"{self._path} was exported for windows of {side} x {side} px, found {height} x {width}.",
                f"Use --window {side}, the checkpoint itself, or export it again with --window.",
            )
        pixels = [
            image.float().cpu() * std + mean
            for image, mean, std in zip((rgb_BCHW, sar_BSHW), self._mean, self._std, strict=True)
        ]
        images = [torch.cat(pixels, 1)] if self._export.form == "stacked" else pixels
        count, batch = len(rgb_BCHW), self._export.batch or len(rgb_BCHW)
        parts = [self._run([image[i : i + batch] for image in images], batch) for i in range(0, count, batch)]
        output = torch.cat(parts)[:count]
        if self._export.form == "stacked":
            output = output.clamp_min(torch.finfo(torch.float32).tiny).log() * self._temperature
        return output.to(rgb_BCHW.device)

    def _run(self, images: list[Tensor], batch: int) -> Tensor:
        short = batch - len(images[0])
        padded = [nn.functional.pad(image, [0, 0, 0, 0, 0, 0, 0, short]) for image in images] if short else images
        feed = {name: image.numpy() for name, image in zip(self._export.inputs, padded, strict=True)}
        try:
            (output,) = self._session.run([self._export.output], feed)
        except _failures() as error:
            raise ModelError(f"{self._path} cannot be run ({line_of(error)}).", "Export it again.") from error
        if output.dtype != np.float32 or output.shape[0] != batch:
            raise ModelError(f"{self._path} gives {output.dtype} of shape {output.shape}.", "Export it again.")
        return torch.from_numpy(output)


def _failures() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises over a file or a run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NotImplemented")
    return (*(getattr(state, name) for name in names), state.RuntimeException, RuntimeError, ValueError)


_FATAL = 4
"""Level of onnxruntime's log: what it would say, its exceptions say as well."""
_AGAIN = "Export it again with geoasanet export."
INSTALL = "Install it: pip install geoasanet[onnx]"


def read_onnx(path: Path) -> tuple[OnnxNetwork, CheckpointHeader, str]:
    """Return the network in an ONNX file that ``geoasanet export`` wrote, its header and the hash of the file.

    Raises:
        CheckpointError: If onnxruntime is not installed, or the file is missing, damaged or from elsewhere.
    """
    try:
        import onnx  # noqa: F401 - it checks the graph
        import onnxruntime
    except ImportError as error:
        raise CheckpointError(f"{path} is an ONNX file; running it needs {error.name}.", INSTALL) from None
    data = read_graph(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _failures() as error:
        raise CheckpointError(
            f"{path} is no ONNX file, or is damaged ({line_of(error)}).", "Export it again."
        ) from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"{path} is an ONNX model without a geoasanet description: its bands and classes are not known.",
            "Give one that geoasanet export wrote.",
        )
    header = parse_description(path, text, {}, ())
    try:
        export = Export.from_dict(header.export)
    except CheckpointError as error:
        raise CheckpointError(f"The description in {path} is malformed: {error}", "Export it again.") from None
    _check_graph(path, session, header, export)
    return OnnxNetwork(session, header, export), header, hashlib.sha256(data).hexdigest()


def _check_graph(path: Path, session: Any, header: CheckpointHeader, export: Export) -> None:
    """Raise unless a graph's inputs and output are those that are described."""
    found = {value.name: tuple(value.shape[1:]) for value in (*session.get_inputs(), *session.get_outputs())}
    needed = dict(zip(export.inputs, export.shapes(header.bands), strict=True))
    needed[export.output] = (len(header.classes), export.window, export.window)
    counts = {value.shape[0] for value in session.get_inputs()}
    counts = {count if isinstance(count, int) else None for count in counts}
    if found == needed and counts != {export.batch}:
        raise CheckpointError(
            f"The graph in {path} takes {counts} images at a time, its description says {export.batch}.", _AGAIN
        )
    if found != needed:
        raise CheckpointError(f"The graph in {path} has {found}, its description says {needed}.", _AGAIN)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and log lines, which are for its developers, from the user."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
