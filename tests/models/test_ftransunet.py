"""FTransUNet against the original code, and its laws."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from geoasanet.errors import CheckpointError, ModelError
from geoasanet.models.fused_transformer import FusedLayer, FusedTransformer
from geoasanet.models.hybrid import StandardisedConv2d
from geoasanet.models.registry import create_model
from geoasanet.models.tokens import resample_positions, to_map, to_tokens
from tests.models.originals import check_conversion, load_reference, relative_difference
from tests.models.tester import NetworkTester

SMALL = {
    "width": 32,
    "units": (2, 1, 1),
    "layers": 12,
    "hidden_channels": 64,
    "heads": 1,
    "decoder_channels": (16, 8, 8, 8),
}


class TestFTransUNet(NetworkTester):
    name = "ftransunet"
    arguments = SMALL


@pytest.mark.slow
def test_full_size_network_gives_the_original_logits(golden, golden_weights):
    reference = load_reference(golden, golden_weights, "ftransunet")
    logits, operations = reference.run()
    assert relative_difference(logits, reference.arrays["logits_1_4"]) <= 1e-3
    assert sum(p.numel() for p in reference.model.parameters()) == reference.parameters == 203_403_558
    assert operations == pytest.approx(69.61, rel=1e-2)


def test_original_checkpoints_convert(golden, tmp_path):
    torch.manual_seed(0)
    model = create_model("ftransunet", 3, (3, 1), **SMALL)
    nn.init.normal_(model.transformer.positions)
    for name, parameter in model.named_parameters():
        if ".share_" in name:
            nn.init.uniform_(parameter)
    check_conversion(golden, tmp_path, "ftransunet", model)


@torch.no_grad()
def test_a_window_of_the_recorded_size_uses_the_positions_as_they_are(images, monkeypatch):
    model = create_model("ftransunet", 3, **{**SMALL, "layers": 1}).eval()
    monkeypatch.setattr("geoasanet.models.tokens.interpolate", None)
    model(*images(1, 256, 256))
    with pytest.raises(TypeError):
        model(*images(1, 256, 240))


def test_other_sizes_are_refused_with_the_size_needed(images):
    model = create_model("ftransunet", 3, **SMALL).eval()
    with pytest.raises(ModelError, match=r"multiples of 16 px.*75×101.*Pad the images to 80×112"):
        model(*images(1, 75, 101))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 48}, "width must be a multiple of 32, found 48"),
        ({"heads": 5}, r"hidden_channels must be a multiple of heads \(5\), found 64"),
        ({"units": (1, 1)}, "units must be 3 numbers"),
        ({"decoder_channels": (16, 8, 8, 0)}, "decoder_channels must be a whole number"),
    ],
)
def test_impossible_sizes_are_refused_by_name(arguments, message):
    with pytest.raises(ModelError, match=message):
        create_model("ftransunet", 3, **{**SMALL, **arguments})


def test_middle_half_of_the_layers_attends_across_sensors():
    transformer = FusedTransformer(8, 16, 12, 2, 0.0)
    assert [i for i, layer in enumerate(transformer.layers) if layer.across] == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("across", [False, True])
def test_sensors_meet_only_in_layers_across(across):
    layer = FusedLayer(8, 2, 0.0, across=across)
    rgb, sar, other = torch.randn(3, 1, 5, 8).unbind(0)
    assert torch.equal(layer(rgb, sar)[0], layer(rgb, other)[0]) != across


def test_standardised_filters_have_no_scale_and_no_offset():
    conv = StandardisedConv2d(3, 4, 3)
    image = torch.randn(1, 3, 8, 8)
    before = conv(image)
    with torch.no_grad():
        conv.weight.mul_(20).add_(5)
    torch.testing.assert_close(conv(image), before, atol=2e-3, rtol=2e-3)


def test_resampled_positions_keep_their_corners():
    grid = torch.randn(1, 3, 16, 16)
    learned = to_tokens(grid)
    assert resample_positions(learned, (16, 16)) is learned
    resampled = to_map(resample_positions(learned, (4, 7)), (4, 7))
    for y in (0, -1):
        for x in (0, -1):
            torch.testing.assert_close(resampled[..., y, x], grid[..., y, x])


@pytest.fixture(scope="module")
def published():
    """A small network of the kind whose weights are published, from timm itself."""
    from timm.layers import StdConv2dSame
    from timm.models.resnetv2 import ResNetV2
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_hybrid import HybridEmbed

    torch.manual_seed(2)
    backbone = ResNetV2(
        layers=(2, 1, 1),
        channels=(128, 256, 512),
        stem_chs=32,
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        conv_layer=StdConv2dSame,
    )
    return VisionTransformer(
        img_size=64,
        patch_size=1,
        embed_dim=64,
        depth=12,
        num_heads=1,
        num_classes=5,
        embed_layer=lambda **sizes: HybridEmbed(backbone=backbone, **sizes),
    ).eval()


def test_both_sensors_start_from_the_file(tmp_path, published):
    torch.nn.init.normal_(published.pos_embed)
    state = published.state_dict()
    save_file(state, tmp_path / "hybrid.safetensors")
    model = create_model("ftransunet", 3, (3, 2), encoder_weights=tmp_path / "hybrid.safetensors", **SMALL).eval()

    backbone = published.patch_embed.backbone
    for encoder in (model.rgb_encoder, model.sar_encoder):
        assert torch.equal(encoder.stages[0][1].residual[3].weight, backbone.stages[0].blocks[1].conv2.weight)
        assert torch.equal(encoder.stages[1][0].shortcut[0].weight, backbone.stages[1].blocks[0].downsample.conv.weight)
        assert torch.equal(encoder.root[1].bias, backbone.stem.norm.bias)
    assert torch.equal(model.rgb_encoder.root[0].weight, backbone.stem.conv.weight)

    tokens = torch.randn(1, 6, 64)
    stream = model.transformer.layers[1].sar
    block = published.blocks[1]
    with torch.no_grad():
        asked = stream.ask(tokens)
        torch.testing.assert_close(stream.perceive(tokens + stream.attend(asked, asked)), block(tokens))
    corner = model.transformer.positions[0, [0, 15, -16, -1]]
    torch.testing.assert_close(corner, published.pos_embed[0, 1:][[0, 3, -4, -1]])
    assert torch.equal(model.transformer.embed_sar.weight, published.patch_embed.proj.weight)


def test_weights_of_another_network_are_refused(tmp_path, published):
    state = {key: tensor for key, tensor in published.state_dict().items() if not key.startswith("blocks.11.")}
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(CheckpointError, match=r"short\.safetensors do not fit.*they have no layers\.11"):
        create_model("ftransunet", 3, encoder_weights=tmp_path / "short.safetensors", **SMALL)
