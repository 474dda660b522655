"""What all networks share: the recipe they were built from, and the check of what they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.blocks import resize

MIN_SIDE = 32
"""Smallest height and width, in pixels, that leaves one pixel at the coarsest stride."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Name and arguments that build the same network again."""

    name: str
    """Registry name, for instance ``"asanet"``."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Every argument of :func:`geoasanet.models.registry.create_model` with its value, defaults included, weights
    excluded; JSON-serialisable."""


class Network(nn.Module):
    """A network that maps an optical and a SAR image of the same ground to class logits.

    In evaluation mode ``model(rgb, sar)`` gives logits (B, K, H, W); in training mode ``(logits, auxiliary logits)``,
    both (B, K, H, W), or the logits alone where the network has no auxiliary head. Inputs are float tensors ``rgb``
    (B, C, H, W) in the order red, green, blue and ``sar`` (B, S, H, W), normalised with the checkpoint's band
    statistics.
    """

    architecture: Architecture
    """How the network was built; set by :func:`geoasanet.models.registry.create_model`."""
    num_classes: int
    """Number of classes K."""
    in_channels: tuple[int, int]
    """Bands of the optical and of the SAR image."""
    auxiliary_weight: float = 0.4
    """Weight of the auxiliary logits' loss in training, as published with the network."""
    has_unused_parameters: bool = False
    """True if some parameters never receive a gradient by design; ``DistributedDataParallel`` must then look for
    them (``find_unused_parameters``)."""
    size_multiple: int = 1
    """Height and width must be multiples of this, pixels."""
    layer_count: int = 0
    """Layers that layer-wise learning rate decay tells apart; 0 where the network tells none."""

    def __init__(self, num_classes: int, in_channels: tuple[int, int]) -> None:
        super().__init__()
        self.num_classes = check_count("num_classes", num_classes, 255)
        if not isinstance(in_channels, list | tuple) or len(in_channels) != 2:
            raise ModelError(f"in_channels must be two numbers (optical, SAR), found {in_channels!r}.")
        rgb_channels, sar_channels = in_channels
        self.in_channels = (
            check_count("in_channels[0]", rgb_channels, 1024),
            check_count("in_channels[1]", sar_channels, 1024),
        )

    def layer_index(self, parameter_name: str) -> int:
        """Return the layer that a parameter counts to, 0 (next to the input) to ``layer_count - 1`` (the output).

        Args:
            parameter_name: Its name in ``named_parameters()``.

        Raises:
            ModelError: If the network does not tell layers apart.
        """
        raise ModelError(
            f"{type(self).__name__} does not tell layers apart, so layer_decay cannot be used ({parameter_name}).",
            "Set layer_decay to null.",
        )

    def check_inputs(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> None:
        """Raise unless both images fit the network and each other.

        Raises:
            ModelError: If a band count is wrong, the two differ in batch or size, or a side is under 32 px or no
                multiple of ``size_multiple``.
        """
        for name, image, channels in (
            ("rgb", rgb_BCHW, self.in_channels[0]),
            ("sar", sar_BSHW, self.in_channels[1]),
        ):
            if image.ndim != 4 or image.shape[1] != channels:
                raise ModelError(
                    f"The network takes {name} as (batch, {channels}, height, width), found {tuple(image.shape)}."
                )
        if rgb_BCHW.shape[0] != sar_BSHW.shape[0] or rgb_BCHW.shape[2:] != sar_BSHW.shape[2:]:
            raise ModelError(
                f"rgb and sar must have the same batch and size, found {tuple(rgb_BCHW.shape)} and "
                f"{tuple(sar_BSHW.shape)}."
            )
        if rgb_BCHW.shape[2] < MIN_SIDE or rgb_BCHW.shape[3] < MIN_SIDE:
            raise ModelError(
                f"Images must be at least {MIN_SIDE} px high and wide, found {tuple(rgb_BCHW.shape[2:])}.",
                "Pad them.",
            )
        height, width = rgb_BCHW.shape[2:]
        step = self.size_multiple
        if height % step or width % step:
            raise ModelError(
                f"Height and width must be multiples of {step} px for this network, found {height}×{width}.",
                f"Pad the images to {-(-height // step) * step}×{-(-width // step) * step}.",
            )


class TwoHeadedNetwork(Network):
    """A network with a head on all its maps and an auxiliary one on a single map.

    Subclasses give ``head``, ``auxiliary`` and ``forward_features``.
    """

    head: nn.Module
    """Gives logits at stride 4 from the list of maps."""
    auxiliary: nn.Module
    """Gives logits from one of them at its own stride."""
    auxiliary_stage: int = 2
    """Which one."""
    align_corners: bool = False
    """How logits are brought to the size of the image."""

    def forward(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (B, K, H, W); in training mode also the auxiliary head's, same shape.

        Raises:
            ModelError: If the images do not fit the network or each other.
        """
        self.check_inputs(rgb_BCHW, sar_BSHW)
        size = rgb_BCHW.shape[2:]
        features = self.forward_features(rgb_BCHW, sar_BSHW)
        logits_BKHW = resize(self.head(features), size, align_corners=self.align_corners)
        if not self.training:
            return logits_BKHW
        auxiliary_BKhw = self.auxiliary(features[self.auxiliary_stage])
        return logits_BKHW, resize(auxiliary_BKhw, size, align_corners=self.align_corners)

    def forward_features(self, rgb_BCHW: Tensor, sar_BSHW: Tensor) -> list[Tensor]:
        """Return the maps that the heads take, finest first."""
        raise NotImplementedError


def check_count(name: str, value: Any, largest: int, smallest: int = 1) -> int:
    """Return ``value`` if it is a whole number in ``smallest..largest``.

    Raises:
        ModelError: If it is not; ``name`` says which argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise ModelError(f"{name} must be a whole number {smallest} to {largest}, found {value!r}.")
    return value


def check_fraction(name: str, value: Any) -> float:
    """Return ``value`` if it is a number in ``[0, 1)``.

    Raises:
        ModelError: If it is not; ``name`` says which argument.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelError(f"{name} must be a number from 0 to below 1, found {value!r}.")
    return float(value)
