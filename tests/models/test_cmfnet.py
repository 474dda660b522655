"""CMFNet against the original code, and its laws."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from geoasanet.errors import ModelError
from geoasanet.models import cmfnet
from geoasanet.models.channel_transformer import ChannelTransformer, JointChannels
from geoasanet.models.registry import create_model
from geoasanet.models.vgg import pool
from tests.models.originals import assert_equal_but_for_ties, check_conversion, load_reference
from tests.models.tester import NetworkTester

SMALL = {"encoder": {"depths": [2, 2, 3, 3, 3], "dims": [8, 8, 16, 16, 16]}, "layers": 2}

NEAR_TIES = {0: [(26, 117, 19, 59943)], 2: [(186, 9, 11, 1239), (251, 19, 25, 2546)], 3: [(223, 3, 3, 198)]}
"""Windows in the poolings of the RGB encoder whose two largest values differ by rounding only, 7e-6 or less.

Unpooling puts the value where the larger was, and processors and libraries round differently: left alone, some logits
differ by up to 0.7 % of their deviation around those windows. Channel, row and column by pooling, and the position that
the original had chosen when its output was recorded.
"""


class TestCMFNet(NetworkTester):
    name = "cmfnet"
    arguments = SMALL


@pytest.mark.slow
def test_full_size_network_gives_the_original_log_probabilities(golden, golden_weights, monkeypatch):
    reference = load_reference(golden, golden_weights, "cmfnet")
    calls = itertools.count()

    def pool_as_recorded(x):
        pooled, where = pool(x)
        for channel, row, column, position in NEAR_TIES.get(next(calls), []):
            value = x[0, channel].flatten()[position]
            torch.testing.assert_close(value, pooled[0, channel, row, column], atol=5e-4, rtol=0)
            pooled[0, channel, row, column] = value
            where[0, channel, row, column] = position
        return pooled, where

    monkeypatch.setattr(cmfnet, "pool", pool_as_recorded)
    logits, operations = reference.run()
    assert next(calls) == 9
    # Here all pixels are equal; on another processor other windows may be near ties.
    assert_equal_but_for_ties(logits.log_softmax(1), reference.arrays["logits_1_4"])
    assert sum(p.numel() for p in reference.model.parameters()) == reference.parameters == 104_074_118
    assert operations == pytest.approx(79.34, rel=1e-2)


def test_as_many_parameters_as_published_are_never_used(images):
    small = create_model("cmfnet", 3, **{**SMALL, "layers": 4})
    small(*images(2, 32, 32)).pow(2).mean().backward()
    unused = {name for name, parameter in small.named_parameters() if parameter.grad is None}
    with torch.device("meta"):
        full = create_model("cmfnet", 6)
    count = sum(parameter.numel() for name, parameter in full.named_parameters() if name in unused)
    assert count / 1e6 == pytest.approx(8.54, abs=0.005)
    assert full.has_unused_parameters and not create_model("cmx", 3, encoder="mit_b0").has_unused_parameters


def test_original_checkpoints_convert(golden, tmp_path):
    torch.manual_seed(0)
    model = create_model("cmfnet", 3, (3, 1), **SMALL)
    for transformer in (model.exchange, model.refine):
        for embed in transformer.embeds:
            for positions in embed.positions:
                nn.init.normal_(positions)
    check_conversion(golden, tmp_path, "cmfnet", model)


def test_other_sizes_are_refused_with_the_size_needed(images):
    model = create_model("cmfnet", 3, **SMALL).eval()
    with pytest.raises(ModelError, match=r"multiples of 32 px.*75×101.*Pad the images to 96×128"):
        model(*images(1, 75, 101))


def test_heads_must_divide_the_channels():
    with pytest.raises(ModelError, match=r"heads must divide the encoder's channels \[8, 8, 16, 16\], found 3"):
        create_model("cmfnet", 3, **SMALL, heads=3)


def maps_of_four_scales():
    return [torch.randn(1, c, 64 // 2**i, 64 // 2**i) for i, c in enumerate((4, 4, 8, 8))]


def test_each_sensor_asks_the_other():
    transformer = ChannelTransformer((4, 4, 8, 8), 2, 1, 2, 0.0).eval()
    rgb, sar, other = (maps_of_four_scales() for _ in range(3))
    with torch.no_grad():
        changed = transformer([rgb, other])[0]
        for before, after in zip(transformer([rgb, sar])[0], changed, strict=True):
            assert before.shape == after.shape
            assert not torch.equal(before, after)


def test_one_sensor_has_one_result():
    transformer = ChannelTransformer((4, 4, 8, 8), 1, 2, 2, 0.0).eval()
    rgb = maps_of_four_scales()
    (result,) = transformer([rgb])
    assert [x.shape for x in result] == [x.shape for x in rgb]


def test_a_head_sees_its_share_of_every_scale():
    module = JointChannels((4, 8), 2).eval()
    for projections in (module.keys, module.values):
        nn.init.eye_(projections[0].weight)
    tokens = [torch.randn(1, 5, 4), torch.randn(1, 5, 8)]
    together = module.norm(torch.cat(tokens, 2))
    key, value = module(tokens)
    torch.testing.assert_close(key[:, 1], together[:, :, [2, 3, 8, 9, 10, 11]])
    assert torch.equal(key, value)


def test_encoders_start_from_torchvision_s_file(tmp_path):
    from torchvision.models.vgg import make_layers

    torch.manual_seed(4)
    layers = make_layers([8, "M", 8, "M", 16, "M", 16, "M", 16, "M"], batch_norm=True)
    nn.init.uniform_(layers[5].running_var)
    torch.save({f"features.{key}": tensor for key, tensor in layers.state_dict().items()}, tmp_path / "vgg.pth")
    spec = {"depths": [1] * 5, "dims": [8, 8, 16, 16, 16]}
    model = create_model("cmfnet", 3, (3, 1), spec, layers=1, encoder_weights=tmp_path / "vgg.pth")
    for encoder in (model.rgb_encoder, model.sar_encoder):
        assert torch.equal(encoder.stages[1][0].conv.weight, layers[4].weight)
        assert torch.equal(encoder.stages[1][0].bn.running_var, layers[5].running_var)
    assert torch.equal(model.rgb_encoder.stages[0][0].conv.weight, layers[0].weight)
    torch.testing.assert_close(model.sar_encoder.stages[0][0].conv.weight, layers[0].weight.sum(1, keepdim=True))
