from __future__ import annotations

import re
from pathlib import Path

import pytest

import geoasanet as ga
from geoasanet.errors import CheckpointError, ModelError
from geoasanet.models.registry import create_model, model_names


def test_create_model_is_public_and_knows_asanet():
    assert ga.create_model is create_model
    assert "asanet" in model_names()


@pytest.mark.parametrize("name", ["asnet", "ASANet", "resnet"])
def test_unknown_network_is_named_with_the_known_ones(name):
    with pytest.raises(ModelError, match=f"'{name}' is unknown.*asanet"):
        create_model(name, 6)


def test_unknown_argument_is_named():
    with pytest.raises(ModelError, match=r"asanet takes no widht\..*decoder_channels"):
        create_model("asanet", 6, widht=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": True}, "num_classes"),
        ({"in_channels": (3,)}, "in_channels"),
        ({"in_channels": (3, 0)}, r"in_channels\[1\]"),
        ({"encoder": "convnextv2_tinny"}, "'convnextv2_tinny' is unknown.*convnextv2_tiny"),
        ({"encoder": "hf-hub:someone/network"}, "unknown"),
        ({"encoder": {"depths": [1, 1, 1], "dims": [8, 8, 8]}}, "depths"),
        ({"encoder": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, -1]}}, "dims"),
        ({"encoder": {"depths": [1, 1, 10**9, 1], "dims": [8, 8, 8, 8]}}, "depths"),
        ({"encoder": {"dims": [8, 8, 8, 8]}}, "depths"),
        ({"fusion": "concat"}, "fusion must be one of cfm, sum"),
        ({"sfm": "no"}, "sfm"),
        ({"drop_path": 1.5}, "drop_path"),
        ({"dropout": -0.1}, "dropout"),
        ({"decoder_channels": 0}, "decoder_channels"),
    ],
)
def test_impossible_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ModelError, match=message):
        create_model("asanet", **{"num_classes": 6, **arguments})


def test_architecture_records_every_argument_but_weights(make_tiny):
    model = make_tiny(in_channels=[3, 2], fusion="sum")
    assert model.architecture.name == "asanet"
    assert model.architecture.arguments == {
        "num_classes": 3,
        "in_channels": [3, 2],
        "encoder": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]},
        "drop_path": 0.4,
        "dropout": 0.1,
        "sfm": True,
        "fusion": "sum",
        "decoder_channels": 8,
        "auxiliary_channels": 4,
    }


def test_recorded_arguments_build_the_same_network(make_tiny):
    first = make_tiny(sfm=False)
    second = create_model("asanet", **first.architecture.arguments)
    assert {k: v.shape for k, v in first.state_dict().items()} == {k: v.shape for k, v in second.state_dict().items()}


def test_encoder_weights_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.pth"):
        create_model("asanet", 6, encoder="convnextv2_atto", encoder_weights=tmp_path / "nothing.pth")


def test_every_network_has_the_common_tests():
    modules = Path(__file__).parent.glob("test_*.py")
    tested = {name for module in modules for name in re.findall(r'^    name = "(\w+)"$', module.read_text(), re.M)}
    assert tested == set(model_names())
