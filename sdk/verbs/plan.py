"""`sanderling plan`: what a budget buys, without running anything."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from sanderling.budget import UNLIMITED, Budget, Plan, Planner
from sanderling.bundle import Bundle
from sanderling.codec import plain
from sanderling.cost_model import refined
from sanderling.errors import BundleError
from sanderling.ladder import Ladder, Rung
from sanderling.options import add_budget, add_bundle, budget_of, budget_words
from sanderling.simulate import read_trace, simulate, summary
from sanderling.tables import figure, graphs_words, quality_words, settings_words, table
from sanderling.verb import Outcome, Verb

_DESCRIPTION = """
Say which rung of the ladder a call inside the budget would use, what it is predicted to cost and how good it is.
No engine is opened. With --explain, list every rung, which limit refuses it, what the next one up gives and what
another 10 ms would buy. With --simulate, replay a load trace with a virtual clock and say how many deadlines the plans
would meet: a JSON list of {"t_s": seconds, "slowdown": ratio}, each holding until the next and the last ending the
trace, or of measured ratios, one per call.

Example:

  sanderling plan model.sand --latency-ms 20 --explain
  sanderling plan model.sand --latency-ms 20 --percentile 99 --min-quality 0.9
  sanderling plan model.sand --latency-ms 20 --simulate trace.json
"""

MORE_MS = 10
"""What --explain asks for on top, to say what it would buy."""

MOST_CHANGES = 20
"""Changes of plan that --simulate prints."""


def _configure(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_budget(parser)
    parser.add_argument("--explain", action="store_true", help="list every rung and why it was not chosen")
    parser.add_argument("--simulate", type=Path, metavar="TRACE.json", help="replay a load trace")


def _run(arguments: Namespace) -> Outcome:
    with Bundle.open(arguments.bundle) as bundle:
        measured = bundle.measured()
        budget = budget_of(arguments) or bundle.manifest().budget or UNLIMITED
    if measured is None:
        raise BundleError(
            f"{arguments.bundle} holds no measurements; `sanderling profile {arguments.bundle}` takes them"
        )
    ladder = refined(measured.ladder, measured.cost_model)
    planner = Planner(ladder)
    plan = planner.plan(budget)
    chosen = _rung_of(ladder, plan)
    data: dict[str, Any] = {"budget": plain(budget), "plan": plain(plan), "quality": plain(chosen.quality)}
    text = _plan_words(budget, plan, chosen, ladder)
    if measured.stand_in:
        text += f"\nmeasured on a stand-in, not on {measured.device}: profile it there before relying on this"
    if arguments.explain:
        more, explained = _explain(planner, budget, chosen)
        data, text = data | more, f"{text}\n\n{explained}"
    if arguments.simulate is not None:
        found = summary(simulate(ladder, frozenset(plan.graphs), budget, read_trace(arguments.simulate)))
        data, text = data | {"simulation": found}, f"{text}\n\n{_simulation_words(found)}"
    return Outcome(data, text)


def _rung_of(ladder: Ladder, plan: Plan) -> Rung:
    return next(r for r in ladder.rungs if (r.settings, r.graphs) == (plan.settings, plan.graphs))


def _plan_words(budget: Budget, plan: Plan, chosen: Rung, ladder: Ladder) -> str:
    return "\n".join(
        [
            f"asked      {budget_words(budget)}",
            f"planned    {graphs_words(plan.graphs)} at {settings_words(plan.settings)}",
            f"predicted  {figure(plan.predicted_ms)} ms at p{budget.percentile:g}",
            f"quality    {quality_words(chosen.quality)}, {ladder.metric}",
            f"why        {plan.reason}",
        ]
    )


def _explain(planner: Planner, budget: Budget, chosen: Rung) -> tuple[dict[str, Any], str]:
    rungs = planner.ladder.rungs
    costs = [planner.cost_ms(rung, budget.percentile) for rung in rungs]
    reasons = [_reason(rung, ms, budget, rung is chosen) for rung, ms in zip(rungs, costs, strict=True)]
    up, buys = _next_up(planner, budget, chosen), _another_10_ms(planner, budget, chosen)
    data = {
        "rungs": [
            {**plain(rung), "predicted_ms": ms, "chosen": rung is chosen, "reason": reason}
            for rung, ms, reason in zip(rungs, costs, reasons, strict=True)
        ],
        "next_up": up,
        "another_10_ms": buys,
    }
    head = (*rungs[0].settings, "graph", f"p{budget.percentile:g} ms", "memory MB", "energy J", "quality", "")
    rows = [
        (
            *(str(setting) for setting in rung.settings.values()),
            graphs_words(rung.graphs),
            figure(ms),
            "-" if rung.memory_mb is None else f"{rung.memory_mb:.0f}",
            figure(rung.energy_j),
            f"{rung.quality.score:.3f}",
            reason,
        )
        for rung, ms, reason in zip(rungs, costs, reasons, strict=True)
    ]
    return data, f"{table(head, rows)}\n\n{_next_up_words(up)}{_buys_words(buys)}"


def _reason(rung: Rung, predicted_ms: float, budget: Budget, is_chosen: bool) -> str:
    """Return why a rung is not the plan, or that it is."""
    if is_chosen:
        return "<- planned"
    problems = []
    if budget.latency_ms is not None and predicted_ms > budget.latency_ms:
        problems.append(f"{figure(predicted_ms - budget.latency_ms)} ms over")
    if budget.memory_mb is not None and rung.memory_mb is not None and rung.memory_mb > budget.memory_mb:
        problems.append(f"{rung.memory_mb - budget.memory_mb:.0f} MB over")
    if budget.energy_j is not None and rung.energy_j is not None and rung.energy_j > budget.energy_j:
        problems.append(f"{figure(rung.energy_j - budget.energy_j)} J over")
    if budget.min_quality is not None and rung.quality.score < budget.min_quality:
        problems.append(f"quality {budget.min_quality - rung.quality.score:.3f} short")
    return ", ".join(problems) or "fits, and the planned one is better"


def _another_10_ms(planner: Planner, budget: Budget, chosen: Rung) -> dict[str, Any] | None:
    """Return the plan for 10 ms more; None without a deadline, or when the plan stays the same."""
    if budget.latency_ms is None:
        return None
    plan = planner.plan(replace(budget, latency_ms=budget.latency_ms + MORE_MS))
    rung = _rung_of(planner.ladder, plan)
    if rung is chosen:
        return None
    more = rung.quality.score - chosen.quality.score
    return {"plan": plain(plan), "quality": rung.quality.score, "more_quality": more}


def _buys_words(buys: dict[str, Any] | None) -> str:
    if buys is None:
        return ""
    plan = buys["plan"]
    return (
        f"\nAnother {MORE_MS} ms would buy {graphs_words(plan['graphs'])} at {settings_words(plan['settings'])}, "
        f"quality {buys['quality']:.3f} ({buys['more_quality']:+.3f})."
    )


def _simulation_words(found: dict[str, Any]) -> str:
    kept = ", ".join(f"{lever} {mean:.1f}" for lever, mean in found["kept"].items()) or "no levers"
    rows = [
        (
            f"{change['t_s']:.2f}",
            f"{change['slowdown']:.2f}",
            "refused" if change["settings"] is None else settings_words(change["settings"]),
            "-" if change["graphs"] is None else graphs_words(change["graphs"]),
            figure(change["spent_ms"]),
        )
        for change in found["changes"][:MOST_CHANGES]
    ]
    lines = [
        f"simulated  {found['calls']} calls, {found['refused']} of them refused",
        f"met        {found['met']} deadlines, {found['met_share']:.1%}",
        f"kept       on average: {kept}",
        f"switches   {found['switches']}",
        "",
        table(("at s", "slowdown", "plan", "graph", "took ms"), rows),
    ]
    if len(found["changes"]) > MOST_CHANGES:
        lines.append(f"  ... and {len(found['changes']) - MOST_CHANGES} more; --json has all of them")
    return "\n".join(lines)


def _next_up(planner: Planner, budget: Budget, chosen: Rung) -> dict[str, Any] | None:
    """Return what the next rung up gives and costs more; None at the top."""
    rungs = planner.ladder.rungs
    place = rungs.index(chosen)
    if place + 1 == len(rungs):
        return None
    above = rungs[place + 1]
    ms, more = planner.cost_ms(above, budget.percentile), above.quality.score - chosen.quality.score
    return {
        "settings": above.settings,
        "graphs": above.graphs,
        "predicted_ms": ms,
        "more_ms": ms - planner.cost_ms(chosen, budget.percentile),
        "quality": above.quality.score,
        "more_quality": more,
    }


def _next_up_words(up: dict[str, Any] | None) -> str:
    if up is None:
        return "There is no rung above: this is the full model."
    return (
        f"The next rung up, {graphs_words(up['graphs'])} at {settings_words(up['settings'])}, has quality "
        f"{up['quality']:.3f} ({up['more_quality']:+.3f}) for {figure(up['more_ms'])} ms more."
    )


VERB = Verb(
    help="what a budget buys: the plan, and with --explain why",
    description=_DESCRIPTION,
    configure=_configure,
    run=_run,
)
