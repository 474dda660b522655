"""The same tests for every network: subclass :class:`NetworkTester` and name the network and a small size of it."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.accelerate import accelerate
from geoasanet.models.checkpoint import load_checkpoint, save_checkpoint
from geoasanet.models.network import Network
from geoasanet.models.registry import create_model

CLASSES = 3


def build(name: str, **arguments: Any) -> Network:
    """Return a network whose every weight and statistic matters."""
    torch.manual_seed(0)
    model = create_model(name, CLASSES, **arguments)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor), alpha=0.05)
    return model


def leave_nothing_to_chance(model: nn.Module) -> None:
    """Switch dropout and stochastic depth off."""
    for module in model.modules():
        for rate in ("p", "drop_prob"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)


class NetworkTester:
    """What holds for every network."""

    name: ClassVar[str]
    """Registry name."""
    arguments: ClassVar[dict[str, Any]]
    """Arguments of a small size."""
    size: ClassVar[tuple[int, int]] = (64, 96)
    """Height and width that the network takes."""

    @pytest.fixture
    def model(self) -> Network:
        return build(self.name, **self.arguments).eval()

    @pytest.fixture
    def pair(self, images):
        """Draw a pair of images of the network's size."""
        return lambda batch, channels=(3, 1), size=self.size: images(batch, *size, channels)

    @torch.no_grad()
    def test_logits_have_the_size_of_the_image(self, model, pair):
        logits = model(*pair(2))
        assert logits.shape == (2, CLASSES, *self.size)
        assert logits.isfinite().all()
        assert logits.std() > 1e-3

    @pytest.mark.parametrize("size", [(33, 40), (75, 101), (32, 128)])
    @torch.no_grad()
    def test_other_sizes_work_or_the_error_says_which_do(self, model, pair, size):
        if any(side % model.size_multiple for side in size):
            with pytest.raises(ModelError, match=f"multiples of {model.size_multiple} px"):
                model(*pair(1, size=size))
        else:
            assert model(*pair(1, size=size)).shape == (1, CLASSES, *size)

    @pytest.mark.parametrize("channels", [(3, 1), (3, 2), (3, 3), (4, 1)])
    @torch.no_grad()
    def test_any_number_of_bands(self, pair, channels):
        model = build(self.name, in_channels=channels, **self.arguments).eval()
        assert model(*pair(1, channels)).shape == (1, CLASSES, *self.size)
        with pytest.raises(ModelError, match=f"sar as \\(batch, {channels[1]}"):
            model(*pair(1, (channels[0], channels[1] + 1)))

    @torch.no_grad()
    def test_images_of_an_uneven_batch_do_not_see_each_other(self, model, pair):
        rgb, sar = pair(3)
        together = model(rgb, sar)
        alone = torch.cat([model(rgb[i : i + 1], sar[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)

    @torch.no_grad()
    def test_evaluation_is_deterministic(self, model, pair):
        assert torch.equal(model(*pair(2)), model(*pair(2)))

    @torch.no_grad()
    def test_memory_layout_changes_nothing(self, model, pair):
        expected = model(*pair(2))
        images = (image.to(memory_format=torch.channels_last) for image in pair(2))
        logits = model.to(memory_format=torch.channels_last)(*images)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)

    @torch.no_grad()
    def test_the_form_for_inference_gives_the_same_logits(self, model, pair):
        model.double()
        before = {key: (tensor.data_ptr(), tensor.clone()) for key, tensor in model.state_dict().items()}
        images = tuple(image.double() for image in pair(2))
        expected = model(*images)
        frugal = accelerate(model, torch.device("cpu"))
        torch.testing.assert_close(frugal(*images), expected, atol=1e-8, rtol=1e-8)
        after = model.state_dict()
        assert before.keys() == after.keys()
        for key, (address, tensor) in before.items():
            assert after[key].data_ptr() == address
            assert torch.equal(after[key], tensor)
        assert torch.equal(model(*images), expected)
        folded = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        assert folded == 0 or sum(isinstance(m, nn.BatchNorm2d) for m in frugal.modules()) < folded

    @torch.no_grad()
    def test_a_saved_network_comes_back_the_same(self, model, pair, tmp_path, schema, bands):
        path = tmp_path / "network.safetensors"
        save_checkpoint(path, model, classes=schema, bands=bands, window_size=64)
        loaded = load_checkpoint(path).model
        assert loaded.architecture == model.architecture
        assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())
        assert torch.equal(loaded(*pair(2)), model(*pair(2)))

    def test_training_gives_auxiliary_logits_where_there_is_a_head_for_them(self, model, pair):
        output = model.train()(*pair(2))
        has_head = getattr(model, "auxiliary", None) is not None
        assert isinstance(output, tuple) is has_head
        for logits in output if has_head else (output,):
            assert logits.shape == (2, CLASSES, *self.size)

    def test_a_training_step_reduces_the_loss(self, model, pair):
        leave_nothing_to_chance(model.double().train())
        rgb, sar = (image.double() for image in pair(3))
        labels = torch.randint(CLASSES, (3, *self.size), generator=torch.Generator().manual_seed(1))
        before = self.loss(model, (rgb, sar), labels)
        before.backward()
        gradients = [(p, p.grad) for p in model.parameters() if p.grad is not None]
        # To first order, a step against the gradient of this length takes 0.01 % of the loss.
        length = 1e-4 * before.item() / sum(float(gradient.square().sum()) for _, gradient in gradients)
        with torch.no_grad():
            for parameter, gradient in gradients:
                parameter.sub_(gradient, alpha=length)
        taken = 1 - self.loss(model, (rgb, sar), labels).item() / before.item()
        assert taken == pytest.approx(1e-4, rel=0.5)

    def test_gradients_reach_what_the_network_says_it_uses(self, model, pair):
        leave_nothing_to_chance(model.train())
        # Few and random as they are, all ReLUs of a layer may happen to be shut.
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, nn.LeakyReLU(0.1))
        labels = torch.randint(CLASSES, (3, *self.size), generator=torch.Generator().manual_seed(1))
        self.loss(model, pair(3), labels).backward()
        # The bias of a convolution before a batch norm has a gradient of zero but for rounding.
        without = [
            name
            for name, p in model.named_parameters()
            if p.grad is None or (p.ndim > 1 and p.grad.count_nonzero() == 0)
        ]
        assert bool(without) is model.has_unused_parameters, without

    @pytest.mark.slow
    def test_exported_network_gives_the_same_logits(self, model, pair):
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(model, pair(2), dynamic_shapes=({0: batch}, {0: batch}))
        with torch.no_grad():
            torch.testing.assert_close(program.module()(*pair(3)), model(*pair(3)), atol=1e-4, rtol=1e-4)

    def test_recorded_arguments_build_the_same_network(self, model):
        again = create_model(self.name, **copy.deepcopy(model.architecture.arguments))
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }

    @staticmethod
    def loss(model: Network, images: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """Return the training loss."""
        output = model(*images)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        loss = nn.functional.cross_entropy(logits, labels)
        for others in auxiliary:
            loss = loss + model.auxiliary_weight * nn.functional.cross_entropy(others, labels)
        return loss
