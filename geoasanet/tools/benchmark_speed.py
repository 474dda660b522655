"""How fast one network runs as ``predict`` runs it; a process of its own for ``geoasanet benchmark``."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from geoasanet.device import computing_in
from geoasanet.errors import DeviceError
from geoasanet.inference.predictor import compiled
from geoasanet.models.accelerate import accelerate
from geoasanet.models.flops import NUM_CLASSES
from geoasanet.models.registry import create_model
from geoasanet.tools.child import serve
from geoasanet.tools.machine import forget_peak_memory, free_memory_bytes, peak_memory_bytes

BatchSize = int | Literal["auto"]

MORE = 1.05
"""A doubled batch helps if it is this much faster."""
LARGEST_POWER = 12
"""The search ends at batches of 2 to this power."""
LEAST_REPEATS = 3
_TICK = 0.02
"""Least time between two readings of the clock, seconds."""
_SPARE = 0.8
"""Share of the free main memory that may be taken."""


@dataclass(frozen=True, slots=True)
class SpeedTask:
    """One network in one arithmetic on one device."""

    name: str
    """Registry name."""
    arguments: Mapping[str, Any]
    """Other arguments of the network."""
    size: int
    """Height and width of the images, pixels."""
    batch_sizes: Sequence[BatchSize]
    """Images at a time; ``"auto"`` doubles them until that no longer helps."""
    precision: Literal["fp32", "bf16"]
    compiled: bool
    device: str
    seconds: float
    """Time for every batch size, without warm-up."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a network runs with one batch size."""

    precision: str
    compiled: bool
    batch: int
    """Images at a time."""
    images_per_second: float
    """Median of the repeats."""
    low: float
    """First quartile of the repeats, images per second."""
    high: float
    """Third quartile."""
    repeats: int
    peak_memory_bytes: int
    """On CUDA what torch had allocated at most; on CPU the resident memory of the process, torch itself included."""
    best: bool
    """True for the fastest batch size of a search (``"auto"``)."""


class SpeedMeter:
    """Measures one network batch by batch.

    Args:
        task: What to measure.

    Raises:
        GeoASANetError: If the network cannot be built.
    """

    def __init__(self, task: SpeedTask) -> None:
        self.task = task
        self.device = torch.device(task.device)
        with self.device:
            network = create_model(task.name, NUM_CLASSES, **task.arguments)
        self._bands = network.in_channels
        self._network = accelerate(network, self.device, task.precision)
        self._run: Callable[..., torch.Tensor] = self._network
        self._start_bytes = peak_memory_bytes()
        self._largest = 1

    def measure(self, batch: int) -> Speed:
        """Return the speed with ``batch`` images at a time.

        Raises:
            DeviceError: If memory does not suffice, or the network cannot be compiled.
        """
        self._check_memory(batch)
        forget_peak_memory()
        if self.task.compiled:
            # Compiled for every batch size anew: torch gives up on the ninth shape of the same function.
            torch.compiler.reset()
            self._run = compiled(self._network, self.device, batch)
        try:
            rates = self._rates(batch)
        except RuntimeError as error:
            problem = self._problem(error)
            if not problem:
                raise
            rates = []
        if not rates:
            # Outside of the handler, whose traceback holds tensors.
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise DeviceError(f"{problem} with batch {batch}")
        self._largest = max(self._largest, batch)
        low, middle, high = statistics.quantiles(rates, n=4, method="inclusive")
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else peak_memory_bytes()
        return Speed(self.task.precision, self.task.compiled, batch, middle, low, high, len(rates), peak, False)

    def _problem(self, error: RuntimeError) -> str:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            return "out of memory"
        if self.task.compiled:
            return f"torch.compile failed ({(str(error).splitlines() or [type(error).__name__])[0]})"
        return ""

    @torch.inference_mode()
    def _rates(self, batch: int) -> list[float]:
        """Return images per second of every repeat."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        size = self.task.size
        shapes = [(batch, bands, size, size) for bands in self._bands]
        layout = torch.channels_last
        images = [torch.rand(shape, device=self.device).to(memory_format=layout) for shape in shapes]
        budget = self.task.seconds
        once = self._warm_up(images, 0.3 * budget)
        rounds = max(1, round(_TICK / max(once, 1e-9)))
        rates: list[float] = []
        began = time.perf_counter()
        while len(rates) < LEAST_REPEATS or time.perf_counter() - began < budget:
            rates.append(rounds * batch / self._time(images, rounds))
        return rates

    def _warm_up(self, images: Sequence[torch.Tensor], budget: float) -> float:
        """Run until caches are filled and clocks are up; return what the last pass took, seconds."""
        self._time(images, 1)
        began = time.perf_counter()
        once = self._time(images, 1)
        while time.perf_counter() - began < budget:
            once = self._time(images, 1)
        return once

    def _time(self, images: Sequence[torch.Tensor], rounds: int) -> float:
        began = time.perf_counter()
        for _ in range(rounds):
            with computing_in(self.task.precision, self.device):
                self._run(*images)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began

    def _check_memory(self, batch: int) -> None:
        """Raise if a batch would surely take more main memory than is free; the system would end the process."""
        free = free_memory_bytes()
        if self.device.type == "cuda" or free is None or batch == 1:
            return
        per_image = (peak_memory_bytes() - self._start_bytes) / self._largest
        if per_image * batch > _SPARE * free:
            raise DeviceError(f"batch {batch} would need more memory than is free ({free / 1e9:.1f} GB)")


def measure_speed(task: SpeedTask) -> Iterator[Speed | str]:
    """Yield a speed for every batch size, and a line for each that failed; the best of a search comes twice.

    Raises:
        GeoASANetError: If the network cannot be built or does not take images of this size.
    """
    meter = SpeedMeter(task)
    done: dict[int, Speed] = {}
    for batch in sorted(batch for batch in task.batch_sizes if batch != "auto"):
        try:
            done[batch] = meter.measure(batch)
        except DeviceError as error:
            yield str(error)
            break
        yield done[batch]
    if "auto" in task.batch_sizes:
        yield from _search(meter, done)


def _search(meter: SpeedMeter, done: dict[int, Speed]) -> Iterator[Speed]:
    """Yield the speeds of batches doubled from 1 until it no longer helps or memory runs out, then the best once more.

    Raises:
        DeviceError: If not even one image fits.
    """
    best: Speed | None = None
    for power in range(LARGEST_POWER + 1):
        batch = 2**power
        try:
            speed = done.get(batch) or meter.measure(batch)
        except DeviceError:
            if best is None:
                raise
            break
        yield speed
        if best is not None and speed.images_per_second < MORE * best.images_per_second:
            break
        best = speed
    assert best is not None
    yield replace(best, best=True)


def _work(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for result in measure_speed(SpeedTask(**task)):
        yield {"failure": result} if isinstance(result, str) else {"speed": asdict(result)}


if __name__ == "__main__":
    serve(_work)
