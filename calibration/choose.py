"""Chooses, for every component, the engine that runs it fastest on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from sanderling.bundle import Bundle
from sanderling.calibration.compare import golden_sample
from sanderling.manifest import FULL, GoldenCase, Measured, TargetCost
from sanderling.session import Session

ROUNDS = 25
"""Calls of each case on each target; medians of fewer jump about on a busy machine."""


def choose_targets(
    bundle: Bundle, measured: Measured, targets: Sequence[str], progress: Callable[[str, int, int], None]
) -> tuple[dict[str, str], tuple[TargetCost, ...]]:
    """Return component -> fastest target, and the medians that say so.

    Targets take turns call by call, so that a slow moment of the machine falls on all of them.

    Args:
        bundle: holds the inputs to call with.
        measured: threads to open it with.
        targets: names of the targets to try.
        progress: told after every round.
    """
    sample = golden_sample(bundle)
    cases = _telling_cases(bundle.manifest().golden.cases)
    sessions = {target: Session(bundle, measured=measured, target=target) for target in targets}
    spent: dict[tuple[str, str, int], list[float]] = {}
    for round_number in range(-2, ROUNDS):
        for number, case in enumerate(cases):
            for target, session in sessions.items():
                times = _component_times(session, sample, case)
                if round_number >= 0:
                    for component, ms in times.items():
                        spent.setdefault((component, target, number), []).append(ms)
        progress("choosing engines", max(0, round_number + 1), ROUNDS)
    costs = tuple(
        TargetCost(component, cases[number].graphs[component], target, cases[number].settings, median(ms))
        for (component, target, number), ms in spent.items()
    )
    components = [component.name for component in bundle.manifest().model.components]
    return {name: _fastest(name, costs) for name in components}, costs


def _component_times(session: Session, sample: dict[str, Any], case: GoldenCase) -> dict[str, float]:
    return session.run(sample, plan=session.at(case.settings, case.graphs)).receipt.components_ms


def _telling_cases(cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """Return the full model and, where there is one, a reduced case: engines rank differently with free shapes."""
    full = [case for case in cases if set(case.graphs.values()) == {FULL}]
    reduced = [case for case in cases if set(case.graphs.values()) != {FULL}]
    return full + reduced[-1:]


def _fastest(component: str, costs: Sequence[TargetCost]) -> str:
    totals: dict[str, float] = {}
    for cost in costs:
        if cost.component == component:
            totals[cost.target] = totals.get(cost.target, 0.0) + cost.p50_ms
    return min(totals, key=lambda target: totals[target])
