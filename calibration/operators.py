"""What every operator of a bundle's full model takes, by the engines' own profilers."""

from __future__ import annotations

from sanderling import lookup
from sanderling.calibration.choose import feed_of, run_looped
from sanderling.calibration.profile import Progress
from sanderling.calibration.profile_file import OperatorRow
from sanderling.engine import OpenOptions
from sanderling.errors import InputError, UnknownNameError, UnsupportedError
from sanderling.manifest import Graph, Measured, Placement
from sanderling.opening import open_graph, read_graph
from sanderling.prepare import Preparer
from sanderling.selftest import golden_sample
from sanderling.session import Session
from sanderling.targets import OperatorProfiler, OperatorTimes

CALLS = 20
"""Calls whose mean is told."""

ALL = ""
"""Instead of a component's name: every component that runs on the self-test's input."""


def find_operators(
    session: Session, measured: Measured, component: str | None, progress: Progress
) -> tuple[OperatorRow, ...]:
    """Return the operators of the full model's graphs on the self-test's input, dearest first.

    A component that is called in a loop is profiled on its first call.

    Args:
        session: the opened bundle.
        measured: the ladder, whose last rung is the full model, and how its graphs run.
        component: whose graph; every one that runs when None.
        progress: told after every component.

    Raises:
        UnknownNameError: the model has no such component.
        InputError: it does not run on the self-test's input.
        UnsupportedError: its engine has no profiler.
    """
    model, best = session.manifest.model, measured.ladder.rungs[-1]
    names = [part.name for part in model.components]
    if component is not None and component not in names:
        raise UnknownNameError("component", component, names)
    preparer = Preparer(model, session.bundle)
    values = preparer.values(golden_sample(session.bundle))
    running, _ = preparer.running(values)
    wanted = running if component is None else {component}
    if not wanted <= running:
        raise InputError(
            f"component {component!r} does not run on the self-test's input, which lacks some of what it reads; "
            f"those that do: {', '.join(sorted(running))}"
        )
    found: list[OperatorRow] = []
    done = 0
    for part in (part for part in model.components if part.name in running):
        graph = session.manifest.graph(part.name, best.graphs[part.name])
        placement = measured.placements[part.name][graph.name]
        feed = feed_of(part, graph, values, best.settings)
        if part.name in wanted:
            times = _profiler(part.name, placement).profile_operators(
                read_graph(session.bundle, graph, placement), OpenOptions(threads=placement.threads), feed, CALLS
            )
            found += _rows(graph, times)
            done += 1
            progress("timing operators", done, len(wanted))
        values.update(run_looped(open_graph(session.bundle, graph, placement), part, feed, best.settings))
    return tuple(sorted(found, key=lambda row: -row.ms))


def _profiler(component: str, placement: Placement) -> OperatorProfiler:
    target = lookup.find("target", placement.target)
    if isinstance(target, OperatorProfiler):
        return target
    having = [name for name in lookup.names("target") if isinstance(lookup.find("target", name), OperatorProfiler)]
    raise UnsupportedError(
        f"component {component!r} runs on {placement.target}, for which no operator profiler is known here; "
        f"those with one: {', '.join(having)}. Name a component on one of them, such as --operators NAME"
    )


def _rows(graph: Graph, times: OperatorTimes) -> list[OperatorRow]:
    whole_ms = sum(row.ms for row in times.rows) or 1.0
    return [
        OperatorRow(graph.component, graph.name, row.operator, row.node, row.ms, row.ms / whole_ms)
        for row in times.rows
    ]
