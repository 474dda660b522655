from __future__ import annotations

import hashlib
import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.errors import CheckpointError, ModelError, OutputError
from geoasanet.models.checkpoint import load_checkpoint, read_checkpoint_header, save_checkpoint
from geoasanet.models.header import METADATA_KEY


@pytest.fixture
def model(make_tiny):
    return make_tiny()


@pytest.fixture
def path(tmp_path, model, schema, bands):
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, model, classes=schema, bands=bands, window_size=64, training={"data": "made up", "mIoU": 0.5})
    return file


def rewrite(path, *, description=None, header=None, tensors=None, body=None):
    """Change parts of a checkpoint; callables receive what is there and give what shall be."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    listing, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    if description is not None:
        old = json.loads(listing["__metadata__"][METADATA_KEY])
        listing["__metadata__"][METADATA_KEY] = json.dumps(description(old))
    if tensors is not None:
        save_file(tensors(load_file(path)), path, listing["__metadata__"])
        return
    if header is not None:
        listing = header(listing)
    encoded = json.dumps(listing).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + (rest if body is None else body(rest)))


def test_round_trip_is_bit_equal(path, model, images, schema, bands):
    checkpoint = load_checkpoint(path)
    saved, loaded = model.state_dict(), checkpoint.model.state_dict()
    assert list(saved) == list(loaded)
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    assert all(p.requires_grad for p in checkpoint.model.parameters())
    assert not checkpoint.model.training
    with torch.no_grad():
        assert torch.equal(checkpoint.model(*images()), model.eval()(*images()))
    assert checkpoint.classes == schema
    assert checkpoint.bands == bands
    assert checkpoint.window_size == 64
    assert checkpoint.name == "asanet"
    assert dict(checkpoint.arguments) == model.architecture.arguments
    assert dict(checkpoint.training) == {"data": "made up", "mIoU": 0.5}
    assert checkpoint.version == ga.__version__
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.path == path


def test_half_precision_halves_the_file_and_loads_as_single(path, tmp_path, model, schema, bands):
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, model, classes=schema, bands=bands, window_size=64, dtype="fp16")
    assert half.stat().st_size < 0.65 * path.stat().st_size
    assert read_checkpoint_header(half).dtypes == ("F16", "I64")
    loaded = load_checkpoint(half).model.state_dict()
    for key, tensor in model.state_dict().items():
        assert loaded[key].dtype == tensor.dtype
        assert torch.equal(loaded[key], tensor.half().to(tensor.dtype) if tensor.is_floating_point() else tensor)


def test_half_precision_refuses_what_it_cannot_hold(path, tmp_path, model, schema, bands):
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = 1e6
    target = tmp_path / "half.safetensors"
    with pytest.raises(CheckpointError, match="fp16 cannot hold"):
        save_checkpoint(target, model, classes=schema, bands=bands, window_size=64, dtype="fp16")
    assert not target.exists()


def test_header_is_read_without_the_weights(path, model, schema):
    header = read_checkpoint_header(path)
    assert (header.name, header.classes, header.window_size) == ("asanet", schema, 64)
    assert header.parameters == sum(t.numel() for t in model.state_dict().values())
    json.dumps(header.to_dict())


def test_a_loaded_network_outlives_its_file(path, images):
    checkpoint = load_checkpoint(path)
    before = checkpoint.model(*images())
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(checkpoint.model(*images()), before)


def test_loaded_network_can_be_saved_again(path, tmp_path):
    first = load_checkpoint(path)
    again = tmp_path / "again.safetensors"
    save_checkpoint(
        again,
        first.model,
        classes=first.classes,
        bands=first.bands,
        window_size=first.window_size,
        training=first.training,
    )
    assert again.read_bytes() == path.read_bytes()


def test_wrapped_networks_are_unwrapped(path, tmp_path, model, schema, bands):
    wrapped = nn.DataParallel(model)
    save_checkpoint(tmp_path / "w.safetensors", wrapped, classes=schema, bands=bands, window_size=64)
    assert load_checkpoint(tmp_path / "w.safetensors").name == "asanet"


def test_a_network_from_elsewhere_is_refused(tmp_path, schema, bands):
    with pytest.raises(ModelError, match="create_model"):
        save_checkpoint(tmp_path / "x", nn.Conv2d(3, 3, 1), classes=schema, bands=bands, window_size=64)


def test_classes_and_bands_must_fit_the_network(tmp_path, model, schema, bands):
    target = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="3 classes, the class schema 2"):
        save_checkpoint(target, model, classes=ga.ClassSchema.from_names(["a", "b"]), bands=bands, window_size=64)
    two = InputBands(bands.rgb, SensorBands((0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(CheckpointError, match=r"\[3, 1\].*\[3, 2\]"):
        save_checkpoint(target, model, classes=schema, bands=two, window_size=64)
    assert not target.exists()


def test_diverged_weights_are_not_written(path, model, schema, bands):
    before = path.read_bytes()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"rgb_encoder\.stem\.0\.weight holds NaN"):
        save_checkpoint(path, model, classes=schema, bands=bands, window_size=64)
    assert path.read_bytes() == before


def test_unwritable_folder_is_named(tmp_path, model, schema, bands):
    with pytest.raises(OutputError, match="nowhere"):
        save_checkpoint(tmp_path / "nowhere" / "x.safetensors", model, classes=schema, bands=bands, window_size=64)


def refused(path, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert path.name in str(caught.value)
    assert caught.value.hint


def test_missing_file(tmp_path):
    refused(tmp_path / "nothing.safetensors", "does not exist")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 64, b"\xff" * 64, b'{"a": 1}' * 20])
def test_other_files(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    refused(path, "no safetensors file")


def test_pytorch_files_point_to_convert(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(3)}, path)
    refused(path, "geoasanet convert")


@pytest.mark.parametrize("keep", [4, 100, 0.5, -1])
def test_truncated_files(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(path, "cut short")


def test_bytes_too_many(path):
    path.write_bytes(path.read_bytes() + b"more")
    refused(path, "declares")


def test_plain_safetensors_from_elsewhere(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    refused(path, "without a geoasanet description: bare weights")


def test_unknown_format(path):
    rewrite(path, description=lambda d: {**d, "format": 99, "version": "9.9"})
    refused(path, r"format is 99.*geoasanet 9\.9")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": None},
        {"classes": {"classes": []}},
        {"bands": {"rgb": 3}},
        {"bands": []},
        {"window_size": "64"},
        {"window_size": 10**12},
        {"window_size": True},
        {"arguments": [1]},
        {"arguments": {}},
        {"training": 3},
    ],
)
def test_malformed_descriptions(path, change):
    rewrite(path, description=lambda d: {**d, **change})
    refused(path, "malformed")


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000])
def test_descriptions_that_are_no_object(path, text):
    rewrite(path, header=lambda h: {**h, "__metadata__": {METADATA_KEY: text}})
    refused(path, "malformed")


def test_more_classes_than_the_network_has(path):
    rewrite(
        path,
        description=lambda d: {**d, "classes": ga.ClassSchema.from_names(["a", "b"]).to_dict()},
    )
    refused(path, "3 classes, the class schema 2")


def test_other_bands_than_the_network_takes(path):
    def more(description):
        description["bands"]["sar"].update(mean=[0, 0], std=[1, 1], names=[])
        return description

    rewrite(path, description=more)
    refused(path, r"\[3, 1\].*\[3, 2\]")


def test_missing_unexpected_and_misshapen_tensors_are_named(path):
    original = path.read_bytes()
    name = "head.classifier.1.bias"
    rewrite(path, tensors=lambda t: {k: v for k, v in t.items() if k != name})
    refused(path, f"{name} is missing")
    path.write_bytes(original)
    rewrite(path, tensors=lambda t: {**t, "stranger": torch.zeros(2)})
    refused(path, "stranger is unexpected")
    path.write_bytes(original)
    rewrite(path, tensors=lambda t: {**t, name: torch.zeros(4)})
    refused(path, rf"{name} has shape \[4\], \[3\] is needed")


def test_weights_of_the_wrong_kind(path):
    name = "head.classifier.1.bias"
    rewrite(path, tensors=lambda t: {**t, name: torch.zeros(3, dtype=torch.int32)})
    refused(path, f"{name}.*int32.*float32 is needed")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(path, value):
    name = "head.classifier.1.bias"
    rewrite(path, tensors=lambda t: {**t, name: torch.full((3,), value)})
    refused(path, f"{name}.*NaN or infinity")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 60_000]}}, "has shape"),
        ({"encoder": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 10**9]}}, "cannot be built"),
        ({"encoder": {"depths": [1, 1, 10**9, 1], "dims": [8, 12, 16, 24]}}, "cannot be built"),
        ({"encoder": "convnextv2_huge"}, "is missing"),
        ({"encoder": "hf-hub:evil/model"}, "cannot be built"),
        ({"decoder_channels": 8000}, "has shape"),
        ({"encoder_weights": "/etc/passwd"}, "cannot be built"),
        ({"surprise": 1}, "cannot be built"),
    ],
)
def test_absurd_architectures_are_refused_before_anything_is_allocated(path, change, message):
    rewrite(path, description=lambda d: {**d, "arguments": {**d["arguments"], **change}})
    refused(path, message)


def test_unknown_network(path):
    rewrite(path, description=lambda d: {**d, "name": "os.system"})
    refused(path, "cannot be built.*'os.system' is unknown")


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [10**12]},
        {"shape": [-3]},
        {"shape": "3"},
        {"shape": [3.0]},
        {"data_offsets": [0, 10**15]},
        {"data_offsets": [12, 0]},
        {"data_offsets": [0]},
        {"dtype": "F4096"},
        {"dtype": None},
    ],
)
def test_hostile_tensor_entries(path, entry):
    name = "head.classifier.1.bias"
    rewrite(path, header=lambda h: {**h, name: {**h[name], **entry}})
    refused(path, "damaged|no safetensors")


def test_absurd_header_length(path):
    data = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**62) + data[8:])
    refused(path, "no safetensors file")


def test_overlapping_tensors(path):
    def overlap(header):
        first, second = (f"fusion.0.gate_{sensor}.reduce.1.running_mean" for sensor in ("rgb", "sar"))
        header[second]["data_offsets"] = header[first]["data_offsets"]
        return header

    rewrite(path, header=overlap)
    refused(path, "damaged")


def test_a_folder_is_no_checkpoint(tmp_path):
    refused(tmp_path, "no file")


def test_a_failed_save_leaves_what_was_there(path, tmp_path, model, schema, bands):
    kept = tmp_path / "kept"
    kept.mkdir()
    shutil.copy(path, kept)
    with pytest.raises(CheckpointError, match="not plain JSON"):
        save_checkpoint(
            kept / path.name, model, classes=schema, bands=bands, window_size=64, training={"x": float("nan")}
        )
    assert [p.name for p in kept.iterdir()] == [path.name]
    assert (kept / path.name).read_bytes() == path.read_bytes()
