"""The configuration of a training run: one flat YAML file, checked before any data is read.

Standard library only (YAML is imported when a text is read), so that the command line can take its defaults from here.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from geoasanet.errors import ConfigError
from geoasanet.typed import convert_value, describe_type
from geoasanet.yamltext import YamlError, parse_yaml, read_yaml

SHIPPED = "asanet"
"""Name of the configuration that is used when none is given."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides how a network is trained; the defaults are the paper's recipe.

    Raises:
        ConfigError: If a value is impossible; it names the key.
    """

    model: str = "asanet"
    """Registry name of the network; see ``geoasanet models``."""
    encoder: str | dict[str, Any] | None = None
    """Size of the encoders, a timm name or depths and dims; null for the network's own."""
    encoder_weights: str | None = None
    """Pretrained encoder weights: null (random), "imagenet" (timm's hub) or the path of a file."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the network, such as drop_path."""

    data: str = "tiles"
    """Dataset folder; relative to where the command runs."""
    classes: list[Any] | None = None
    """Class schema (names, or name and color) for a folder without dataset.yaml; null takes the folder's."""
    reduce_zero_label: bool | None = None
    """Labels on disk are one more than class ids, and 0 is none; null takes the folder's."""
    rgb_mean: tuple[float, ...] | None = None
    """Mean of red, green, blue; null takes the dataset's. The four statistics are given together or not at all."""
    rgb_std: tuple[float, ...] | None = None
    """Standard deviation of red, green, blue."""
    sar_mean: tuple[float, ...] | None = None
    """Mean of each SAR band."""
    sar_std: tuple[float, ...] | None = None
    """Standard deviation of each SAR band."""

    crop_size: int = 256
    """Side of the square that the network sees, pixels."""
    resize: tuple[float, float] | None = (0.5, 2.0)
    """Smallest and largest random scale of a tile; null for none."""
    cat_max_ratio: float = 0.75
    """Largest share of a crop that one class may cover, as far as ten tries find one; 1 for any."""
    random_crop: bool = True
    """Whether the crop lies anywhere in the tile; false takes its centre."""
    flip: float = 0.5
    """Chance of a flip left to right; both sensors and the label move together."""
    vertical_flip: float = 0.5
    """Chance of a flip top to bottom."""
    turn: float = 0.0
    """Chance of a random quarter turn."""
    brightness: float = 0.0
    """Largest random offset of the optical image, in standard deviations."""
    contrast: float = 0.0
    """Largest random change of the optical image's gain, relative."""
    color: float = 0.0
    """Largest random offset and change of gain of each optical band on its own: haze, season."""
    noise: float = 0.0
    """Largest deviation of the noise in every optical pixel, in standard deviations."""
    sar_brightness: float = 0.0
    """Largest random offset of the SAR image, in standard deviations."""
    sar_contrast: float = 0.0
    """Largest random change of the SAR image's gain, relative."""
    sar_noise: float = 0.0
    """Largest deviation of the noise in every SAR pixel, in standard deviations."""
    missing_rgb: float = 0.0
    """Chance that the optical image of a sample is hidden."""
    missing_sar: float = 0.0
    """Chance that the SAR image of a sample is hidden, so that maps can be made where it is missing."""

    iterations: int = 80_000
    """Optimiser steps."""
    batch_size: int = 8
    """Samples per optimiser step, over all processes and accumulated parts."""
    accumulate: int = 1
    """Parts that each process's share of a batch is run in, one after the other, to save memory."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimiser."""
    lr: float = 1e-4
    """Base learning rate."""
    weight_decay: float = 0.05
    """Decoupled weight decay (AdamW) or L2 penalty (SGD)."""
    decay_all: bool = False
    """Whether norms and biases decay, too."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's running averages."""
    momentum: float = 0.9
    """SGD's momentum."""
    layer_decay: float | None = 0.9
    """Factor by which the rate falls from one stage to the one below (stage-wise layer decay); null for one rate."""
    warmup: int = 1500
    """Iterations over which the rate rises linearly."""
    warmup_factor: float = 1e-6
    """Share of the rate that the first iteration gets."""
    decay_start: int | None = None
    """Iteration at which the polynomial decay begins; null: after the warm-up."""
    power: float = 1.0
    """Exponent of the polynomial decay."""
    min_lr: float = 0.0
    """Learning rate that the decay ends at."""
    auxiliary_weight: float | None = None
    """Weight of the auxiliary head's loss; null for the network's own (ASANet: 0.4)."""
    class_weights: Literal["none", "auto"] | tuple[float, ...] = "none"
    """Weights of the classes in the cross entropy: none, auto (from their shares of the train split), or a list."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross entropy."""
    dice: float = 0.0
    """Weight of a Dice loss beside the cross entropy."""
    lovasz: float = 0.0
    """Weight of a Lovász loss beside the cross entropy."""
    clip_norm: float | None = None
    """Largest gradient norm; null for any."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which is then evaluated and saved; null for none."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network: auto is bf16 (else fp16) on CUDA and fp32 on CPU."""
    compile: bool = False
    """Compile the network with torch.compile."""
    sync_batchnorm: Literal["all", "released", "none"] = "all"
    """Batch norms that take their statistics over all processes: all, all but Cascade Fusion's as in the released code,
    or none."""
    seed: int = 42
    """Decides weights, order, augmentation and dropout."""
    workers: int | Literal["auto"] = "auto"
    """Processes that prepare samples; auto: none on a CPU, as many as help on CUDA."""
    cache: bool | Literal["auto"] = "auto"
    """Whether decoded tiles are kept in memory; auto: if they fit into a quarter of what is free."""

    log_every: int = 50
    """Iterations between lines in metrics.csv."""
    validate_every: int = 8000
    """Iterations between evaluations on the val split; the best is kept."""
    save_every: int = 500
    """Iterations between saved states, from which a killed run is resumed."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} must be from {low:g} to {high:g}, found {value!r}.")
        if self.resize is not None and not 0 < self.resize[0] <= self.resize[1]:
            raise ConfigError(f"resize must be two positive numbers, the smaller first, found {list(self.resize)}.")
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas must be from 0 to below 1, found {list(self.betas)}.")
        if isinstance(self.workers, int) and not 0 <= self.workers <= 256:
            raise ConfigError(f"workers must be auto or from 0 to 256, found {self.workers!r}.")
        if self.missing_rgb + self.missing_sar > 1:
            raise ConfigError(
                f"missing_rgb and missing_sar may be 1 together, found {self.missing_rgb + self.missing_sar:g}."
            )
        if self.batch_size % self.accumulate:
            raise ConfigError(f"batch_size {self.batch_size} cannot be run in {self.accumulate} equal parts.")
        if self.min_lr > self.lr:
            raise ConfigError(f"min_lr must be at most lr, {self.lr:g}, found {self.min_lr:g}.")
        weights = (1.0,) if isinstance(self.class_weights, str) else self.class_weights
        if min(weights, default=0) < 0 or not any(weights):
            raise ConfigError(f"class_weights must be 0 or more and not all 0, found {list(weights)}.")
        taken = [key for key in self.model_args if not isinstance(key, str) or key in _NOT_MODEL_ARGS]
        if taken:
            raise ConfigError(f"model_args takes names of arguments that no other key gives, found {taken[0]!r}.")
        given = [getattr(self, name) is not None for name in _STATISTICS]
        if any(given) and not all(given):
            raise ConfigError(f"{', '.join(_STATISTICS)} must be given together.")

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], where: str = "The configuration") -> TrainConfig:
        """Return the configuration that ``data`` describes; keys that are left out have their defaults.

        Args:
            data: Keys and values, as read from YAML.
            where: File or option, for messages.

        Raises:
            ConfigError: If a key is unknown or a value is of the wrong type or impossible.
        """
        return _replace(cls(), data, where)

    def changed(self, settings: Iterable[str]) -> TrainConfig:
        """Return this configuration with ``key=value`` settings, values in YAML.

        Raises:
            ConfigError: If a setting is malformed, unknown or impossible.
        """
        data: dict[str, Any] = {}
        for setting in settings:
            key, sign, text = setting.partition("=")
            if not sign:
                raise ConfigError(
                    f"--set {setting!r} has no '='.", "Write --set key=value, for instance --set lr=1e-4."
                )
            try:
                data[key.strip()] = parse_yaml(text)
            except YamlError as error:
                raise ConfigError(f"--set {setting!r}: {text!r} is not YAML ({error}).") from None
        return _replace(self, data, "--set")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, read back by :meth:`from_mapping`."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}


def read_config(source: str | Path | None = None) -> TrainConfig:
    """Return the configuration in a YAML file, or the shipped one of that name; ``None`` is :data:`SHIPPED`.

    Raises:
        ConfigError: If there is no such file, it is no YAML, or a key or value is unknown or impossible.
    """
    path = find_config(SHIPPED if source is None else source)
    try:
        data = read_yaml(path)
    except YamlError as error:
        raise ConfigError(f"Configuration {path} cannot be read ({error}).", "It must be YAML.") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"Configuration {path} must hold keys and values, found {type(data).__name__}.")
    return TrainConfig.from_mapping(data, f"Configuration {path}")


def find_config(source: str | Path) -> Path:
    """Return the file that ``source``, a path or the name of a shipped configuration, stands for.

    Raises:
        ConfigError: If there is none.
    """
    path = Path(source)
    if path.is_file():
        return path
    names = shipped_configs()
    if str(source) in names:
        return names[str(source)]
    near = difflib.get_close_matches(str(source), names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"Configuration {source} is neither a file nor the name of a shipped one.",
        f"{hint}Shipped are {', '.join(names)}.",
    )


def shipped_configs() -> dict[str, Path]:
    """Return the configurations that come with the package: names and files."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


_NOT_MODEL_ARGS = ("name", "num_classes", "in_channels", "encoder", "encoder_weights")
"""What the other keys, or the dataset, say of the network."""
_STATISTICS = ("rgb_mean", "rgb_std", "sar_mean", "sar_std")

_RANGES: dict[str, tuple[float, float]] = {
    "crop_size": (32, 8192),
    "cat_max_ratio": (0.01, 1),
    **dict.fromkeys(("flip", "vertical_flip", "turn", "missing_rgb", "missing_sar"), (0, 1)),
    **dict.fromkeys(("brightness", "noise", "sar_brightness", "sar_noise"), (0, 5)),
    **dict.fromkeys(("contrast", "color", "sar_contrast"), (0, 0.999)),
    **dict.fromkeys(("iterations", "log_every", "validate_every", "save_every"), (1, 10**9)),
    **dict.fromkeys(("batch_size", "accumulate"), (1, 65_536)),
    "lr": (1e-12, 100),
    "min_lr": (0, 100),
    "weight_decay": (0, 10),
    "momentum": (0, 0.99999),
    "layer_decay": (1e-3, 1),
    "warmup": (0, 10**9),
    "warmup_factor": (1e-12, 1),
    "decay_start": (0, 10**9),
    "power": (1e-3, 10),
    **dict.fromkeys(("auxiliary_weight", "dice", "lovasz"), (0, 100)),
    "label_smoothing": (0, 0.99),
    "clip_norm": (1e-9, 1e9),
    "ema": (0, 0.9999999),
    "seed": (0, 2**32 - 1),
}


def _replace(config: TrainConfig, data: Mapping[str, Any], where: str) -> TrainConfig:
    hints = typing.get_type_hints(TrainConfig)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(hints)}."
            raise ConfigError(f"{where}: unknown key {key!r}.", hint)
        try:
            values[key] = convert_value(value, hints[key])
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{where}: {key} must be {describe_type(hints[key])}, found {value!r}.") from None
    try:
        return dataclasses.replace(config, **values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.args[0]}", error.hint) from None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
