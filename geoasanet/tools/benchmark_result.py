"""What a benchmark of networks finds."""

from __future__ import annotations

from dataclasses import dataclass

from geoasanet.models.cards import Published
from geoasanet.tools.benchmark_speed import Speed


@dataclass(frozen=True, slots=True)
class NetworkSpeed:
    """One network on this machine."""

    label: str
    """Its name, and the arguments in which it differs from its defaults."""
    parameters: int
    """Trainable values without auxiliary head."""
    macs: int
    """Multiply-accumulates for one image."""
    published: Published | None
    """The ASANet paper's figures, where they are of this network with these arguments."""
    speeds: tuple[Speed, ...]
    """One for each arithmetic and batch size that ran."""
    failures: tuple[str, ...]
    """What did not run, and why."""

    def shown(self) -> tuple[Speed, ...]:
        """Return what a table shows: the batch sizes asked for, and of a search the best one."""
        searched = {(s.precision, s.compiled) for s in self.speeds if s.best}
        return tuple(s for s in self.speeds if s.best or s.batch == 1 or (s.precision, s.compiled) not in searched)

    def fastest(self) -> Speed | None:
        """Return the fastest speed, ``None`` if nothing ran."""
        return max(self.speeds, key=lambda speed: speed.images_per_second, default=None)


def arithmetic_name(precision: str, compiled: bool) -> str:
    """Return an arithmetic in words."""
    return f"{precision} compiled" if compiled else precision
