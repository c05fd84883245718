"""Arguments that several verbs share, and what they mean."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, get_args

from sanderling.budget import Budget, OnMiss


def add_bundle(parser: ArgumentParser) -> None:
    """Add the bundle that a verb is about."""
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle file, such as model.sand")


def add_budget(parser: ArgumentParser) -> None:
    """Add what a call may cost."""
    group = parser.add_argument_group("budget", "what one call may cost; the bundle's own budget when none is given")
    group.add_argument("--latency-ms", type=float, metavar="MS", help="milliseconds for a whole call")
    group.add_argument(
        "--percentile", type=float, metavar="P", help="share of the calls that end within it, 50 to 99; 90 by default"
    )
    group.add_argument("--memory-mb", type=float, metavar="MB", help="peak memory of the process")
    group.add_argument("--min-quality", type=float, metavar="Q", help="lowest quality to accept, 0 to 1")
    group.add_argument("--energy-j", type=float, metavar="J", help="joules of one call")
    group.add_argument("--on-miss", choices=get_args(OnMiss), help="what becomes of a late call; 'report' by default")
    group.add_argument("--cheapest", action="store_true", help="when nothing fits, take the cheapest rung")


def budget_of(arguments: Namespace) -> Budget | None:
    """Return the budget that `add_budget`'s arguments describe, or None when none of them was given.

    Raises:
        BudgetError: a number that makes no sense.
    """
    names = ("latency_ms", "percentile", "memory_mb", "min_quality", "energy_j", "on_miss")
    given: dict[str, Any] = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.cheapest:
        given["otherwise"] = "cheapest"
    return Budget(**given) if given else None


def budget_words(budget: Budget) -> str:
    """Return a budget in words, such as "20 ms at p90, quality at least 0.9"."""
    words = []
    if budget.latency_ms is not None:
        words.append(f"{budget.latency_ms:g} ms at p{budget.percentile:g}")
    if budget.memory_mb is not None:
        words.append(f"at most {budget.memory_mb:g} MB")
    if budget.min_quality is not None:
        words.append(f"quality at least {budget.min_quality:g}")
    if budget.energy_j is not None:
        words.append(f"at most {budget.energy_j:g} J")
    if budget.on_miss not in (None, "report"):
        words.append(f"when late: {budget.on_miss}")
    return ", ".join(words) or "no limit"


def see_current_folder() -> None:
    """Let modules in the current folder be imported by name, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
