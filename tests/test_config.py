"""Configurations: what is refused, and that every shipped one trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import geoasanet as ga
from geoasanet.config import TrainConfig, find_config, read_config, shipped_configs
from geoasanet.errors import ConfigError
from geoasanet.training.learner import Learner
from geoasanet.training.processes import Processes
from geoasanet.training.samples import Batch

SHIPPED = sorted(shipped_configs())
CONVNEXT = {
    "encoder": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "decoder_channels": 16,
    "auxiliary_channels": 8,
}
VGG = {"encoder": {"depths": [2, 2, 3, 3, 3], "dims": [8, 8, 8, 16, 16]}}
RESNET = {"encoder": {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8]}}
SMALL: dict[str, dict[str, Any]] = {
    "afnet": RESNET,
    "asanet": CONVNEXT,
    "cmfnet": {**VGG, "layers": 1},
    "cmx": {"encoder": "mit_b0", "decoder_channels": 16},
    "ftransunet": {
        "width": 32,
        "units": (1, 1, 1),
        "layers": 12,
        "hidden_channels": 32,
        "heads": 1,
        "decoder_channels": (8, 8, 8, 8),
    },
    "fusenet": VGG,
    "sagate": {**RESNET, "decoder_channels": 8, "auxiliary_channels": 4},
    "upernet": CONVNEXT,
}
"""Arguments that make each network small enough for a step to take a moment."""


class TestReading:
    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("learning_rate", 1, "unknown key 'learning_rate'"),
            ("iteration", 1, "Did you mean 'iterations'"),
            ("lr", "fast", "lr must be a number, found 'fast'"),
            ("lr", -1, "lr must be from 1e-12 to 100, found -1.0"),
            ("batch_size", 2.5, "batch_size must be a whole number, found 2.5"),
            ("batch_size", True, "batch_size must be a whole number, found True"),
            ("iterations", 0, "iterations must be from 1"),
            ("compile", "yes please", "compile must be true or false"),
            ("resize", [2, 0.5], "the smaller first"),
            ("resize", [1], "resize must be 2 numbers or null"),
            ("class_weights", "heavy", "none or auto or a list of numbers"),
            ("optimizer", "adam", "adamw or sgd"),
            ("betas", [0.9, 1.0], "betas must be from 0 to below 1"),
            ("accumulate", 3, "batch_size 8 cannot be run in 3 equal parts"),
            ("rgb_mean", [1, 2, 3], "must be given together"),
            ("lr", float("nan"), "lr must be a number"),
        ],
    )
    def test_what_is_wrong_is_named_with_file_and_key(self, tmp_path: Path, key: str, value: Any, message: str) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({key: value}))
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        assert message in str(caught.value)
        assert "mine.yaml" in str(caught.value)

    def test_numbers_that_yaml_takes_for_text(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("lr: 1e-4\nwarmup_factor: 1e-6\n")
        assert read_config(tmp_path / "mine.yaml").lr == 1e-4

    def test_an_empty_file_is_the_paper(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("")
        assert read_config(tmp_path / "mine.yaml") == TrainConfig()

    @pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n", "!!python/object/apply:os.system [ls]\n"])
    def test_other_yaml_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"mine\.yaml"):
            read_config(tmp_path / "mine.yaml")

    def test_an_unknown_name_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match="Did you mean asanet_pie-rgb-sar"):
            find_config("asanet_pie-rgb-sat")

    def test_settings_override(self) -> None:
        config = TrainConfig().changed(["lr=1e-3", "resize=null", "encoder={depths: [1,1,1,1], dims: [8,8,8,8]}"])
        assert (config.lr, config.resize) == (1e-3, None)
        assert config.encoder == {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}

    @pytest.mark.parametrize("setting", ["lr", "lr=[", "rate=1"])
    def test_malformed_settings(self, setting: str) -> None:
        with pytest.raises(ConfigError, match="--set"):
            TrainConfig().changed([setting])

    @given(
        lr=st.floats(1e-6, 1),
        resize=st.none() | st.just((0.5, 1.5)),
        weights=st.sampled_from(["none", "auto"]) | st.lists(st.floats(0.1, 3), min_size=2, max_size=4),
        workers=st.just("auto") | st.integers(0, 8),
    )
    def test_what_is_written_is_read_back(self, lr: float, resize: Any, weights: Any, workers: Any) -> None:
        config = TrainConfig.from_mapping(
            {"lr": lr, "resize": resize, "class_weights": weights, "workers": workers, "ema": 0.9}
        )
        assert TrainConfig.from_mapping(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


class TestShipped:
    def test_the_default_is_the_recipe_of_the_paper(self) -> None:
        config = read_config()
        assert (config.iterations, config.batch_size, config.lr, config.weight_decay) == (80_000, 8, 1e-4, 0.05)
        assert (config.layer_decay, config.warmup, config.power, config.warmup_factor) == (0.9, 1500, 1.0, 1e-6)
        assert (config.resize, config.cat_max_ratio, config.encoder) == ((0.5, 2.0), 0.75, "convnextv2_tiny")
        assert config.validate_every == 8000

    @pytest.mark.parametrize("name", SHIPPED)
    def test_each_builds_its_network_and_takes_a_step(self, name: str, small_network: Callable[..., Any]) -> None:
        config = read_config(name)
        network = small_network(config)
        learner = Learner(network, config, None, Processes(torch.device("cpu")), "fp32")
        before = [parameter.detach().clone() for parameter in network.parameters()]
        sar = torch.randn(2, network.in_channels[1], 64, 64)
        batch = Batch(torch.randn(2, 3, 64, 64), sar, torch.randint(0, 6, (2, 64, 64), dtype=torch.uint8), ("a", "b"))
        result = learner.step([batch], 0)
        assert 0 < result.loss < 10
        assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))

    @pytest.mark.parametrize("name", SHIPPED)
    def test_each_builds_at_its_own_size(self, name: str) -> None:
        config = read_config(name)
        with torch.device("meta"):
            network = ga.create_model(config.model, 6, (3, 1), config.encoder, **config.model_args)
        assert sum(parameter.numel() for parameter in network.parameters()) > 1e6

    @pytest.mark.parametrize("name", SHIPPED)
    def test_each_says_what_it_is(self, name: str) -> None:
        assert find_config(name).read_text().startswith("# ")


@pytest.fixture
def small_network() -> Callable[[TrainConfig], Any]:
    """Build a configuration's network in a small size."""

    def build(config: TrainConfig) -> Any:
        arguments = {**config.model_args, "encoder": config.encoder, **SMALL[config.model]}
        encoder = arguments.pop("encoder")
        return ga.create_model(config.model, 6, (3, 1), encoder, **arguments)

    return build
