"""From a checkpoint of the original code to ours: same numbers, RGB order, one SAR band.

The original reads images with OpenCV: its optical channels are blue, green, red, and a SAR image arrives as three
identical channels. Ours takes red, green, blue and the SAR band once, so weights, means and deviations of the first
convolution are reordered and, for SAR, summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from geoasanet.errors import CheckpointError, ConfigError, ModelError
from geoasanet.models.layouts import ChannelOrder, Layout, layout_of
from geoasanet.models.network import Network
from geoasanet.models.official import OfficialCheckpoint
from geoasanet.models.published import PublishedData, published_data
from geoasanet.models.registry import create_model


@dataclass(frozen=True, slots=True)
class Converted:
    """An original checkpoint as a network of ours."""

    model: Network
    """The network, in evaluation mode."""
    classes: ClassSchema
    """Classes of its output channels."""
    bands: InputBands
    """Bands and statistics of its inputs."""
    window_size: int
    """Side of the window that it was trained on, pixels."""
    tensors: int
    """Number of tensors taken over."""
    warnings: tuple[str, ...]
    """What had to be assumed."""


def convert_official(
    official: OfficialCheckpoint,
    *,
    model: str = "asanet",
    num_classes: int | None = None,
    channel_order: ChannelOrder | None = None,
    sar_channels: int = 1,
    classes: ClassSchema | None = None,
    window_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Converted:
    """Return the network that gives the original's logits for RGB images and SAR bands.

    Args:
        official: What the file holds.
        model: Registry name of the network.
        num_classes: Expected number of classes; checked.
        channel_order: Order of the optical channels that the original was trained with; ``None`` for the usual one.
        sar_channels: 1 to take the SAR band once, 3 to take it as three equal bands as the original does.
        classes: Replaces the classes in the file.
        window_size: Replaces the training crop in the file.
        mean: Replaces the band means in the file; optical and SAR, in the original's channel order.
        std: Replaces the deviations, likewise.

    Raises:
        CheckpointError: If the file holds another network, or its classes or statistics are missing and unknown.
        ConfigError: If an argument contradicts the file.
    """
    layout = layout_of(model)
    if sar_channels not in (1, 3):
        raise ConfigError(f"sar_channels must be 1 or 3, found {sar_channels}.")
    if channel_order not in (None, "bgr", "rgb"):
        raise ConfigError(f"channel_order must be bgr or rgb, found {channel_order!r}.")
    arguments = _infer(official, model, layout)
    found = arguments["num_classes"]
    if num_classes is not None and num_classes != found:
        raise ConfigError(f"{official.path} is a network for {found} classes, {num_classes} were asked for.")

    notes: list[str] = []
    known = published_data(official.classes, found) if layout.public_data else None
    schema = _choose_classes(official, classes, known, found, notes)
    channels = sum(arguments["in_channels"])
    means = _choose_statistics(official, "mean", mean or official.mean, known=known, channels=channels, notes=notes)
    stds = _choose_statistics(official, "std", std or official.std, known=known, channels=channels, notes=notes)
    if any(value <= 0 for value in stds):
        raise ConfigError(f"Deviations must be positive, found {list(stds)}.")
    side = window_size or official.crop_size or (known.window_size if known else 256)

    state = {layout.rename(key): tensor for key, tensor in official.tensors().items()}
    adapter = _InputAdapter(means, stds, arguments["in_channels"][0])
    if (channel_order or layout.channel_order) == "bgr":
        state[layout.rgb_stem] = adapter.to_rgb(state[layout.rgb_stem])
    if sar_channels != arguments["in_channels"][1]:
        if sar_channels != 1:
            raise ConfigError(f"{official.path} takes {arguments['in_channels'][1]} SAR bands, not {sar_channels}.")
        state[layout.sar_stem], shift_O = adapter.to_one_sar_band(state[layout.sar_stem])
        bias = layout.sar_stem.removesuffix("weight") + "bias"
        if bias in state:
            state[bias] = (state[bias].double() + shift_O).to(state[bias].dtype)
        elif shift_O.any():
            raise CheckpointError(
                f"The SAR bands of {official.path} differ in mean, which its first convolution cannot take up.",
                "Keep three equal bands with --sar-channels 3.",
            )
    arguments["in_channels"] = (arguments["in_channels"][0], sar_channels)
    if official.drop_path is not None:
        arguments["drop_path"] = official.drop_path
    network = create_model(model, **arguments)
    _fill(network, state, official)
    return Converted(network.eval(), schema, adapter.bands, side, len(state), tuple(notes))


class _InputAdapter:
    """Rewrites the first convolutions and the band statistics that belong to them."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], rgb_channels: int) -> None:
        names = ("red", "green", "blue") if rgb_channels == 3 else ()
        n = rgb_channels
        self._rgb = SensorBands(tuple(mean[:n]), tuple(std[:n]), "uint8", names)
        self._sar = SensorBands(tuple(mean[n:]), tuple(std[n:]), "uint8")

    @property
    def bands(self) -> InputBands:
        return InputBands(self._rgb, self._sar)

    def to_rgb(self, weight_OIhw: Tensor) -> Tensor:
        """Reverse the optical channels."""
        old = self._rgb
        self._rgb = SensorBands(old.mean[::-1], old.std[::-1], old.scale, old.names)
        return weight_OIhw.flip(1)

    def to_one_sar_band(self, weight_OIhw: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the SAR channels that all see the same band; return the sum and what to add to the bias.

        With v the band's value, the sum of w_k (v − m_k) / s_k over channels k is w (v − m_0) / s_0 + b, where w is
        the sum of w_k s_0 / s_k and b the sum of w_k (m_0 − m_k) / s_k. Equal statistics leave b zero; others are
        exact where the convolution does not reach over the border of the image.
        """
        mean = torch.tensor(self._sar.mean, dtype=torch.float64)
        std = torch.tensor(self._sar.std, dtype=torch.float64)
        weight = weight_OIhw.double() / std[:, None, None]
        shift_O = (weight * (mean[0] - mean)[:, None, None]).sum((1, 2, 3))
        summed_O1hw = (weight * std[0]).sum(1, keepdim=True)
        self._sar = SensorBands(self._sar.mean[:1], self._sar.std[:1], self._sar.scale)
        return summed_O1hw.to(weight_OIhw.dtype), shift_O


def _infer(official: OfficialCheckpoint, name: str, layout: Layout) -> dict[str, Any]:
    try:
        return layout.infer(official.shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{official.path} is no official {name} checkpoint: it lacks {error.args[0] if error.args else ''}.",
            "Name the network with --model.",
        ) from error


def _choose_classes(
    official: OfficialCheckpoint,
    given: ClassSchema | None,
    known: PublishedData | None,
    count: int,
    notes: list[str],
) -> ClassSchema:
    schema = given or official.classes
    if schema is None and known is not None:
        notes.append(f"The file names no classes; those of {known.name}, which has {count}, were taken.")
        schema = known.classes
    if schema is None:
        raise CheckpointError(f"{official.path} names none of its {count} classes.", "Give them with --classes.")
    if len(schema) != count:
        raise CheckpointError(
            f"{official.path} is a network for {count} classes, but {len(schema)} are named: "
            f"{', '.join(schema.names)}.",
            "Give a matching schema with --classes.",
        )
    return schema


def _choose_statistics(
    official: OfficialCheckpoint,
    what: str,
    values: Sequence[float] | None,
    *,
    known: PublishedData | None,
    channels: int,
    notes: list[str],
) -> tuple[float, ...]:
    if values is None and known is not None:
        # SAR comes last, three times the same; some networks take it once.
        values = (known.mean if what == "mean" else known.std)[:channels]
        notes.append(f"The file holds no band {what}; that of {known.name} was taken: {list(values)}.")
    if values is None:
        raise CheckpointError(
            f"{official.path} holds no band {what}.",
            f"Give {channels} values with --{what}, as in its config.",
        )
    if len(values) != channels:
        raise CheckpointError(
            f"{official.path} takes {channels} channels, but {len(values)} values of {what} are given.",
            f"Give {channels} values with --{what}.",
        )
    return tuple(float(value) for value in values)


def _fill(network: Network, state: dict[str, Tensor], official: OfficialCheckpoint) -> None:
    """Load ``state``, in which 1×1 convolutions may be kept as matrices."""
    needed = network.state_dict()
    for key, tensor in state.items():
        if key in needed and (*tensor.shape, 1, 1) == needed[key].shape:
            state[key] = tensor[:, :, None, None]
        elif key in needed and tensor.shape == (*needed[key].shape, 1, 1):
            state[key] = tensor[:, :, 0, 0]
    problems = [
        *(f"{key} is missing" for key in needed if key not in state),
        *(f"{key} is unknown" for key in state if key not in needed),
        *(
            f"{key} has shape {list(tensor.shape)}, not {list(needed[key].shape)}"
            for key, tensor in state.items()
            if key in needed and tensor.shape != needed[key].shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"The weights in {official.path} are not those of the network they describe: "
            f"{'; '.join(problems[:3])}{more}.",
            "Name the network with --model.",
        )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"The weights in {official.path} cannot be loaded ({error}).") from error
