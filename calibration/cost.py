"""Fits the cost model to what was measured, and says how far off it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sanderling.cost_model import CostModel, Curve, PartCost, WholeUse
from sanderling.ladder import Cost, Rung
from sanderling.manifest import Manifest

T = TypeVar("T")

_PERCENTILES: tuple[Callable[[Cost], float], ...] = (
    lambda cost: cost.p50_ms,
    lambda cost: cost.p90_ms,
    lambda cost: cost.p99_ms,
)

HELD_OUT = 40
"""Settings left out in turn at most: a fit for each of hundreds would take longer than it tells."""

_Point = tuple[tuple[int, ...], float]
"""Settings of a curve's levers, and what was measured there."""


def fit_cost(manifest: Manifest, rungs: Sequence[Rung]) -> CostModel | None:
    """Return the cost model of one profile's measurements, or None when there are none.

    Its error is measured: settings are left out in turn, each with all graphs that were measured at it, and predicted
    from the others where they lie between them.

    Args:
        manifest: which levers each graph has, and which components feed which.
        rungs: everything measured, admitted to the ladder or not, in one profile: costs of two hours do not mix.
    """
    if not rungs:
        return None
    levers = _levers_of(manifest)
    errors: list[float] = []
    held_out = 0
    every = _distinct([rung.settings for rung in rungs])
    for settings in every[:: -(-len(every) // HELD_OUT)]:
        rest = [rung for rung in rungs if rung.settings != settings]
        found = _errors(_fit(levers, rest), [rung for rung in rungs if rung.settings == settings]) if rest else []
        errors += found
        held_out += bool(found)
    error = float(np.percentile(errors, 90)) if errors else None
    model = _fit(levers, rungs)
    return CostModel(model.parts, model.wholes, model.beyond_ms, error, held_out)


def monotone(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values made never to fall along any axis, moving none by more than it must.

    The midpoint between the largest value at or before a place and the smallest at or after it, which is an isotonic
    regression in the maximum norm (Stout, "Strict L-infinity isotonic regression", 2012, section 2: "Basic").
    """
    before, after = values, values
    for axis in range(values.ndim):
        before = np.maximum.accumulate(before, axis=axis)
        after = np.flip(np.minimum.accumulate(np.flip(after, axis), axis=axis), axis)
    return (before + after) / 2


def fit_curve(levers: tuple[str, ...], points: Sequence[_Point]) -> Curve:
    """Return the never-falling curve over the settings in the points.

    Several measurements at one setting count as their median. A combination of knots that was not measured lies midway
    between the largest value measured at lower settings and the smallest at higher ones.

    Args:
        levers: names.
        points: settings of these levers, in this order, and the value there; at least one.
    """
    gathered: dict[tuple[int, ...], list[float]] = {}
    for settings, value in points:
        gathered.setdefault(settings, []).append(value)
    measured = {settings: median(values) for settings, values in gathered.items()}
    knots = tuple(tuple(sorted({settings[i] for settings in measured})) for i in range(len(levers)))
    cells = list(product(*knots))
    values = np.array([_value(cell, measured) for cell in cells]).reshape([len(k) for k in knots])
    return Curve(levers, knots, tuple(float(v) for v in monotone(values).ravel()))


def _value(cell: tuple[int, ...], measured: Mapping[tuple[int, ...], float]) -> float:
    if cell in measured:
        return measured[cell]
    below = [v for settings, v in measured.items() if all(s <= c for s, c in zip(settings, cell, strict=True))]
    above = [v for settings, v in measured.items() if all(s >= c for s, c in zip(settings, cell, strict=True))]
    ends = ([max(below)] if below else []) + ([min(above)] if above else [])
    return sum(ends) / len(ends) if ends else median(measured.values())


def _fit(levers: Mapping[tuple[str, str], tuple[str, ...]], rungs: Sequence[Rung]) -> CostModel:
    """Return the model without its error."""
    parts = []
    for component, graph in _distinct([pair for rung in rungs for pair in rung.graphs.items()]):
        with_it = [r for r in rungs if r.graphs.get(component) == graph and component in r.components]
        names = levers[component, graph]
        places = [tuple(rung.settings[lever] for lever in names) for rung in with_it]
        if not with_it:
            continue
        p50, p90, p99 = (
            fit_curve(names, [(p, take(r.components[component])) for p, r in zip(places, with_it, strict=True)])
            for take in _PERCENTILES
        )
        parts.append(PartCost(component, graph, p50, _at_least(p90, p50), _at_least(p99, _at_least(p90, p50))))
    beyond = [
        median(take(rung.latency) - sum(take(cost) for cost in rung.components.values()) for rung in rungs)
        for take in _PERCENTILES
    ]
    wholes = tuple(_whole(graphs, rungs) for graphs in _distinct([rung.graphs for rung in rungs]))
    return CostModel(tuple(parts), wholes, (beyond[0], beyond[1], beyond[2]), None, 0)


def _whole(graphs: dict[str, str], rungs: Sequence[Rung]) -> WholeUse:
    same = [rung for rung in rungs if rung.graphs == graphs]
    names = tuple(same[0].settings)

    def curve(take: Callable[[Rung], float | None]) -> Curve | None:
        points = [(tuple(r.settings.values()), value) for r in same if (value := take(r)) is not None]
        return fit_curve(names, points) if len(points) == len(same) else None

    return WholeUse(graphs, curve(lambda rung: rung.memory_mb), curve(lambda rung: rung.energy_j))


def _at_least(curve: Curve, floor: Curve) -> Curve:
    return Curve(curve.levers, curve.knots, tuple(max(v, f) for v, f in zip(curve.values, floor.values, strict=True)))


def _errors(model: CostModel, held_out: Sequence[Rung]) -> list[float]:
    found = []
    for rung in held_out:
        predicted = model.predict(rung.settings, rung.graphs)
        if predicted is not None:
            for take in _PERCENTILES[:2]:
                measured = take(rung.latency)
                if measured > 0:
                    found.append(abs(take(predicted.latency) - measured) / measured)
    return found


def _levers_of(manifest: Manifest) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return (component, graph) -> the levers its cost depends on.

    These are its graph's, its loop's, and those of the components that feed it: fewer tokens left by an encoder are
    fewer tokens for the decoder behind it.
    """
    reach: dict[str, set[str]] = {}
    written_by: dict[str, str] = {}
    for component in manifest.model.components:
        own = {lever for g in manifest.graphs if g.component == component.name for lever in g.levers}
        own |= {component.loop.lever} if component.loop else set()
        for tensor in component.inputs:
            own |= reach.get(written_by.get(tensor.name, ""), set())
        reach[component.name] = own
        written_by |= {tensor.name: component.name for tensor in component.outputs}
    found = {}
    for graph in manifest.graphs:
        component = manifest.model.component(graph.component)
        fed = {lever for t in component.inputs for lever in reach.get(written_by.get(t.name, ""), set())}
        depends = fed | set(graph.levers) | ({component.loop.lever} if component.loop else set())
        found[graph.component, graph.name] = tuple(
            lever.name for lever in manifest.model.levers if lever.name in depends
        )
    return found


def _distinct(items: Sequence[T]) -> list[T]:
    """Return the items without repetitions, in order; dicts are items too."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found
