"""Networks in their form for inference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.models.accelerate import accelerate
from geoasanet.models.registry import create_model
from geoasanet.models.upsampled import UpsampledConv

CPU = torch.device("cpu")

sides = st.integers(1, 7)


@given(
    shapes=st.lists(st.tuples(sides, sides, st.integers(1, 40)), min_size=1, max_size=3),
    size=st.tuples(st.integers(7, 16), st.integers(7, 16)),
    align_corners=st.booleans(),
    bias=st.booleans(),
    finest=st.none() | st.integers(0, 2),
)
@settings(deadline=None, max_examples=40)
def test_mixing_before_enlarging_is_the_same(shapes, size, align_corners, bias, finest):
    torch.manual_seed(0)
    channels = [c for _, _, c in shapes]
    conv = nn.Conv2d(sum(channels), 5, 3, padding=1, bias=bias).double()
    if finest is not None:
        finest %= len(shapes)
        shapes[finest] = (*size, channels[finest])
    maps = [torch.randn(2, c, h, w, dtype=torch.float64) for h, w, c in shapes]
    enlarged = [interpolate(x, size=size, mode="bilinear", align_corners=align_corners) for x in maps]
    with torch.no_grad():
        expected = conv(torch.cat(enlarged, 1))
        found = UpsampledConv(conv, channels, finest, align_corners=align_corners)(maps, size)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def operations(model, *images):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*images)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("name", "saved"), [("asanet", 6.0), ("upernet", 6.0), ("cmx", 4.0), ("sagate", 8.0), ("afnet", 10.0)]
)
def test_operations_that_are_saved(name, saved):
    with torch.device("meta"):
        model = create_model(name, 6, (3, 1)).eval()
        images = torch.zeros(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
        assert operations(model, *images) - operations(accelerate(model, CPU), *images) > saved


def test_elsewhere_than_on_a_cpu_nothing_is_reordered():
    with torch.device("meta"):
        model = create_model("upernet", 6).eval()
        images = torch.zeros(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
        assert operations(accelerate(model, torch.device("cuda")), *images) == operations(model, *images)


def test_shortcuts_that_are_shared_stay_so():
    model = create_model("sagate", 3, encoder={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 16]})
    frugal = accelerate(model, CPU)
    for ours, theirs in zip(frugal.rgb_encoder.layers, frugal.sar_encoder.layers, strict=True):
        assert ours[0].downsample[0] is theirs[0].downsample[0]
        assert isinstance(ours[0].downsample[1], nn.Identity)


def test_nothing_is_left_to_train():
    model = create_model("asanet", 3, encoder={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 16]}).train()
    frugal = accelerate(model, CPU)
    assert not frugal.training
    assert not any(p.requires_grad for p in frugal.parameters())
    assert not any(name.startswith("auxiliary") for name, _ in frugal.named_modules())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
