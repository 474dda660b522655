"""The single-encoder baselines."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.errors import ModelError
from geoasanet.models.registry import create_model
from tests.models.tester import NetworkTester

SMALL = {"encoder": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]}, "decoder_channels": 8, "auxiliary_channels": 4}


class TestUPerNet(NetworkTester):
    name = "upernet"
    arguments = SMALL


@pytest.mark.parametrize(("inputs", "sees_rgb", "sees_sar"), [("rgb", 1, 0), ("sar", 0, 1), ("both", 1, 1)])
@torch.no_grad()
def test_only_the_named_sensor_is_looked_at(images, inputs, sees_rgb, sees_sar):
    model = create_model("upernet", 3, (3, 2), inputs=inputs, **SMALL).eval()
    rgb, sar = images(1, channels=(3, 2))
    logits = model(rgb, sar)
    assert torch.equal(logits, model(rgb + 1, sar)) is not bool(sees_rgb)
    assert torch.equal(logits, model(rgb, sar + 1)) is not bool(sees_sar)


def test_unknown_inputs_are_refused():
    with pytest.raises(ModelError, match="inputs must be one of rgb, sar, both"):
        create_model("upernet", 3, inputs="optical", **SMALL)


@torch.no_grad()
def test_the_norms_feed_the_heads_only(images):
    model = create_model("upernet", 3, **SMALL).eval()
    before = model.forward_features(*images(1))
    model.encoder.norms[0].bias.add_(1)
    after = model.forward_features(*images(1))
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, True, True]


def test_parameters_and_operations_of_the_paper():
    with torch.device("meta"), torch.no_grad():
        model = create_model("upernet", 6, (3, 3), inputs="rgb").eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256))
    auxiliary = sum(p.numel() for p in model.auxiliary.parameters()) / 1e6
    assert auxiliary == pytest.approx(0.44, abs=0.005)
    assert sum(p.numel() for p in model.parameters()) / 1e6 - auxiliary == pytest.approx(37.09, abs=0.005)
    assert counter.get_total_flops() / 2e9 == pytest.approx(19.11, abs=0.01)
