"""Parameter groups and optimiser steps against the original code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geoasanet.errors import ConfigError, ModelError
from geoasanet.models.convert import convert_official
from geoasanet.models.layouts import rename_asanet
from geoasanet.models.network import Network
from geoasanet.models.official import read_official
from geoasanet.models.registry import create_model
from geoasanet.training.losses import SegmentationLoss
from geoasanet.training.optim import build_optimizer, parameter_groups, set_learning_rate
from geoasanet.training.schedule import Schedule

SIZES = {
    "encoder": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]},
    "decoder_channels": 8,
    "auxiliary_channels": 4,
}


class Plain(Network):
    """A network that tells no layers apart; its last two convolutions are one."""

    def __init__(self) -> None:
        super().__init__(2, (3, 1))
        self.conv = torch.nn.Conv2d(4, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.first = torch.nn.Conv2d(4, 2, 1)
        self.second = self.first


@pytest.fixture
def small() -> Network:
    return create_model("asanet", 3, **SIZES)


@pytest.fixture(scope="module")
def recorded(shared: Path):
    return json.loads((shared / "golden" / "training" / "layer_decay.json").read_text())


@pytest.fixture(scope="module")
def full_groups():
    with torch.device("meta"):  # names and shapes of the full-size network without its memory
        model = create_model("asanet", 6, (3, 3))
    return parameter_groups(model, lr=1e-4, weight_decay=0.05, layer_decay=0.9)


def test_every_parameter_learns_and_decays_as_in_the_original(recorded, full_groups):
    found = {name: (group["lr"], group["weight_decay"]) for group in full_groups for name in group["param_names"]}
    expected = {rename_asanet(name): tuple(values) for name, values in recorded["params"].items()}
    assert len(expected) == 563
    assert found.keys() == expected.keys()
    assert {name: found[name] for name in found if found[name] != pytest.approx(expected[name], rel=1e-12)} == {}


def test_groups_are_those_of_the_original(recorded, full_groups):
    def summary(group, name, tensors, numel):
        return (name, round(group["lr_scale"], 12), group["weight_decay"], tensors, numel)

    found = {
        summary(g, g["name"], len(g["params"]), sum(parameter.numel() for parameter in g["params"]))
        for g in full_groups
    }
    expected = {summary(g, g["group_name"], g["n_tensors"], g["numel"]) for g in recorded["groups"]}
    assert found == expected
    assert len(full_groups) == len(expected)


def test_without_layer_decay_norms_and_biases_are_apart():
    decay, rest = parameter_groups(Plain(), lr=6e-5, weight_decay=0.01)
    assert (decay["name"], rest["name"]) == ("decay", "no_decay")
    assert decay["param_names"] == ["conv.weight", "first.weight"]
    assert rest["param_names"] == ["conv.bias", "norm.weight", "norm.bias", "first.bias"]
    assert [(g["lr"], g["lr_scale"], g["weight_decay"]) for g in (decay, rest)] == [(6e-5, 1.0, 0.01), (6e-5, 1.0, 0.0)]


def test_all_parameters_decay_where_asked_for():
    (group,) = parameter_groups(Plain(), lr=0.01, weight_decay=5e-4, decay_all=True)
    assert len(group["params"]) == 6
    assert group["weight_decay"] == 5e-4


def test_frozen_parameters_are_left_out(small):
    small.rgb_encoder.requires_grad_(False)
    names = [n for g in parameter_groups(small, lr=1, weight_decay=0, layer_decay=0.9) for n in g["param_names"]]
    assert names
    assert not any(name.startswith("rgb_encoder") for name in names)
    assert any(name.startswith("sar_encoder") for name in names)


def test_a_network_without_layers_refuses_layer_decay():
    with pytest.raises(ModelError, match=r"Plain .* layer_decay"):
        parameter_groups(Plain(), lr=1e-4, weight_decay=0, layer_decay=0.9)


def test_six_steps_are_those_of_the_original(shared):
    folder = shared / "golden" / "training"
    recorded = json.loads((folder / "train_steps.json").read_text())
    converted = convert_official(
        read_official(shared / "golden" / "asanet_tiny" / "mmengine_runner.pth"), sar_channels=3
    )
    architecture = converted.model.architecture.arguments
    model = create_model("asanet", **{**architecture, "drop_path": 0.0, "dropout": 0.0})
    model.load_state_dict(converted.model.state_dict())
    model = model.double().train()
    schedule = Schedule(10, warmup=3, warmup_factor=0.01)
    optimizer = build_optimizer(parameter_groups(model, lr=2e-4, weight_decay=0.05, layer_decay=0.9))
    criterion = SegmentationLoss(6).double()
    with np.load(folder / "train_steps.npz") as arrays:
        steps = dict(arrays)

    for entry in recorded["log_fp64"]:
        i = entry["iter"]
        rgb = normalised(steps[f"it{i}/rgb"].transpose(0, 3, 1, 2), converted.bands.rgb)
        sar = normalised(steps[f"it{i}/sar"][:, None].repeat(3, 1), converted.bands.sar)
        set_learning_rate(optimizer, 2e-4 * schedule.factor(i))
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates == pytest.approx(entry["lr"], rel=1e-12)
        loss = criterion(model(rgb, sar), torch.from_numpy(steps[f"it{i}/label"]))
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        assert float(loss.detach()) == pytest.approx(entry["total"], rel=1e-9), f"step {i}"
        assert float(norm) == pytest.approx(entry["grad_norm"], rel=1e-7), f"step {i}"
        optimizer.step()


def normalised(array, statistics):
    image = torch.from_numpy(np.ascontiguousarray(array)).float()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (statistics.mean, statistics.std))
    return ((image - mean) / std).double()


def test_each_kind_takes_the_step_of_its_definition():
    def step(kind, **options):
        model = Plain()
        torch.nn.init.ones_(model.conv.weight)
        optimizer = build_optimizer(parameter_groups(model, lr=0.5, weight_decay=0.1), kind, **options)
        for _ in range(2):
            model.conv.weight.grad = torch.full_like(model.conv.weight, 2.0)
            optimizer.step()
        return model.conv.weight.detach().flatten()[0].item()

    # SGD: w -= lr * velocity; velocity = momentum * velocity + gradient + decay * w
    first = 1 - 0.5 * 2.1
    assert step("sgd", momentum=0.5) == pytest.approx(first - 0.5 * (0.5 * 2.1 + 2 + 0.1 * first))
    # AdamW under a constant gradient: w = w * (1 - lr * decay) - lr
    assert step("adamw") == pytest.approx((0.95 - 0.5) * 0.95 - 0.5)


def test_rates_survive_a_saved_state(small):
    def make():
        return build_optimizer(parameter_groups(small, lr=1e-3, weight_decay=0.05, layer_decay=0.5))

    saved, resumed = make(), make()
    set_learning_rate(saved, 3e-4)
    resumed.load_state_dict(saved.state_dict())
    assert [g["lr"] for g in resumed.param_groups] == [3e-4 * g["lr_scale"] for g in saved.param_groups]
    assert {g["lr_scale"] for g in resumed.param_groups} == {0.5**k for k in (7, 6, 5, 4, 3, 0)}


@pytest.mark.gpu
def test_cuda_parameters_are_updated_by_one_kernel(small, gpu):
    optimizer = build_optimizer(parameter_groups(small.to(gpu), lr=1e-3, weight_decay=0.05))
    assert all(group["fused"] for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"lr": 0.0}, "lr .* 0.0"),
        ({"weight_decay": -1.0}, "weight_decay .* -1"),
        ({"layer_decay": 1.2}, "layer_decay .* 1.2"),
    ],
)
def test_impossible_rates_are_named(small, options, found):
    with pytest.raises(ConfigError, match=found):
        parameter_groups(small, **{"lr": 1e-4, "weight_decay": 0.05, **options})


@pytest.mark.parametrize(
    ("options", "found"),
    [({"kind": "adam"}, "'adam'.*adamw, sgd"), ({"betas": (0.9, 1.0)}, "betas .*1.0"), ({"momentum": -1}, "momentum")],
)
def test_impossible_optimizers_are_named(small, options, found):
    with pytest.raises(ConfigError, match=found):
        build_optimizer(parameter_groups(small, lr=1, weight_decay=0), **options)
