"""``geoasanet benchmark``: how fast the networks and the pipeline around them run on this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from geoasanet.device import choose_device, has_bf16
from geoasanet.errors import ConfigError, DeviceError, GeoASANetError
from geoasanet.files import check_output
from geoasanet.models.cards import CARDS, SOURCE, known_cost
from geoasanet.models.flops import NUM_CLASSES
from geoasanet.models.network import MIN_SIDE
from geoasanet.progress import Progress, silent
from geoasanet.tools.benchmark_pipeline import PipelineSpeed
from geoasanet.tools.benchmark_result import NetworkSpeed, arithmetic_name
from geoasanet.tools.benchmark_speed import BatchSize, Speed, SpeedTask
from geoasanet.tools.child import run_child
from geoasanet.tools.machine import Machine, describe_machine
from geoasanet.tools.modelspec import ALL, ModelSpec, parse_specs

PRECISIONS = ("fp32", "bf16")
PIPELINE_SIDES = (256, 8192)


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What :func:`benchmark` measured."""

    machine: Machine
    size: int
    """Height and width of the images, pixels."""
    networks: tuple[NetworkSpeed, ...]
    pipeline: PipelineSpeed | None
    """``None`` if it was not asked for or failed, which ``warnings`` then says."""
    plot: Path | None
    """PNG of speed against size."""
    seconds: float
    """Wall time."""
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {
            **asdict(self),
            "plot": None if self.plot is None else str(self.plot),
            "num_classes": NUM_CLASSES,
            "published_source": SOURCE,
        }


def benchmark(
    models: str | Sequence[str] = ALL,
    *,
    size: int = 256,
    batch_sizes: Sequence[BatchSize] = (1, "auto"),
    precision: Sequence[str] = PRECISIONS,
    compile: bool = False,
    device: str = "auto",
    seconds: float = 3.0,
    pipeline: int = 1024,
    plot: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> BenchmarkResult:
    """Measure on this machine how many images per second the networks map, and with how much memory.

    Every network and arithmetic is measured in a process of its own, on random images and weights, in evaluation mode,
    the images already on the device. What fails is listed with its reason and does not stop the rest.

    Args:
        models: ``"all"``, or names, with arguments where they shall differ from the defaults:
            ``["asanet", "asanet:encoder=convnextv2_base", "fusenet:variant=sf5"]``.
        size: Height and width of the images, pixels.
        batch_sizes: Images at a time; ``"auto"`` doubles them until that no longer helps or memory runs out.
        precision: ``"fp32"``, ``"bf16"`` (autocast) or both; bf16 only where the device has instructions for it.
        compile: Measure also with :func:`torch.compile`.
        device: "auto", "cpu", "cuda", "cuda:1", …
        seconds: Time for every batch size, after a warm-up; three passes at least.
        pipeline: Side of the synthetic scene, in pixels, on which ``predict`` and ``vectorize`` are timed with a
            network that costs nothing; 0 leaves that out.
        plot: Also write a PNG of speed against number of parameters here.
        overwrite: Replace an existing ``plot``.
        progress: Told how far the work is.

    Returns:
        Speeds with their spread, memory, cost, the published figures, and the machine.

    Raises:
        ConfigError: If an option is impossible.
        ModelError: If a name is unknown.
        DeviceError: If the device is absent, or nothing could be measured on it.
        OutputError: If ``plot`` exists and ``overwrite`` is false, or cannot be written.
    """
    began = time.perf_counter()
    specs = parse_specs(models)
    _check_options(size, batch_sizes, precision, seconds, pipeline)
    target = None if plot is None else _plot_path(Path(plot), overwrite)
    torch_device = choose_device(device)
    machine = describe_machine(torch_device)
    arithmetics, warnings = _arithmetics(precision, compile, torch_device, machine)
    steps = len(specs) * len(arithmetics) + bool(pipeline)
    done = 0

    def advance(by: int) -> None:
        nonlocal done
        done += by
        progress("Measuring", done, steps)

    advance(0)
    networks = []
    for spec in specs:
        plan = [
            SpeedTask(spec.name, spec.arguments, size, tuple(batch_sizes), kind, compiled, str(torch_device), seconds)
            for kind, compiled in arithmetics
        ]
        networks.append(_measure(spec, plan, advance))
    measured = None
    if pipeline:
        measured, failure = _measure_pipeline(pipeline, str(torch_device))
        warnings += [f"The pipeline could not be measured: {failure}."] if failure else []
        advance(1)
    if not any(network.speeds for network in networks):
        first = networks[0]
        raise DeviceError(f"No network could be measured. {first.label}: {first.failures[0]}.")
    if target is not None:
        from geoasanet.tools.benchmark_plot import draw_speeds

        draw_speeds(networks, machine, size, target)
    return BenchmarkResult(
        machine, size, tuple(networks), measured, target, time.perf_counter() - began, tuple(warnings)
    )


def _measure(spec: ModelSpec, plan: Sequence[SpeedTask], advance: Any) -> NetworkSpeed:
    try:
        cost = known_cost(spec.name, spec.arguments, plan[0].size)
    except GeoASANetError as error:
        advance(len(plan))
        return NetworkSpeed(spec.label, 0, 0, None, (), (str(error).rstrip("."),))
    speeds: dict[tuple[str, bool, int], Speed] = {}
    failures = []
    for task in plan:
        outcome = run_child("geoasanet.tools.benchmark_speed", asdict(task))
        for record in outcome.records:
            speed = Speed(**record["speed"])
            # The best of a search comes a second time, marked.
            speeds[speed.precision, speed.compiled, speed.batch] = speed
        if outcome.failure:
            failures.append(f"{arithmetic_name(task.precision, task.compiled)}: {outcome.failure.rstrip('.')}")
        advance(1)
    published = None if spec.arguments else CARDS[spec.name].published
    return NetworkSpeed(spec.label, cost.parameters, cost.macs, published, tuple(speeds.values()), tuple(failures))


def _measure_pipeline(side: int, device: str) -> tuple[PipelineSpeed | None, str]:
    outcome = run_child("geoasanet.tools.benchmark_pipeline", {"side": side, "device": device})
    records = outcome.records
    return (PipelineSpeed(**records[0]) if records else None), outcome.failure.rstrip(".")


def _arithmetics(
    precision: Sequence[str], compile: bool, device: torch.device, machine: Machine
) -> tuple[list[tuple[Any, bool]], list[str]]:
    """Return the pairs of precision and compilation to measure, and what the person should know."""
    warnings = []
    kinds = list(dict.fromkeys(precision))
    if "bf16" in kinds and not has_bf16(device):
        place = machine.processor if device.type == "cpu" else machine.device
        remark = f"{place} has no bf16 instructions and would emulate them, slower than fp32"
        kinds.remove("bf16")
        if not kinds:
            raise ConfigError(f"Nothing is left to measure: {remark}.", "Use --precision fp32.")
        warnings.append(f"bf16 is left out: {remark}.")
    if device.type == "cpu" and machine.busy:
        warnings.append(
            f"Other programs are at work (load {machine.load:.1f} on {machine.cores} cores): "
            "speeds are lower than the machine's."
        )
    return [(kind, compiled) for kind in kinds for compiled in ((False, True) if compile else (False,))], warnings


def _check_options(
    size: int, batch_sizes: Sequence[BatchSize], precision: Sequence[str], seconds: float, pipeline: int
) -> None:
    if size < MIN_SIDE:
        raise ConfigError(f"--size must be at least {MIN_SIDE} px, found {size}.")
    if not batch_sizes:
        raise ConfigError("--batch-sizes names none.", "Give numbers, auto, or both: 1,auto.")
    for batch in batch_sizes:
        if batch != "auto" and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
            raise ConfigError(f"--batch-sizes must be positive whole numbers or auto, found {batch!r}.")
    unknown = [kind for kind in precision if kind not in PRECISIONS]
    if unknown or not precision:
        raise ConfigError(f"--precision must be of {', '.join(PRECISIONS)}, found {', '.join(unknown) or 'none'}.")
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"--seconds must be a positive number, found {seconds!r}.")
    least, most = PIPELINE_SIDES
    if pipeline and not least <= pipeline <= most:
        raise ConfigError(f"--pipeline must be 0, or {least} to {most} px, found {pipeline}.")


def _plot_path(path: Path, overwrite: bool) -> Path:
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--plot writes PNG, found {path.name}.", f"Name it {path.with_suffix('.png').name}.")
    check_output(path, overwrite=overwrite)
    return path
