"""Budgets, plans, and the planner that turns one into the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sanderling.errors import BudgetError, BudgetTooSmallError
from sanderling.ladder import Ladder, Rung


@dataclass(frozen=True)
class Budget:
    """What one call may cost.

        Budget(latency_ms=33)                         best quality that ends within 33 ms in 9 calls of 10
        Budget(latency_ms=33, percentile=99)          the same in 99 calls of 100
        Budget(min_quality=0.95)                      best quality, refused when the ladder has none that good
        Budget(latency_ms=5, otherwise="cheapest")    the cheapest rung when none fits, instead of an error

    Attributes:
        latency_ms: for the whole call, preparation of the inputs included.
        percentile: of the calls that are to end within `latency_ms`, 50 to 99.
        memory_mb: peak resident memory of the process.
        min_quality: on the scale of the ladder's metric, 0 to 1.
        otherwise: what to do when no rung fits.
    """

    latency_ms: float | None = None
    percentile: float = 90.0
    memory_mb: float | None = None
    min_quality: float | None = None
    otherwise: Literal["refuse", "cheapest"] = "refuse"

    def __post_init__(self) -> None:
        for name in ("latency_ms", "memory_mb"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise BudgetError(f"{name} is {value}, expected a number above 0; leave it out for no limit")
        if self.min_quality is not None and not 0 <= self.min_quality <= 1:
            raise BudgetError(f"min_quality is {self.min_quality}, expected 0 to 1")
        if not 50 <= self.percentile <= 99:
            raise BudgetError(f"percentile is {self.percentile}, expected 50 to 99")
        if self.otherwise not in ("refuse", "cheapest"):
            raise BudgetError(f"otherwise is {self.otherwise!r}, expected 'refuse' or 'cheapest'")


UNLIMITED = Budget()
"""No limit on anything: the best rung."""


@dataclass(frozen=True)
class Plan:
    """What a call is going to do.

    Attributes:
        settings: lever name -> setting.
        graphs: component name -> graph.
        predicted_ms: at the budget's percentile, slowdown included; None for a setting nobody measured.
        typical_ms: the measured median without slowdown, which the controller compares with; None likewise.
        reason: why this rung, in one sentence.
    """

    settings: dict[str, int]
    graphs: dict[str, str]
    predicted_ms: float | None
    typical_ms: float | None
    reason: str


class Planner:
    """Chooses a rung for a budget in microseconds: every cost is laid out before the first call.

    Args:
        ladder: the rungs.
        components: which components the call runs; None for all. A call without text, say, runs fewer.
    """

    def __init__(self, ladder: Ladder, components: frozenset[str] | None = None) -> None:
        self.ladder = ladder
        self._components = components
        self._best_first = tuple(reversed(ladder.rungs))
        self._costs: dict[float, tuple[float, ...]] = {}

    def plan(self, budget: Budget, slowdown: float = 1.0) -> Plan:
        """Return the plan for the best rung inside the budget.

        Args:
            budget: what the call may cost.
            slowdown: measured over predicted cost lately; multiplies every prediction.

        Raises:
            BudgetTooSmallError: no rung fits and the budget says to refuse.
            BudgetError: the budget limits something that was not measured.
        """
        costs = self._costs.get(budget.percentile) or self._lay_out(budget.percentile)
        limit = math.inf if budget.latency_ms is None else budget.latency_ms
        for index, rung in enumerate(self._best_first):
            predicted = costs[index] * slowdown
            if predicted <= limit and _allows(budget, rung):
                return self._answer(rung, predicted, "best rung that fits" if index else "the full model fits")
        return self._nothing_fits(budget, costs, slowdown)

    def cost_ms(self, rung: Rung, percentile: float) -> float:
        """Return the predicted milliseconds of a rung, for the components this planner is about."""
        if self._components is None or self._components >= set(rung.components):
            return rung.latency.at(percentile)
        return sum(cost.at(percentile) for name, cost in rung.components.items() if name in self._components)

    def _lay_out(self, percentile: float) -> tuple[float, ...]:
        self._costs[percentile] = tuple(self.cost_ms(rung, percentile) for rung in self._best_first)
        return self._costs[percentile]

    def _answer(self, rung: Rung, predicted_ms: float, reason: str) -> Plan:
        return Plan(rung.settings, rung.graphs, predicted_ms, self.cost_ms(rung, 50.0), reason)

    def _nothing_fits(self, budget: Budget, costs: tuple[float, ...], slowdown: float) -> Plan:
        if not costs:
            raise BudgetError("this bundle has no rungs yet; `sanderling profile` measures them")
        fits = [i for i, rung in enumerate(self._best_first) if _allows(budget, rung)]
        if not fits:
            raise BudgetError(_why_none(budget, self.ladder))
        cheapest = min(fits, key=lambda i: costs[i])
        predicted = costs[cheapest] * slowdown
        if budget.otherwise == "cheapest":
            return self._answer(
                self._best_first[cheapest], predicted, f"cheapest rung; {budget.latency_ms:g} ms is too little"
            )
        raise BudgetTooSmallError(
            f"budget {budget.latency_ms:g} ms at p{budget.percentile:g} is below the cheapest rung, predicted "
            f"{predicted:.3g} ms at slowdown {slowdown:.2f}; ask for at least that, "
            "or pass otherwise='cheapest' (--cheapest on the command line) to take that rung and miss",
            cheapest_ms=predicted,
        )


def _allows(budget: Budget, rung: Rung) -> bool:
    if budget.min_quality is not None and rung.quality.score < budget.min_quality:
        return False
    if budget.memory_mb is None:
        return True
    if rung.memory_mb is None:
        raise BudgetError("memory was not measured on this device, so memory_mb cannot be kept; leave it out")
    return rung.memory_mb <= budget.memory_mb


def _why_none(budget: Budget, ladder: Ladder) -> str:
    best = ladder.rungs[-1].quality.score
    leanest = min((r.memory_mb for r in ladder.rungs if r.memory_mb is not None), default=math.nan)
    return (
        f"no rung has quality of at least {budget.min_quality} within memory {budget.memory_mb} MB; "
        f"the best quality is {best:.3f} and the leanest rung takes {leanest:.0f} MB"
    )
