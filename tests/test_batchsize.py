"""How many windows a CUDA device is given at a time; the device and its memory are simulated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from geoasanet.inference import predictor as predictor_module
from geoasanet.inference.batchsize import fitting_batch
from geoasanet.inference.predictor import Predictor
from geoasanet.sample import Sample
from geoasanet.windows import Window

CUDA = torch.device("cuda")


@dataclass
class Memory:
    """What torch tells of a device's memory while a network runs on it, bytes."""

    total: int
    held: int
    fixed: int
    each: int
    peak: int = 0
    ran: list[int] = field(default_factory=list)

    def forward(self, windows: int) -> None:
        self.ran.append(windows)
        self.peak = self.held + self.fixed + windows * self.each
        if self.peak > self.total:
            raise torch.OutOfMemoryError("x")

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: self.held)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: setattr(self, "peak", self.held))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (self.total - self.held, self.total))


@pytest.mark.parametrize(
    ("total", "expected"),
    [(100_000, 32), (4_000, 16), (2_200, 8), (800, 2), (650, 1), (500, 1)],
)
def test_the_largest_power_of_two_that_fits(monkeypatch: pytest.MonkeyPatch, total: int, expected: int) -> None:
    memory = Memory(total, held=300, fixed=100, each=150)
    memory.install(monkeypatch)
    assert fitting_batch(memory.forward, CUDA) == expected
    assert 300 + 100 + 150 * expected <= total or expected == 1
    assert max(memory.ran) <= 2


def test_no_more_than_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(10**9, held=0, fixed=1, each=1)
    memory.install(monkeypatch)
    assert fitting_batch(memory.forward, CUDA, most=5) == 4


def test_a_predictor_fits_its_batch_with_the_first_window(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def model(rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
        batches.append(len(rgb))
        return torch.cat([rgb[:, :1], sar], 1)

    def fit(forward: object, device: torch.device) -> int:
        forward(1)  # type: ignore[operator]
        return 3

    monkeypatch.setattr(predictor_module, "fitting_batch", fit)
    predictor = Predictor(model, None, 2, device=torch.device("cpu"))
    predictor._to_fit = True  # as on CUDA
    everywhere = np.ones((4, 4), bool)
    tiles = [np.full((3, 4, 4), k, np.uint8) for k in range(7)]
    samples = [Sample(Window(0, 0, 4, 4), t, t[:1], everywhere, everywhere) for t in tiles]
    results = list(predictor.run([None, *samples]))
    assert results[0] is None
    assert [float(r[0, 0, 0]) for r in results[1:] if r is not None] == pytest.approx([0.5] * 7)
    assert batches == [1, 3, 3, 1]
    list(predictor.run(samples))
    assert batches[4:] == [3, 3, 1]  # fitted once
