"""ASANet against the original code: outputs, maps on the way, sizes, initial weights."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.models.convert import convert_official
from geoasanet.models.encoders import build_trunk
from geoasanet.models.fusion import CascadeFusion, ChannelGate, SemanticFocusing, SumFusion
from geoasanet.models.layouts import infer_asanet, rename_asanet
from geoasanet.models.official import read_official
from geoasanet.models.registry import create_model
from geoasanet.tools.convert import convert


@pytest.fixture(scope="module")
def tiny(golden):
    return convert_official(read_official(golden / "asanet_tiny" / "mmengine_runner.pth"))


@pytest.fixture(scope="module")
def cases(golden):
    with np.load(golden / "asanet_tiny" / "outputs.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def units(golden):
    with np.load(golden / "asanet_tiny" / "units.npz") as arrays:
        inputs = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    weights = torch.load(golden / "asanet_tiny" / "units.pth", weights_only=True)["state_dict"]
    return inputs, weights


@pytest.fixture(scope="module")
def full(golden_weights):
    weights = golden_weights("asanet")
    model = create_model("asanet", **infer_asanet({key: tuple(t.shape) for key, t in weights.items()}))
    model.load_state_dict({rename_asanet(key): tensor for key, tensor in weights.items()})
    return model.eval()


def normalise(array, statistics):
    image = torch.from_numpy(array).float()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (statistics.mean, statistics.std))
    return (image - mean) / std


def inputs(cases, case, bands):
    """Return the images of a case as our rasters come: red, green, blue, and one SAR band."""
    rgb = normalise(cases[f"{case}/rgb"].transpose(0, 3, 1, 2), bands.rgb)
    return rgb, normalise(cases[f"{case}/sar"][:, None], bands.sar)


def farthest(ours, theirs):
    assert tuple(ours.shape) == theirs.shape
    return float((ours - torch.from_numpy(theirs)).abs().max())


@pytest.mark.parametrize("case", ["a", "b", "c"])
@torch.no_grad()
def test_tiny_network_gives_the_original_logits(tiny, cases, case):
    rgb, sar = inputs(cases, case, tiny.bands)
    features = tiny.model.forward_features(rgb, sar)
    assert farthest(tiny.model.head(features), cases[f"{case}/decode_logits_lowres"]) <= 1e-4
    for level, feature in enumerate(features):
        if f"{case}/ffm{level}" in cases:
            assert farthest(feature, cases[f"{case}/ffm{level}"]) <= 1e-5
    if f"{case}/aux_logits_lowres" in cases:
        auxiliary = tiny.model.auxiliary(features[2])
        assert farthest(auxiliary, cases[f"{case}/aux_logits_lowres"]) <= 1e-4
    logits = tiny.model(rgb, sar)
    if f"{case}/seg_logits" in cases:
        assert farthest(logits, cases[f"{case}/seg_logits"]) <= 1e-4
    assert_same_classes(logits, cases[f"{case}/pred"])


def assert_same_classes(logits, expected):
    """Compare class ids where the best class leads by more than rounding."""
    best, second = logits.topk(2, 1).values.unbind(1)
    clear = best - second > 1e-3
    assert clear.float().mean() > 0.99
    assert torch.equal(logits.argmax(1)[clear], torch.from_numpy(expected)[clear].long())


@torch.no_grad()
def test_three_sar_bands_and_one_give_the_same(golden, tiny, cases):
    official = read_official(golden / "asanet_tiny" / "mmengine_runner.pth")
    three = convert_official(official, sar_channels=3)
    rgb, sar = inputs(cases, "b", tiny.bands)
    assert three.model.in_channels == (3, 3)
    assert len(three.bands.sar) == 3
    torch.testing.assert_close(three.model(rgb, sar.repeat(1, 3, 1, 1)), tiny.model(rgb, sar), atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_wrong_channel_order_shows(golden, tiny, cases):
    official = read_official(golden / "asanet_tiny" / "mmengine_runner.pth")
    unswapped = convert_official(official, channel_order="rgb")
    rgb, sar = inputs(cases, "b", tiny.bands)
    assert farthest(unswapped.model(rgb, sar), cases["b/seg_logits"]) > 1


def test_file_to_map_gives_the_original_predictions(golden, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    convert(golden / "asanet_tiny" / "mmengine_runner.pth", tmp_path / "tiny.safetensors")
    checkpoint = load_checkpoint(tmp_path / "tiny.safetensors")
    folder = golden / "asanet_tiny" / "e2e"
    labels, predictions = [], []
    for name in (folder / "val.txt").read_text().split():
        read = {}
        for kind, suffix in (("rgb", "tif"), ("sar", "tif"), ("label", "tif"), ("pred", "png")):
            with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
                dataset = rasterio.open(folder / kind / f"{name}.{suffix}")
            with dataset:
                read[kind] = dataset.read()
        rgb = normalise(read["rgb"], checkpoint.bands.rgb)[None]
        sar = normalise(read["sar"], checkpoint.bands.sar)[None]
        with torch.no_grad():
            logits = checkpoint.model(rgb, sar)
        assert_same_classes(logits, read["pred"])
        labels.append(read["label"].ravel())
        predictions.append(logits.argmax(1).numpy().ravel())
    label, prediction = np.concatenate(labels), np.concatenate(predictions)
    valid = label != 255
    accuracy = 100 * (label == prediction)[valid].mean()
    recorded = json.loads((folder / "metric.json").read_text())
    assert accuracy == pytest.approx(recorded["aAcc"], abs=0.011)


@torch.no_grad()
def test_full_size_network_gives_the_original_logits(golden, full):
    with np.load(golden / "full" / "inputs_256x256.npz") as arrays:
        rgb, sar = (torch.from_numpy(arrays[key]).float() for key in ("rgb", "sar"))
    with np.load(golden / "full" / "asanet.npz") as arrays:
        recorded = {key: arrays[key] for key in arrays.files if not key.startswith("bn:")}
    features = full.forward_features(rgb, sar)
    for key in recorded:
        if match := re.fullmatch(r"tap:backbone\.(\d)", key):
            ours = features[int(match[1])]
            # Recorded in half precision.
            torch.testing.assert_close(ours, torch.from_numpy(recorded[key]).float(), atol=1e-5, rtol=2e-3)
    assert farthest(full.head(features), recorded["logits"]) <= 2e-4


def test_parameters_and_operations_of_the_paper(full):
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in full.named_children()}
    assert sum(counted.values()) == 82_904_764
    assert (sum(counted.values()) - counted["auxiliary"]) / 1e6 == pytest.approx(82.46, abs=0.005)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        full(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256))
    assert counter.get_total_flops() / 2e9 == pytest.approx(25.85, abs=0.01)


@pytest.mark.slow
def test_initial_weights_are_distributed_as_the_original_ones(golden):
    recorded = json.loads((golden / "training" / "asanet_init_stats.json").read_text())["stats"]
    torch.manual_seed(0)
    state = create_model("asanet", 6, (3, 3)).state_dict()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    weights = {key for key in state if not key.endswith(statistics)}
    assert weights <= {rename_asanet(key) for key in recorded} <= set(state)
    for key, (mean, std, _, shape) in recorded.items():
        tensor = state[rename_asanet(key)].double()
        assert list(tensor.shape) == shape, key
        if std == 0:
            assert torch.equal(tensor, torch.full_like(tensor, mean)), key
            continue
        n = tensor.numel()
        assert float(tensor.mean()) == pytest.approx(mean, abs=6 * std * (2 / n) ** 0.5), key
        assert float(tensor.std()) == pytest.approx(std, rel=0.01 + 6 / n**0.5), key


def test_drop_path_grows_as_in_the_original(golden, full):
    recorded = json.loads((golden / "training" / "asanet_drop_path.json").read_text())
    modules = dict(full.named_modules())
    for key, rate in recorded.items():
        assert modules[rename_asanet(key + ".").removesuffix(".")].drop_prob == pytest.approx(rate, abs=1e-6), key
    ours = [name for name, m in modules.items() if getattr(m, "drop_prob", 0)]
    assert len(ours) == len(recorded)


def test_first_training_step_has_the_original_loss_and_gradient(golden):
    """Training mode: batch statistics, both heads, and the way back through every part."""
    recorded = json.loads((golden / "training" / "train_steps.json").read_text())["log"][0]
    official = read_official(golden / "asanet_tiny" / "mmengine_runner.pth")
    # Three SAR channels as in the original: one summed kernel has another gradient.
    converted = convert_official(official, sar_channels=3)
    without_chance = {**converted.model.architecture.arguments, "drop_path": 0.0, "dropout": 0.0}
    model = create_model("asanet", **without_chance)
    model.load_state_dict(converted.model.state_dict())
    with np.load(golden / "training" / "train_steps.npz") as arrays:
        rgb = normalise(arrays["it0/rgb"].transpose(0, 3, 1, 2), converted.bands.rgb)
        sar = normalise(arrays["it0/sar"][:, None].repeat(3, 1), converted.bands.sar)
        label = torch.from_numpy(arrays["it0/label"]).long()
    logits, auxiliary = model.double()(rgb.double(), sar.double())
    losses = [nn.functional.cross_entropy(x, label, ignore_index=255) for x in (logits, auxiliary)]
    assert losses[0].item() == pytest.approx(recorded["decode.loss_ce"], abs=2e-5)
    assert 0.4 * losses[1].item() == pytest.approx(recorded["aux.loss_ce"], abs=2e-5)
    (losses[0] + 0.4 * losses[1]).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
    assert norm == pytest.approx(recorded["grad_norm"], rel=1e-4)


def load_unit(module, weights, name, theirs="", ours="", rename=rename_asanet):
    """Load a unit's recorded weights; ``theirs`` and ``ours`` are where it sits in the whole network."""
    keys = {key: rename(theirs + key.removeprefix(f"{name}/")) for key in weights if key.startswith(f"{name}/")}
    assert all(renamed.startswith(ours) for renamed in keys.values())
    module.load_state_dict({renamed.removeprefix(ours): weights[key] for key, renamed in keys.items()})
    return module.eval()


@pytest.mark.parametrize(("name", "channels"), [("sfm", 24), ("sfm_wide", 640)])
@torch.no_grad()
def test_semantic_focusing(units, name, channels):
    data, weights = units
    module = load_unit(SemanticFocusing(channels), weights, name, "backbone.FRMs.0.", "focusing.0.")
    for i, out in enumerate(module(data[f"{name}/in0"], data[f"{name}/in1"])):
        torch.testing.assert_close(out, data[f"{name}/out{i}"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cascade_fusion(units):
    data, weights = units
    module = load_unit(CascadeFusion(12), weights, "cfm", "backbone.FFMs.0.", "fusion.0.")
    torch.testing.assert_close(module(data["cfm/in0"], data["cfm/in1"]), data["cfm/out0"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp_1x1", "mlp_map"])
@torch.no_grad()
def test_channel_gate(units, name):
    data, weights = units
    module = load_unit(ChannelGate(8), weights, name, "backbone.FFMs.0.mlp1.", "fusion.0.gate_rgb.")
    torch.testing.assert_close(module(data[f"{name}/in0"]), data[f"{name}/out0"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_sum_fusion(units):
    data, _ = units
    torch.testing.assert_close(SumFusion()(data["simple_sum/in0"], data["simple_sum/in1"]), data["simple_sum/out0"])


@torch.no_grad()
def test_encoder_parts(units):
    data, weights = units
    trunk = build_trunk({"depths": [1, 1, 1, 1], "dims": [12, 12, 12, 12]}, 3)
    place = ("backbone.backbone.stages.0.0.", "rgb_encoder.stages.0.blocks.0.")
    block = load_unit(trunk.stages[0].blocks[0], weights, "convnextv2_block", *place)
    torch.testing.assert_close(block(data["convnextv2_block/in0"]), data["convnextv2_block/out0"], atol=1e-5, rtol=1e-5)
    norm = load_unit(trunk.stem[1], weights, "ln2d_small", rename=str)
    torch.testing.assert_close(norm(data["ln2d_small/in0"]), data["ln2d_small/out0"], atol=1e-5, rtol=1e-5)
    names = {"gamma": "weight", "beta": "bias"}
    for name in ("grn", "grn_small"):
        grn: nn.Module = type(block.mlp.grn)(12, channels_last=False)
        load_unit(grn, weights, name, rename=names.__getitem__)
        torch.testing.assert_close(grn(data[f"{name}/in0"]), data[f"{name}/out0"], atol=1e-6, rtol=1e-5)
