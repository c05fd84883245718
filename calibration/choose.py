"""Races, for every graph, the engines, number formats and threads that can run it on this machine.

Graphs are timed one by one on the inputs they get in a whole call. Candidates take turns call by call, so that a slow
moment of the machine falls on all of them, and one that is clearly slower is given up early, so that choosing takes
seconds for a small model and a bounded time for a large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from sanderling.bundle import Bundle
from sanderling.engine import AnyArray, Engine
from sanderling.manifest import FLOAT32, FULL, Graph, Manifest, Measured, Placement, PlacementCost
from sanderling.opening import open_graph
from sanderling.prepare import Preparer
from sanderling.route import scalar
from sanderling.selftest import golden_sample
from sanderling.spec import Component

ROUNDS = 25
"""Calls of each candidate on each input; medians of fewer jump about on a busy machine."""

LEAST_ROUNDS = 5
"""Calls before the time limit may end the race."""

SECONDS = 8.0
"""Longest race over one input of one graph, once every candidate has had its least rounds."""

HOPELESS = 1.5
"""A candidate this many times slower than the best after `LEAST_ROUNDS` is not called any more."""

FRACTIONS = (0.5, 0.2)
"""Of a lever's maximum, the settings at which a reduced graph races."""

Feed = dict[str, AnyArray]
"""A graph's inputs by name, lever scalars included."""

Placements = dict[str, dict[str, Placement]]
"""Component -> graph -> how it runs."""

Progress = Callable[[str, int, int], None]


@dataclass
class Race:
    """A graph, the inputs it races on, and the candidates.

    Attributes:
        graph: which.
        feeds: (lever settings, inputs) pairs.
        candidates: ways to run it.
    """

    graph: Graph
    candidates: tuple[Placement, ...]
    _kinds: list[object] = field(default_factory=list)
    feeds: list[tuple[dict[str, int], Feed]] = field(default_factory=list)

    def add(self, settings: dict[str, int], feed: Feed) -> None:
        """Take in inputs to race on, unless there are some of the same shapes: then they cost the same."""
        levers = {lever: settings[lever] for lever in self.graph.levers}
        kind = (levers, {name: array.shape for name, array in feed.items()})
        if kind not in self._kinds:
            self._kinds.append(kind)
            self.feeds.append((settings, feed))


def race_graphs(
    bundle: Bundle,
    measured: Measured,
    targets: Sequence[str],
    progress: Progress,
    formats: Mapping[str, str] | None = None,
) -> tuple[PlacementCost, ...]:
    """Return what every way to run every graph costs, alone and called again and again.

    One thread is always a candidate: a part of small matrices loses more by waiting for threads than it gains.

    Args:
        bundle: holds the graphs and the inputs to call with.
        measured: the most threads to use, and how to run graphs while inputs for later ones are made.
        targets: names of the targets to try.
        progress: told after every graph.
        formats: component -> the number format it may have besides float32; every format of the bundle when None.
    """
    races = _races(bundle, measured, targets, formats)
    costs: list[PlacementCost] = []
    for number, race in enumerate(races, start=1):
        costs += _run(bundle, race)
        progress("choosing engines", number, len(races))
    return tuple(costs)


def allowed(costs: Sequence[PlacementCost], formats: Mapping[str, str]) -> dict[tuple[str, str], list[PlacementCost]]:
    """Return (component, graph) -> its costs in float32 and in the format that the component may have."""
    found: dict[tuple[str, str], list[PlacementCost]] = {}
    for cost in costs:
        if cost.placement.format in (FLOAT32, formats.get(cost.component, FLOAT32)):
            found.setdefault((cost.component, cost.graph), []).append(cost)
    return found


def fastest(costs: Sequence[PlacementCost]) -> Placement:
    """Return the placement of one graph with the smallest mean cost."""
    means = mean_costs(costs)
    return min(means, key=lambda placement: means[placement])


def mean_costs(costs: Sequence[PlacementCost]) -> dict[Placement, float]:
    """Return the geometric mean over the inputs of one graph of each placement that was called on all of them.

    A plain sum would let the largest input alone decide; a budget is kept or missed at the reduced settings.
    """
    logs: dict[Placement, list[float]] = {}
    for cost in costs:
        logs.setdefault(cost.placement, []).append(math.log(max(cost.p50_ms, 1e-6)))
    finished = max(len(found) for found in logs.values())  # a candidate given up early lacks the later inputs
    return {p: math.exp(sum(found) / finished) for p, found in logs.items() if len(found) == finished}


def _run(bundle: Bundle, race: Race) -> list[PlacementCost]:
    engines = {placement: open_graph(bundle, race.graph, placement) for placement in race.candidates}
    costs = []
    for settings, feed in race.feeds:
        spent = take_turns(engines, feed)
        costs += [
            PlacementCost(race.graph.component, race.graph.name, placement, settings, median(ms), len(ms))
            for placement, ms in spent.items()
        ]
        best = min(median(ms) for ms in spent.values())
        engines = {placement: engines[placement] for placement, ms in spent.items() if median(ms) <= HOPELESS * best}
    return costs


def take_turns(engines: Mapping[Placement, Engine], feed: Feed) -> dict[Placement, list[float]]:
    """Return the milliseconds of every call of every engine, called in turn on one input; the first call is not kept.

    Args:
        engines: placement -> opened engine.
        feed: the graph's inputs.
    """
    spent: dict[Placement, list[float]] = {placement: [] for placement in engines}
    racing = dict(engines)
    begun = perf_counter()
    for number in range(-1, ROUNDS):
        for placement, engine in racing.items():
            called = perf_counter()
            engine.run(feed)
            if number >= 0:
                spent[placement].append((perf_counter() - called) * 1e3)
        if number + 1 >= LEAST_ROUNDS:
            best = min(median(ms) for ms in spent.values())
            racing = {p: engine for p, engine in racing.items() if median(spent[p]) <= HOPELESS * best}
            if perf_counter() - begun > SECONDS:
                break
    return spent


def _races(bundle: Bundle, measured: Measured, targets: Sequence[str], formats: Mapping[str, str] | None) -> list[Race]:
    """Return one race per graph, with the inputs that graph gets in the full model and in reduced calls."""
    manifest = bundle.manifest()
    races = {
        (graph.component, graph.name): Race(graph, _candidates(graph, targets, measured.threads, formats))
        for graph in manifest.graphs
    }
    preparer = Preparer(manifest.model, bundle)
    prepared = preparer.values(golden_sample(bundle))
    engines: dict[tuple[str, str], Engine] = {}
    for settings, graphs in _calls(manifest):
        values = dict(prepared)
        for component in manifest.model.components:
            graph = preparer.graphs[component.name][graphs.get(component.name, FULL)]
            key = (component.name, graph.name)
            if key not in engines:
                engines[key] = open_graph(bundle, graph, measured.placements[component.name][graph.name])
            feed = feed_of(component, graph, values, settings)
            races[key].add(settings, feed)
            values.update(run_looped(engines[key], component, feed, settings))
    return list(races.values())


def _calls(manifest: Manifest) -> Iterator[tuple[dict[str, int], dict[str, str]]]:
    """Yield lever settings and reduced graphs of the calls whose inputs are raced on, the full model first."""
    model = manifest.model
    full = {lever.name: lever.maximum for lever in model.levers}
    yield full, {}
    for graph in manifest.graphs:
        levers = [model.lever(name) for name in graph.levers]
        for fraction in FRACTIONS if levers else ():
            yield (
                full | {lever.name: max(lever.minimum, round(lever.maximum * fraction)) for lever in levers},
                {graph.component: graph.name},
            )


def _candidates(
    graph: Graph, targets: Sequence[str], threads: int, formats: Mapping[str, str] | None
) -> tuple[Placement, ...]:
    return tuple(
        Placement(variant.target, variant.format, count)
        for variant in graph.variants
        if variant.target in targets and (formats is None or variant.format in (FLOAT32, formats.get(graph.component)))
        for count in sorted({1, threads})
    )


def feed_of(component: Component, graph: Graph, values: Mapping[str, AnyArray], settings: Mapping[str, int]) -> Feed:
    """Return what a component's graph reads, out of all values: its inputs and its levers' settings."""
    own = {tensor.name: values[tensor.name] for tensor in component.inputs}
    return own | {lever: scalar(settings[lever]) for lever in graph.levers}


def run_looped(engine: Engine, component: Component, feed: Feed, settings: Mapping[str, int]) -> dict[str, AnyArray]:
    """Return what a component writes in a whole call."""
    given, outputs = dict(feed), engine.run(feed)
    for _ in range(1, settings[component.loop.lever] if component.loop else 1):
        given.update({into: outputs[out] for out, into in component.loop.carry} if component.loop else {})
        outputs = engine.run(given)
    return outputs
