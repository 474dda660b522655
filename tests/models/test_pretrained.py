from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from geoasanet.errors import CheckpointError, ModelError
from geoasanet.models.registry import create_model

SMALL = {"encoder": "convnextv2_atto", "decoder_channels": 8, "auxiliary_channels": 4}


@pytest.fixture(scope="module")
def trunk():
    import timm

    torch.manual_seed(1)
    model = timm.create_model("convnextv2_atto", num_classes=10)
    torch.nn.init.normal_(model.head.norm.weight)
    return model


def in_metas_layout(state):
    """Rename timm's keys to those of the files that ConvNeXt-V2's authors publish."""
    renamed = {}
    for key, tensor in state.items():
        name = key
        if name.startswith("stem."):
            name = "downsample_layers.0." + name.removeprefix("stem.")
        parts = name.split(".")
        if "downsample" in parts:
            name = f"downsample_layers.{parts[1]}.{'.'.join(parts[3:])}"
        name = name.replace(".blocks.", ".").replace("conv_dw", "dwconv")
        name = name.replace("mlp.fc", "pwconv").replace("mlp.grn.weight", "grn.gamma")
        name = name.replace("mlp.grn.bias", "grn.beta").replace("head.norm.", "norm.").replace("head.fc.", "head.")
        value = tensor
        if "pwconv" in name and name.endswith("weight"):
            value = tensor[:, :, 0, 0]
        if "grn." in name:
            value = tensor.reshape(1, 1, 1, -1)
        renamed[name] = value.clone()
    return renamed


@pytest.mark.parametrize("kind", ["pth", "safetensors", "meta"])
def test_both_encoders_start_from_the_file(tmp_path, trunk, kind):
    path = tmp_path / f"weights.{kind if kind != 'meta' else 'pth'}"
    if kind == "safetensors":
        save_file(trunk.state_dict(), path)
    else:
        torch.save(trunk.state_dict() if kind == "pth" else {"model": in_metas_layout(trunk.state_dict())}, path)
    model = create_model("asanet", 3, (3, 2), encoder_weights=path, **SMALL)
    for encoder in (model.rgb_encoder, model.sar_encoder):
        assert torch.equal(encoder.stages[2].blocks[3].conv_dw.weight, trunk.stages[2].blocks[3].conv_dw.weight)
        assert torch.equal(encoder.stages[0].blocks[0].mlp.fc1.weight, trunk.stages[0].blocks[0].mlp.fc1.weight)
        assert torch.equal(encoder.norms[3].weight, trunk.head.norm.weight)
        assert torch.equal(encoder.norms[0].weight, torch.ones(40))
    assert torch.equal(model.rgb_encoder.stem[0].weight, trunk.stem[0].weight)
    grey = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(
        model.sar_encoder.stem(grey.expand(-1, 2, -1, -1)), trunk.stem(grey.expand(-1, 3, -1, -1))
    )


@pytest.mark.parametrize(
    "encoder", ["convnextv2_femto", "convnextv2_nano", {"depths": [1, 1, 1, 1], "dims": [40, 80, 160, 320]}]
)
def test_weights_of_another_size_are_refused(tmp_path, trunk, encoder):
    path = tmp_path / "atto.pth"
    state = {k: v for k, v in trunk.state_dict().items() if not k.startswith("stages.1.blocks.0")}
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"atto\.pth do not fit"):
        create_model("asanet", 3, encoder_weights=path, **{**SMALL, "encoder": encoder})


def test_unreadable_weights_are_refused(tmp_path):
    for name, content in (("a.pth", b"no"), ("a.safetensors", b"\xff" * 40)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            create_model("asanet", 3, encoder_weights=tmp_path / name, **SMALL)
    torch.save({"state_dict": {"a": 3}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"b\.pth do not fit"):
        create_model("asanet", 3, encoder_weights=tmp_path / "b.pth", **SMALL)


def test_a_hub_out_of_reach_is_named(monkeypatch):
    def fail(repository, name):
        raise OSError(f"no route to {repository}")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(CheckpointError, match=r"timm/convnextv2_atto\.fcmae_ft_in1k cannot be fetched.*no route"):
        create_model("asanet", 3, encoder_weights="imagenet", **SMALL)


def test_the_recipe_s_weights_are_asked_for_first(monkeypatch, tmp_path, trunk):
    asked = []

    def fetch(repository, name):
        asked.append(f"{repository}/{name}")
        save_file(trunk.state_dict(), tmp_path / "model.safetensors")
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    create_model("asanet", 3, encoder_weights="imagenet", **SMALL)
    with pytest.raises(CheckpointError, match="do not fit"):
        create_model("asanet", 3, encoder_weights="imagenet", **{**SMALL, "encoder": "convnextv2_tiny"})
    assert asked == [
        "timm/convnextv2_atto.fcmae_ft_in1k/model.safetensors",
        "timm/convnextv2_tiny.fcmae_ft_in22k_in1k_384/model.safetensors",
    ]


def test_own_sizes_have_no_published_weights():
    with pytest.raises(ModelError, match="by name only"):
        create_model("asanet", 3, encoder_weights="imagenet", encoder={"depths": [1] * 4, "dims": [8] * 4})
