"""The learning rate of every step: linear warm-up, then polynomial decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoasanet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Share of the base learning rate that each step of a run gets, known without running the ones before.

    Warm-up and decay multiply where they overlap. A run shorter than twice the warm-up warms up over its first half; a
    decay that would begin after the last step begins where the warm-up ends. So a short run, too, ends at the smallest
    rate.

    Raises:
        ConfigError: If a value is impossible; it names the field.
    """

    iterations: int
    """Steps of the run."""
    warmup: int = 1500
    """Steps over which the rate rises linearly to its base; 0 or 1 for none."""
    warmup_factor: float = 1e-6
    """Share of the base rate that step 0 gets."""
    decay_start: int | None = None
    """Step at which the decay begins, the last one with the full rate; ``None``: after the warm-up."""
    power: float = 1.0
    """Exponent of the polynomial decay."""
    min_lr_ratio: float = 0.0
    """Share of the base rate that the last step gets."""

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ConfigError(f"iterations must be at least 1, found {self.iterations}.")
        if self.warmup < 0:
            raise ConfigError(f"warmup must be 0 or more iterations, found {self.warmup}.")
        if not 0 < self.warmup_factor <= 1:
            raise ConfigError(f"warmup_factor must be above 0 and at most 1, found {self.warmup_factor}.")
        if self.decay_start is not None and self.decay_start < 0:
            raise ConfigError(f"decay_start must be iteration 0 or later, found {self.decay_start}.")
        if not (math.isfinite(self.power) and self.power > 0):
            raise ConfigError(f"power must be above 0, found {self.power}.")
        if not 0 <= self.min_lr_ratio <= 1:
            raise ConfigError(f"The smallest learning rate must be 0 to 1 times lr, found {self.min_lr_ratio} times.")

    def factor(self, iteration: int) -> float:
        """Return what the base rate is multiplied by in step ``iteration``, from 0; after the last, as in the last."""
        return self._warmup(iteration) * self._decay(iteration)

    @property
    def warmup_length(self) -> int:
        """Steps of the warm-up in this run."""
        return min(self.warmup, self.iterations // 2)

    def _warmup(self, iteration: int) -> float:
        rising = self.warmup_length - 1
        if iteration >= rising:
            return 1.0
        return self.warmup_factor + (1 - self.warmup_factor) * iteration / rising

    def _decay(self, iteration: int) -> float:
        start = self.warmup_length if self.decay_start is None else self.decay_start
        if start >= self.iterations:
            start = self.warmup_length
        falling = self.iterations - 1 - start
        if iteration <= start or falling == 0:
            return 1.0
        left = max(0.0, 1 - (iteration - start) / falling)
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * math.pow(left, self.power)
