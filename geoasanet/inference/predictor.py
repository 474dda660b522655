"""Running a network over windows: normalisation, batches, precision, test-time augmentation."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from geoasanet.bands import InputBands
from geoasanet.device import Precision, choose_precision, computing_in, keep_freed_memory
from geoasanet.errors import ConfigError, DeviceError, ModelError, NonFiniteError
from geoasanet.inference.batchsize import MOST_WINDOWS, fitting_batch
from geoasanet.inference.lanes import LanePlan, Lanes
from geoasanet.inference.normalize import Normalize
from geoasanet.models.accelerate import accelerate
from geoasanet.models.network import Network
from geoasanet.sample import Sample

_SMALL_BATCH = 4
KEPT_BYTES = 1 << 28


class Predictor:
    """Turns samples into class probabilities.

    Args:
        model: ``model(rgb (N,3,H,W), sar (N,C,H,W)) -> logits (N,K,H,W)``, float32 in. It is put into eval mode.
        bands: Statistics of the model's input. None for a model that takes raw pixel values; pixels without data
            are then 0.
        num_classes: Classes K that the model must return.
        device: Where to run; see :func:`geoasanet.device.choose_device`.
        precision: A name from :data:`geoasanet.device.PRECISIONS`.
        batch_size: Windows at a time; "auto" takes 1 on CPU (where several are in work at once), and on CUDA as many as
            fit into free memory, found with the first window (:func:`~geoasanet.inference.batchsize.fitting_batch`).
            Halved when memory runs out.
        tta: Average the probabilities over the eight symmetries of the square.
        compile: Compile the network with :func:`torch.compile` (costs a minute or two at the start).
        leave_softmax: Yield logits instead of probabilities where their blending takes the softmax at less cost: on a
            CPU, without ``tta``. :attr:`yields_logits` tells.
        lanes: How windows share the CPU; the machine's own plan if None. A model that is no :class:`Network` may
            keep state between calls and gets one window after the other, in a thread of its own.

    Raises:
        ConfigError: If an argument is impossible.
        DeviceError: If the device cannot hold the model.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor, Tensor], Tensor],
        bands: InputBands | None,
        num_classes: int,
        *,
        device: torch.device,
        precision: Precision = "auto",
        batch_size: int | Literal["auto"] = "auto",
        tta: bool = False,
        compile: bool = False,
        leave_softmax: bool = False,
        lanes: LanePlan | None = None,
    ) -> None:
        self.device = device
        self.precision = choose_precision(precision, device)
        self.num_classes = num_classes
        self.warnings: list[str] = []
        if batch_size != "auto" and batch_size < 1:
            raise ConfigError(f"Batch size must be at least 1, found {batch_size}.")
        self._to_fit = batch_size == "auto" and device.type == "cuda"
        self.batch_size = (MOST_WINDOWS if self._to_fit else 1) if batch_size == "auto" else batch_size
        self.yields_logits = leave_softmax and device.type == "cpu" and not tta
        self._tta = tta
        self._to_compile, self._pad_batches = compile, False
        self._layout = torch.contiguous_format
        self._lanes: LanePlan | None = None
        if device.type == "cpu":
            keep_freed_memory(KEPT_BYTES)
            alone = LanePlan(1, torch.get_num_threads())
            self._lanes = (lanes or LanePlan.of_machine()) if isinstance(model, Network) else alone
        if isinstance(model, Network):
            model = accelerate(model, device, self.precision)
            self._layout = torch.channels_last
        if isinstance(model, nn.Module):
            model = model.eval().to(device)
        self._model: Callable[[Tensor, Tensor], Any] = model
        self._rgb = Normalize(bands.rgb if bands else None, device)
        self._sar = Normalize(bands.sar if bands else None, device)

    def run(self, samples: Iterable[Sample | None]) -> Generator[Tensor | None, None, None]:
        """Yield the probabilities (classes, height, width), float32 on the device, of each sample, None for None.

        Logits instead if :attr:`yields_logits`.

        Raises:
            ModelError: If the network's output has the wrong shape.
            NonFiniteError: If the network gives NaN or infinity.
            DeviceError: If not even one window fits into memory.
        """
        waiting: deque[_Group] = deque()
        samples = self._prepared(samples)
        # While results are taken, a device has one more group to work on, and lanes have two for when they are done.
        size, ahead = self.batch_size, int(self.device.type == "cuda")
        if self._lanes is not None:
            ahead = self._lanes.lanes + 2
        with Lanes(self._lanes) as lanes:
            for group in _groups(samples, size):
                live = [sample for sample in group if sample is not None]
                waiting.append(_Group(group, lanes.submit(self._predict, live)))
                if len(waiting) > ahead:
                    yield from self._finished(waiting.popleft())
            while waiting:
                yield from self._finished(waiting.popleft())

    def _prepared(self, samples: Iterable[Sample | None]) -> Iterator[Sample | None]:
        """Return ``samples``, with the batch size found by means of the first and the network compiled for it."""
        samples, seen = iter(samples), []
        for sample in samples if self._to_fit else ():
            seen.append(sample)
            if sample is not None:
                self._fit(sample)
                break
        if self._to_compile:
            self._model = compiled(self._model, self.device, self.batch_size)
            self._to_compile, self._pad_batches = False, True
        return itertools.chain(seen, samples)

    def _fit(self, sample: Sample) -> None:
        self.batch_size = fitting_batch(lambda windows: self._forward([sample] * windows), self.device)
        self._to_fit = False

    def _finished(self, group: _Group) -> Iterator[Tensor | None]:
        predictions: list[Tensor] = []
        for batch in group.batches.result():
            if not math.isfinite(batch.total):  # of a device, this waits for the network
                live = [sample for sample in group.samples if sample is not None][len(predictions) :]
                self._check_finite(batch, live)
            predictions.extend(batch.predictions)
        results = iter(predictions)
        for sample in group.samples:
            yield None if sample is None else next(results)

    def _check_finite(self, batch: _Batch, samples: Sequence[Sample]) -> None:
        """Raise if a class of a pixel has no probability; a logit of minus infinity is one of zero."""
        for sample, prediction in zip(samples, batch.predictions, strict=False):
            probabilities = torch.softmax(prediction, 0) if self.yields_logits else prediction
            if not torch.isfinite(probabilities).all():
                error = NonFiniteError(
                    f"The network gave NaN or infinity in {sample.window} (precision {self.precision}).",
                    "Try --precision fp32; if it persists, the checkpoint is damaged or does not fit the data.",
                )
                error.sample = sample
                raise error

    def _predict(self, samples: Sequence[Sample]) -> list[_Batch]:
        if not samples:
            return []
        size = min(self.batch_size, len(samples))
        results: list[_Batch] = []
        done = 0
        while done < len(samples):
            batch = samples[done : done + size]
            try:
                results.append(self._forward(batch))
                done += len(batch)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if size == 1:
                    elsewhere = ", or use --device cpu" if self.device.type != "cpu" else ""
                    raise DeviceError(
                        f"{self.device} has not enough memory for one window of {batch[0].window.height} pixels.",
                        f"Close other programs{elsewhere}.",
                    ) from None
                size = self.batch_size = (size + 1) // 2
                self.warnings.append(f"Memory of {self.device} ran out; batch size lowered to {size}.")
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return results

    @torch.inference_mode()
    def _forward(self, samples: Sequence[Sample]) -> _Batch:
        rgb = self._rgb([s.rgb for s in samples], [s.rgb_valid for s in samples])
        sar = self._sar([s.sar for s in samples], [s.sar_valid for s in samples])
        count = len(samples)
        if self._pad_batches and count < self.batch_size:
            padding = [0, 0, 0, 0, 0, 0, 0, self.batch_size - count]
            rgb, sar = nn.functional.pad(rgb, padding), nn.functional.pad(sar, padding)
        if self.yields_logits:
            prediction = self._logits(rgb, sar)[:count].float()
        elif self._tta:
            turned = (back(self._softmax(turn(rgb), turn(sar), count)) for turn, back in _SYMMETRIES)
            prediction = functools.reduce(torch.add, turned) / len(_SYMMETRIES)
        else:
            prediction = self._softmax(rgb, sar, count)
        total = prediction.sum()
        return _Batch(prediction.unbind(), total.item() if self.device.type == "cpu" else total)

    def _softmax(self, rgb: Tensor, sar: Tensor, count: int) -> Tensor:
        return torch.softmax(self._logits(rgb, sar)[:count].float(), dim=1)

    def _logits(self, rgb: Tensor, sar: Tensor) -> Tensor:
        with computing_in(self.precision, self.device):
            logits = self._model(rgb.contiguous(memory_format=self._layout), sar.contiguous(memory_format=self._layout))
        expected = (rgb.shape[0], self.num_classes, *rgb.shape[2:])
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"The network returned {found}; logits of shape {expected} (windows, classes, height, width) are "
                "needed.",
                "Check the number of classes, and that the model is in eval mode.",
            )
        return logits


class _Batch(NamedTuple):
    """Windows that went through the network together."""

    predictions: Sequence[Tensor]
    """Probabilities or logits of each, (classes, height, width), float32 on the device."""
    total: Tensor | float
    """Sum of them all, finite if all of them are."""


class _Group(NamedTuple):
    """Samples in the order of their results."""

    samples: list[Sample | None]
    batches: Future[list[_Batch]]


def compiled(
    model: Callable[[Tensor, Tensor], Any], device: torch.device, batch: int
) -> Callable[[Tensor, Tensor], Any]:
    """Return ``model`` compiled for batches of one size.

    On a CPU its weights are frozen and packed. On CUDA a small batch is run as a recorded graph, because starting
    a thousand kernels one by one takes longer than they do; what it returns holds until the next call.
    """
    if device.type == "cpu":
        return _Frozen(model)
    options: dict[str, str | int | bool | Callable[..., Any]] | None = None
    if batch <= _SMALL_BATCH:
        options = {"triton.cudagraphs": True}
    return torch.compile(model, dynamic=False, options=options)


class _Frozen:
    """A compiled model with its weights as constants, packed as the processor's library likes them best.

    torch freezes weights only where its setting for the whole process says so while the model is traced, which is at
    the first call; the option of :func:`torch.compile` comes too late for that (torch 2.15, and no error tells).
    """

    def __init__(self, model: Callable[[Tensor, Tensor], Any]) -> None:
        self._model = torch.compile(model, dynamic=False, options={"freezing": True})
        self._traced = False
        self._tracing = threading.Lock()

    def __call__(self, rgb: Tensor, sar: Tensor) -> Any:
        if self._traced:
            return self._model(rgb, sar)
        from torch._inductor import config

        # Where CUDA's compiler is installed and no device is, torch would tell users so.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        with self._tracing, config.patch(freezing=True):
            result = self._model(rgb, sar)
            self._traced = True
        return result


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; on a CPU torch says so in a plain RuntimeError."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _groups(samples: Iterable[Sample | None], live: int) -> Iterator[list[Sample | None]]:
    """Yield runs of ``samples`` that hold ``live`` ones that are not None."""
    group: list[Sample | None] = []
    count = 0
    for sample in samples:
        group.append(sample)
        count += sample is not None
        if count == live:
            yield group
            group, count = [], 0
    if group:
        yield group


def _turned(quarter: int, flip: bool) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    def turn(x: Tensor) -> Tensor:
        x = torch.flip(x, (3,)) if flip else x
        return torch.rot90(x, quarter, (2, 3)) if quarter else x

    def back(x: Tensor) -> Tensor:
        x = torch.rot90(x, -quarter, (2, 3)) if quarter else x
        return torch.flip(x, (3,)) if flip else x

    return turn, back


_SYMMETRIES = [_turned(quarter, flip) for flip in (False, True) for quarter in range(4)]
