"""Elastic training: every step draws a setting of the levers, so that one student is good at every rung.

The sandwich rule of universally slimmable networks (Yu and Huang 2019, "Universally Slimmable Networks and Improved
Training Techniques", section 3.3): the largest and the smallest setting bound what all others can reach, so they are
trained besides random ones. The paper does so at every step; `ends_every` does it now and then, which is cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sanderling.errors import RecipeError


class Draw(Protocol):
    """A distribution over the settings of one lever."""

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest setting."""
        ...

    def __call__(self, rng: np.random.Generator) -> int:
        """Return one setting."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Every setting from `low` to `high` alike; with `log` every doubling alike, so small ones come more often."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise RecipeError(f"settings from {self.low} to {self.high}: expected 1 or more, the lower first")

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest setting."""
        return self.low, self.high

    def __call__(self, rng: np.random.Generator) -> int:
        """Return one setting."""
        if not self.log:
            return int(rng.integers(self.low, self.high + 1))
        return int(np.exp(rng.uniform(np.log(self.low), np.log(self.high + 1))))


@dataclass(frozen=True)
class Choice:
    """One of the values; all alike, or in proportion to `chances`."""

    values: tuple[int, ...]
    chances: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.values or min(self.values) < 1:
            raise RecipeError(f"settings {self.values}: expected one or more, all 1 or more")
        if self.chances and (len(self.chances) != len(self.values) or not min(self.chances) >= 0 < sum(self.chances)):
            raise RecipeError(f"chances {self.chances} for {len(self.values)} settings: give one each, 0 or more")

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest setting."""
        return min(self.values), max(self.values)

    def __call__(self, rng: np.random.Generator) -> int:
        """Return one setting."""
        p = np.array(self.chances) / sum(self.chances) if self.chances else None
        return int(rng.choice(self.values, p=p))


@dataclass(frozen=True)
class Elastic:
    """Which settings each step trains.

    Attributes:
        levers: lever name -> the distribution of its settings; none trains the full model only.
        draws: random settings a step; the gradients of all settings of a step are averaged.
        ends_every: steps between those that also train the smallest and the largest setting of all levers; 0 for none.
    """

    levers: Mapping[str, Draw] = field(default_factory=dict)
    draws: int = 1
    ends_every: int = 4

    def __post_init__(self) -> None:
        if self.draws < 0 or self.ends_every < 0:
            raise RecipeError(f"draws {self.draws} and ends_every {self.ends_every}: expected 0 or more")
        if self.draws == 0 and self.ends_every != 1:
            raise RecipeError("no random draws and not the ends at every step: some steps would train nothing")

    @property
    def largest(self) -> dict[str, int]:
        """The setting with every lever at its largest."""
        return {name: draw.ends[1] for name, draw in self.levers.items()}

    @property
    def smallest(self) -> dict[str, int]:
        """The setting with every lever at its smallest."""
        return {name: draw.ends[0] for name, draw in self.levers.items()}

    def settings(self, seed: int, step: int) -> tuple[dict[str, int], ...]:
        """Return the settings of a step, the same for the same seed on every machine and process."""
        if not self.levers:
            return ({},)
        rng = np.random.default_rng((seed, step, _STREAM))
        drawn = tuple({name: draw(rng) for name, draw in self.levers.items()} for _ in range(self.draws))
        if self.ends_every == 0 or step % self.ends_every:
            return drawn
        return (self.largest, self.smallest, *drawn)


_STREAM = 0x5A17
"""Keeps the draws independent of batches that a task seeds with (seed, step)."""
