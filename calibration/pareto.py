"""Builds the ladder from what was measured, and says of everything else why it is no rung."""

from __future__ import annotations

from collections.abc import Sequence

from sanderling.ladder import Ladder, Rung, front
from sanderling.manifest import FULL, Trial

NOISE = 1.05
"""Medians this close are one speed: measured again, either may be the smaller."""

RUNG = "rung"
"""Verdict of a trial that is in the ladder."""


def build_ladder(rungs: Sequence[Rung], metric: str) -> tuple[Ladder, tuple[Trial, ...]]:
    """Return the ladder and every trial with its verdict.

    A setting is admitted only if it was measured faster than the full model and nothing else, the plain baselines
    included, is as fast, within the noise of measuring, and as good.

    Args:
        rungs: everything measured, the full model first.
        metric: what quality means.
    """
    full = rungs[0]
    paying = [r for r in rungs if r is full or r.latency.p50_ms < full.latency.p50_ms]
    best = _clear(front(paying))
    if full not in best:
        best = (*best, full)  # a cheaper rung scored as high; unlimited budgets still get the whole model
    trials = tuple(Trial(rung, _verdict(rung, full, best)) for rung in rungs)
    return Ladder(metric, best), trials


def _clear(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """Return the rungs without those that a better one beside them costs hardly more than."""
    kept: list[Rung] = []
    for rung in reversed(rungs):
        if not kept or kept[-1].latency.p50_ms > NOISE * rung.latency.p50_ms:
            kept.append(rung)
    return tuple(reversed(kept))


def _verdict(rung: Rung, full: Rung, ladder: Sequence[Rung]) -> str:
    if rung in ladder:
        return RUNG
    if rung.latency.p50_ms >= full.latency.p50_ms:
        return f"no faster than the full model: {rung.latency.p50_ms:.2f} ms against {full.latency.p50_ms:.2f} ms"
    cost, score = rung.latency.p50_ms, rung.quality.score
    better = next(r for r in ladder if r.latency.p50_ms <= NOISE * cost and r.quality.score >= score)
    return f"{name(better, full)} is as fast and as good: {_figures(better)} against {_figures(rung)}"


def name(rung: Rung, full: Rung) -> str:
    """Return a rung in words, such as "vision/saliency@2 tokens.image=48", or "full" for the full model."""
    if (rung.settings, rung.graphs) == (full.settings, full.graphs):
        return "full"
    graphs = [f"{component}/{graph}" for component, graph in rung.graphs.items() if graph != FULL]
    return " ".join([*graphs, *(f"{lever}={setting}" for lever, setting in rung.settings.items())])


def _figures(rung: Rung) -> str:
    return f"{rung.latency.p50_ms:.2f} ms, {rung.quality.score:.3f}"
