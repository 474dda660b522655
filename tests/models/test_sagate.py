"""SA-Gate in both variants against the original codes, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.errors import CheckpointError, ModelError
from geoasanet.models import sagate
from geoasanet.models.convert import convert_official
from geoasanet.models.layouts import layout_of
from geoasanet.models.registry import create_model
from geoasanet.models.sagate import SeparationAggregationGate
from tests.models.originals import Recorded, check_conversion, load_reference, original_names, relative_difference
from tests.models.tester import NetworkTester, build

SMALL = {
    "encoder": {"depths": [1, 1, 2, 2], "dims": [8, 8, 8, 16]},
    "decoder_channels": 8,
    "auxiliary_channels": 4,
}
OFFICIAL = {**SMALL, "variant": "official"}


class TestSAGate(NetworkTester):
    name = "sagate"
    arguments = SMALL


class TestOfficial(NetworkTester):
    name = "sagate"
    arguments = OFFICIAL


@pytest.mark.slow
@pytest.mark.parametrize(("name", "recorded"), [("sagate", "logits"), ("sagate_official", "logits_1_4")])
@torch.no_grad()
def test_full_size_network_gives_the_original_logits(golden, golden_weights, name, recorded):
    reference = load_reference(golden, golden_weights, name)
    model = reference.model.double()
    assert sum(p.numel() for p in model.parameters()) == reference.parameters
    expected = reference.arrays[recorded]

    def logits(rgb: torch.Tensor, sar: torch.Tensor) -> torch.Tensor:
        if recorded == "logits":
            return model.head(model.forward_features(rgb, sar)) / expected.std()
        return model(rgb, sar)[..., 1::4, 1::4] / expected.std()

    images = reference.rgb.double(), reference.sar.double()
    exact = logits(*images)
    difference = exact - expected / expected.std()
    assert difference.abs().max() <= 2e-3
    # Through a hundred layers of these random weights, rounding grows a thousandfold. The reference was recorded in
    # single precision: it lies as far from the exact result as a few roundings of the images alone would put it, and
    # single precision here lies as far on another side. Single precision is compared part by part below.
    generator = torch.Generator().manual_seed(0)
    rounding = torch.finfo(torch.float32).eps / 2
    rounded = (x * (1 + rounding * torch.randn(x.shape, generator=generator)) for x in images)
    moved = (logits(*rounded) - exact).square().mean().sqrt()
    assert moved >= 100 * rounding
    assert difference.square().mean().sqrt() <= 10 * moved


@pytest.mark.parametrize(
    ("variant", "parameters", "operations"), [("table", 121.25, 46.17), ("official", 101.41, 38.63)]
)
def test_parameters_and_operations_of_the_paper(variant, parameters, operations):
    with torch.device("meta"), torch.no_grad():
        model = create_model("sagate", 6, (3, 3), variant=variant).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256))
        with FlopCounterMode(display=False) as auxiliary:
            model.auxiliary(torch.zeros(1, 2048, 16, 16))
    counted = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("auxiliary"))
    assert counted / 1e6 == pytest.approx(parameters, abs=0.005)
    assert counter.get_total_flops() / 2e9 == pytest.approx(operations, abs=0.01)
    if variant == "official":  # published with the auxiliary head
        total = counter.get_total_flops() + auxiliary.get_total_flops()
        assert total / 2e9 == pytest.approx(41.05, abs=0.01)


@pytest.mark.parametrize(("name", "arguments"), [("sagate", SMALL), ("sagate_official", OFFICIAL)])
def test_a_file_of_the_original_code_is_converted(golden, tmp_path, name, arguments):
    check_conversion(golden, tmp_path, name, build("sagate", in_channels=(3, 3), **arguments).eval())


def test_sar_bands_that_differ_cannot_be_summed(golden, schema):
    model = build("sagate", in_channels=(3, 3), **SMALL)
    weights = original_names(golden, "sagate", model)
    for means, fits in (((5.0, 5.0, 5.0), True), ((5.0, 5.0, 6.0), False)):
        official = Recorded(weights, schema, (0.0, 0.0, 0.0, *means), (1.0,) * 6)
        if fits:
            assert convert_official(official, model="sagate").model.in_channels == (3, 1)
        else:
            with pytest.raises(CheckpointError, match="differ in mean"):
                convert_official(official, model="sagate")
        assert convert_official(official, model="sagate", sar_channels=3).model.in_channels == (3, 3)


def test_both_streams_share_their_shortcuts():
    model = build("sagate", **SMALL)
    names = dict(model.named_parameters(remove_duplicate=False))
    tied = set(names) - set(dict(model.named_parameters()))
    assert len(tied) == 12
    for name in tied:
        twin = name.replace("sar_encoder", "rgb_encoder")
        assert ".downsample." in name
        assert names[name].data_ptr() == names[twin].data_ptr()
    assert model.rgb_encoder.layers[0][0].downsample is model.sar_encoder.layers[0][0].downsample


def test_shortcuts_stay_shared_in_a_copy_from_disk(tmp_path, schema, bands):
    from geoasanet.models.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "a.safetensors", build("sagate", **SMALL), classes=schema, bands=bands, window_size=64)
    model = load_checkpoint(tmp_path / "a.safetensors").model
    for ours, theirs in zip(model.rgb_encoder.layers, model.sar_encoder.layers, strict=True):
        assert ours[0].downsample[0].weight is theirs[0].downsample[0].weight


def load_unit(module, golden, name, prefix):
    """Return a module with a unit's recorded weights, its inputs and outputs."""
    with np.load(golden / "asanet_tiny" / "units.npz") as arrays:
        data = {key: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith(f"{name}/")}
    weights = torch.load(golden / "asanet_tiny" / "units.pth", weights_only=True)["state_dict"]
    rename = layout_of("sagate").rename
    theirs, ours = prefix
    renamed = {
        rename(theirs + key.removeprefix(f"{name}/")): tensor
        for key, tensor in weights.items()
        if key.startswith(f"{name}/")
    }
    module.load_state_dict({key.removeprefix(ours): tensor for key, tensor in renamed.items() if key.startswith(ours)})
    return module.eval(), data


@torch.no_grad()
def test_gate_of_the_original(golden):
    module, data = load_unit(SeparationAggregationGate(32), golden, "sagate", ("backbone.sagates.0.", "fusion.0."))
    rgb, sar = data["sagate/in0"], data["sagate/in1"]
    merged = module(rgb, sar)
    found = [((rgb + merged) / 2).relu(), ((sar + merged) / 2).relu(), merged]
    outputs = [data[f"sagate/out{i}"] for i in range(3)]
    for ours in found:
        assert min(float((ours - theirs).abs().max()) for theirs in outputs) <= 1e-6


@torch.no_grad()
def test_pyramid_of_the_original(golden, monkeypatch):
    monkeypatch.setattr(sagate, "DILATIONS", (2, 3, 4))  # as recorded; on a map of 9 x 8 the usual ones see padding
    places = ("decode_head.aspp.", "head.pyramid.")
    module, data = load_unit(sagate.DilatedPyramid(16, 8), golden, "sa_aspp", places)
    assert relative_difference(module(data["sa_aspp/in0"]), data["sa_aspp/out0"]) <= 1e-5


@torch.no_grad()
def test_head_of_the_original(golden, monkeypatch):
    monkeypatch.setattr(sagate, "FINE_CHANNELS", 4)
    head = sagate.DeepLabHead(8, 32, 16, 6, 0.1, align_corners=False)
    module, data = load_unit(head, golden, "sa_head", ("decode_head.", "head."))
    logits = module([data[f"sa_head/in{i}"] for i in range(4)])
    assert relative_difference(logits, data["sa_head/out0"]) <= 1e-5


@pytest.mark.parametrize(("stream", "prefix"), [(0, "rgb_encoder.trunk.layer1.0."), (1, "sar_encoder.trunk.layer1.0.")])
@torch.no_grad()
def test_blocks_of_the_original(golden, stream, prefix):
    from timm.models.resnet import Bottleneck

    places = ("backbone.layer1.0.", prefix)
    module, data = load_unit(Bottleneck(16, 4), golden, "sa_bottleneck", places)
    out = module(data[f"sa_bottleneck/in{stream}"].clone())
    torch.testing.assert_close(out, data[f"sa_bottleneck/out{stream}"], atol=1e-5, rtol=1e-5)


def test_a_training_batch_of_one_is_refused_with_advice(images):
    with pytest.raises(ModelError, match="batch size of at least 2"):
        build("sagate", **SMALL)(*images(1))


def test_gates_share_every_pixel_between_the_sensors():
    module = SeparationAggregationGate(6)
    ones = torch.ones(2, 6, 4, 3)
    torch.testing.assert_close(module(ones, ones), ones)


def test_the_last_stage_of_the_official_variant_is_dilated(images):
    table, official = (build("sagate", **arguments).eval() for arguments in (SMALL, OFFICIAL))
    assert table.forward_features(*images(1))[-1].shape[2:] == (2, 3)
    assert official.forward_features(*images(1))[-1].shape[2:] == (4, 6)


def test_encoders_start_from_a_file_of_imagenet_weights(tmp_path):
    path = tmp_path / "resnet.safetensors"
    published = build("sagate", **SMALL).rgb_encoder.trunk
    save_file(published.state_dict(), path)
    model = create_model("sagate", 3, encoder_weights=path, **SMALL)
    for key, tensor in published.state_dict().items():
        assert torch.equal(model.rgb_encoder.trunk.state_dict()[key], tensor)
    torch.testing.assert_close(model.sar_encoder.trunk.conv1[0].weight[:, 0], published.conv1[0].weight.sum(1))
    assert torch.equal(model.sar_encoder.trunk.layer2[0].conv2.weight, published.layer2[0].conv2.weight)
    deeper = {"depths": [1, 1, 2, 3], "dims": SMALL["encoder"]["dims"]}
    with pytest.raises(CheckpointError, match=r"they have no trunk\.layer4\.2"):
        create_model("sagate", 3, encoder_weights=path, **{**SMALL, "encoder": deeper})


def test_the_deep_stem_is_the_one_with_published_weights():
    repository = build("sagate", **SMALL).rgb_encoder.repository("resnet101s")
    assert repository == "timm/resnet101s.gluon_in1k"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "paper"}, "variant must be one of table, official"),
        ({"encoder": "resnet101"}, "'resnet101' is unknown.*resnet101s"),
        ({"decoder_channels": 0}, "decoder_channels"),
        ({"dropout": 2}, "dropout"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        create_model("sagate", 3, **arguments)
