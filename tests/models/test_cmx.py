"""CMX against the original codes, and its laws."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from geoasanet.errors import CheckpointError, ModelError
from geoasanet.models.cmx import ContextAttention, FeatureRectification
from geoasanet.models.registry import create_model
from tests.models.originals import check_conversion, load_reference, relative_difference
from tests.models.tester import NetworkTester

SMALL = {"encoder": "mit_b0", "decoder_channels": 16}


class TestCMX(NetworkTester):
    name = "cmx"
    arguments = SMALL


@pytest.mark.slow
def test_full_size_network_gives_the_original_logits(golden, golden_weights):
    reference = load_reference(golden, golden_weights, "cmx")
    with torch.no_grad():
        features = reference.model.forward_features(reference.rgb, reference.sar)
        logits = reference.model.head(features)
    for i in (1, 2, 3):
        # Recorded in half precision.
        torch.testing.assert_close(features[i], reference.arrays[f"tap:backbone.{i}"], atol=1e-4, rtol=1e-3)
    assert relative_difference(logits, reference.arrays["logits"]) <= 1e-4


@pytest.mark.slow
def test_full_size_network_of_the_authors_has_the_published_size(golden, golden_weights):
    reference = load_reference(golden, golden_weights, "cmx_official")
    logits, operations = reference.run()
    assert relative_difference(logits, reference.arrays["logits_1_4"]) <= 1e-4
    assert sum(p.numel() for p in reference.model.parameters()) == reference.parameters == 66_563_982
    assert operations == pytest.approx(14.82, rel=1e-2)


@pytest.mark.parametrize("name", ["cmx", "cmx_official"])
def test_both_codes_checkpoints_convert(golden, tmp_path, name):
    torch.manual_seed(0)
    check_conversion(golden, tmp_path, name, create_model("cmx", 3, (3, 3), **SMALL))


def test_rectification_with_closed_gates_changes_nothing():
    module = FeatureRectification(8)
    for gate in (module.weigh_channels, module.weigh_pixels):
        nn.init.constant_(gate[2].bias, -1e4)
    rgb, sar = torch.randn(2, 8, 5, 7), torch.randn(2, 8, 5, 7)
    assert torch.equal(module(rgb, sar)[0], rgb) and torch.equal(module(rgb, sar)[1], sar)


def test_rectification_with_open_gates_adds_the_other():
    module = FeatureRectification(8)
    for gate in (module.weigh_channels, module.weigh_pixels):
        nn.init.constant_(gate[2].bias, 1e4)
    rgb, sar = torch.randn(2, 8, 5, 7), torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(module(rgb, sar), (rgb + sar, rgb + sar))


def test_context_forgets_the_order_of_pixels():
    module = ContextAttention(8, 2)
    tokens = torch.randn(1, 12, 8)
    torch.testing.assert_close(module.context(tokens), module.context(tokens.flip(1)))


def test_unknown_encoder_is_named_with_the_known_ones():
    with pytest.raises(ModelError, match=r"'mit_b9' is unknown.*mit_b0"):
        create_model("cmx", 3, encoder="mit_b9")


@pytest.fixture(scope="module")
def published():
    """Weights as the hub's copy names them, with the classifier of NVIDIA's files."""
    from segmentation_models_pytorch.encoders import get_encoder

    torch.manual_seed(1)
    return {**get_encoder("mit_b0", weights=None).state_dict(), "head.weight": torch.zeros(3, 256)}


def test_both_encoders_start_from_the_file(tmp_path, published):
    save_file(published, tmp_path / "b0.safetensors")
    model = create_model("cmx", 3, (3, 2), encoder_weights=tmp_path / "b0.safetensors", **SMALL)
    for encoder in (model.rgb_encoder, model.sar_encoder):
        assert torch.equal(encoder.blocks[1][0].attn.q.weight, published["block2.0.attn.q.weight"])
        assert torch.equal(encoder.norms[3].weight, published["norm4.weight"])
    stem = published["patch_embed1.proj.weight"]
    assert torch.equal(model.rgb_encoder.embeds[0].proj.weight, stem)
    torch.testing.assert_close(model.sar_encoder.embeds[0].proj.weight.sum(1), stem.sum(1))


def test_the_hub_is_asked_for_the_encoder_s_own_weights(monkeypatch, tmp_path, published):
    asked = []

    def fetch(repository, name):
        asked.append(repository)
        save_file(published, tmp_path / name)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    create_model("cmx", 3, encoder_weights="imagenet", **SMALL)
    with pytest.raises(CheckpointError, match="do not fit"):
        create_model("cmx", 3, encoder_weights="imagenet", **{**SMALL, "encoder": "mit_b1"})
    assert asked == ["smp-hub/mit_b0.imagenet", "smp-hub/mit_b1.imagenet"]
