"""Sessions: an opened bundle that answers inside budgets."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

from sanderling.budget import Budget, Plan
from sanderling.bundle import Bundle
from sanderling.cost_model import refined
from sanderling.device_budget import DeviceBudget, Share
from sanderling.engine import AnyArray, Engine
from sanderling.errors import BudgetError, BundleError, DeadlineMissedError, UnknownNameError
from sanderling.late import LateCalls
from sanderling.manifest import FLOAT32, FULL, Graph, Manifest, Measured, Placement
from sanderling.opening import open_graph, overridden
from sanderling.prepare import Preparer
from sanderling.receipt import Receipt, Reduced
from sanderling.receipts import ReceiptLog
from sanderling.reuse import Reuse, comparable
from sanderling.route import Route, Step
from sanderling.spec import Component
from sanderling.steering import Decision, Steering


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
    path: str | Path,
    *,
    budget: Budget | None = None,
    threads: int | None = None,
    target: str | None = None,
    receipts: ReceiptLog | None = None,
    device: DeviceBudget | None = None,
    priority: int = 0,
    calls_per_s: float = 1.0,
) -> Session:
    """Open a bundle and get it ready to answer.

    Args:
        path: the bundle file.
        budget: for calls that bring none of their own; the bundle's default when None.
        threads: worker threads per engine; as the bundle was measured when None.
        target: run every component on this target instead of the fastest measured one.
        receipts: every call's receipt is appended to it; closing it is the caller's.
        device: shared with other sessions; calls stay inside this session's share of it.
        priority: on that device; a higher one is served first.
        calls_per_s: how often this session is going to be called, for its share of the device's time.

    Raises:
        BundleError: the file is damaged, unsafe or too new.
        MissingExtraError: the engine is not installed; the message has the pip command.
        DeviceFullError: the device has no room for the cheapest rung.
    """
    bundle = Bundle.open(Path(path))
    try:
        return Session(
            bundle,
            budget=budget,
            threads=threads,
            target=target,
            receipts=receipts,
            device=device,
            priority=priority,
            calls_per_s=calls_per_s,
        )
    except BaseException:
        bundle.close()
        raise


class Session:
    """An opened bundle. Safe to call from several threads; calls take turns.

    Args:
        bundle: stays open as long as the session.
        budget: as for `load`.
        threads: as for `load`.
        target: as for `load`.
        measured: use these measurements instead of the bundle's, as a compile does before there are any.
        receipts: as for `load`.
        device: as for `load`.
        priority: as for `load`.
        calls_per_s: as for `load`.

    Attributes:
        ladder: what calls are planned from: the measured rungs, and settings between them where the bundle's cost model
            can be trusted.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        budget: Budget | None = None,
        threads: int | None = None,
        target: str | None = None,
        measured: Measured | None = None,
        receipts: ReceiptLog | None = None,
        device: DeviceBudget | None = None,
        priority: int = 0,
        calls_per_s: float = 1.0,
    ) -> None:
        measured = measured or bundle.measured()
        if measured is None:
            raise BundleError(f"{bundle.path} holds no measurements; `sanderling profile {bundle.path}` takes them")
        self.manifest: Manifest = bundle.manifest()
        self.measured: Measured = measured
        self.ladder = refined(measured.ladder, measured.cost_model)
        self.bundle = bundle
        self._late = LateCalls(self.manifest.model, budget, self.manifest.budget)
        self.budget = self._late.budget
        self._receipts = receipts
        self._threads = threads
        self._target = target
        self._preparer = Preparer(self.manifest.model, bundle)
        self._engines: dict[tuple[str, str], Engine] = {}
        self._routes: dict[tuple[object, ...], Route] = {}
        self._steering = Steering(self.ladder)
        self._calls = 0
        self._lock = threading.Lock()
        self._share: Share | None = None
        if device is not None:
            self._share = device.admit(bundle.path.name, self.ladder, priority, calls_per_s)
        try:
            for rung in measured.ladder.rungs:
                for component, graph in rung.graphs.items():
                    self._engine(self._graph(component, graph))
        except BaseException:
            self._leave()
            raise
        if receipts is not None:
            receipts.start(self.ladder)

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
            BudgetError: the budget cannot be followed, such as `on_miss="partial"` together with `reuse`.
            DeadlineMissedError: the call was late and its budget says `on_miss="error"`.
        """
        started = perf_counter()
        asked = self._in_force(budget)
        # Who brings a plan and no budget measures something; the session's rule for late calls is not meant for that.
        rule = asked.on_miss if plan is None or budget is not None else None
        stop_s = started + asked.latency_ms / 1e3 if rule == "partial" and asked.latency_ms else None
        if stop_s is not None and reuse is not None:
            raise BudgetError(
                "on_miss='partial' stops loops short, and what they leave undone cannot be re-used; call without "
                "`reuse`, or choose another on_miss"
            )
        with self._lock:
            values = self._preparer.values(inputs) if reuse is None else reuse.prepare(self._preparer, inputs)
            running, skipped = self._preparer.running(values)
            prepared = perf_counter()
            slowdown = self._steering.slowdown(running, asked.percentile, prepared)
            chosen = plan or self._steering.plan(running, asked, prepared)
            route = self._route(running, chosen)
            reused: tuple[str, ...] = ()
            if reuse is None:
                components_ms = route.run(values, chosen.settings, stop_s)
            else:
                components_ms, reused = reuse.run(route.steps, values, chosen.settings)
            outputs = {name: values[name] for name in self.manifest.model.outputs if name in values}
            ended = perf_counter()
            spent_ms = (ended - started) * 1e3
            met = None if asked.latency_ms is None else spent_ms <= asked.latency_ms
            self._calls += 1
            cut_ms = route.cut_ms() if stop_s else 0.0
            learned_ms = comparable(self.ladder, chosen, spent_ms + cut_ms, components_ms, reused)
            degraded = met is False and rule == "degrade"
            self._steering.learn(running, chosen, learned_ms, degraded, ended)
            settled = self._late.settle(self._calls, running, outputs, met, rule, cut_ms > 0)
            reduced, kept = route.left_out(chosen.settings) if stop_s else (route.reduced, route.kept)
            receipt = Receipt(
                asked=asked,
                plan=chosen,
                reduced=reduced,
                skipped=skipped,
                prepare_ms=(prepared - started) * 1e3,
                components_ms=components_ms,
                spent_ms=spent_ms,
                met=met,
                slowdown=slowdown,
                kept=kept,
                call=self._calls,
                answers_call=settled.answers_call,
                miss=settled.miss,
                misses=self._late.misses,
                reused=reused,
            )
            if self._receipts is not None:
                given = plan is not None
                decision = Decision(tuple(sorted(running)), given, prepared, ended, learned_ms, degraded)
                self._receipts.write(receipt, decision)
        answer = Answer(settled.outputs, receipt)
        if settled.miss == "error":
            raise DeadlineMissedError(
                f"the call took {spent_ms:.3g} ms, its budget is {asked.latency_ms:g} ms; the late answer is in this "
                "error's `answer`. Ask for more time or a higher percentile, or choose another on_miss",
                answer,
            )
        return answer

    def plan(self, budget: Budget | None = None) -> Plan:
        """Return what a call with every input would do under a budget, without running anything.

        Raises:
            BudgetTooSmallError: no rung fits the budget.
        """
        every = frozenset(c.name for c in self.manifest.model.components)
        return self._steering.plan(every, self._in_force(budget), perf_counter())

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

    def is_lossy(self, graphs: Mapping[str, str]) -> bool:
        """Return whether any of these graphs, component -> graph, runs in another number format than float32."""
        placements = (self._placement(self._graph(component, name)) for component, name in graphs.items())
        return any(placement.format != FLOAT32 for placement in placements)

    def close(self) -> None:
        """Let go of the engines and the file."""
        self._routes.clear()
        self._engines.clear()
        self._leave()
        self.bundle.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _in_force(self, budget: Budget | None) -> Budget:
        """Return the budget of a call: its own over the session's, and inside the session's share of the device."""
        asked = self._late.in_force(budget)
        return asked if self._share is None else self._share.inside(asked)

    def _leave(self) -> None:
        if self._share is not None:
            self._share.leave()

    def _route(self, running: frozenset[str], plan: Plan) -> Route:
        """Return what a plan runs, worked out on its first call."""
        key = (running, *plan.graphs.items(), *plan.settings.items())
        if key not in self._routes:
            components = [c for c in self.manifest.model.components if c.name in running]
            steps = tuple(self._step(component, plan.graphs[component.name]) for component in components)
            self._routes[key] = Route(steps, self._reductions(running, plan), *self._levers(running, plan))
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
            self._engines[key] = open_graph(self.bundle, graph, self._placement(graph))
        return self._engines[key]

    def _placement(self, graph: Graph) -> Placement:
        return overridden(graph, self.measured.placements, self._target, self._threads)

    def _levers(self, running: frozenset[str], plan: Plan) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
        """Return `kept` and `at_least` of a plan's route."""
        names: list[str] = []
        for component in self.manifest.model.components:
            if component.name in running:
                graphs = self._preparer.graphs[component.name].values()
                names += [lever for graph in graphs for lever in graph.levers]
                names += [component.loop.lever] if component.loop else []
        levers = {name: self._preparer.levers[name] for name in names}
        kept = {name: (plan.settings[name], lever.maximum) for name, lever in levers.items()}
        return kept, {name: lever.minimum for name, lever in levers.items()}

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
