"""Chooses, for every component, the engine that runs it fastest on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sanderling.bundle import Bundle
from sanderling.calibration.compare import golden_sample
from sanderling.manifest import FULL, GoldenCase, Measured, TargetCost
from sanderling.session import Session

ROUNDS = 25
"""Calls of each case on each target; medians of fewer jump about on a busy machine."""


@dataclass(frozen=True)
class Chosen:
    """The fastest way found to run each component: component -> target, and component -> worker threads."""

    targets: dict[str, str]
    threads: dict[str, int]


def choose_targets(
    bundle: Bundle, measured: Measured, targets: Sequence[str], progress: Callable[[str, int, int], None]
) -> tuple[Chosen, tuple[TargetCost, ...]]:
    """Return the fastest target and number of threads of every component, and the medians that say so.

    Candidates take turns call by call, so that a slow moment of the machine falls on all of them. One thread is always
    a candidate: a part of small matrices loses more by waiting for threads than it gains.

    Args:
        bundle: holds the inputs to call with.
        measured: the most threads to use.
        targets: names of the targets to try.
        progress: told after every round.
    """
    sample = golden_sample(bundle)
    cases = _telling_cases(bundle.manifest().golden.cases)
    candidates = {
        (target, threads): Session(bundle, measured=measured, target=target, threads=threads)
        for target in targets
        for threads in sorted({1, measured.threads})
    }
    spent: dict[tuple[str, str, int, int], list[float]] = {}
    for round_number in range(-2, ROUNDS):
        for number, case in enumerate(cases):
            for (target, threads), session in candidates.items():
                times = _component_times(session, sample, case)
                for component, ms in times.items() if round_number >= 0 else ():
                    spent.setdefault((component, target, threads, number), []).append(ms)
        progress("choosing engines", max(0, round_number + 1), ROUNDS)
    costs = tuple(
        TargetCost(component, cases[number].graphs[component], target, threads, cases[number].settings, median(ms))
        for (component, target, threads, number), ms in spent.items()
    )
    best = {c.name: _fastest(c.name, costs) for c in bundle.manifest().model.components}
    chosen = Chosen({c: target for c, (target, _) in best.items()}, {c: threads for c, (_, threads) in best.items()})
    return chosen, costs


def _component_times(session: Session, sample: dict[str, Any], case: GoldenCase) -> dict[str, float]:
    return session.run(sample, plan=session.at(case.settings, case.graphs)).receipt.components_ms


def _telling_cases(cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """Return the full model and every case of the first reduced graph.

    Engines and thread counts rank differently with free shapes and with few tokens.
    """
    full = [case for case in cases if set(case.graphs.values()) == {FULL}]
    reduced = [case for case in cases if set(case.graphs.values()) != {FULL}]
    return full + [case for case in reduced if case.graphs == reduced[0].graphs]


def _fastest(component: str, costs: Sequence[TargetCost]) -> tuple[str, int]:
    """Return the target and threads with the smallest geometric mean over the cases.

    A plain sum would let the full model alone decide; a budget is kept or missed at the reduced settings.
    """
    logs: dict[tuple[str, int], float] = {}
    for cost in costs:
        if cost.component == component:
            key = (cost.target, cost.threads)
            logs[key] = logs.get(key, 0.0) + math.log(max(cost.p50_ms, 1e-6))
    return min(logs, key=lambda key: logs[key])
