"""Measures rungs on this machine: interleaved, warmed up, by percentile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeAlias

import numpy as np

from sanderling.budget import Plan
from sanderling.calibration.dataset import Data, Sample
from sanderling.calibration.quality import agreement, with_interval
from sanderling.engine import AnyArray
from sanderling.errors import InputError
from sanderling.ladder import Cost, Quality, Rung
from sanderling.manifest import FULL
from sanderling.meter import EnergyMeter, NoMeter, find_energy_meter, peak_memory_mb, reset_peak_memory
from sanderling.session import Answer, Session

Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much is done and how much there is."""

Outputs: TypeAlias = Mapping[str, AnyArray]
"""What the model gives, by name."""

WARM_UP = 5
"""Calls of each setting before the clock counts."""

BLOCK = 10
"""Calls of one setting before the next takes its turn."""

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


def measure(
    session: Session,
    settings: Sequence[Setting],
    data: Data,
    progress: Progress,
    references: Sequence[Outputs] | None = None,
) -> list[Rung]:
    """Return every setting with its latency, memory, quality, and energy where there is a meter.

    Settings take turns as `in_blocks` says.

    Args:
        session: the opened bundle.
        settings: what to measure, the full model first; without a score, the others are held against it.
        data: samples and the metric.
        progress: told after every call.
        references: without a score, what outputs are held against, one per sample; the full model's when None.
    """
    plans = [session.at(s.settings, s.graphs) for s in settings]
    if data.score is None and references is None:
        references = [session.run(sample, plan=plans[0]).outputs for sample in data.samples]
    records = [Record() for _ in plans]
    for done, (place, index, counts) in enumerate(in_blocks(len(plans), len(data.samples))):
        answer = session.run(data.samples[index], plan=plans[place])
        if counts:
            records[place].take(answer)
            reference = references[index] if references and data.score is None else {}
            records[place].scores.append(score_answer(data, index, answer, reference))
        progress("measuring", done + 1, count_calls(len(plans), len(data.samples)))
    uses = memory_and_energy(session, plans, data.samples[0])
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
    uses = memory_and_energy(session, plans, samples[0])
    return [
        _rung(Setting(rung.settings, rung.graphs), record, use, rung.quality)
        for rung, record, use in zip(rungs, records, uses, strict=True)
    ]


def call_in_turn(
    session: Session, plans: Sequence[Plan], samples: Sequence[Sample], rounds: int, progress: Progress
) -> list[Record]:
    """Return what every plan cost, call by call.

    The plans take turns as `in_blocks` says.

    Args:
        session: the opened bundle.
        plans: what to call.
        samples: inputs to call with, one after the other.
        rounds: calls of each plan.
        progress: told after every round.
    """
    records = [Record() for _ in plans]
    for done, (place, number, counts) in enumerate(in_blocks(len(plans), rounds)):
        answer = session.run(samples[number % len(samples)], plan=plans[place])
        if counts:
            records[place].take(answer)
        progress("measuring", done + 1, count_calls(len(plans), rounds))
    return records


def in_blocks(plans: int, calls: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the order in which plans are called: which plan, which of its calls, and whether that call counts.

    Every plan makes a block of calls before the next takes its turn, as under a budget that stays the same; so a slow
    moment of the machine falls on all of them. The first calls of a block do not count: they find the caches full of
    another plan's weights, which can double the time of a cheap one. The order turns by one from block to block, so
    that none always follows the same neighbour.

    Args:
        plans: how many take turns.
        calls: of each plan that count.
    """
    for start in range(0, calls, BLOCK):
        for turn in range(plans):
            place = (start // BLOCK + turn) % plans
            for _ in range(1 if start else WARM_UP):
                yield place, start, False
            for call in range(start, min(start + BLOCK, calls)):
                yield place, call, True


def count_calls(plans: int, calls: int) -> int:
    """Return how many calls `in_blocks` yields, those that do not count included."""
    return plans * (calls + WARM_UP + max(0, -(-calls // BLOCK) - 1))


def cost_of(milliseconds: Sequence[float]) -> Cost:
    """Return the percentiles of measured calls."""
    p50, p90, p99 = (float(v) for v in np.percentile(np.asarray(milliseconds), (50, 90, 99)))
    return Cost(p50, p90, p99, len(milliseconds))


def is_full(rung: Rung) -> bool:
    """Return whether no graph of a rung reduces its tokens; a loop may still be called less often."""
    return all(graph == FULL for graph in rung.graphs.values())


def score_answer(data: Data, index: int, answer: Answer, reference: Outputs) -> float:
    """Return how good an answer is, 0 to 1: by the data's score, else by agreement with the reference outputs.

    Raises:
        InputError: the score is outside 0 to 1.
    """
    if data.score is not None:
        score = float(data.score(answer.outputs, data.expected[index]))
        if not 0 <= score <= 1:
            raise InputError(f"the score of sample {index} is {score}, expected 0 (wrong) to 1 (right)")
        return score
    return agreement(answer.outputs, reference)


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


def memory_and_energy(
    session: Session, plans: Sequence[Plan], sample: Sample
) -> list[tuple[float | None, float | None]]:
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
