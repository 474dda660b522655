"""Laws of ASANet that hold without reference outputs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geoasanet.errors import ModelError
from geoasanet.models.fusion import CascadeFusion, LocalBatchNorm2d, SemanticFocusing, SumFusion
from geoasanet.models.registry import create_model
from tests.models.conftest import TINY
from tests.models.tester import NetworkTester


class TestASANet(NetworkTester):
    name = "asanet"
    arguments = TINY


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (75, 101), (33, 40)])
def test_logits_have_the_size_of_the_image(make_tiny, images, size):
    model = make_tiny().eval()
    with torch.no_grad():
        logits = model(*images(1, *size))
    assert logits.shape == (1, 3, *size)
    assert logits.isfinite().all()


def test_training_gives_auxiliary_logits_too(make_tiny, images):
    logits, auxiliary = make_tiny()(*images(2, 64, 96))
    assert logits.shape == auxiliary.shape == (2, 3, 64, 96)


@pytest.mark.parametrize("channels", [(3, 1), (3, 2), (4, 3)])
def test_any_number_of_bands(make_tiny, images, channels):
    model = make_tiny(in_channels=channels).eval()
    assert model(*images(1, channels=channels)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnextv2_nano"])
def test_named_encoders_of_other_sizes(images, name):
    model = create_model("asanet", 4, encoder=name, decoder_channels=16, auxiliary_channels=8).eval()
    with torch.no_grad():
        assert model(*images(1)).shape == (1, 4, 64, 96)


def test_every_weight_receives_a_gradient(make_tiny, images):
    model = make_tiny(drop_path=0.0, dropout=0.0)
    logits, auxiliary = model(*images(3))
    (logits.pow(2).mean() + auxiliary.pow(2).mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_images_of_a_batch_do_not_see_each_other(make_tiny, images):
    model = make_tiny().eval()
    rgb, sar = images(3)
    with torch.no_grad():
        together = model(rgb, sar)
        alone = torch.cat([model(rgb[i : i + 1], sar[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_sensors_have_encoders_of_their_own(make_tiny, images):
    model = make_tiny(in_channels=(3, 3)).eval()
    rgb, sar = images(1, channels=(3, 3))
    with torch.no_grad():
        assert not torch.allclose(model(rgb, sar), model(sar, rgb), atol=1e-3)


def test_ablations_have_the_parts_they_name(make_tiny):
    full, plain = make_tiny(), make_tiny(sfm=False, fusion="sum")
    assert any(isinstance(m, SemanticFocusing) for m in full.modules())
    assert any(isinstance(m, CascadeFusion) for m in full.modules())
    assert not any(isinstance(m, SemanticFocusing | CascadeFusion) for m in plain.modules())
    removed = set(full.state_dict()) - set(plain.state_dict())
    assert {name.split(".")[0] for name in removed} == {"focusing", "fusion"}


def test_sum_fusion_adds():
    one, two = torch.rand(2, 4, 3, 5), torch.rand(2, 4, 3, 5)
    torch.testing.assert_close(SumFusion()(one, two), one + two)


def test_focusing_with_a_closed_gate_changes_nothing():
    module = SemanticFocusing(8)
    nn.init.constant_(module.gate[2].bias, -1e4)
    one, two = torch.randn(2, 8, 5, 7), torch.randn(2, 8, 5, 7)
    out_one, out_two = module(one, two)
    assert torch.equal(out_one, one) and torch.equal(out_two, two)


def test_focusing_treats_the_sensors_alike():
    module = SemanticFocusing(8)
    one, two = torch.randn(2, 8, 5, 7), torch.randn(2, 8, 5, 7)
    first, second = module(one, two)
    swapped_second, swapped_first = module(two, one)
    torch.testing.assert_close((first, second), (swapped_first, swapped_second))


def test_fused_shares_sum_to_one_over_channels():
    # With gates open and both inputs one everywhere, what is left are the two softmaxes.
    module = CascadeFusion(6).eval()
    for gate in (module.gate_rgb, module.gate_sar):
        nn.init.constant_(gate.reduce[1].bias, 1e4)
    ones = torch.ones(2, 6, 4, 3)
    torch.testing.assert_close(module(ones, ones).sum(1), torch.full((2, 4, 3), 2.0))


def test_a_training_batch_of_one_is_refused_with_advice(make_tiny, images):
    with pytest.raises(ModelError, match="batch size of at least 2"):
        make_tiny()(*images(1))


def test_fusion_norms_can_be_told_from_the_others(make_tiny):
    model = make_tiny()
    local = {name for name, m in model.named_modules() if isinstance(m, LocalBatchNorm2d)}
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert local == {name for name in norms if name.startswith("fusion.")}
    assert local < norms


@pytest.mark.parametrize(
    ("rgb", "sar", "message"),
    [
        ((1, 4, 64, 64), (1, 1, 64, 64), r"rgb as \(batch, 3"),
        ((1, 3, 64, 64), (1, 3, 64, 64), r"sar as \(batch, 1"),
        ((3, 64, 64), (1, 1, 64, 64), "rgb as"),
        ((1, 3, 64, 64), (1, 1, 64, 96), "same batch and size"),
        ((2, 3, 64, 64), (1, 1, 64, 64), "same batch and size"),
        ((1, 3, 31, 64), (1, 1, 31, 64), "at least 32 px"),
    ],
)
def test_images_that_do_not_fit_are_refused(make_tiny, rgb, sar, message):
    with pytest.raises(ModelError, match=message):
        make_tiny().eval()(torch.zeros(rgb), torch.zeros(sar))


def test_evaluation_is_deterministic_and_training_drops(make_tiny, images):
    model = make_tiny().eval()
    with torch.no_grad():
        assert torch.equal(model(*images()), model(*images()))
        copied = copy.deepcopy(model).train()
        assert not torch.equal(copied(*images())[0], copied(*images())[0])


@pytest.mark.slow
def test_exported_network_gives_the_same_logits_for_other_sizes(make_tiny, images):
    model = make_tiny().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, images(2), dynamic_shapes=({0: batch}, {0: batch}))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*images(3)), model(*images(3)), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_network_compiles_as_one_graph(make_tiny, images):
    model = make_tiny().eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*images()), model(*images()), atol=1e-5, rtol=1e-5)
