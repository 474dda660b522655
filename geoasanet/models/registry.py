"""The networks by name."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geoasanet.errors import ModelError
from geoasanet.garbage import uncollected
from geoasanet.models.afnet import AFNet
from geoasanet.models.asanet import ASANet
from geoasanet.models.cmfnet import CMFNet
from geoasanet.models.cmx import CMX
from geoasanet.models.ftransunet import FTransUNet
from geoasanet.models.fusenet import FuseNet
from geoasanet.models.network import Architecture, Network
from geoasanet.models.sagate import SAGate
from geoasanet.models.upernet import UPerNet

NETWORKS: dict[str, Callable[..., Network]] = {
    "afnet": AFNet,
    "asanet": ASANet,
    "cmfnet": CMFNet,
    "cmx": CMX,
    "ftransunet": FTransUNet,
    "fusenet": FuseNet,
    "sagate": SAGate,
    "upernet": UPerNet,
}
"""Registry name of every network and its class; a new one needs a line here."""


def create_model(
    name: str,
    num_classes: int,
    in_channels: Sequence[int] = (3, 1),
    encoder: str | Mapping[str, Sequence[int]] | None = None,
    *,
    encoder_weights: str | Path | None = None,
    **arguments: Any,
) -> Network:
    """Return a new network, on torch's default device, in training mode.

    Args:
        name: One of :func:`model_names`.
        num_classes: Number of classes K.
        in_channels: Bands of the optical and of the SAR image.
        encoder: Size of the encoders; ``None`` for the network's own, ``"convnextv2_tiny"`` for ASANet.
        encoder_weights: ``None`` for random weights, ``"imagenet"`` for timm's hub, or the path of a file.
        **arguments: What else the network takes; see its class.

    Returns:
        The network; its ``architecture`` holds the name and all arguments, so that a checkpoint can rebuild it.

    Raises:
        ModelError: If the name or an argument is unknown or impossible.
        CheckpointError: If the encoder weights are out of reach or do not fit.
    """
    network = find_network(name)
    signature = inspect.signature(network)
    common: dict[str, Any] = {"num_classes": num_classes, "in_channels": tuple(in_channels)}
    if encoder is not None:
        common["encoder"] = encoder
    given = {**common, **arguments}
    unknown = sorted(set(given) - (set(signature.parameters) - {"encoder_weights"}))
    if unknown:
        known = ", ".join(key for key in signature.parameters if key not in common)
        raise ModelError(f"Model {name} takes no {', '.join(unknown)}.", f"Beside the common ones it takes {known}.")
    bound = signature.bind(**given)
    bound.apply_defaults()
    recorded = {key: value for key, value in bound.arguments.items() if key != "encoder_weights"}
    try:
        recorded = json.loads(json.dumps(recorded))
    except TypeError as error:
        raise ModelError(f"Arguments of model {name} must be plain numbers, text and lists ({error}).") from None
    with uncollected():  # imports what it is built of
        model = network(**given, encoder_weights=encoder_weights)
    model.architecture = Architecture(name, recorded)
    return model


def model_names() -> list[str]:
    """Return the names that :func:`create_model` knows."""
    return sorted(NETWORKS)


def find_network(name: str) -> Callable[..., Network]:
    """Return the class of the network called ``name``.

    Raises:
        ModelError: If there is none; the nearest name is suggested.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    nearest = difflib.get_close_matches(str(name).lower(), model_names(), 1, 0.4)
    known = f"Known are {', '.join(model_names())}."
    raise ModelError(f"Model {name!r} is unknown.", f"Did you mean {nearest[0]}? {known}" if nearest else known)
