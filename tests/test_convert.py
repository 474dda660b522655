"""``geoasanet convert``: official checkpoints become ours, with the original's numbers, on made-up files."""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict

import pytest
import torch
from click.testing import CliRunner

from geoasanet.classes import ClassSchema
from geoasanet.cli.convert import command
from geoasanet.errors import CheckpointError, ClassSchemaError, ConfigError, OutputExistsError
from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.models.convert import _fill
from geoasanet.models.layouts import LAYOUTS, name_encoder, rename_asanet
from geoasanet.models.official import parse_config
from geoasanet.models.registry import create_model, model_names
from geoasanet.tools.convert import convert

MEAN = (10.0, 20.0, 30.0, 40.0, 40.0, 40.0)
STD = (1.0, 2.0, 3.0, 4.0, 4.0, 4.0)
NAMES = ("ice", "moss", "rock", "sea")
PALETTE = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
CONFIG = """
crop_size = (128, 128)
data_preprocessor = dict(mean=[0.0], std=[1.0])
model = dict(
    backbone=dict(backbone=dict(drop_path_rate=0.2), type='ASANet'),
    data_preprocessor=dict(
        bgr_to_rgb=False,
        mean=[{mean}],
        size=(64, 64),
        std=[{std}],
        type='RGBXDataPreProcessor'))
dataset_type = 'PolarOptSarDataset'
"""


def config(mean=MEAN, std=STD):
    return CONFIG.format(mean=", ".join(map(str, mean)), std=", ".join(map(str, std)))


def official_names(model):
    """Name a network's weights as the original code does, by undoing the renaming one candidate at a time."""
    state = model.state_dict()
    candidates = []
    for i, depth in enumerate((1, 1, 2, 1)):
        for branch in ("backbone.backbone.", "backbone.backbone2."):
            downsample = [f"downsample_layers.{i}.{j}" for j in (0, 1)]
            blocks = [
                f"stages.{i}.{j}.{part}"
                for j in range(depth)
                for part in ("depthwise_conv", "norm", "pointwise_conv1", "pointwise_conv2")
            ]
            candidates += [f"{branch}{name}" for name in (*downsample, *blocks, f"norm{i}")]
            candidates += [f"{branch}stages.{i}.{j}.grn" for j in range(depth)]
        candidates += [f"backbone.FRMs.{i}.sconv.{j}" for j in (0, 2)]
        candidates += [f"backbone.FFMs.{i}.{part}" for part in ("catconv1", "catconv2", "fc1", "fc2")]
        for mlp in ("mlp1", "mlp2"):
            parts = ("fc1.conv", "fc1.bn", "dwconv.conv", "fc2.conv", "fc2.bn")
            candidates += [f"backbone.FFMs.{i}.{mlp}.{part}" for part in parts]
        candidates += [f"decode_head.psp_modules.{i}.1.{part}" for part in ("conv", "bn")]
    for i in range(3):
        for level in ("lateral_convs", "fpn_convs"):
            candidates += [f"decode_head.{level}.{i}.{part}" for part in ("conv", "bn")]
    for pair in ("decode_head.bottleneck", "decode_head.fpn_bottleneck", "auxiliary_head.convs.0"):
        candidates += [f"{pair}.{part}" for part in ("conv", "bn")]
    candidates += ["decode_head.conv_seg", "auxiliary_head.conv_seg"]
    endings = ("weight", "bias", "gamma", "beta", "running_mean", "running_var", "num_batches_tracked")
    named = OrderedDict()
    for candidate in candidates:
        for ending in endings:
            ours = rename_asanet(f"{candidate}.{ending}")
            if ours in state:
                named[f"{candidate}.{ending}"] = state[ours]
    assert len(named) == len(state)
    return named


@pytest.fixture(scope="module")
def original():
    """A network that takes blue, green, red and three SAR channels, as the original does."""
    torch.manual_seed(3)
    model = create_model(
        "asanet",
        4,
        (3, 3),
        {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]},
        decoder_channels=8,
        auxiliary_channels=4,
    )
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=0.2)
    return model.eval()


@pytest.fixture
def make_official(tmp_path, original):
    def make(model=original, cfg=None, classes=NAMES, palette=PALETTE, **changes):
        content = {
            "meta": {
                "cfg": config() if cfg is None else cfg,
                "dataset_meta": {"classes": classes, "palette": palette},
                "iter": 80_000,
            },
            "state_dict": official_names(model),
            "message_hub": {},
        }
        path = tmp_path / "official.pth"
        torch.save({**content, **changes}, path)
        return path

    return make


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(0)
    rgb, sar = (torch.randint(0, 256, (1, c, 64, 96), generator=generator).float() for c in (3, 1))
    return rgb, sar


def normalise(image, mean, std):
    return (image - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def original_logits(model, pixels, mean=MEAN, std=STD):
    rgb, sar = pixels
    six = normalise(torch.cat([rgb.flip(1), sar.expand(-1, 3, -1, -1)], 1), mean, std)
    with torch.no_grad():
        return model(six[:, :3], six[:, 3:])


def our_logits(checkpoint, pixels):
    rgb, sar = pixels
    bands = checkpoint.bands
    sar = sar.expand(-1, len(bands.sar), -1, -1)
    with torch.no_grad():
        return checkpoint.model(
            normalise(rgb, bands.rgb.mean, bands.rgb.std), normalise(sar, bands.sar.mean, bands.sar.std)
        )


@pytest.mark.parametrize("sar_channels", [1, 3])
def test_rgb_and_one_sar_band_give_the_original_logits(tmp_path, make_official, original, pixels, sar_channels):
    result = convert(make_official(), tmp_path / "out.safetensors", sar_channels=sar_channels)
    checkpoint = load_checkpoint(tmp_path / "out.safetensors")
    assert checkpoint.model.in_channels == (3, sar_channels)
    assert checkpoint.bands.rgb.mean == MEAN[2::-1]
    assert checkpoint.bands.rgb.std == STD[2::-1]
    assert checkpoint.bands.sar.mean == MEAN[3:][:sar_channels]
    torch.testing.assert_close(our_logits(checkpoint, pixels), original_logits(original, pixels), atol=1e-3, rtol=1e-4)
    assert result.warnings == ()
    assert result.tensors == len(original.state_dict())


def test_sar_channels_with_unequal_statistics_fold_exactly(tmp_path, make_official, original, pixels):
    mean, std = (*MEAN[:3], 40.0, 55.0, 70.0), (*STD[:3], 4.0, 8.0, 16.0)
    convert(make_official(cfg=config(mean, std)), tmp_path / "out.safetensors")
    checkpoint = load_checkpoint(tmp_path / "out.safetensors")
    assert (checkpoint.bands.sar.mean, checkpoint.bands.sar.std) == ((40.0,), (4.0,))
    torch.testing.assert_close(
        our_logits(checkpoint, pixels), original_logits(original, pixels, mean, std), atol=1e-3, rtol=1e-4
    )


def test_rgb_trained_originals_are_not_swapped(tmp_path, make_official):
    convert(make_official(), tmp_path / "out.safetensors", channel_order="rgb")
    assert load_checkpoint(tmp_path / "out.safetensors").bands.rgb.mean == MEAN[:3]


def test_everything_else_comes_from_the_file(tmp_path, make_official):
    result = convert(make_official(), tmp_path / "out.safetensors")
    checkpoint = load_checkpoint(result.path)
    assert checkpoint.classes.names == NAMES
    assert [list(color) for color in checkpoint.classes.colors] == PALETTE
    assert checkpoint.window_size == 64
    assert checkpoint.arguments["drop_path"] == 0.2
    assert checkpoint.arguments["encoder"] == {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]}
    assert checkpoint.training["iterations"] == 80_000
    assert checkpoint.training["dataset"] == "PolarOptSarDataset"
    assert checkpoint.training["converted_from"] == "official.pth"
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.training["converted_from_sha256"])


def test_the_loader_s_crop_decides_the_window(tmp_path, make_official):
    loader = "\ntrain_dataloader = dict(dataset=dict(pipeline=[dict(type='Load'), dict(crop_size=(96, 96))]))\n"
    assert convert(make_official(cfg=config() + loader), tmp_path / "a.safetensors").window_size == 96
    assert convert(make_official(), tmp_path / "b.safetensors", window=160).window_size == 160


@pytest.mark.parametrize(("sfm", "fusion"), [(False, "cfm"), (True, "sum"), (False, "sum")])
def test_ablations_are_recognised(tmp_path, sfm, fusion, original, pixels):
    arguments = {**original.architecture.arguments, "sfm": sfm, "fusion": fusion}
    ablated = create_model("asanet", **arguments).eval()
    state = OrderedDict(
        (key, ablated.state_dict()[rename_asanet(key)])
        for key in official_names(original)
        if rename_asanet(key) in ablated.state_dict()
    )
    path = tmp_path / "ablated.pth"
    torch.save({"state_dict": state, "meta": {"cfg": config(), "dataset_meta": {"classes": NAMES}}}, path)
    result = convert(path, tmp_path / "out.safetensors")
    assert (result.arguments["sfm"], result.arguments["fusion"]) == (sfm, fusion)
    torch.testing.assert_close(
        our_logits(load_checkpoint(result.path), pixels), original_logits(ablated, pixels), atol=1e-3, rtol=1e-4
    )


def test_encoders_are_named_where_timm_has_a_name():
    assert name_encoder([3, 3, 9, 3], [96, 192, 384, 768]) == "convnextv2_tiny"
    assert name_encoder([3, 3, 27, 3], [96, 192, 384, 768]) == "convnextv2_small"
    assert name_encoder((1, 1, 1, 1), (8, 8, 8, 8)) == {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}


def test_pointwise_matrices_fit_encoders_that_keep_them_as_convolutions(tmp_path):
    arguments = {"encoder": "convnextv2_atto", "decoder_channels": 8, "auxiliary_channels": 4}
    atto = create_model("asanet", 4, (3, 3), **arguments)
    official = {}
    for key, tensor in atto.state_dict().items():
        official[key] = tensor[:, :, 0, 0] if ".mlp.fc" in key and key.endswith("weight") else tensor
    other = create_model("asanet", 4, (3, 3), **arguments)
    _fill(other, official, None)
    assert all(torch.equal(a, b) for a, b in zip(atto.state_dict().values(), other.state_dict().values(), strict=True))


def test_bare_state_dicts_of_a_published_data_set_are_completed_with_a_warning(tmp_path, original):
    seven = create_model("asanet", **{**original.architecture.arguments, "num_classes": 7})
    path = tmp_path / "bare.pth"
    torch.save(OrderedDict(("module." + k, v) for k, v in official_names(seven).items()), path)
    result = convert(path, tmp_path / "out.safetensors")
    checkpoint = load_checkpoint(result.path)
    assert checkpoint.classes.names[:3] == ("farmland", "city", "village")
    assert checkpoint.bands.rgb.mean == (106.364, 98.217, 80.475)
    assert checkpoint.window_size == 512
    assert len(result.warnings) == 3
    assert all("WHU-OPT-SAR" in warning for warning in result.warnings)


def test_what_is_missing_and_unknown_must_be_given(tmp_path, make_official):
    bare = make_official(meta={})
    with pytest.raises(CheckpointError, match=r"names none of its 4 classes.*--classes"):
        convert(bare, tmp_path / "out.safetensors")
    schema = ClassSchema.from_names(["a", "b", "c", "d"])
    with pytest.raises(CheckpointError, match=r"no band mean.*6 values with --mean"):
        convert(bare, tmp_path / "out.safetensors", classes=schema)
    with pytest.raises(CheckpointError, match="takes 6 channels, but 4 values"):
        convert(bare, tmp_path / "out.safetensors", classes=schema, mean=MEAN[:4], std=STD)
    with pytest.raises(ConfigError, match="must be positive"):
        convert(bare, tmp_path / "out.safetensors", classes=schema, mean=MEAN, std=(0, *STD[1:]))
    result = convert(bare, tmp_path / "out.safetensors", classes=schema, mean=MEAN, std=STD)
    assert result.classes == schema
    assert result.window_size == 256


def test_options_that_contradict_the_file_are_refused(tmp_path, make_official):
    path, out = make_official(), tmp_path / "out.safetensors"
    with pytest.raises(ConfigError, match="4 classes, 5 were asked for"):
        convert(path, out, num_classes=5)
    with pytest.raises(CheckpointError, match="4 classes, but 2 are named: a, b"):
        convert(path, out, classes=ClassSchema.from_names(["a", "b"]))
    with pytest.raises(ConfigError, match="sar_channels"):
        convert(path, out, sar_channels=2)
    with pytest.raises(ConfigError, match="channel_order"):
        convert(path, out, channel_order="gbr")
    with pytest.raises(CheckpointError, match="'unet' cannot be converted"):
        convert(path, out, model="unet")
    assert not out.exists()
    assert convert(path, out, num_classes=4).path == out


def test_other_networks_are_refused_by_what_is_missing(tmp_path, make_official, original):
    weights = official_names(original)
    without_sar = {k: v for k, v in weights.items() if "backbone2" not in k}
    with pytest.raises(CheckpointError, match=r"no official asanet.*backbone\.backbone2\.downsample_layers"):
        convert(make_official(state_dict=without_sar), tmp_path / "out.safetensors")
    lacking = {k: v for k, v in weights.items() if k != "decode_head.bottleneck.bn.bias"}
    with pytest.raises(CheckpointError, match=r"head\.decoder\.psp\.out_conv\.1\.bias is missing"):
        convert(make_official(state_dict=lacking), tmp_path / "out.safetensors")
    more = {**weights, "backbone.extra.weight": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"extra.*is unknown"):
        convert(make_official(state_dict=more), tmp_path / "out.safetensors")
    shaped = {**weights, "decode_head.bottleneck.bn.bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"shape \[3\], not \[8\]"):
        convert(make_official(state_dict=shaped), tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match="holds no weights"):
        convert(make_official(state_dict={}), tmp_path / "out.safetensors")


def test_existing_outputs_are_kept_unless_asked(tmp_path, make_official):
    path, out = make_official(), tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        convert(path, out)
    assert out.read_text() == "mine"
    convert(path, out, overwrite=True)
    assert load_checkpoint(out).name == "asanet"
    with pytest.raises(ConfigError, match="also an input"):
        convert(path, path, overwrite=True)


class Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_nothing_in_the_file_is_executed(tmp_path, make_official, original, pixels):
    sentinel = tmp_path / "executed"
    attack = Calls(os.system, f"touch {sentinel}")
    code = f"__import__('os').system('touch {sentinel}')"
    weights = official_names(original)
    weights["backbone.FRMs.9"] = attack
    hostile = config() + f"\nx = {code}\nmodel['y'] = {code}\n{code}\n"
    meta = {
        "cfg": hostile,
        "hook": attack,
        "dataset_meta": {"classes": NAMES, "palette": Calls(eval, code)},
    }
    path = make_official(state_dict=weights, meta=meta, message_hub=attack, optimizer=[attack])
    result = convert(path, tmp_path / "out.safetensors")
    assert not sentinel.exists()
    torch.testing.assert_close(
        our_logits(load_checkpoint(result.path), pixels), original_logits(original, pixels), atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 3", {"a": 3}),
        ("a = dict(b=[1, -2.5, (3,)], c='x', **d)", {"a": {"b": [1, -2.5, [3]], "c": "x"}}),
        ("a = {'b': 1, 2: 3}", {"a": {"b": 1}}),
        ("a = f(1)\nb = a.b\nc = [x, 1]\nd = -'x'", {"a": None, "b": None, "c": [None, 1], "d": None}),
        ("import os\nos.system('x')\nfor i in 1, 2: a = i", {}),
        ("a = = 3", {}),
        ("a = " + "(" * 5000, {}),
        ("a = " + "-" * 100_000 + "1", {}),
        (None, {}),
        (b"a = 3", {}),
    ],
)
def test_configurations_are_parsed_as_literals(text, expected):
    assert parse_config(text) == expected


def test_every_layout_belongs_to_a_network():
    assert set(LAYOUTS) <= set(model_names())


def test_command_writes_and_reports(tmp_path, make_official):
    path, out = make_official(), tmp_path / "out.safetensors"
    run = CliRunner().invoke(command, [str(path), "-o", str(out)], catch_exceptions=False)
    assert run.exit_code == 0
    assert "out.safetensors" in run.output and "asanet (depths" in run.output
    assert "window 64 px" in run.output and "ice, moss, rock, sea" in run.output
    run = CliRunner().invoke(
        command, [str(path), "-o", str(out), "--overwrite", "--sar-channels", "3", "--json"], catch_exceptions=False
    )
    report = json.loads(run.stdout)
    assert report["path"] == str(out)
    assert report["arguments"]["in_channels"] == [3, 3]
    assert load_checkpoint(out).model.in_channels == (3, 3)


def test_command_takes_classes_and_statistics(tmp_path, make_official):
    schema = tmp_path / "schema.yaml"
    schema.write_text("classes:\n  - {id: 0, name: a, color: [9, 9, 9]}\n  - b\n  - c\n  - d\n")
    out = tmp_path / "out.safetensors"
    arguments = [str(make_official(meta={})), "-o", str(out), "--classes", str(schema), "--window", "96"]
    arguments += ["--mean", "1,2,3,4,4,4", "--std", "1,1,2,5,5,5", "--num-classes", "4", "--channel-order", "rgb"]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    checkpoint = load_checkpoint(out)
    assert checkpoint.classes.names == ("a", "b", "c", "d")
    assert checkpoint.classes.colors[0] == (9, 9, 9)
    assert checkpoint.bands.rgb.mean == (1.0, 2.0, 3.0)
    assert checkpoint.window_size == 96


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, ClassSchemaError), ("classes: 3", ClassSchemaError), ("a: [", ClassSchemaError), ("3", ClassSchemaError)],
)
def test_unusable_class_schemas_are_named(tmp_path, make_official, content, error):
    schema = tmp_path / "schema.yaml"
    if content is not None:
        schema.write_text(content)
    out = tmp_path / "out.safetensors"
    run = CliRunner().invoke(command, [str(make_official()), "-o", str(out), "--classes", str(schema)])
    assert isinstance(run.exception, error)
    assert "schema.yaml" in str(run.exception)


def test_command_refuses_words_for_numbers(tmp_path, make_official):
    run = CliRunner().invoke(command, [str(make_official()), "-o", str(tmp_path / "o"), "--mean", "one,two"])
    assert isinstance(run.exception, ConfigError)


def test_command_loads_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, geoasanet.cli.convert; print({'torch', 'yaml', 'numpy', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
