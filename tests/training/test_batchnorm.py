"""Which batch norms are shared among processes; that two processes then train like one is tested in test_train."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import geoasanet as ga
from geoasanet.models.fusion import LocalBatchNorm2d
from geoasanet.training.batchnorm import ProcessBatchNorm, synchronize

SMALL = {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def network() -> nn.Module:
    torch.manual_seed(0)
    return ga.create_model("asanet", 3, (3, 1), SMALL, decoder_channels=8, auxiliary_channels=8)


def kinds(model: nn.Module) -> set[type]:
    return {type(m) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}


@pytest.mark.parametrize(
    ("which", "device", "expected"),
    [
        ("none", CPU, {nn.BatchNorm2d, LocalBatchNorm2d}),
        ("released", CPU, {ProcessBatchNorm, LocalBatchNorm2d}),
        ("all", CPU, {ProcessBatchNorm}),
        ("all", CUDA, {nn.SyncBatchNorm}),
    ],
)
def test_what_is_shared(which: str, device: torch.device, expected: set[type]) -> None:
    assert kinds(synchronize(network(), which, device)) == expected  # type: ignore[arg-type]


def test_names_and_weights_stay() -> None:
    before, after = network().state_dict(), synchronize(network(), "all", CPU).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_in_one_process_it_is_batch_norm() -> None:
    plain = nn.BatchNorm2d(5)
    shared = synchronize(nn.Sequential(nn.BatchNorm2d(5)), "all", CPU)
    x = torch.randn(4, 5, 6, 7, requires_grad=True)
    torch.testing.assert_close(shared(x), plain(x))
    torch.testing.assert_close(shared[0].running_var, plain.running_var)


def test_shared_over_processes_it_is_the_norm_of_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sum over processes that counts every value twice, as two processes with the same samples would give."""
    from geoasanet.training import batchnorm

    monkeypatch.setattr(batchnorm.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(batchnorm.dist, "all_reduce", lambda values: values.mul_(2))
    shared, plain = ProcessBatchNorm(3).double(), nn.BatchNorm2d(3).double()
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(shared(x), plain(torch.cat([x, x]))[:4])
    torch.testing.assert_close(shared.running_mean, plain.running_mean)
    torch.testing.assert_close(shared.running_var, plain.running_var)
