"""The re-implementation of AFNet: no reference outputs exist."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.models import afnet
from geoasanet.models.registry import create_model
from tests.models.tester import NetworkTester

SMALL = {"encoder": {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8]}}


class TestAFNet(NetworkTester):
    name = "afnet"
    arguments = SMALL


def test_the_size_is_that_of_the_comparison():
    with torch.device("meta"), torch.no_grad():
        model = create_model("afnet", 6, (3, 3)).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(355.7, rel=0.001)
    assert counter.get_total_flops() / 2e9 == pytest.approx(66.3, rel=0.001)


def test_what_cannot_be_claimed_is_said():
    assert "Parity with that row cannot be claimed" in (afnet.__doc__ or "")


@torch.no_grad()
def test_a_closed_gate_leaves_the_coarser_map_alone():
    module = afnet.AttentionRefinement(4, 8).eval()
    torch.nn.init.constant_(module.gate.weigh[2].bias, -1e4)
    fine, coarse = torch.randn(1, 4, 12, 10), torch.randn(1, 8, 6, 5)
    assert torch.equal(module(fine, coarse), module(torch.zeros_like(fine), coarse))


@torch.no_grad()
def test_fusion_sees_both_sensors():
    module = afnet.AttentionFusion(4).eval()
    rgb, sar = torch.randn(1, 4, 6, 5), torch.randn(1, 4, 6, 5)
    assert not torch.equal(module(rgb, sar), module(rgb, 0 * sar))
    assert not torch.equal(module(rgb, sar), module(0 * rgb, sar))
