"""Naming a network with arguments on one line: ``sagate``, ``fusenet:variant=sf5``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geoasanet.errors import ConfigError
from geoasanet.models.registry import find_network, model_names

ALL = "all"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network and the arguments in which it differs from its defaults."""

    name: str
    """Registry name."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of :func:`geoasanet.models.registry.create_model`."""

    @property
    def label(self) -> str:
        """The text that :meth:`parse` reads."""
        return ":".join([self.name, *argument_pairs(self.arguments)])

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Return what ``name:key=value:key=value`` names; values are JSON, else text.

        Raises:
            ConfigError: If a part is no ``key=value``.
            ModelError: If the name is unknown.
        """
        name, *pairs = text.strip().split(":")
        find_network(name)
        arguments: dict[str, Any] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or not key.isidentifier():
                raise ConfigError(
                    f"{pair!r} in {text!r} is no argument.", f"Write {name}:key=value, for instance {name}:dropout=0.2."
                )
            arguments[key] = _value(value)
        return cls(name, arguments)


def parse_specs(models: str | Sequence[str]) -> tuple[ModelSpec, ...]:
    """Return the networks named by ``"all"``, by names separated by commas, or by a list of names.

    Raises:
        ConfigError: If none or one twice is named, or an argument is malformed.
        ModelError: If a name is unknown.
    """
    names = models.split(",") if isinstance(models, str) else list(models)
    if [name.strip() for name in names] == [ALL]:
        names = model_names()
    specs = tuple(ModelSpec.parse(name) for name in names if name.strip())
    if not specs:
        raise ConfigError("No network was named.", f"Give all, or some of {', '.join(model_names())}.")
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"Network {label} is named twice.", "Name it once.")
    return specs


def argument_pairs(arguments: Mapping[str, Any]) -> list[str]:
    """Return ``key=value`` for each argument."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in arguments.items()]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
