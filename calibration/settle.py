"""Settles how all graphs run together, by calling the whole model.

A graph called again and again alone keeps its engine's threads awake and its weights in the caches. In a whole call
engines wait for each other, wake each other's threads and share the caches; which of them is fastest there is measured
there, among a few ways that the races suggest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter

from sanderling.bundle import Bundle
from sanderling.calibration.choose import Placements, Progress, allowed, fastest
from sanderling.calibration.profile import Setting
from sanderling.manifest import FULL, Manifest, Measured, PlacementCost
from sanderling.selftest import golden_sample
from sanderling.session import Session

BLOCKS = 3
"""Times that every way takes its turn."""

CALLS = 10
"""Calls of a turn that count, after one that does not."""

SECONDS = 8.0
"""Longest time at one setting, once every way has had a turn."""

FRACTIONS = (0.5, 0.2, 0.12)
"""Of a lever's maximum, the settings that are called besides the full model."""

BASELINES = ("random", "grid")
"""Reducers that few plans use; a graph of another one is called where there is one."""


def settle(
    bundle: Bundle,
    measured: Measured,
    costs: Sequence[PlacementCost],
    formats: Mapping[str, str],
    progress: Progress,
) -> Placements:
    """Return the way to place all graphs with the smallest geometric mean of whole calls.

    Args:
        bundle: holds the graphs and the inputs to call with.
        measured: machine and threads.
        costs: what every graph costs alone.
        formats: component -> the format it may have besides float32.
        progress: told after every setting.
    """
    ways = list(ways_to_place(costs, formats))
    if len(ways) == 1:
        return ways[0]
    sample = golden_sample(bundle)
    sessions = [Session(bundle, measured=replace(measured, placements=way)) for way in ways]
    logs = [0.0] * len(ways)
    settings = telling(bundle.manifest())
    for number, setting in enumerate(settings, start=1):
        for place, ms in enumerate(_turns(sessions, setting, sample)):
            logs[place] += math.log(max(median(ms), 1e-6))
        progress("settling how graphs run together", number, len(settings))
    return ways[min(range(len(ways)), key=lambda place: logs[place])]


def ways_to_place(costs: Sequence[PlacementCost], formats: Mapping[str, str]) -> Iterator[Placements]:
    """Yield ways to place all graphs: each as fast as it is alone; all on one engine; all there on one thread."""
    graphs = allowed(costs, formats)
    targets = tuple(dict.fromkeys(cost.placement.target for cost in costs))
    choices: list[tuple[tuple[str, ...], bool]] = [(targets, False)]
    choices += [((target,), single) for target in targets for single in (False, True)]
    seen: list[Placements] = []
    for among, single in choices:
        way = _placed(graphs, among, single)
        if way is not None and way not in seen:
            seen.append(way)
            yield way


def _placed(
    graphs: Mapping[tuple[str, str], Sequence[PlacementCost]], targets: Sequence[str], single: bool
) -> Placements | None:
    """Return the fastest of every graph on these targets, on one thread if asked; None where a graph has none."""
    way: Placements = {}
    for (component, graph), rows in graphs.items():
        fitting = [r for r in rows if r.placement.target in targets and (r.placement.threads == 1 or not single)]
        if not fitting:
            return None
        way.setdefault(component, {})[graph] = fastest(fitting)
    return way


def telling(manifest: Manifest) -> list[Setting]:
    """Return the settings that are called: the full model, and a reduced graph of each component at a few settings."""
    model = manifest.model
    full = {lever.name: lever.maximum for lever in model.levers}
    graphs = {component.name: FULL for component in model.components}
    found = [Setting(full, graphs)]
    for component in model.components:
        reduced = [graph for graph in manifest.graphs if graph.component == component.name and graph.levers]
        for graph in sorted(reduced, key=lambda graph: graph.reducer in BASELINES)[:1]:
            levers = [model.lever(name) for name in graph.levers]
            for fraction in FRACTIONS:
                fewer = {lever.name: max(lever.minimum, round(lever.maximum * fraction)) for lever in levers}
                found.append(Setting(full | fewer, graphs | {component.name: graph.name}))
    return found


def _turns(sessions: Sequence[Session], setting: Setting, sample: Mapping[str, object]) -> list[list[float]]:
    """Return the milliseconds of whole calls of every session, which take turns."""
    spent: list[list[float]] = [[] for _ in sessions]
    begun = perf_counter()
    for _ in range(BLOCKS):
        for session, ms in zip(sessions, spent, strict=True):
            plan = session.at(setting.settings, setting.graphs)
            for call in range(CALLS + 1):
                answer = session.run(sample, plan=plan)
                if call:
                    ms.append(answer.receipt.spent_ms)
        if perf_counter() - begun > SECONDS:
            break
    return spent
