"""Measures rungs on this machine: interleaved, warmed up, by percentile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from sanderling.budget import Plan
from sanderling.calibration.dataset import Data, Sample
from sanderling.calibration.quality import agreement, with_interval
from sanderling.errors import InputError
from sanderling.ladder import Cost, Quality, Rung
from sanderling.manifest import FULL
from sanderling.meter import EnergyMeter, NoMeter, find_energy_meter, peak_memory_mb, reset_peak_memory
from sanderling.session import Answer, Session

Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much is done and how much there is."""

WARM_UP = 5
"""Calls of each setting before the clock counts."""

ENERGY_S = 0.2
"""Seconds of calls that an energy meter counts at least."""


@dataclass(frozen=True)
class Setting:
    """A combination of lever settings and graphs to measure."""

    settings: dict[str, int]
    graphs: dict[str, str]


@dataclass
class Record:
    """What calls of one setting cost, in milliseconds, and how good they were; one entry per call."""

    spent_ms: list[float] = field(default_factory=list)
    components_ms: dict[str, list[float]] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)

    def take(self, answer: Answer) -> None:
        """Add one call's cost."""
        self.spent_ms.append(answer.receipt.spent_ms)
        for name, ms in answer.receipt.components_ms.items():
            self.components_ms.setdefault(name, []).append(ms)


def measure(session: Session, settings: Sequence[Setting], data: Data, progress: Progress) -> list[Rung]:
    """Return every setting with its latency, memory, quality, and energy where there is a meter.

    For each sample all settings run in turn, so that a slow moment of the machine falls on all of them alike. The
    order turns by one from sample to sample, so that none always follows the same neighbour.

    Args:
        session: the opened bundle.
        settings: what to measure, the full model first; without a score, the others are held against it.
        data: samples and the metric.
        progress: told after every sample.
    """
    plans = [session.at(s.settings, s.graphs) for s in settings]
    for _ in range(WARM_UP):
        for plan in plans:
            session.run(data.samples[0], plan=plan)
    records = [Record() for _ in plans]
    for index, sample in enumerate(data.samples):
        reference = session.run(sample, plan=plans[0]) if data.score is None else None
        for turn in range(len(plans)):
            place = (index + turn) % len(plans)
            answer = session.run(sample, plan=plans[place])
            records[place].take(answer)
            records[place].scores.append(_score(data, index, answer, reference))
        progress("measuring", index + 1, len(data.samples))
    uses = _uses(session, plans, data.samples[0])
    return [_rung(setting, record, use) for setting, record, use in zip(settings, records, uses, strict=True)]


def remeasure(
    session: Session, rungs: Sequence[Rung], samples: Sequence[Sample], rounds: int, progress: Progress
) -> list[Rung]:
    """Return the rungs with latency, memory and energy measured again here; their quality stays.

    Args:
        session: the opened bundle.
        rungs: what to measure.
        samples: inputs to call with.
        rounds: calls of each rung.
        progress: told after every round.
    """
    plans = [session.at(rung.settings, rung.graphs) for rung in rungs]
    records = call_in_turn(session, plans, samples, rounds, progress)
    uses = _uses(session, plans, samples[0])
    return [
        _rung(Setting(rung.settings, rung.graphs), record, use, rung.quality)
        for rung, record, use in zip(rungs, records, uses, strict=True)
    ]


def call_in_turn(
    session: Session, plans: Sequence[Plan], samples: Sequence[Sample], rounds: int, progress: Progress
) -> list[Record]:
    """Return what every plan cost, call by call.

    The plans take turns as in `measure`, and the first calls of each do not count.

    Args:
        session: the opened bundle.
        plans: what to call.
        samples: inputs to call with, one after the other.
        rounds: calls of each plan.
        progress: told after every round.
    """
    records = [Record() for _ in plans]
    for number in range(-WARM_UP, rounds):
        for turn in range(len(plans)):
            place = (number + turn) % len(plans)
            answer = session.run(samples[number % len(samples)], plan=plans[place])
            if number >= 0:
                records[place].take(answer)
        progress("measuring", max(0, number + 1), rounds)
    return records


def cost_of(milliseconds: Sequence[float]) -> Cost:
    """Return the percentiles of measured calls."""
    p50, p90, p99 = (float(v) for v in np.percentile(np.asarray(milliseconds), (50, 90, 99)))
    return Cost(p50, p90, p99, len(milliseconds))


def is_full(rung: Rung) -> bool:
    """Return whether no graph of a rung reduces its tokens; a loop may still be called less often."""
    return all(graph == FULL for graph in rung.graphs.values())


def _score(data: Data, index: int, answer: Answer, reference: Answer | None) -> float:
    if data.score is not None:
        score = float(data.score(answer.outputs, data.expected[index]))
        if not 0 <= score <= 1:
            raise InputError(f"the score of sample {index} is {score}, expected 0 (wrong) to 1 (right)")
        return score
    return agreement(answer.outputs, reference.outputs if reference else {})


def _memory_mb(session: Session, plan: Plan, sample: Sample) -> float | None:
    if not reset_peak_memory():
        return None
    for _ in range(3):
        session.run(sample, plan=plan)
    return peak_memory_mb()


def _energy_j(session: Session, plan: Plan, sample: Sample, meter: EnergyMeter | NoMeter) -> float | None:
    """Return joules of one call: the mean over at least `ENERGY_S` of calls, as meters count in coarse steps."""
    if isinstance(meter, NoMeter):
        return None
    calls = 0

    def work() -> None:
        nonlocal calls
        until = perf_counter() + ENERGY_S
        while perf_counter() < until:
            session.run(sample, plan=plan)
            calls += 1

    return meter.measure(work) / calls


def _uses(session: Session, plans: Sequence[Plan], sample: Sample) -> list[tuple[float | None, float | None]]:
    """Return peak memory in MB and energy in J of every plan; None where the system does not tell."""
    meter = find_energy_meter()
    return [(_memory_mb(session, plan, sample), _energy_j(session, plan, sample, meter)) for plan in plans]


def _rung(
    setting: Setting, record: Record, use: tuple[float | None, float | None], quality: Quality | None = None
) -> Rung:
    return Rung(
        settings=setting.settings,
        graphs=setting.graphs,
        latency=cost_of(record.spent_ms),
        components={name: cost_of(ms) for name, ms in record.components_ms.items()},
        memory_mb=use[0],
        quality=quality or with_interval(record.scores),
        energy_j=use[1],
    )
