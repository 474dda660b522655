"""The networks: a table of all, and one in detail."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from geoasanet.models.cards import CARDS, SOURCE, Published, about, argument_texts
from geoasanet.models.flops import NUM_CLASSES, SIZE, build_on_meta, cost_of
from geoasanet.models.network import MIN_SIDE
from geoasanet.models.registry import find_network, model_names
from geoasanet.tools.modelspec import ModelSpec


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A network in the table."""

    name: str
    """Registry name."""
    title: str
    """Its usual spelling."""
    year: int
    """Year of the paper."""
    paper: str
    """First author and venue."""
    doi: str
    arxiv: str
    """Number of the preprint; like ``doi`` empty where there is none."""
    encoder: str
    """Default encoder of both sensors."""
    parameters: int
    """Trainable values without auxiliary head, for 6 classes and one SAR band."""
    auxiliary_parameters: int
    """Those of the auxiliary head; 0 where there is none."""
    macs: int
    """Multiply-accumulates for one image of 256×256 px."""
    weights_licence: str
    """Licence of the encoder's ImageNet weights."""
    weights: str
    """Whose they are."""
    published: Published | None
    """The ASANet paper's figures; ``None`` where it has none."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModelArgument:
    """An argument of a network."""

    name: str
    default: Any
    """What it is if not given; :data:`REQUIRED` if it must be."""
    text: str
    """What it means."""


@dataclass(frozen=True, slots=True)
class ModelVariant:
    """A network under other arguments."""

    label: str
    """How to name it, for instance ``"fusenet:variant=sf5"``."""
    arguments: Mapping[str, Any]
    text: str
    """What it is."""
    parameters: int
    """Trainable values without auxiliary head."""
    macs: int
    """Multiply-accumulates for one image of 256×256 px."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One network in detail."""

    info: ModelInfo
    about: tuple[str, ...]
    """Paragraphs: what it is, its sources, how it differs from them, licences."""
    arguments: tuple[ModelArgument, ...]
    """What :func:`geoasanet.create_model` takes for it."""
    variants: tuple[ModelVariant, ...]
    """Other published forms."""
    smallest_side: int
    """Least height and width, pixels."""
    size_multiple: int
    """Height and width must be multiples of this, pixels."""
    auxiliary_weight: float | None
    """Weight of the auxiliary head's loss; ``None`` without such a head."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        rest = asdict(self)
        return {**rest.pop("info"), **rest}


REQUIRED = "(required)"


def list_models() -> tuple[ModelInfo, ...]:
    """Return all networks, oldest first, with what they cost for 6 classes, one SAR band and 256×256 px.

    Multiply-accumulates are those of convolutions and matrix products.
    """
    return tuple(sorted((_info(name) for name in model_names()), key=lambda info: (info.year, info.name)))


def describe_model(name: str) -> ModelDescription:
    """Return one network in detail.

    Args:
        name: Registry name.

    Raises:
        ModelError: If it is unknown; the nearest name is suggested.
    """
    info, network = _info(name), build_on_meta(name)
    texts = argument_texts(name)
    parameters = inspect.signature(find_network(name)).parameters.values()
    return ModelDescription(
        info=info,
        about=about(name),
        arguments=tuple(
            ModelArgument(p.name, REQUIRED if p.default is p.empty else _plain(p.default), texts.get(p.name, ""))
            for p in parameters
        ),
        variants=tuple(_variant(name, variant.arguments, variant.text) for variant in CARDS[name].variants),
        smallest_side=max(MIN_SIDE, network.size_multiple),
        size_multiple=network.size_multiple,
        auxiliary_weight=network.auxiliary_weight if info.auxiliary_parameters else None,
    )


def table_notes() -> dict[str, Any]:
    """Return what all figures of :func:`list_models` were counted for, and where the published ones come from."""
    return {"size": SIZE, "num_classes": NUM_CLASSES, "in_channels": [3, 1], "published_source": SOURCE}


def _info(name: str) -> ModelInfo:
    signature = inspect.signature(find_network(name))
    card = CARDS[name]
    cost = card.cost
    encoder = signature.parameters.get("encoder")
    return ModelInfo(
        name=name,
        title=card.title,
        year=card.year,
        paper=card.paper,
        doi=card.doi,
        arxiv=card.arxiv,
        encoder=card.encoder if encoder is None else str(encoder.default),
        parameters=cost.parameters,
        auxiliary_parameters=cost.auxiliary_parameters,
        macs=cost.macs,
        weights_licence=card.weights_licence,
        weights=card.weights,
        published=card.published,
    )


def _variant(name: str, arguments: Mapping[str, Any], text: str) -> ModelVariant:
    cost = cost_of(name, arguments)
    return ModelVariant(ModelSpec(name, arguments).label, dict(arguments), text, cost.parameters, cost.macs)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
