"""3×3 convolutions with fewer multiplications."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import conv2d

from geoasanet.models import winograd
from geoasanet.models.accelerate import accelerate
from geoasanet.models.registry import create_model
from geoasanet.models.winograd import WinogradConv, suits

CPU = torch.device("cpu")


def counted(network, kind):
    return sum(isinstance(module, kind) for module in network.modules())


@given(
    count=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    bias=st.booleans(),
    most_values=st.sampled_from([1, 1000, 1 << 21]),
)
@settings(deadline=None, max_examples=60)
def test_it_is_the_same_convolution(count, channels, size, bias, most_values):
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, 3, padding=1, bias=bias).double()
    x = torch.randn(count, channels[0], *size, dtype=torch.float64)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_MOST_VALUES", most_values)
        patch.setattr(winograd, "_FEW_VALUES", most_values)
        torch.testing.assert_close(WinogradConv(conv)(x), conv(x), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("channels", "side"), [(128, 32), (256, 16), (512, 8)])
@torch.no_grad()
def test_rounding_errors_are_those_of_single_precision(channels, side):
    """Plain convolutions round differently by processor: with AVX2 worse than this form, with AVX-512 better."""
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    x = torch.randn(1, channels, side, side).relu()
    exact = conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    plain, ours = ((module(x).double() - exact).std() for module in (conv, WinogradConv(conv)))
    assert ours <= 3 * plain
    assert ours <= 5 * torch.finfo(torch.float32).eps * exact.std()


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"padding": 0},
        {"groups": 2},
        {"kernel_size": 5, "padding": 2},
        {"padding_mode": "reflect"},
        {"in_channels": 16},
    ],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(changes):
    usual = {"in_channels": 128, "out_channels": 128, "kernel_size": 3, "padding": 1}
    assert suits(nn.Conv2d(**usual))
    assert not suits(nn.Conv2d(**{**usual, **changes}))


@pytest.mark.parametrize(
    ("device", "precision", "found"), [("cpu", "fp32", True), ("cpu", "bf16", False), ("cuda", "fp32", False)]
)
def test_networks_take_it_on_a_cpu_in_single_precision(device, precision, found):
    with torch.device("meta"):
        network = create_model("asanet", 6).eval()
        assert bool(counted(accelerate(network, torch.device(device), precision), WinogradConv)) == found


@torch.no_grad()
def test_a_convolution_that_occurs_twice_does_so_again():
    conv = nn.Conv2d(128, 128, 3, padding=1)
    twin = accelerate(nn.Sequential(conv, nn.ReLU(), conv), CPU)
    assert isinstance(twin[0], WinogradConv)
    assert twin[0] is twin[2]


@torch.no_grad()
def test_a_network_compiles_as_one_graph():
    torch.manual_seed(0)
    network = accelerate(nn.Sequential(nn.Conv2d(128, 64, 3, padding=1), nn.ReLU()).eval(), CPU)
    x = torch.randn(1, 128, 9, 8)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))
