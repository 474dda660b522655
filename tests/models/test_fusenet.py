"""FuseNet in its variants, against the original codes where they exist."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.errors import ModelError
from geoasanet.models.registry import create_model
from geoasanet.models.vgg import STAGES, VGGEncoder, pool, unpool
from tests.models.originals import assert_equal_but_for_ties, check_conversion, load_reference
from tests.models.tester import NetworkTester, build

SMALL = {"encoder": {"depths": [2, 2, 3, 3, 3], "dims": [8, 8, 12, 16, 16]}}
UNCHAINED = {**SMALL, "decoder": "unchained"}
SF5 = {**SMALL, "variant": "sf5"}


class TestFuseNet(NetworkTester):
    name = "fusenet"
    arguments = SMALL


class TestUnchained(NetworkTester):
    name = "fusenet"
    arguments = UNCHAINED


class TestSF5(NetworkTester):
    name = "fusenet"
    arguments = SF5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fusenet", "fusenet_hazirbas_sf5"])
@torch.no_grad()
def test_full_size_network_gives_the_original_logits(golden, golden_weights, name):
    reference = load_reference(golden, golden_weights, name)
    assert sum(p.numel() for p in reference.model.parameters()) == reference.parameters
    logits, _ = reference.run()
    assert_equal_but_for_ties(logits, reference.arrays["logits_1_4"])


@pytest.mark.parametrize(
    ("arguments", "parameters", "operations"),
    [({}, 55.16, 65.76), ({"variant": "sf5", "in_channels": (3, 1)}, 44.17, 60.17)],
)
def test_parameters_and_operations_of_the_paper(arguments, parameters, operations):
    with torch.device("meta"), torch.no_grad():
        model = create_model("fusenet", 6, **{"in_channels": (3, 3), **arguments}).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 256, 256), torch.zeros(1, model.in_channels[1], 256, 256))
    counted = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("auxiliary"))
    assert counted / 1e6 == pytest.approx(parameters, abs=0.005)
    assert counter.get_total_flops() / 2e9 == pytest.approx(operations, abs=0.01)


@pytest.mark.parametrize(("name", "arguments", "bands"), [("fusenet", UNCHAINED, 3), ("fusenet_hazirbas_sf5", SF5, 1)])
def test_a_file_of_the_original_code_is_converted(golden, tmp_path, name, arguments, bands):
    check_conversion(golden, tmp_path, name, build("fusenet", in_channels=(3, bands), **arguments).eval())


def test_both_decoders_have_the_same_weights(images):
    chained, unchained = (create_model("fusenet", 3, **arguments).eval() for arguments in (SMALL, UNCHAINED))
    unchained.load_state_dict(chained.state_dict())
    with torch.no_grad():
        assert not torch.allclose(chained(*images(1)), unchained(*images(1)), atol=1e-3)


@pytest.mark.parametrize(("arguments", "reach"), [(SMALL, True), (UNCHAINED, False), (SF5, True)])
def test_how_far_the_network_sees(images, arguments, reach):
    """The prediction of the released decoder depends on the closest pixels only."""
    model = build("fusenet", **arguments).eval()
    rgb, sar = images(1)
    rgb.requires_grad_()
    model(rgb, sar)[0, :, 32:34, 40:42].square().sum().backward()
    seen = rgb.grad[0].abs().sum(0) > 0
    assert seen[32:34, 40:42].any()
    seen[22:44, 30:52] = False
    assert bool(seen.any()) is reach


def test_padding_is_that_of_the_image(images):
    model = build("fusenet", **SMALL).eval()
    rgb, sar = images(1, 50, 70)
    padded = (torch.nn.functional.pad(image, (0, 26, 0, 14)) for image in (rgb, sar))
    with torch.no_grad():
        torch.testing.assert_close(model(rgb, sar), model(*padded)[..., :50, :70])


def test_values_return_to_where_the_maxima_were():
    image = torch.rand(2, 3, 8, 6)
    pooled, indices = pool(image)
    back = unpool(pooled, indices)
    assert torch.equal(back[back > 0], image[back > 0])
    assert torch.equal(pool(back)[0], pooled)
    assert int((back > 0).sum()) == pooled.numel()


@pytest.mark.parametrize("order", ["conv-bn-relu", "conv-relu-bn"])
def test_encoder_layers_follow_one_another_as_asked(order):
    encoder = VGGEncoder(2, SMALL["encoder"], order=order)
    assert [name for name, _ in encoder.stages[1][0].named_children()] == order.split("-")


@torch.no_grad()
def test_encoders_start_from_a_file_of_imagenet_weights(tmp_path):
    from timm.models.vgg import VGG

    published = VGG(
        [8, 8, "M", 8, 8, "M", 12, 12, 12, "M", 16, 16, 16, "M", 16, 16, 16, "M"],
        num_classes=0,
        norm_layer=torch.nn.BatchNorm2d,
    ).eval()
    for key, tensor in published.state_dict().items():
        if "running" in key:
            tensor.uniform_(0.5, 2)
    save_file(published.state_dict(), tmp_path / "vgg.safetensors")
    model = create_model("fusenet", 3, (3, 2), encoder_weights=tmp_path / "vgg.safetensors", **SMALL).eval()
    image, grey = torch.randn(1, 3, 64, 64), torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(run(model.rgb_encoder, image), published.features(image))
    expected = published.features(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(run(model.sar_encoder, grey.expand(-1, 2, -1, -1)), expected, atol=1e-4, rtol=1e-4)


def test_the_paper_s_encoder_has_published_weights():
    assert VGGEncoder(3, SMALL["encoder"]).repository("vgg16_bn") == "timm/vgg16_bn.tv_in1k"


def run(encoder, x):
    for i in range(STAGES):
        x, _ = pool(encoder.stage(i, x))
    return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "sf1"}, "variant must be one of vfusenet, sf5"),
        ({"decoder": "loose"}, "decoder must be one of chained, unchained"),
        ({"variant": "sf5", "decoder": "unchained"}, "sf5 has no unchained decoder"),
        ({"encoder": "vgg16"}, "'vgg16' is unknown.*vgg16_bn"),
        ({"encoder": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}}, "depths must be 5 numbers"),
        ({"dropout": 1}, "dropout"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        create_model("fusenet", 3, **arguments)
