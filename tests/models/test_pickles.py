"""Reading ``.pth`` files: right tensors, and nothing of the file is ever executed."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from geoasanet.errors import CheckpointError
from geoasanet.models.pickles import Inert, TensorNote, read_tensor_file


def tensors_of(path):
    file = read_tensor_file(path)
    return file.tensors(file.content)


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def write_archive(path, data, records=None, compression=zipfile.ZIP_STORED):
    """Write an archive as torch does, from a ready pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("net/data.pkl", data)
        for name, content in (records or {}).items():
            archive.writestr(f"net/data/{name}", content)
        archive.writestr("net/version", "3\n")


def opcodes(*parts):
    """Assemble a protocol-2 pickle by hand."""
    return pickle.PROTO + b"\x02" + b"".join(parts) + pickle.STOP


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def text(value):
    return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()


def number(value):
    return pickle.INT + f"{value}\n".encode()


def test_tensors_come_back_bit_equal(tmp_path):
    path = tmp_path / "net.pth"
    base = torch.randn(6, 8)
    state = OrderedDict(
        whole=base,
        transposed=base.t(),
        part=base[2:4, ::3],
        scalar=torch.tensor(7),
        empty=torch.zeros(0, 3),
        half=base.half(),
        brain=base.bfloat16(),
        double=base.double(),
        flags=base > 0,
        small=torch.arange(5, dtype=torch.uint8),
        parameter=nn.Parameter(base.clone()),
    )
    torch.save(state, path)
    loaded = tensors_of(path)
    assert list(loaded) == list(state)
    for key, tensor in state.items():
        assert loaded[key].dtype == tensor.dtype
        assert torch.equal(loaded[key], tensor.detach()), key


def test_module_state_and_plain_values(tmp_path):
    path = tmp_path / "net.pth"
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    meta = {"epoch": 3, "names": ("a", "b"), "rate": 0.5, "none": None}
    torch.save({"state_dict": module.state_dict(), "meta": meta}, path)
    file = read_tensor_file(path)
    assert file.content["meta"] == meta
    loaded = file.tensors(file.content["state_dict"])
    assert all(torch.equal(loaded[key], tensor) for key, tensor in module.state_dict().items())
    assert file.shapes(file.content["state_dict"])["0.weight"] == (4, 3, 3, 3)


def test_loaded_tensors_own_their_memory(tmp_path):
    path = tmp_path / "net.pth"
    shared = torch.zeros(4)
    torch.save({"a": shared, "b": shared}, path)
    loaded = tensors_of(path)
    loaded["a"].add_(1)
    assert torch.equal(loaded["b"], torch.zeros(4))


def attacks(sentinel):
    """Objects and pickles that would make the file ``sentinel`` if anything in them were executed."""
    command = f"touch {sentinel}"
    code = f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    yield "os.system", pickle.dumps(Calls(os.system, command), 2)
    yield "eval", pickle.dumps(Calls(eval, code), 2)
    yield "exec", pickle.dumps(Calls(exec, code), 2)
    yield "popen", pickle.dumps(Calls(subprocess.Popen, ["touch", str(sentinel)]), 2)
    yield "open", pickle.dumps(Calls(open, str(sentinel), "w"), 4)
    yield "nested in meta", pickle.dumps({"meta": {"cfg": Calls(os.system, command)}, "state_dict": {}}, 2)
    yield "in state_dict", pickle.dumps({"state_dict": OrderedDict(a=Calls(os.system, command))}, 2)
    yield "as key", pickle.dumps({"state_dict": {Calls(os.system, command): 1}}, 2)
    yield "protocol 5", pickle.dumps([Calls(os.system, command)], 5)
    # getattr(import_module("os"), "system")(command)
    chain = (
        name("__builtin__", "getattr")
        + name("importlib", "import_module")
        + text("os")
        + pickle.TUPLE1
        + pickle.REDUCE
        + text("system")
        + pickle.TUPLE2
        + pickle.REDUCE
        + text(command)
        + pickle.TUPLE1
        + pickle.REDUCE
    )
    yield "getattr chain", opcodes(chain)
    yield "old-style instance", opcodes(pickle.MARK, text(command), pickle.INST + b"os\nsystem\n")
    yield "old-style object", opcodes(pickle.MARK, name("posix", "system"), text(command), pickle.OBJ)
    yield "new object", opcodes(name("posix", "system"), text(command), pickle.TUPLE1, pickle.NEWOBJ)
    # Replace what a harmless constructor would do, then have it called.
    for module, attribute in (
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("collections", "OrderedDict"),
        ("torch", "FloatStorage"),
    ):
        swap = (
            name(module, attribute)
            + pickle.EMPTY_DICT
            + text("__call__")
            + name("os", "system")
            + pickle.SETITEM
            + pickle.BUILD
            + text(command)
            + pickle.TUPLE1
            + pickle.REDUCE
        )
        yield f"rewriting {attribute}", opcodes(swap)
    # A state whose attributes are set on whatever was built.
    yield (
        "through __setstate__",
        opcodes(
            name("collections", "OrderedDict"),
            pickle.EMPTY_TUPLE,
            pickle.REDUCE,
            pickle.NONE,
            pickle.EMPTY_DICT,
            text("__reduce__"),
            name("os", "system"),
            pickle.SETITEM,
            pickle.TUPLE2,
            pickle.BUILD,
        ),
    )
    yield (
        "import by dotted name",
        opcodes(text("os"), text("path.os.system"), pickle.STACK_GLOBAL, text(command), pickle.TUPLE1, pickle.REDUCE),
    )
    yield "extension registry", opcodes(pickle.EXT1 + b"\x01")


def attack_names():
    return [label for label, _ in attacks("unused")]


@pytest.mark.parametrize("which", attack_names())
def test_nothing_in_a_file_is_executed(tmp_path, which):
    sentinel = tmp_path / "executed"
    data = dict(attacks(sentinel))[which]
    write_archive(tmp_path / "evil.pth", data)
    try:
        file = read_tensor_file(tmp_path / "evil.pth")
        if isinstance(file.content, dict):
            file.tensors(file.content)
    except CheckpointError as error:
        assert "evil.pth" in str(error)
    assert not sentinel.exists()


def test_the_attacks_would_work_on_a_plain_unpickler(tmp_path):
    sentinel = tmp_path / "executed"
    for which in ("os.system", "eval", "getattr chain", "old-style instance"):
        data = dict(attacks(sentinel))[which]
        pickle.loads(data.replace(b"__builtin__", b"builtins"))
        assert sentinel.exists(), which
        sentinel.unlink()


def test_attacks_beside_real_weights_leave_the_weights_readable(tmp_path):
    path, sentinel = tmp_path / "net.pth", tmp_path / "executed"
    hook = Calls(os.system, f"touch {sentinel}")
    torch.save({"state_dict": OrderedDict(a=torch.ones(3), b=hook), "meta": {"hook": [hook]}}, path)
    file = read_tensor_file(path)
    assert torch.equal(file.tensors(file.content["state_dict"])["a"], torch.ones(3))
    assert isinstance(file.content["meta"]["hook"][0], Inert)
    assert not sentinel.exists()


def tensor_pickle(shape=(2,), stride=(1,), offset=0, count=2, key="0", kind=("torch", "FloatStorage"), pid=None):
    """Pickle ``{"a": tensor}`` with sizes of one's choosing."""

    def numbers(values):
        return pickle.MARK + b"".join(number(v) for v in values) + pickle.TUPLE

    storage = pid or (
        pickle.MARK + text("storage") + name(*kind) + text(key) + text("cpu") + number(count) + pickle.TUPLE
    )
    tensor = (
        name("torch._utils", "_rebuild_tensor_v2")
        + pickle.MARK
        + storage
        + pickle.BINPERSID
        + number(offset)
        + numbers(shape)
        + numbers(stride)
        + pickle.NEWFALSE
        + pickle.EMPTY_DICT
        + pickle.TUPLE
        + pickle.REDUCE
    )
    return opcodes(pickle.EMPTY_DICT, text("a"), tensor, pickle.SETITEM)


def test_the_hand_made_pickle_is_a_tensor(tmp_path):
    path = tmp_path / "net.pth"
    write_archive(path, tensor_pickle(), {"0": torch.tensor([1.0, 2.0]).numpy().tobytes()})
    assert torch.equal(tensors_of(path)["a"], torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (10**12,)},
        {"shape": (3,), "stride": (0,)},
        {"shape": (2,), "stride": (5,)},
        {"shape": (-2,)},
        {"offset": 1},
        {"offset": -1},
        {"stride": (-1,)},
        {"stride": ()},
        {"count": 10**15},
        {"count": -2},
        {"shape": (10**12,), "stride": (1,), "count": 10**12},
        {"key": "1"},
        {"key": "../version"},
        {"kind": ("torch", "UntypedStorage")},
        {"kind": ("os", "system")},
        {"shape": (1,) * 100, "stride": (1,) * 100},
    ],
)
def test_impossible_sizes_are_refused_before_anything_is_allocated(tmp_path, wrong):
    path = tmp_path / "net.pth"
    write_archive(path, tensor_pickle(**wrong), {"0": bytes(8)})
    with pytest.raises(CheckpointError, match=r"Tensor a in .*net\.pth is impossible"):
        tensors_of(path)


def test_references_other_than_storages_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    write_archive(path, tensor_pickle(pid=text("module")), {"0": bytes(8)})
    with pytest.raises(CheckpointError, match="no storage"):
        read_tensor_file(path)


def test_notes_cannot_be_rewritten(tmp_path):
    # BUILD on a finished tensor would set its attributes.
    data = tensor_pickle()
    grown = data[:-2] + pickle.EMPTY_DICT + text("shape") + number(9) + pickle.SETITEM + pickle.BUILD + data[-2:]
    path = tmp_path / "net.pth"
    write_archive(path, grown, {"0": bytes(8)})
    with pytest.raises(CheckpointError):
        read_tensor_file(path)


def test_many_tensors_on_one_storage_cannot_fill_the_memory(tmp_path):
    path = tmp_path / "net.pth"
    shared = torch.zeros(100_000)
    torch.save({f"t{i}": shared for i in range(1000)}, path)
    with pytest.raises(CheckpointError, match="more tensors than it holds"):
        tensors_of(path)


@pytest.mark.parametrize("which", ["pickle", "storage"])
def test_compressed_archives_are_refused(tmp_path, which):
    path = tmp_path / "bomb.pth"
    size = 50_000_000
    if which == "pickle":
        write_archive(path, opcodes(text("a" * size)), compression=zipfile.ZIP_DEFLATED)
    else:
        data = tensor_pickle(shape=(size // 4,), count=size // 4)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", data)
            archive.writestr("net/data/0", bytes(size), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        tensors_of(path)


def test_absurd_memo_index_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    write_archive(path, opcodes(pickle.EMPTY_DICT, pickle.LONG_BINPUT + b"\xff\xff\xff\x7f"))
    with pytest.raises(CheckpointError, match="memo"):
        read_tensor_file(path)


def test_old_format_is_named(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"old\.pth is in PyTorch's old format"):
        read_tensor_file(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(40), b"\x00" * 100])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        read_tensor_file(path)


def test_other_archives_are_refused(tmp_path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="no PyTorch checkpoint"):
        read_tensor_file(path)


def test_truncated_and_corrupted_files_are_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(1000.0)}, buffer)
    whole = buffer.getvalue()
    path = tmp_path / "net.pth"
    for keep in (len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:keep])
        with pytest.raises(CheckpointError):
            tensors_of(path)
    where = whole.index(torch.arange(1000.0).numpy().tobytes()) + 200
    path.write_bytes(whole[:where] + b"\xff\xff" + whole[where + 2 :])
    with pytest.raises(CheckpointError, match="damaged"):
        tensors_of(path)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_tensor_file(tmp_path / "nothing.pth")


def test_tensors_are_noted_not_made(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(3)}, path)
    assert isinstance(read_tensor_file(path).content["a"], TensorNote)
