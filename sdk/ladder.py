"""The ladder: Pareto-best lever settings with their measured cost and quality, cheapest first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sanderling.errors import BudgetError


@dataclass(frozen=True)
class Cost:
    """Milliseconds of many calls, by percentile; `samples` is 0 for a predicted cost."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    samples: int

    def at(self, percentile: float) -> float:
        """Return the milliseconds at a percentile from 50 to 99, between the measured ones by straight lines."""
        if not 50 <= percentile <= 99:
            raise BudgetError(f"percentile {percentile} was not measured; choose one from 50 to 99")
        if percentile <= 90:
            return self.p50_ms + (self.p90_ms - self.p50_ms) * (percentile - 50) / 40
        return self.p90_ms + (self.p99_ms - self.p90_ms) * (percentile - 90) / 9


@dataclass(frozen=True)
class Quality:
    """A score from 0 to 1 with its 95 % confidence interval; `samples` is 0 for a predicted score."""

    score: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Rung:
    """One setting of all levers, with what it costs and how good it is.

    Attributes:
        settings: lever name -> setting.
        graphs: component name -> name of the graph that runs it.
        latency: a whole call, preparation of the inputs included.
        components: component name -> its own cost, loops included.
        memory_mb: peak resident memory of the process while calling, or None where the system does not tell.
        quality: on the evaluation set.
        energy_j: joules of one call, idle power of the metered part included, or None where there is no meter.
    """

    settings: dict[str, int]
    graphs: dict[str, str]
    latency: Cost
    components: dict[str, Cost]
    memory_mb: float | None
    quality: Quality
    energy_j: float | None = None

    @property
    def measured(self) -> bool:
        """Whether calls of this very setting were timed; a cost model predicts the others."""
        return self.latency.samples > 0


@dataclass(frozen=True)
class Ladder:
    """The rungs, cheapest first, quality rising with cost.

    Attributes:
        metric: what quality means, such as "accuracy" or "agreement with the full model".
        rungs: the last one is the full model; empty only while a bundle is being measured.
    """

    metric: str
    rungs: tuple[Rung, ...]


def front(rungs: list[Rung]) -> tuple[Rung, ...]:
    """Return the rungs that no other beats in both p50 latency and quality, cheapest first."""
    best: list[Rung] = []
    highest = -math.inf
    for rung in sorted(rungs, key=lambda r: (r.latency.p50_ms, -r.quality.score)):
        if rung.quality.score > highest:
            best.append(rung)
            highest = rung.quality.score
    return tuple(best)
