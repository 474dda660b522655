"""ConvNeXt-V2's block in fewer passes."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geoasanet.models.accelerate import accelerate
from geoasanet.models.fusedblock import FusedBlock, fuses, gelu_
from geoasanet.models.registry import create_model

CPU = torch.device("cpu")


def block(channels=8, **changes):
    """Return a block whose response norm does something; as built, it does nothing."""
    from timm.models.convnext import ConvNeXtBlock

    made = ConvNeXtBlock(channels, **{"use_grn": True, "ls_init_value": None, **changes}).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 20),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels_last=st.booleans(),
)
@settings(deadline=None, max_examples=40)
@torch.no_grad()
def test_it_is_the_same_block(count, channels, size, channels_last):
    torch.manual_seed(0)
    plain = block(channels)
    x = torch.randn(count, channels, *size)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    kept = x.clone()
    exact = copy.deepcopy(plain).double()(x.double())
    spread = float(exact.abs().max())
    torch.testing.assert_close(FusedBlock(plain)(x).double(), exact, atol=2e-6 * spread, rtol=0)
    assert torch.equal(x, kept)


@torch.no_grad()
def test_a_network_rounds_like_single_precision_with_it():
    torch.manual_seed(0)
    network = create_model("asanet", 3, encoder={"depths": [2, 2, 2, 2], "dims": [16, 32, 48, 64]}).eval()
    for name, parameter in network.named_parameters():
        if "grn" in name:
            nn.init.normal_(parameter)
    images = torch.randn(2, 3, 64, 64), torch.randn(2, 1, 64, 64)
    exact = copy.deepcopy(network).double()(*(image.double() for image in images))
    fused = accelerate(network, CPU)
    assert sum(isinstance(module, FusedBlock) for module in fused.modules()) == 16
    plain, ours = ((model(*images).double() - exact).std() for model in (network, fused))
    assert ours <= 3 * plain
    assert ours <= 10 * torch.finfo(torch.float32).eps * exact.std()


def test_gelu_adds_the_bias_and_sums_squares():
    torch.manual_seed(0)
    rows, bias = 3 * torch.randn(77, 13), torch.randn(13)
    wanted = (rows + bias).double()
    wanted = wanted * torch.special.ndtr(wanted)
    energies = gelu_(rows, bias)
    torch.testing.assert_close(rows.double(), wanted, atol=1.2e-6, rtol=0)
    assert energies.dtype == torch.float64
    torch.testing.assert_close(energies, wanted.square().sum(0), atol=0, rtol=1e-6)


@given(st.floats(-1e4, 1e4, width=32))
@settings(deadline=None)
def test_gelu_of_every_value(value):
    rows = torch.full((1, 1), value)
    gelu_(rows, torch.zeros(1))
    exact = value * math.erfc(-value / math.sqrt(2)) / 2
    assert abs(rows.item() - exact) <= 3e-7 * max(1.0, abs(value))


def test_gelu_is_as_exact_as_the_librarys_own_where_values_are_common():
    x = torch.linspace(-3, 3, 100001)
    exact = x.double() * torch.special.ndtr(x.double())
    ours = x[None].clone()
    gelu_(ours, torch.zeros(len(x)))
    theirs = nn.functional.gelu(x)
    assert (ours[0] - exact).std() <= (theirs - exact).std()


def test_gelu_hides_nothing():
    rows = torch.tensor([[math.nan, math.inf, -100.0, 0.0]])
    energies = gelu_(rows, torch.zeros(4))
    assert np.isnan(rows[0, 0].item())
    assert np.isnan(energies[0].item())
    assert rows[0, 1] == math.inf
    assert abs(rows[0, 2]) < 3e-5
    assert rows[0, 3] == 0


@pytest.mark.parametrize(
    "changes",
    [{"conv_mlp": True}, {"ls_init_value": 1e-6}, {"use_grn": False}, {"stride": 2}, {"act_layer": "gelu_tanh"}],
    ids=str,
)
def test_other_blocks_stay_as_they_are(changes):
    assert fuses(block())
    assert not fuses(block(**changes))
    assert not fuses(block().double())


@torch.no_grad()
def test_a_block_compiles_as_one_graph():
    torch.manual_seed(0)
    fused = FusedBlock(block())
    x = torch.randn(2, 8, 5, 4)
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), fused(x))
