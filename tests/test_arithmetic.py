"""In which arithmetic a scene is mapped."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from geoasanet import device as devices
from geoasanet.errors import ConfigError
from geoasanet.inference import arithmetic
from geoasanet.inference.arithmetic import WORK_PER_CORE, choose_arithmetic
from geoasanet.inference.lanes import LanePlan, Lanes
from geoasanet.inference.predictor import Predictor, compiled
from geoasanet.models.registry import create_model
from geoasanet.sample import Sample
from geoasanet.windows import Window

CPU = torch.device("cpu")


@pytest.fixture
def modern(monkeypatch):
    monkeypatch.setattr(arithmetic, "has_bf16", lambda device: True)
    monkeypatch.setattr(arithmetic.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(arithmetic.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("modern")
def test_large_scenes_are_compiled_on_processors_with_bf16():
    chosen = choose_arithmetic("auto", False, CPU, 4 * WORK_PER_CORE)
    assert (chosen.precision, chosen.compile) == ("bf16", True)
    assert "--precision fp32" in chosen.note


@pytest.mark.usefixtures("modern")
@pytest.mark.parametrize(
    ("precision", "compile", "work"),
    [("auto", False, 4 * WORK_PER_CORE - 1), ("fp32", False, 10**12), ("fp32", True, 10**12)],
)
def test_otherwise_it_is_what_was_asked_for(precision, compile, work):
    chosen = choose_arithmetic(precision, compile, CPU, work)
    assert (chosen.precision, chosen.compile, chosen.note) == ("fp32", compile, "")


@pytest.mark.usefixtures("modern")
@pytest.mark.parametrize("lacking", ["has_bf16", "compiler"])
def test_a_processor_without_the_means_stays_with_fp32(monkeypatch, lacking):
    if lacking == "has_bf16":
        monkeypatch.setattr(arithmetic, "has_bf16", lambda device: False)
    else:
        monkeypatch.setattr(arithmetic.shutil, "which", lambda name: None)
    assert choose_arithmetic("auto", False, CPU, 10**12).precision == "fp32"


def test_impossible_choices_are_refused():
    with pytest.raises(ConfigError, match="fp16 is not available on CPU"):
        choose_arithmetic("fp16", False, CPU, 10**12)


@pytest.mark.parametrize(("flags", "found"), [("fpu avx512_bf16 sse", True), ("fpu avx512f", False), (None, False)])
def test_instructions_are_read_from_what_the_system_says(monkeypatch, flags, found):
    monkeypatch.setattr(devices, "system_fact", lambda path, key: flags if key == "flags" and flags else "")
    assert devices.has_bf16(CPU) is found


def test_single_precision_on_cuda_is_not_tf32(monkeypatch):
    seen = {}

    def flags(**options):
        seen.update(options)
        return devices.contextlib.nullcontext()

    monkeypatch.setattr(torch.backends.cudnn, "flags", flags)
    with devices.computing_in("fp32", torch.device("cuda")):
        pass
    assert seen == {"enabled": True, "deterministic": True, "allow_tf32": False}


def sample(value: float) -> Sample:
    everywhere = np.ones((8, 8), bool)
    rgb, sar = np.full((3, 8, 8), value, np.float32), np.zeros((1, 8, 8), np.float32)
    return Sample(Window(0, int(value), 8, 8), rgb, sar, everywhere, everywhere)


@pytest.mark.parametrize("lanes", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_results_come_in_the_order_of_the_samples_however_many_are_in_work(lanes, batch_size):
    given = [None, sample(1), sample(2), None, None, sample(3), sample(4), sample(5), None]

    def network(rgb, sar):
        time.sleep(0.02 * float(rgb.max() % 3))
        return torch.cat([rgb[:, :1], 3 - rgb[:, :1]], 1)

    predictor = Predictor(network, None, 2, device=CPU, batch_size=batch_size)
    predictor._lanes = LanePlan(lanes, 1) if lanes else None
    found = [-1.0 if p is None else float(p[0, 0, 0] / p[1, 0, 0]) for p in predictor.run(iter(given))]
    expected = [-1.0 if s is None else float(np.exp(2 * s.rgb[0, 0, 0] - 3)) for s in given]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cores", [1, 2, 6, 8, 30, 64])
def test_threads_for_a_window_do_not_depend_on_the_number_of_processes(monkeypatch, cores):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    alone = LanePlan.of_machine()
    assert alone.lanes * alone.threads <= cores
    for processes in (2, 3, 4, 100):
        shared = LanePlan.of_machine(processes)
        assert shared.threads == alone.threads
        assert 1 <= shared.lanes <= alone.lanes


def test_lanes_leave_the_number_of_threads_as_it_was_and_hand_errors_on():
    before = torch.get_num_threads()
    with Lanes(LanePlan(2, 1)) as lanes:
        assert lanes.submit(torch.get_num_threads).result() == 1
        failure = lanes.submit(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            failure.result()
    assert torch.get_num_threads() == before


def test_a_model_of_the_user_s_own_gets_one_window_after_the_other():
    assert Predictor(lambda rgb, sar: rgb, None, 3, device=CPU)._lanes == LanePlan(1, torch.get_num_threads())
    network = create_model("asanet", 3, encoder={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 16]})
    assert Predictor(network, None, 3, device=CPU)._lanes == LanePlan.of_machine()


@pytest.mark.skipif(not arithmetic._has_compiler(), reason="no C++ compiler: torch.compile needs one on a CPU")
def test_weights_of_a_compiled_network_are_constants():
    """Only then does torch pack them, and only then is compiled bf16 as fast as it is said to be."""
    conv = torch.nn.Conv2d(4, 3, 3, padding=1).eval().requires_grad_(False)
    network = compiled(lambda rgb, sar: conv(torch.cat([rgb, sar], 1)), CPU, 1)
    rgb, sar = torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        expected = conv(torch.cat([rgb, sar], 1))
        torch.testing.assert_close(network(rgb, sar), expected)
        conv.weight.mul_(2)
        torch.testing.assert_close(network(rgb, sar), expected)
    assert not torch._inductor.config.freezing  # the process's own compilations stay as they were
