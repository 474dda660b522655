"""``geoasanet export``: a checkpoint as a file that other programs run."""

from __future__ import annotations

import copy
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

import geoasanet
from geoasanet.errors import CheckpointError, ConfigError, OutputError
from geoasanet.files import atomic_output, check_output
from geoasanet.models.checkpoint import Checkpoint, load_checkpoint
from geoasanet.models.exportable import FORMS, Export, Exportable, Form, Separate, Stacked
from geoasanet.models.header import FORMAT, METADATA_KEY
from geoasanet.models.network import MIN_SIDE, Network
from geoasanet.models.onnxfile import deepness_keys, write_onnx
from geoasanet.models.pt2file import write_pt2
from geoasanet.tools.checkpoints import find_checkpoint
from geoasanet.tools.stac import SUFFIX, write_item
from geoasanet.tools.stacmodel import model_item

Format = Literal["onnx", "pt2", "stac"]
FORMATS: tuple[str, ...] = get_args(Format)
TOLERANCE = 1e-4
"""Largest difference from the network's logits (or their log-softmax), relative to the largest logit above 1."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What :func:`export` wrote."""

    path: Path
    """The file."""
    format: str
    """"onnx", "pt2" or "stac"."""
    form: str
    """"stacked" or "separate"."""
    inputs: dict[str, tuple[int | str, ...]]
    """Name and shape of every input; "batch" stands for any number."""
    output: dict[str, tuple[int | str, ...]]
    """Name and shape of the output."""
    window: int
    """Side of its windows, pixels."""
    checkpoint: str
    """What it was made of."""
    sha256: str
    """Hash of that checkpoint, hexadecimal."""
    file_size: int
    """Bytes."""
    difference: float | None
    """Largest difference from the network's logits (stacked: from their log-softmax) that was found on trial; None
    where the file could not be run here."""
    seconds: float
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {**asdict(self), "path": str(self.path), "warnings": list(self.warnings)}


def export(
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    *,
    to: Format = "onnx",
    out: str | os.PathLike[str] | None = None,
    form: Form | None = None,
    window: int | None = None,
    batch: int | Literal["dynamic"] = "dynamic",
    resolution: float | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write a checkpoint's network as ONNX or as a program of :func:`torch.export`, and compare it with the network.

    The statistics of the bands are inside: the file takes pixel values in the checkpoint's scale, NaN where there is
    no data. It carries the checkpoint's whole description, so that ``predict`` takes it, too.

    Args:
        checkpoint: File, run folder, packaged name, or a loaded checkpoint. None takes
            ``runs/latest/best.safetensors``, else the packaged ``s1s2-10m``.
        to: "onnx", "pt2", or "stac" for a STAC Item that describes the checkpoint by the extension MLM.
        out: The file; the checkpoint's name with the new suffix, in the current folder, if None.
        form: "stacked": one input of optical and SAR bands, probabilities out, as the QGIS plugin Deepness takes it.
            "separate": inputs ``rgb`` and ``sar``, logits out. By default stacked for ONNX and separate for pt2.
        window: Side of the windows, pixels, fixed in the file; the checkpoint's own if None.
        batch: Windows at a time, fixed in the file, or "dynamic" for any number.
        resolution: Side of a pixel that the network was trained on, metres; Deepness then reads layers at it.
        overwrite: Replace an existing ``out``.

    Returns:
        What was written, and how far it is from the network.

    Raises:
        ConfigError: If an option is impossible, or a package for ONNX is not installed.
        CheckpointError: If the checkpoint is absent or unusable, or was itself exported to ONNX.
        ModelError: If the network does not take windows of this size.
        OutputExistsError: If ``out`` exists and ``overwrite`` is false.
        OutputError: If it cannot be written, or what was written does not give the network's numbers.
    """
    began = time.perf_counter()
    _check_options(to, form, window, batch, resolution)
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(find_checkpoint(checkpoint))
    name = loaded.path.parent.resolve().name if loaded.path.stem == "best" else loaded.path.stem
    target = Path(f"{name}{SUFFIX if to == 'stac' else f'.{to}'}") if out is None else Path(out)
    check_output(target, overwrite=overwrite, inputs=(loaded.path,))
    suffix = ".json" if to == "stac" else f".{to}"
    if target.suffix != suffix:
        raise ConfigError(f"Output {target} has another suffix than {suffix}, by which programs tell it.", "Rename it.")
    if not isinstance(loaded.model, Network):
        raise CheckpointError(f"{loaded.path} is an ONNX file.", "Export the checkpoint that it was made of.")
    if next(loaded.model.parameters()).device.type != "cpu":
        loaded = replace(loaded, model=copy.deepcopy(loaded.model).cpu())
    plan = Export(
        form=form or ("stacked" if to == "onnx" else "separate"),
        window=loaded.window_size if window is None else window,
        batch=None if batch == "dynamic" else batch,
        checkpoint_sha256=loaded.sha256,
        parameters=sum(tensor.numel() for tensor in loaded.model.state_dict().values()),
    )
    if to == "stac":
        _write_item(target, loaded)
        return _result(target, to, loaded, plan, None, began, ())
    program = trace(loaded, plan)
    text = json.dumps(describe(loaded, plan))
    notes: list[str] = []
    try:
        with atomic_output(target) as temporary:
            if to == "onnx":
                write_onnx(temporary, program, plan, {METADATA_KEY: text, **_deepness(loaded, plan, resolution)})
            else:
                write_pt2(temporary, program, text)
            run = _runner(temporary, plan, notes)
            difference = None if run is None else _difference(run, loaded, plan, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{target} cannot be written ({error.strerror or error}).") from error
    if plan.window != loaded.window_size:
        notes.append(
            f"The file takes windows of {plan.window} px, the checkpoint was trained on {loaded.window_size} px: its "
            "global operators see another context, so it acts as another network."
        )
    return _result(target, to, loaded, plan, difference, began, notes)


def _result(
    target: Path,
    to: str,
    loaded: Checkpoint,
    plan: Export,
    difference: float | None,
    began: float,
    notes: Sequence[str],
) -> ExportResult:
    lead: int | str = plan.batch or "batch"
    shapes = plan.shapes(loaded.bands)
    return ExportResult(
        path=target,
        format=to,
        form=plan.form,
        inputs={name: (lead, *shape) for name, shape in zip(plan.inputs, shapes, strict=True)},
        output={plan.output: (lead, len(loaded.classes), plan.window, plan.window)},
        window=plan.window,
        checkpoint=str(loaded.path),
        sha256=loaded.sha256,
        file_size=target.stat().st_size,
        difference=difference,
        seconds=time.perf_counter() - began,
        warnings=tuple(notes),
    )


def _write_item(target: Path, loaded: Checkpoint) -> None:
    with atomic_output(target) as temporary:
        write_item(temporary, model_item(loaded, target.parent))


def _check_options(to: str, form: str | None, window: int | None, batch: int | str, resolution: float | None) -> None:
    if to not in FORMATS:
        raise ConfigError(f"--to {to!r} is unknown; one of {', '.join(FORMATS)} is needed.")
    if form is not None and form not in FORMS:
        raise ConfigError(f"--form {form!r} is unknown; one of {', '.join(FORMS)} is needed.")
    if window is not None and window < MIN_SIDE:
        raise ConfigError(f"--window must be at least {MIN_SIDE}, found {window}.")
    if batch != "dynamic" and (not isinstance(batch, int) or batch < 1):
        raise ConfigError(f"--batch must be 'dynamic' or at least 1, found {batch!r}.")
    if to == "stac" and (form, window, batch, resolution) != (None, None, "dynamic", None):
        raise ConfigError("--form, --window, --batch and --resolution go with --to onnx and pt2, not with stac.")
    if resolution is not None and not 0 < resolution < 1e6:
        raise ConfigError(f"--resolution must be positive metres, found {resolution}.")
    if resolution is not None and (to != "onnx" or form == "separate"):
        raise ConfigError("--resolution is for Deepness, which takes --to onnx --form stacked only.")


def _exportable(loaded: Checkpoint, plan: Export) -> Exportable:
    if plan.form == "stacked":
        return Stacked(loaded.model, loaded.bands, loaded.temperature)
    return Separate(loaded.model, loaded.bands)


def trace(loaded: Checkpoint, plan: Export) -> torch.export.ExportedProgram:
    """Return the program of a network, as it is and not in its faster form for one device.

    Raises:
        ModelError: If the network does not take windows of this size.
    """
    module = _exportable(loaded, plan)
    example = plan.example(loaded.bands, plan.batch or 2)
    with torch.no_grad():
        module(*example)  # a size that does not fit is said in the network's own words
        batch = torch.export.Dim("batch", min=1, max=2**15)
        shapes = None if plan.batch else tuple({0: batch} for _ in example)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for torch's developers
            program = torch.export.export(module, example, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def describe(loaded: Checkpoint, plan: Export) -> dict[str, Any]:
    """Return the description that an exported file carries, like a checkpoint's."""
    return {
        "format": FORMAT,
        "version": geoasanet.__version__,
        "name": loaded.name,
        "arguments": dict(loaded.arguments),
        "classes": loaded.classes.to_dict(),
        "bands": loaded.bands.to_dict(),
        "window_size": plan.window,
        "training": dict(loaded.training),
        "temperature": loaded.temperature,
        "export": plan.to_dict(),
    }


def _deepness(loaded: Checkpoint, plan: Export, resolution: float | None) -> dict[str, str]:
    if plan.form != "stacked":
        return {}
    ((bands, _, _),) = plan.shapes(loaded.bands)
    return deepness_keys(loaded.classes, bands, plan.window, resolution)


def _runner(path: Path, plan: Export, notes: list[str]) -> Callable[..., Tensor] | None:
    """Return what runs the file that was just written; None, and a note, where nothing here does."""
    if path.suffix == ".pt2":
        program: Callable[..., Tensor] = torch.export.load(path).module()  # ours: written a moment ago
        return program
    try:
        import onnxruntime
    except ImportError:
        notes.append("onnxruntime is not installed, so the file was not compared with the network.")
        return None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*images: Tensor) -> Tensor:
        feed = {name: image.numpy() for name, image in zip(plan.inputs, images, strict=True)}
        return torch.from_numpy(session.run([plan.output], feed)[0])

    return run


@torch.no_grad()
def _difference(run: Callable[..., Tensor], loaded: Checkpoint, plan: Export, target: Path) -> float:
    """Return the largest difference between a file's logits and the network's, over one and three windows.

    Raises:
        OutputError: If it is above :data:`TOLERANCE`, relative to the largest logit where that is above 1.
    """
    largest, module = 0.0, _exportable(loaded, plan)
    for batch in [plan.batch] if plan.batch else [1, 3]:
        example = plan.example(loaded.bands, batch)
        found, expected = run(*example), module(*example)
        logits = expected
        if isinstance(module, Stacked):
            logits = Separate(loaded.model, loaded.bands)(*torch.split(example[0], module.split, dim=1))
            found, expected = (p.clamp_min(1e-30).log() for p in (found, expected))
        worst = float((found - expected).abs().max())
        if not worst <= TOLERANCE * max(1.0, float(logits.abs().max())):
            raise OutputError(
                f"{target} was not written: it differs by {worst:.2g} from the network's logits.",
                "Please report it with the versions of torch, onnx and onnxruntime.",
            )
        largest = max(largest, worst)
    return largest
