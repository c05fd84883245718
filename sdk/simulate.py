"""Replays a load trace against a ladder with a virtual clock: no device, no engine, the session's own decisions."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sanderling.budget import Budget, Plan
from sanderling.errors import BudgetError, BudgetTooSmallError, InputError
from sanderling.ladder import Ladder
from sanderling.steering import Steering

MOST_CALLS = 1_000_000
"""More than anyone reads; a trace with a typing mistake in its times would run for ever."""


@dataclass(frozen=True)
class Trace:
    """How slow a device is over time.

    Attributes:
        times_s: when each slowdown begins, ascending from 0; empty when `slowdowns` has one entry per call.
        slowdowns: measured over predicted cost.
        end_s: when the trace ends; 0 when it has one entry per call.
    """

    times_s: tuple[float, ...]
    slowdowns: tuple[float, ...]
    end_s: float


@dataclass(frozen=True)
class SimulatedCall:
    """One call: when it began, what the device did to it, and how it went; no plan when it was refused."""

    t_s: float
    slowdown: float
    plan: Plan | None
    spent_ms: float
    met: bool


def read_trace(path: Path) -> Trace:
    """Return the load trace in a JSON file.

    The file has a list. Either of objects {"t_s": seconds, "slowdown": ratio}, in order of time: each slowdown holds
    from its time to the next, and the last entry ends the trace. Or of plain numbers, as a `ReceiptLog` yields them:
    measured over predicted cost, one per call.

    Raises:
        InputError: not such a file; the message says which entry is wrong.
    """
    try:
        entries = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"trace {path} cannot be read as JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f'trace {path} is no list with entries, expected [{{"t_s": 0, "slowdown": 1}}, ...] or ratios')
    if not isinstance(entries[0], dict):
        return Trace((), tuple(_positive(path, i, entry) for i, entry in enumerate(entries)), 0.0)
    times, slowdowns = [], []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or set(entry) != {"t_s", "slowdown"}:
            raise InputError(f"trace {path} entry {place} is {entry!r:.60}, expected t_s and slowdown and nothing else")
        times.append(_number(path, place, entry["t_s"]))
        slowdowns.append(_positive(path, place, entry["slowdown"]))
    if times[0] != 0 or any(b <= a for a, b in pairwise(times)) or len(times) < 2:
        raise InputError(f"trace {path}: the times are {times[:4]}..., expected at least two that rise from 0")
    return Trace(tuple(times), tuple(slowdowns), times[-1])


def simulate(ladder: Ladder, components: frozenset[str], budget: Budget, trace: Trace) -> list[SimulatedCall]:
    """Return every call of a session that is called once per deadline, or as soon as the last call has ended.

    A call takes its rung's measured median times the trace's slowdown.

    Args:
        ladder: of the session.
        components: which run.
        budget: with a deadline.
        trace: how slow the device is.

    Raises:
        BudgetError: the budget has no latency, or the calls are too many to simulate.
    """
    if budget.latency_ms is None:
        raise BudgetError("a simulation needs a deadline; give latency_ms (--latency-ms)")
    period_s = budget.latency_ms / 1e3
    if trace.end_s / period_s > MOST_CALLS:
        raise BudgetError(
            f"{trace.end_s:g} s at one call per {budget.latency_ms:g} ms are more than {MOST_CALLS:,} calls; "
            "simulate a shorter trace or a longer deadline"
        )
    steering = Steering(ladder)
    slowdown_at, more = _reader(trace)
    calls: list[SimulatedCall] = []
    now_s = 0.0
    while more(len(calls), now_s):
        slowdown = slowdown_at(len(calls), now_s)
        try:
            plan: Plan | None = steering.plan(components, budget, now_s)
        except BudgetTooSmallError:
            plan = None
        spent_ms = (plan.typical_ms or 0.0) * slowdown if plan else 0.0
        met = plan is not None and spent_ms <= budget.latency_ms
        calls.append(SimulatedCall(now_s, slowdown, plan, spent_ms, met))
        if plan:
            degraded = not met and budget.on_miss == "degrade"
            steering.learn(components, plan, spent_ms, degraded, now_s + spent_ms / 1e3)
        now_s += max(period_s, spent_ms / 1e3)
    return calls


def summary(calls: list[SimulatedCall]) -> dict[str, Any]:
    """Return how a simulation went, in numbers.

    Returns:
        calls, met and refused (counts), met_share, switches (changes of plan from one call to the next), kept (lever ->
        mean setting), and changes: every call whose plan differs from the one before.
    """
    planned = [call for call in calls if call.plan is not None]
    changes = [
        call
        for before, call in zip([None, *calls], calls, strict=False)
        if before is None or _key(before.plan) != _key(call.plan)
    ]
    levers = planned[0].plan.settings if planned and planned[0].plan else {}
    return {
        "calls": len(calls),
        "met": sum(call.met for call in calls),
        "met_share": sum(call.met for call in calls) / len(calls),
        "refused": len(calls) - len(planned),
        "switches": len(changes) - 1,
        "kept": {
            lever: sum(call.plan.settings[lever] for call in planned if call.plan) / len(planned) for lever in levers
        },
        "changes": [
            {
                "t_s": call.t_s,
                "slowdown": call.slowdown,
                "settings": call.plan.settings if call.plan else None,
                "graphs": call.plan.graphs if call.plan else None,
                "spent_ms": call.spent_ms,
            }
            for call in changes
        ],
    }


def _key(plan: Plan | None) -> object:
    return None if plan is None else (plan.settings, plan.graphs)


def _reader(trace: Trace) -> tuple[Callable[[int, float], float], Callable[[int, float], bool]]:
    """Return what says the slowdown of a call by its number and time, and whether there is such a call."""
    if not trace.times_s:
        return (lambda number, now_s: trace.slowdowns[number]), (lambda number, now_s: number < len(trace.slowdowns))
    return (
        lambda number, now_s: trace.slowdowns[bisect_right(trace.times_s, now_s) - 1],
        lambda number, now_s: now_s < trace.end_s,
    )


def _number(path: Path, place: int, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"trace {path} entry {place} has {value!r:.40}, expected a number")
    return float(value)


def _positive(path: Path, place: int, value: object) -> float:
    number = _number(path, place, value)
    if number <= 0:
        raise InputError(f"trace {path} entry {place} has slowdown {number:g}, expected above 0")
    return number
