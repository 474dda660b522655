"""The loss against the original code, by hand, and of parts against the whole."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from geoasanet.errors import ConfigError
from geoasanet.training.losses import SegmentationLoss, count_valid


@pytest.fixture
def logits():
    return torch.randn(4, 3, 6, 7, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def label():
    ids = torch.randint(0, 3, (4, 6, 7), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    ids[0, :5] = 255  # samples differ in how much of them is labelled
    ids[1, :, 3] = 255
    return ids


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden" / "training"
    with np.load(folder / "losses.npz") as arrays:
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    return tensors, json.loads((folder / "losses.json").read_text())


def test_cross_entropy_and_its_gradient_are_the_original_ones(golden):
    tensors, recorded = golden
    logits = tensors["logits"].clone().requires_grad_()
    value = SegmentationLoss(6)(logits, tensors["label"])
    assert float(value.detach()) == pytest.approx(recorded["ce_avg_non_ignore"], rel=1e-6)
    value.backward()
    torch.testing.assert_close(logits.grad, tensors["ce_grad"], rtol=1e-5, atol=1e-9)


def test_the_auxiliary_head_counts_by_its_weight(golden):
    tensors, recorded = golden
    loss = SegmentationLoss(6)
    logits, label = tensors["logits"], tensors["label"]
    zero = torch.zeros_like(logits)
    both = loss((zero, logits), label) - loss(zero, label)
    assert float(both) == pytest.approx(recorded["ce_avg_non_ignore_w0.4"], rel=1e-5)
    assert float(SegmentationLoss(6, auxiliary_weight=0)((zero, logits), label)) == pytest.approx(math.log(6))


@pytest.mark.parametrize("options", [{}, {"dice": 1.0, "lovasz": 1.0}, {"class_weights": [1, 2, 0]}])
def test_without_a_label_the_loss_is_zero_and_can_be_differentiated(logits, options):
    logits = logits.requires_grad_()
    nothing = torch.full((4, 6, 7), 255, dtype=torch.uint8)
    value = SegmentationLoss(3, **options)((logits, logits), nothing)
    value.backward()
    assert float(value.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_pixel_costs_the_logarithm_of_its_probability_times_its_class_weight():
    probability = torch.tensor([[0.5, 0.2], [0.3, 0.7], [0.2, 0.1]])  # classes by pixels
    logits = probability.log().view(1, 3, 1, 2)
    label = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    weighted = SegmentationLoss(3, class_weights=[1.0, 3.0, 9.0])(logits, label)
    # Divided by the number of pixels, not by the sum of their weights.
    assert float(weighted) == pytest.approx(-(math.log(0.5) + 3 * math.log(0.7)) / 2, rel=1e-5)
    smoothed = SegmentationLoss(3, label_smoothing=0.3)(logits[..., :1], label[..., :1])
    expected = -(0.8 * math.log(0.5) + 0.1 * math.log(0.3) + 0.1 * math.log(0.2))
    assert float(smoothed) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_region_terms_are_zero_where_all_is_right_and_one_where_all_is_wrong(name):
    label = torch.tensor([[[0, 1, 1, 255]]])
    right = 50 * torch.nn.functional.one_hot(label.clamp_max(1), 2).permute(0, 3, 1, 2).float()
    term = {name: 2.0}
    for logits, expected in ((right, 0.0), (-right, 2.0)):
        extra = SegmentationLoss(2, **term)(logits, label) - SegmentationLoss(2)(logits, label)
        assert float(extra) == pytest.approx(expected, abs=1e-4)


def test_region_terms_leave_the_auxiliary_head_alone(logits, label):
    extra = [
        SegmentationLoss(3, dice=1.0, lovasz=1.0)(outputs, label) - SegmentationLoss(3)(outputs, label)
        for outputs in (logits, (logits, logits.flip(0)))
    ]
    torch.testing.assert_close(extra[0], extra[1])


@pytest.mark.parametrize("options", [{}, {"class_weights": [1, 2, 0.5], "label_smoothing": 0.1}])
@pytest.mark.parametrize("processes", [1, 2])
def test_parts_give_the_loss_and_gradient_of_the_whole(logits, label, options, processes):
    loss = SegmentationLoss(3, **options).double()
    whole, parts = (logits.double().requires_grad_() for _ in range(2))
    expected = loss((whole, 2 * whole), label)
    expected.backward()
    count = count_valid(label) / processes
    found = sum(loss((parts[i : i + 1], 2 * parts[i : i + 1]), label[i : i + 1], count) for i in range(4)) / processes
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(parts.grad, whole.grad)


def test_region_terms_of_parts_count_by_their_labelled_pixels(logits, label):
    regions, plain = SegmentationLoss(3, dice=1.0), SegmentationLoss(3)

    def term(i, count=None):
        part = slice(i, i + 1)
        return float(regions(logits[part], label[part], count) - plain(logits[part], label[part], count))

    total = count_valid(label)
    share = [float(count_valid(label[i : i + 1]) / total) for i in range(4)]
    found = sum(term(i, total) for i in range(4))
    assert found == pytest.approx(sum(share[i] * term(i) for i in range(4)), abs=1e-5)


def test_low_precision_logits_are_summed_in_float32():
    half = torch.randn(1, 3, 300, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    label = torch.zeros(1, 300, 300, dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        value = SegmentationLoss(3, dice=1.0, lovasz=1.0)((half, half), label)
    assert value.dtype == torch.float32
    assert torch.equal(value, SegmentationLoss(3, dice=1.0, lovasz=1.0)((half.float(), half.float()), label))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"class_weights": [1, 2]}, "2 class weights for 3"),
        ({"class_weights": [1, -2, 1]}, "-2"),
        ({"class_weights": [0, 0, 0]}, "not all 0"),
        ({"dice": -1.0}, "dice .* -1"),
        ({"lovasz": float("nan")}, "lovasz .* nan"),
        ({"auxiliary_weight": -0.1}, "auxiliary_weight .* -0.1"),
        ({"label_smoothing": 1.0}, "label_smoothing .* 1"),
    ],
)
def test_impossible_settings_are_named(options, found):
    with pytest.raises(ConfigError, match=found):
        SegmentationLoss(3, **options)


def test_importing_the_loss_loads_no_rasterio():
    code = "import sys, geoasanet.training.losses; print('rasterio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
