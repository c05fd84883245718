"""Predicts what settings cost that were never measured, from those that were.

A component's graph has a curve over the levers it depends on: measured at knots, multilinear between them, never
falling as a lever rises. A whole call costs its components' curves added up, and what a call spends outside of them.
Outside of the measured range nothing is predicted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product

from sanderling.ladder import Cost, Ladder, Quality, Rung, front

BETWEEN = 3
"""Settings put between two neighbouring rungs. More would buy little: an engine may prepare itself anew for each."""

TRUSTED = 0.15
"""Largest relative error, as cross-validated, of a model that is planned with."""


@dataclass(frozen=True)
class Curve:
    """A quantity over the settings of some levers.

    Attributes:
        levers: names, in the order of `knots`; none for a constant.
        knots: ascending settings per lever.
        values: at every combination of knots, the last lever's running fastest.
    """

    levers: tuple[str, ...]
    knots: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]

    def at(self, settings: Mapping[str, int]) -> float | None:
        """Return the value at settings, multilinear between knots; None outside of them."""
        corners: list[tuple[tuple[int, float], ...]] = []
        for lever, knots in zip(self.levers, self.knots, strict=True):
            setting = settings[lever]
            if not knots[0] <= setting <= knots[-1]:
                return None
            above = bisect_left(knots, setting)
            if knots[above] == setting:
                corners.append(((above, 1.0),))
            else:
                share = (setting - knots[above - 1]) / (knots[above] - knots[above - 1])
                corners.append(((above - 1, 1.0 - share), (above, share)))
        total = 0.0
        for corner in product(*corners):
            place, weight = 0, 1.0
            for (index, share), knots in zip(corner, self.knots, strict=True):
                place, weight = place * len(knots) + index, weight * share
            total += weight * self.values[place]
        return total


@dataclass(frozen=True)
class PartCost:
    """Milliseconds of one component's graph, loops included, by percentile."""

    component: str
    graph: str
    p50_ms: Curve
    p90_ms: Curve
    p99_ms: Curve


@dataclass(frozen=True)
class WholeUse:
    """What a whole call takes besides time, for one choice of graphs; None where there was no meter."""

    graphs: dict[str, str]
    memory_mb: Curve | None
    energy_j: Curve | None


@dataclass(frozen=True)
class Predicted:
    """What a setting is predicted to cost; energy and memory are None where there was no meter."""

    latency: Cost
    components: dict[str, Cost]
    memory_mb: float | None
    energy_j: float | None


@dataclass(frozen=True)
class CostModel:
    """Curves fitted to one machine's measurements.

    Attributes:
        parts: one per component and graph.
        wholes: one per choice of graphs.
        beyond_ms: p50, p90 and p99 of a call beyond the sum of its components' percentiles. The two high ones may be
            negative, because the components' slow moments rarely meet in one call.
        error: p90 of |predicted - measured| / measured over whole calls' medians and p90s, each predicted by a model
            fitted without any measurement at its settings; None when too few were measured to leave some out.
        held_out: how many settings were left out in turn.
    """

    parts: tuple[PartCost, ...]
    wholes: tuple[WholeUse, ...]
    beyond_ms: tuple[float, float, float]
    error: float | None
    held_out: int

    def predict(self, settings: Mapping[str, int], graphs: Mapping[str, str]) -> Predicted | None:
        """Return the predicted cost of a setting, measured or not; None where there is nothing to go by.

        Args:
            settings: of every lever.
            graphs: component -> graph.
        """
        components: dict[str, Cost] = {}
        for part in self.parts:
            if graphs.get(part.component) == part.graph:
                cost = _cost([curve.at(settings) for curve in (part.p50_ms, part.p90_ms, part.p99_ms)])
                if cost is None:
                    return None
                components[part.component] = cost
        # What did not run in the profile, for want of an input, is in no measured cost either.
        if not components or set(components) != {part.component for part in self.parts} & set(graphs):
            return None
        sums = zip(*((c.p50_ms, c.p90_ms, c.p99_ms) for c in components.values()), strict=True)
        p50, p90, p99 = (sum(column) + beyond for column, beyond in zip(sums, self.beyond_ms, strict=True))
        latency = Cost(p50, max(p50, p90), max(p50, p90, p99), 0)
        whole = next((w for w in self.wholes if w.graphs == graphs), None)
        memory, energy = (whole.memory_mb, whole.energy_j) if whole else (None, None)
        return Predicted(
            latency, components, memory.at(settings) if memory else None, energy.at(settings) if energy else None
        )


def refined(ladder: Ladder, model: CostModel | None) -> Ladder:
    """Return the ladder with settings between its rungs that nobody measured, where the model can be trusted.

    Between two neighbouring rungs of the same graphs come up to `BETWEEN` settings. Each is planned as costing what the
    model predicts and the model's own error on top, and as being as good as the straight line from the lower rung's
    score to the *low end* of the upper rung's interval: where a measurement cannot tell the two rungs apart, nothing
    between them is better than the lower one, and nothing is added. Memory is the upper rung's.

    Args:
        ladder: as measured.
        model: fitted to the same measurements; None returns the ladder as it is.
    """
    if model is None or model.error is None or model.error > TRUSTED:
        return ladder
    found: list[Rung] = []
    for lower, upper in pairwise(ladder.rungs):
        found += _between(lower, upper, model, model.error)
    if not found:
        return ladder
    full = ladder.rungs[-1]
    kept = front([*ladder.rungs[:-1], *found])
    return Ladder(ladder.metric, (*kept, full))


def _between(lower: Rung, upper: Rung, model: CostModel, error: float) -> list[Rung]:
    if lower.graphs != upper.graphs or any(upper.settings[k] < v for k, v in lower.settings.items()):
        return []
    found = []
    steps = min(BETWEEN + 1, max(upper.settings[k] - v for k, v in lower.settings.items()))
    for step in range(1, steps):
        share = step / steps
        settings = {k: round(v + share * (upper.settings[k] - v)) for k, v in lower.settings.items()}
        predicted = model.predict(settings, lower.graphs)
        if predicted is None or settings in (lower.settings, upper.settings):
            continue
        latency = _dearer(predicted.latency, 1 + error)
        quality = _quality(lower.quality, upper.quality, share)
        inside = lower.latency.p50_ms < latency.p50_ms < upper.latency.p50_ms
        if inside and quality.score > lower.quality.score:
            components = {name: _dearer(cost, 1 + error) for name, cost in predicted.components.items()}
            energy = None if predicted.energy_j is None else predicted.energy_j * (1 + error)
            rung = Rung(settings, lower.graphs, latency, components, upper.memory_mb, quality, energy)
            found.append(rung)
    return found


def _quality(lower: Quality, upper: Quality, share: float) -> Quality:
    score = lower.score + share * (max(lower.score, upper.low) - lower.score)
    low = lower.low + share * (max(lower.low, upper.low) - lower.low)
    return Quality(score, min(low, score), max(lower.high, upper.high), 0)


def _dearer(cost: Cost, factor: float) -> Cost:
    return replace(cost, p50_ms=cost.p50_ms * factor, p90_ms=cost.p90_ms * factor, p99_ms=cost.p99_ms * factor)


def _cost(values: list[float | None]) -> Cost | None:
    known = [value for value in values if value is not None]
    return Cost(known[0], known[1], known[2], 0) if len(known) == len(values) else None
