"""Budgets, plans, and the planner that turns one into the other."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import BudgetError, BudgetTooSmallError
from sanderling.ladder import Ladder, Rung

OnMiss: TypeAlias = Literal["report", "error", "degrade", "last_good", "partial"]
"""What becomes of a call that took longer than its `latency_ms`; see `Budget.on_miss`."""

Otherwise: TypeAlias = Literal["refuse", "cheapest"]


@dataclass(frozen=True)
class Budget:
    """What one call may cost.

        Budget(latency_ms=33)                         best quality that ends within 33 ms in 9 calls of 10
        Budget(latency_ms=33, percentile=99)          the same in 99 calls of 100
        Budget(min_quality=0.95)                      best quality, refused when the ladder has none that good
        Budget(latency_ms=5, otherwise="cheapest")    the cheapest rung when none fits, instead of an error
        Budget(latency_ms=33, on_miss="last_good")    a late answer is replaced by the last one that was in time

    Attributes:
        latency_ms: for the whole call, preparation of the inputs included.
        percentile: of the calls that are to end within `latency_ms`, 50 to 99.
        memory_mb: peak resident memory of the process.
        min_quality: on the scale of the ladder's metric, 0 to 1.
        otherwise: what to do when no rung fits.
        energy_j: joules of one call, as the ladder's meter counts them.
        on_miss: what to do when a call took longer than `latency_ms`. "report" says so in the receipt and nothing
            else; "error" raises `DeadlineMissedError`, which has the answer; "degrade" plans the next call as slow as
            this one was, and takes the cheapest rung rather than refuse because the device slowed down; "last_good"
            returns the last outputs that were in time; "partial" stops a looped component when the time is used up
            and returns what it has. None takes the session's, then the bundle's, then "report".
    """

    latency_ms: float | None = None
    percentile: float = 90.0
    memory_mb: float | None = None
    min_quality: float | None = None
    otherwise: Otherwise = "refuse"
    energy_j: float | None = None
    on_miss: OnMiss | None = None

    def __post_init__(self) -> None:
        for name in ("latency_ms", "memory_mb", "energy_j"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and math.isfinite(value) and value > 0):
                raise BudgetError(f"{name} is {value!r}, expected a number above 0; leave it out for no limit")
        if self.min_quality is not None and not (_is_number(self.min_quality) and 0 <= self.min_quality <= 1):
            raise BudgetError(f"min_quality is {self.min_quality!r}, expected 0 to 1")
        if not (_is_number(self.percentile) and 50 <= self.percentile <= 99):
            raise BudgetError(f"percentile is {self.percentile!r}, expected 50 to 99")
        if self.otherwise not in get_args(Otherwise):
            raise BudgetError(f"otherwise is {self.otherwise!r}, expected 'refuse' or 'cheapest'")
        if self.on_miss is not None and self.on_miss not in get_args(OnMiss):
            raise BudgetError(f"on_miss is {self.on_miss!r}, expected one of {', '.join(get_args(OnMiss))}")
        if self.on_miss not in (None, "report") and self.latency_ms is None:
            raise BudgetError(f"on_miss={self.on_miss!r} without latency_ms: there is no deadline to miss; give both")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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


@dataclass(frozen=True)
class _Stairs:
    """The rungs that a budget's other limits allow, sorted by cost: costs_ms[i] buys rung best[i] at best."""

    costs_ms: list[float]
    best: list[int]
    cheapest: int


class Planner:
    """Chooses a rung for a budget in microseconds: every cost is laid out and sorted before it is asked for.

    The ladder's order is the order of preference: its last rung is the full model, and quality rises towards it. The
    plan is the last rung inside every limit, however many levers set the rungs apart. Limits on energy, memory and
    quality do not depend on the slowdown, so the rungs they leave are sorted by latency once, each with the best rung
    at that cost or below; a plan is then one bisection.

    Args:
        ladder: the rungs.
        components: which components the call runs; None for all. A call without text, say, runs fewer.
    """

    REMEMBERED = 256
    """Combinations of percentile and other limits whose sorted rungs are kept."""

    def __init__(self, ladder: Ladder, components: frozenset[str] | None = None) -> None:
        self.ladder = ladder
        self._components = components
        rungs = ladder.rungs
        self._quality = np.array([rung.quality.score for rung in rungs], dtype=np.float64)
        self._memory = np.array([_or_nan(rung.memory_mb) for rung in rungs], dtype=np.float64)
        self._energy = np.array([_or_nan(rung.energy_j) for rung in rungs], dtype=np.float64)
        self._typical = tuple(self.cost_ms(rung, 50.0) for rung in rungs)
        self._costs: dict[float, NDArray[np.float64]] = {}
        self._stairs: dict[tuple[float, float | None, float | None, float | None], _Stairs] = {}
        self._tails: dict[float, float] = {}

    def plan(self, budget: Budget, slowdown: float = 1.0) -> Plan:
        """Return the plan for the best rung inside the budget.

        Args:
            budget: what the call may cost.
            slowdown: measured over predicted cost lately; multiplies every prediction.

        Raises:
            BudgetTooSmallError: no rung fits and the budget says to refuse.
            BudgetError: the budget limits something that was not measured.
        """
        key = (budget.percentile, budget.memory_mb, budget.energy_j, budget.min_quality)
        stairs = self._stairs.get(key) or self._lay_out(key, budget)
        costs, limit = stairs.costs_ms, budget.latency_ms
        if limit is None:
            step = len(costs)
        else:
            # The bisection divides and the promise multiplies, so the last digit may differ.
            step = bisect_right(costs, limit / slowdown)
            while step < len(costs) and costs[step] * slowdown <= limit:
                step += 1
            while step and costs[step - 1] * slowdown > limit:
                step -= 1
        if not step:
            return self._nothing_fits(budget, stairs, slowdown)
        place = stairs.best[step - 1]
        reason = "the full model fits" if place == len(self.ladder.rungs) - 1 else "best rung that fits"
        return self._answer(place, budget.percentile, slowdown, reason)

    def cost_ms(self, rung: Rung, percentile: float) -> float:
        """Return the predicted milliseconds of a rung, for the components this planner is about."""
        if self._components is None or self._components >= set(rung.components):
            return rung.latency.at(percentile)
        return sum(cost.at(percentile) for name, cost in rung.components.items() if name in self._components)

    def tail(self, percentile: float) -> float:
        """Return by how much a percentile exceeded the median when the ladder was measured, over its rungs."""
        if percentile not in self._tails:
            costs = self._costs_at(percentile)
            ratios = [float(c) / t for c, t in zip(costs, self._typical, strict=True) if t > 0]
            self._tails[percentile] = median(ratios) if ratios else 1.0
        return self._tails[percentile]

    def _costs_at(self, percentile: float) -> NDArray[np.float64]:
        if percentile not in self._costs:
            self._costs[percentile] = np.array([self.cost_ms(rung, percentile) for rung in self.ladder.rungs])
        return self._costs[percentile]

    def _lay_out(self, key: tuple[float, float | None, float | None, float | None], budget: Budget) -> _Stairs:
        """Return the rungs that the limits besides latency allow, by cost."""
        if not self.ladder.rungs:
            raise BudgetError("this bundle has no rungs yet; `sanderling profile` measures them")
        allowed = np.ones(len(self.ladder.rungs), dtype=bool)
        for name, limit, taken in (
            ("memory_mb", budget.memory_mb, self._memory),
            ("energy_j", budget.energy_j, self._energy),
        ):
            if limit is not None:
                if np.isnan(taken).any():
                    raise BudgetError(
                        f"{name.partition('_')[0]} was not measured on this device, so {name} cannot be kept; leave it "
                        "out, or run `sanderling profile` where there is a meter"
                    )
                allowed &= taken <= limit
        if budget.min_quality is not None:
            allowed &= self._quality >= budget.min_quality
        places = np.flatnonzero(allowed)
        if not places.size:
            raise BudgetError(_why_none(budget, self.ladder))
        costs = self._costs_at(budget.percentile)[places]
        order = np.argsort(costs, kind="stable")
        best = np.maximum.accumulate(places[order])
        if len(self._stairs) >= self.REMEMBERED:
            self._stairs.clear()
        self._stairs[key] = _Stairs(costs[order].tolist(), best.tolist(), int(places[order[0]]))
        return self._stairs[key]

    def _answer(self, place: int, percentile: float, slowdown: float, reason: str) -> Plan:
        rung = self.ladder.rungs[place]
        predicted = float(self._costs_at(percentile)[place]) * slowdown
        if not rung.measured:
            reason += ", predicted from its measured neighbours"
        return Plan(rung.settings, rung.graphs, predicted, self._typical[place], reason)

    def _nothing_fits(self, budget: Budget, stairs: _Stairs, slowdown: float) -> Plan:
        assert budget.latency_ms is not None, "without a deadline every allowed rung fits"
        cheapest = stairs.costs_ms[0]
        slowed_down = budget.on_miss == "degrade" and cheapest <= budget.latency_ms
        if budget.otherwise == "cheapest" or slowed_down:
            reason = f"cheapest rung; {budget.latency_ms:g} ms is too little"
            return self._answer(stairs.cheapest, budget.percentile, slowdown, reason)
        raise BudgetTooSmallError(
            f"budget {budget.latency_ms:g} ms at p{budget.percentile:g} is below the cheapest rung, predicted "
            f"{cheapest * slowdown:.3g} ms at slowdown {slowdown:.2f}; ask for at least that, "
            "or pass otherwise='cheapest' (--cheapest on the command line) to take that rung and miss",
            cheapest_ms=cheapest * slowdown,
        )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _why_none(budget: Budget, ladder: Ladder) -> str:
    """Return which limits no rung keeps together, each with the best that the ladder has."""
    words = []
    if budget.min_quality is not None:
        best = max(rung.quality.score for rung in ladder.rungs)
        words.append(f"quality of at least {budget.min_quality} (the best quality is {best:.3f})")
    if budget.memory_mb is not None:
        leanest = min(_or_nan(rung.memory_mb) for rung in ladder.rungs)
        words.append(f"at most {budget.memory_mb:g} MB (the leanest rung takes {leanest:.0f} MB)")
    if budget.energy_j is not None:
        least = min(_or_nan(rung.energy_j) for rung in ladder.rungs)
        words.append(f"at most {budget.energy_j:g} J (the least is {least:.3g} J)")
    return f"no rung has {' and '.join(words)}; relax one of them"
