"""Admits number formats: the fastest of each component that stays inside the quality goal, and why the others do not.

A format is judged by what it buys on this machine and costs on the evaluation set, never by its bits: on a processor
without the right instructions float32 is the fastest, and then it is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sanderling.bundle import Bundle
from sanderling.calibration.choose import Placements, allowed, fastest
from sanderling.calibration.dataset import Data
from sanderling.calibration.profile import Outputs, Progress, Setting, score_answer
from sanderling.calibration.quality import with_interval
from sanderling.ladder import Quality
from sanderling.manifest import FLOAT32, FormatDecision, Measured, PlacementCost
from sanderling.session import Session

KEPT = "kept"
"""Verdict of a format that is used."""

WORTH = 1.03
"""A lossy format has to be faster by this much: less is within the noise of the race, and the loss is not."""


@dataclass(frozen=True)
class Candidate:
    """A format of a component.

    Attributes:
        component: which.
        format: its name.
        p50_ms: geometric mean over the raced graphs and inputs of the component, each the fastest way in this format.
        float32_ms: the same in float32.
    """

    component: str
    format: str
    p50_ms: float
    float32_ms: float

    @property
    def saved_ms(self) -> float:
        """How much faster it is."""
        return self.float32_ms - self.p50_ms


def admit_formats(
    bundle: Bundle,
    measured: Measured,
    costs: Sequence[PlacementCost],
    settings: Sequence[Setting],
    data: Data,
    quality_drop_max: float,
    progress: Progress,
    references: Sequence[Outputs] | None = None,
) -> tuple[dict[str, str], tuple[FormatDecision, ...]]:
    """Return component -> the format it may have besides float32, and what became of every format.

    Formats are tried in the order of the milliseconds they save, each together with those already kept, on the whole
    evaluation set.

    Args:
        bundle: holds the graphs.
        measured: machine and threads.
        costs: of every graph in every format, as raced.
        settings: lever settings and graphs to judge quality at, the full model first.
        data: samples and metric.
        quality_drop_max: on the metric's scale, how far quality may fall below float32.
        progress: told after every judgement.
        references: as for `measure`.
    """
    candidates = sorted(_candidates(costs), key=lambda c: -c.saved_ms)
    worth = [c for c in candidates if c.float32_ms >= WORTH * c.p50_ms]
    decisions = [_too_slow(c) for c in candidates if c not in worth]
    if not worth:
        return {}, tuple(decisions)
    judge = _Judge(bundle, measured, settings, data, references)
    before = judge.quality(place(costs, {}))
    kept: dict[str, str] = {}
    for number, candidate in enumerate(worth, start=1):
        if candidate.component in kept:
            decisions.append(_decision(candidate, None, None, f"{kept[candidate.component]} is faster and good enough"))
            continue
        trial = {**kept, candidate.component: candidate.format}
        after = judge.quality(place(costs, trial))
        if before.score - after.score <= quality_drop_max:
            kept = trial
            decisions.append(_decision(candidate, before, after, KEPT))
        else:
            reason = f"quality falls by {before.score - after.score:.3f}, more than the {quality_drop_max:.3f} allowed"
            decisions.append(_decision(candidate, before, after, reason))
        progress("judging number formats", number, len(worth))
    return kept, tuple(decisions)


def place(costs: Sequence[PlacementCost], formats: Mapping[str, str]) -> Placements:
    """Return the fastest way to run every graph in float32 or, where one is named, its component's format."""
    found: Placements = {}
    for (component, graph), rows in allowed(costs, formats).items():
        found.setdefault(component, {})[graph] = fastest(rows)
    return found


def _candidates(costs: Sequence[PlacementCost]) -> list[Candidate]:
    names = dict.fromkeys((cost.component, cost.placement.format) for cost in costs)
    means = {(component, name): _mean_ms(costs, component, name) for component, name in names}
    return [
        Candidate(component, name, ms, means[component, FLOAT32])
        for (component, name), ms in means.items()
        if name != FLOAT32
    ]


def _mean_ms(costs: Sequence[PlacementCost], component: str, name: str) -> float:
    """Return the geometric mean of a component's graphs, each the fastest way it runs when the format is offered."""
    best: dict[tuple[str, str], float] = {}
    for cost in costs:
        if cost.component == component and cost.placement.format in (FLOAT32, name):
            key = (cost.graph, repr(sorted(cost.settings.items())))
            best[key] = min(best.get(key, math.inf), cost.p50_ms)
    return math.exp(sum(math.log(max(ms, 1e-6)) for ms in best.values()) / len(best))


class _Judge:
    """Measures the quality of a way to place the graphs."""

    def __init__(
        self,
        bundle: Bundle,
        measured: Measured,
        settings: Sequence[Setting],
        data: Data,
        references: Sequence[Outputs] | None,
    ) -> None:
        self._bundle, self._measured, self._settings, self._data = bundle, measured, settings, data
        self._references: list[Outputs] = list(references or ())

    def quality(self, placements: Placements) -> Quality:
        """Return the mean score over all samples and settings; without references, the first call gives them."""
        session = Session(self._bundle, measured=replace(self._measured, placements=placements))
        plans = [session.at(setting.settings, setting.graphs) for setting in self._settings]
        scores, first = [], not self._references
        for index, sample in enumerate(self._data.samples):
            answers = [session.run(sample, plan=plan) for plan in plans]
            if first:
                self._references.append(answers[0].outputs)
            scores += [score_answer(self._data, index, answer, self._references[index]) for answer in answers]
        return with_interval(scores)


def _too_slow(candidate: Candidate) -> FormatDecision:
    return _decision(candidate, None, None, "not faster than float32 here")


def _decision(candidate: Candidate, before: Quality | None, after: Quality | None, verdict: str) -> FormatDecision:
    return FormatDecision(
        component=candidate.component,
        format=candidate.format,
        p50_ms=candidate.p50_ms,
        float32_ms=candidate.float32_ms,
        quality=after,
        float32_quality=before,
        verdict=verdict,
    )
