"""Sessions: an opened bundle that answers inside budgets."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

from sanderling.budget import UNLIMITED, Budget, Plan, Planner
from sanderling.bundle import Bundle
from sanderling.controller import Controller
from sanderling.engine import AnyArray, Engine
from sanderling.errors import BudgetError, BundleError, UnknownNameError
from sanderling.manifest import FULL, Graph, Manifest, Measured
from sanderling.opening import open_graph, overridden
from sanderling.prepare import Preparer
from sanderling.receipt import Receipt, Reduced
from sanderling.reuse import Reuse, comparable, run_steps
from sanderling.route import Route, Step
from sanderling.spec import Component


@dataclass(frozen=True)
class Answer:
    """What a call returns.

    Attributes:
        outputs: value name -> array, the model's outputs that this call computed.
        receipt: what it cost and what was left out.
    """

    outputs: dict[str, AnyArray]
    receipt: Receipt


def load(
    path: str | Path, *, budget: Budget | None = None, threads: int | None = None, target: str | None = None
) -> Session:
    """Open a bundle and get it ready to answer.

    Args:
        path: the bundle file.
        budget: for calls that bring none of their own; the bundle's default when None.
        threads: worker threads per engine; as the bundle was measured when None.
        target: run every component on this target instead of the fastest measured one.

    Raises:
        BundleError: the file is damaged, unsafe or too new.
        MissingExtraError: the engine is not installed; the message has the pip command.
    """
    return Session(Bundle.open(Path(path)), budget=budget, threads=threads, target=target)


class Session:
    """An opened bundle. Safe to call from several threads; calls take turns.

    Args:
        bundle: stays open as long as the session.
        budget: as for `load`.
        threads: as for `load`.
        target: as for `load`.
        measured: use these measurements instead of the bundle's, as a compile does before there are any.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        budget: Budget | None = None,
        threads: int | None = None,
        target: str | None = None,
        measured: Measured | None = None,
    ) -> None:
        measured = measured or bundle.measured()
        if measured is None:
            raise BundleError(f"{bundle.path} holds no measurements; `sanderling profile {bundle.path}` takes them")
        self.manifest: Manifest = bundle.manifest()
        self.measured: Measured = measured
        self.budget = budget or self.manifest.budget or UNLIMITED
        self.bundle = bundle
        self._threads = threads
        self._target = target
        self._preparer = Preparer(self.manifest.model, bundle)
        self._engines: dict[tuple[str, str], Engine] = {}
        self._routes: dict[tuple[object, ...], Route] = {}
        self._planners: dict[frozenset[str], Planner] = {}
        self._controllers: dict[frozenset[str], Controller] = {}
        self._lock = threading.Lock()
        for rung in measured.ladder.rungs:
            for component, graph in rung.graphs.items():
                self._engine(self._graph(component, graph))

    def run(
        self,
        inputs: Mapping[str, Any],
        budget: Budget | None = None,
        plan: Plan | None = None,
        reuse: Reuse | None = None,
    ) -> Answer:
        """Answer one call.

        Components run whose inputs are all given: a dual encoder called without text embeds the picture only.

        Args:
            inputs: by the names in the manifest: pictures as paths, PIL images or uint8 arrays [height, width, 3];
                texts as strings; batches as lists of these, or arrays with a leading batch axis.
            budget: for this call; the session's when None.
            plan: carry this out instead of planning; see `at`.
            reuse: remembers component outputs from call to call; components whose inputs are the same do not run again.

        Raises:
            InputError: an input is wrong; the message says which, what came and what was expected.
            BudgetTooSmallError: no rung fits the budget.
        """
        started = perf_counter()
        asked = budget or self.budget
        with self._lock:
            values = self._preparer.values(inputs) if reuse is None else reuse.prepare(self._preparer, inputs)
            running, skipped = self._preparer.running(values)
            prepared = perf_counter()
            controller = self._controllers.setdefault(running, Controller())
            chosen = plan or self._planner(running).plan(asked, controller.slowdown)
            route = self._route(running, chosen)
            components_ms, reused = run_steps(route.steps, values, chosen.settings, reuse)
            outputs = {name: values[name] for name in self.manifest.model.outputs if name in values}
            spent_ms = (perf_counter() - started) * 1e3
            slowdown = controller.slowdown
            compared = comparable(self.measured.ladder, chosen, spent_ms, components_ms, reused)
            if compared is not None:
                controller.observe(*compared)
        receipt = Receipt(
            asked=asked,
            plan=chosen,
            reduced=route.reduced,
            skipped=skipped,
            prepare_ms=(prepared - started) * 1e3,
            components_ms=components_ms,
            spent_ms=spent_ms,
            met=None if asked.latency_ms is None else spent_ms <= asked.latency_ms,
            slowdown=slowdown,
            reused=reused,
        )
        return Answer(outputs, receipt)

    def plan(self, budget: Budget | None = None) -> Plan:
        """Return what a call with every input would do under a budget, without running anything.

        Raises:
            BudgetTooSmallError: no rung fits the budget.
        """
        every = frozenset(c.name for c in self.manifest.model.components)
        controller = self._controllers.get(every)
        return self._planner(every).plan(budget or self.budget, controller.slowdown if controller else 1.0)

    def at(self, settings: Mapping[str, int], graphs: Mapping[str, str] | None = None) -> Plan:
        """Return a plan for settings of the caller's own choice, measured or not.

        Args:
            settings: lever name -> setting; levers left out stay at their default.
            graphs: component name -> graph, such as {"vision": "random@2"}; "full" where left out.

        Raises:
            UnknownNameError: no such lever, component or graph.
            BudgetError: a setting outside its lever's range, or one that the chosen graphs would ignore.
        """
        model = self.manifest.model
        levers = {lever.name: lever for lever in model.levers}
        chosen = {component.name: FULL for component in model.components} | dict(graphs or {})
        for name in settings:
            if name not in levers:
                raise UnknownNameError("lever", name, levers)
            if not levers[name].minimum <= settings[name] <= levers[name].maximum:
                lever = levers[name]
                raise BudgetError(
                    f"{name} is {settings[name]}, expected {lever.minimum} to {lever.maximum} {lever.unit}"
                )
        used = {lever for c, g in chosen.items() for lever in self._graph(c, g).levers}
        used |= {c.loop.lever for c in model.components if c.loop is not None}
        for name, setting in settings.items():
            if name not in used and setting != levers[name].maximum:
                raise BudgetError(
                    f"{name}={setting} would change nothing: no chosen graph has that lever; name one in `graphs`"
                )
        # A lever that no chosen graph has leaves nothing out, whatever its default is.
        full = {name: lever.default if name in used else lever.maximum for name, lever in levers.items()}
        return Plan(full | dict(settings), chosen, None, None, "asked for by the caller")

    def close(self) -> None:
        """Let go of the engines and the file."""
        self._routes.clear()
        self._engines.clear()
        self.bundle.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _planner(self, running: frozenset[str]) -> Planner:
        if running not in self._planners:
            self._planners[running] = Planner(self.measured.ladder, running)
        return self._planners[running]

    def _route(self, running: frozenset[str], plan: Plan) -> Route:
        """Return what a plan runs, worked out on its first call."""
        key = (running, *plan.graphs.items(), *plan.settings.items())
        if key not in self._routes:
            components = [c for c in self.manifest.model.components if c.name in running]
            steps = tuple(self._step(component, plan.graphs[component.name]) for component in components)
            self._routes[key] = Route(steps, self._reductions(running, plan))
        return self._routes[key]

    def _step(self, component: Component, name: str) -> Step:
        graph = self._graph(component.name, name)
        return Step(component, self._engine(graph), graph.levers)

    def _graph(self, component: str, name: str) -> Graph:
        graphs = self._preparer.graphs
        if component not in graphs:
            raise UnknownNameError("component", component, graphs)
        if name not in graphs[component]:
            raise UnknownNameError(f"graph of component {component!r}", name, graphs[component])
        return graphs[component][name]

    def _engine(self, graph: Graph) -> Engine:
        """Return a graph's engine, opening it on first use."""
        key = (graph.component, graph.name)
        if key not in self._engines:
            placement = overridden(graph, self.measured.placements, self._target, self._threads)
            self._engines[key] = open_graph(self.bundle, graph, placement)
        return self._engines[key]

    def _reductions(self, running: frozenset[str], plan: Plan) -> tuple[Reduced, ...]:
        found = []
        for component in self.manifest.model.components:
            if component.name not in running:
                continue
            graph = self._graph(component.name, plan.graphs[component.name])
            entries = [(lever, graph.reducer, str(graph.kind), graph.layer) for lever in graph.levers]
            if component.loop is not None:
                entries.append((component.loop.lever, "", "loop", 0))
            for lever, reducer, kind, layer in entries:
                most = self._preparer.levers[lever].maximum
                if plan.settings[lever] < most:
                    kept = plan.settings[lever]
                    found.append(Reduced(lever, component.name, kept, most, reducer, kind, layer))
        return tuple(found)
