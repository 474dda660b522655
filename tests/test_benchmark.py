"""Speeds of networks and pipeline: what is measured, reported and drawn; never how fast it is."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import geoasanet as ga
from geoasanet.cli.benchmark import _lines
from geoasanet.cli.main import main
from geoasanet.cli.tables import table_lines
from geoasanet.errors import ConfigError, DeviceError, ModelError, OutputExistsError
from geoasanet.models.cards import CARDS
from geoasanet.tools import benchmark as tool
from geoasanet.tools import benchmark_speed, machine
from geoasanet.tools.benchmark_pipeline import NearestColor, PipelineSpeed
from geoasanet.tools.benchmark_plot import draw_speeds
from geoasanet.tools.benchmark_result import NetworkSpeed
from geoasanet.tools.benchmark_speed import Speed, SpeedMeter, SpeedTask, measure_speed
from geoasanet.tools.child import ChildOutcome, run_child
from geoasanet.tools.modelspec import parse_specs

TINY = {"encoder": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}, "decoder_channels": 8, "auxiliary_channels": 4}
NAME = "asanet:encoder=convnextv2_atto"


def task(**changes):
    values = {"size": 32, "batch_sizes": (1,), "precision": "fp32", "compiled": False, "device": "cpu", "seconds": 0.01}
    return SpeedTask(**{"name": "asanet", "arguments": TINY, **values, **changes})


def speed(rate=2.0, batch=1, **changes):
    values = Speed("fp32", False, batch, rate, 0.9 * rate, 1.1 * rate, 5, 10**9, False)
    return replace(values, **changes)


@pytest.fixture
def no_children(monkeypatch):
    """Answer for the child processes: two batch sizes, the second the best."""
    calls = []

    def answer(module, task):
        calls.append((module, task))
        if module.endswith("pipeline"):
            return ChildOutcome((), "the disk is full")
        found = [speed(), speed(batch=2), speed(batch=2, best=True)]
        if task["name"] == "cmx":
            return ChildOutcome((), "its process was ended by SIGKILL (probably out of memory)")
        records = [replace(s, precision=task["precision"], compiled=task["compiled"]) for s in found]
        return ChildOutcome(tuple({"speed": {k: getattr(s, k) for k in s.__slots__}} for s in records), "")

    monkeypatch.setattr(tool, "run_child", answer)
    monkeypatch.setattr(tool, "has_bf16", lambda device: True)
    return calls


class TestSpeed:
    """What one child process measures."""

    def test_a_repeat_counts_images(self, monkeypatch):
        monkeypatch.setattr(SpeedMeter, "_time", lambda self, images, rounds: rounds * 0.5)
        found = SpeedMeter(task(seconds=1e-9)).measure(4)
        assert (found.images_per_second, found.low, found.high) == (8, 8, 8)
        assert found.batch == 4 and found.repeats == benchmark_speed.LEAST_REPEATS and found.peak_memory_bytes > 10**7

    @pytest.mark.parametrize(
        ("rates", "best", "tried"),
        [({1: 10, 2: 10.2, 4: 99}, 1, [1, 2]), ({1: 10, 2: 20, 4: 30, 8: 31}, 4, [1, 2, 4, 8])],
    )
    def test_the_batch_is_doubled_until_that_no_longer_helps(self, monkeypatch, rates, best, tried):
        monkeypatch.setattr(SpeedMeter, "measure", lambda self, batch: speed(rates[batch], batch))
        found = list(measure_speed(task(batch_sizes=(1, "auto"))))
        assert [f.batch for f in found if f.best] == [best]
        assert sorted({f.batch for f in found}) == tried

    def test_the_search_ends_where_memory_does(self, monkeypatch):
        def measure(self, batch):
            if batch > 2:
                raise DeviceError("out of memory with batch 4")
            return speed(batch, batch)

        monkeypatch.setattr(SpeedMeter, "measure", measure)
        assert [f.batch for f in measure_speed(task(batch_sizes=("auto",))) if f.best] == [2]
        found = list(measure_speed(task(batch_sizes=(2, 8))))
        assert found[0].batch == 2 and found[1] == "out of memory with batch 4"

    def test_running_out_of_memory_is_a_device_error(self, monkeypatch):
        def fail(self, batch):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

        monkeypatch.setattr(SpeedMeter, "_rates", fail)
        with pytest.raises(DeviceError, match="out of memory with batch 3"):
            SpeedMeter(task()).measure(3)

    def test_a_batch_that_surely_does_not_fit_is_not_tried(self, monkeypatch):
        meter = SpeedMeter(task())
        monkeypatch.setattr(benchmark_speed, "peak_memory_bytes", lambda: meter._start_bytes + 10**9)
        monkeypatch.setattr(benchmark_speed, "free_memory_bytes", lambda: 3 * 10**9)
        with pytest.raises(DeviceError, match="batch 4 would need more memory than is free"):
            meter.measure(4)
        meter._check_memory(2)


class TestChild:
    """Processes that may die."""

    @pytest.mark.slow
    def test_what_a_child_reports_comes_back(self):
        given = {**{k: getattr(task(), k) for k in SpeedTask.__slots__}, "batch_sizes": [1, "auto"], "size": 33}
        outcome = run_child("geoasanet.tools.benchmark_speed", given)
        assert outcome.failure == ""
        speeds = [Speed(**record["speed"]) for record in outcome.records]
        assert speeds[0].batch == 1 and speeds[-1].best
        assert all(0 < s.low <= s.images_per_second <= s.high for s in speeds)

    def test_a_failure_is_one_line(self):
        outcome = run_child("geoasanet.nothing", {})
        assert outcome.records == () and "No module named" in outcome.failure and "\n" not in outcome.failure

    def test_a_child_that_says_nothing_is_named_by_its_exit_code(self, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/bin/false")
        assert run_child("x", {}).failure == "its process ended with exit code 1"


class TestBenchmark:
    """Networks, arithmetics and the report."""

    def test_every_network_and_arithmetic_runs_in_its_own_process(self, no_children):
        result = ga.benchmark(["asanet", "cmx", NAME], compile=True, pipeline=256, device="cpu")
        kinds = [("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True)]
        assert [(t["precision"], t["compiled"]) for _, t in no_children[:4]] == kinds
        assert len(no_children) == 13
        asanet, cmx, tiny = result.networks
        assert len(asanet.speeds) == 8 and asanet.published == CARDS["asanet"].published and tiny.published is None
        assert tiny.parameters < asanet.parameters
        assert [(s.batch, s.best) for s in asanet.shown()] == [(1, False), (2, True)] * 4
        assert cmx.speeds == () and cmx.failures[0].startswith("fp32: its process was ended by SIGKILL")
        assert result.pipeline is None and "The pipeline could not be measured: the disk is full." in result.warnings
        json.dumps(result.to_dict(), allow_nan=False)

    def test_the_table_names_what_failed_and_fits_into_80_columns(self, no_children):
        lines = _lines(replace(ga.benchmark("asanet,cmx", pipeline=0, compile=True), pipeline=PIPELINE))
        assert max(map(len, lines)) <= 80
        (row,) = [line for line in lines if line.startswith("cmx")]
        assert row.split()[3] == "failed" and row.split()[-1] == "33.5"
        assert sum(" 2*" in line for line in lines) == 4
        assert any(line.split()[:2] == ["vectorize", "0.5"] for line in lines)

    def test_a_size_that_a_network_does_not_take_is_its_failure_alone(self, no_children):
        asanet, cmfnet = ga.benchmark("asanet,cmfnet", size=72, pipeline=0, device="cpu").networks
        assert asanet.speeds and cmfnet.speeds == () and "multiples of 32" in cmfnet.failures[0]

    def test_nothing_measured_is_an_error(self, no_children):
        with pytest.raises(DeviceError, match=r"No network could be measured\. cmx: fp32: its process was ended"):
            ga.benchmark("cmx", pipeline=0)

    def test_bf16_without_instructions_is_left_out_and_said(self, no_children, monkeypatch):
        monkeypatch.setattr(tool, "has_bf16", lambda device: False)
        result = ga.benchmark("asanet", pipeline=0, device="cpu")
        assert {s.precision for s in result.networks[0].speeds} == {"fp32"}
        assert "no bf16 instructions" in result.warnings[0]
        with pytest.raises(ConfigError, match="Nothing is left to measure"):
            ga.benchmark("asanet", precision=["bf16"], pipeline=0, device="cpu")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"models": ""}, "No network was named"),
            ({"models": "asanet,asanet"}, "named twice"),
            ({"models": "asanet:dropout"}, "'dropout' in 'asanet:dropout' is no argument"),
            ({"size": 16}, "--size must be at least 32"),
            ({"batch_sizes": ()}, "--batch-sizes names none"),
            ({"batch_sizes": (0,)}, "--batch-sizes must be positive"),
            ({"precision": ("fp8",)}, "--precision must be of fp32, bf16, found fp8"),
            ({"seconds": 0}, "--seconds must be a positive number"),
            ({"seconds": float("nan")}, "--seconds must be a positive number"),
            ({"pipeline": 9}, "--pipeline must be 0, or 256 to 8192"),
            ({"plot": "speed.svg"}, "--plot writes PNG.*speed.png"),
        ],
    )
    def test_impossible_options_are_refused_by_name(self, options, message):
        with pytest.raises(ConfigError, match=message):
            ga.benchmark(**options)

    def test_a_mistyped_name_stops_before_anything_runs(self):
        with pytest.raises(ModelError, match="Did you mean asanet"):
            ga.benchmark("asnet")

    def test_an_existing_plot_is_kept(self, tmp_path):
        (tmp_path / "speed.png").touch()
        with pytest.raises(OutputExistsError):
            ga.benchmark("asanet", plot=tmp_path / "speed.png")

    def test_names_with_arguments(self):
        first, second = parse_specs("fusenet:variant=sf5:dropout=0.25,asanet:sfm=false")
        assert (
            first.arguments == {"variant": "sf5", "dropout": 0.25} and first.label == "fusenet:variant=sf5:dropout=0.25"
        )
        assert second.arguments == {"sfm": False} and second.label == "asanet:sfm=false"
        assert len(parse_specs("all")) == len(CARDS)


PIPELINE = PipelineSpeed(256, 4, 0.1, 0.7, 0.1, 0.5, 12, 10**9)


@pytest.mark.slow
def test_the_whole_command(tmp_path):
    options = ["--models", "asanet:encoder=convnextv2_atto", "--size", "32", "--batch-sizes", "1", "--seconds", "0.05"]
    options += ["--precision", "fp32", "--pipeline", "256", "--device", "cpu", "--plot", str(tmp_path / "speed.png")]
    done = CliRunner().invoke(main, ["benchmark", *options, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    (network,) = document["networks"]
    (found,) = network["speeds"]
    assert found["batch"] == 1 and found["images_per_second"] > 0 and found["repeats"] >= 3
    assert document["machine"]["torch"] == torch.__version__
    assert document["pipeline"]["side"] == 256 and document["pipeline"]["polygons"] > 10
    with Image.open(tmp_path / "speed.png") as plot:
        assert plot.size == (1080, 720)


def test_names_in_the_plot_do_not_collide(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    annotate = Axes.annotate
    monkeypatch.setattr(Axes, "annotate", lambda *a, **k: drawn.append(annotate(*a, **k)) or drawn[-1])
    networks = [
        NetworkSpeed(f"network{i}", int(millions * 1e6), 1, None, (speed(rate), speed(rate / 2, compiled=True)), ())
        for i, (millions, rate) in enumerate([(82, 10), (83, 10.2), (84, 9.9), (82, 10), (300, 1), (37, 50)])
    ]
    draw_speeds(networks, machine.describe_machine(torch.device("cpu")), 256, tmp_path / "speed.png")
    boxes = [text.get_window_extent() for text in drawn if text.get_text()]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_pipelines_network_finds_the_nearest_colour():
    means = torch.tensor([[10.0, 10, 10], [100, 120, 40], [200, 30, 250]])
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 20, 30)).astype(np.float32)
    found = NearestColor(means)(torch.from_numpy(pixels), torch.zeros(1, 1, 20, 30)).argmax(1).detach().numpy()
    distance = ((pixels - means.numpy()[:, :, None, None]) ** 2).sum(1)
    assert (found == distance.argmin(0)).all()


def test_memory_is_a_plausible_number():
    assert 10**7 < machine.peak_memory_bytes() < 10**12
    free = machine.free_memory_bytes()
    assert free is None or free > 0


def test_plain_columns_line_up():
    lines = table_lines([("Name", "left"), ("Count", "right")], [("a", "1"), ("longer", "12345")])
    assert lines == ["Name    Count", "a           1", "longer  12345"]
