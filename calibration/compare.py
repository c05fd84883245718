"""Compares engines with the source model's golden outputs, and names the first that drifts past its bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sanderling.bundle import Bundle
from sanderling.manifest import FLOAT32, Drift, Measured
from sanderling.selftest import AS_PLACED, SLACK, check, golden_sample, run_golden
from sanderling.session import Session

__all__ = ["check", "compare", "compare_placed", "golden_sample"]


def compare(
    bundle: Bundle, measured: Measured, targets: Sequence[str], progress: Callable[[str, int, int], None]
) -> tuple[Drift, ...]:
    """Return how far every target is from the source model, case by case and output by output.

    Args:
        bundle: holds the golden inputs and outputs.
        measured: threads and placement to open it with.
        targets: names of the targets to compare.
        progress: told after every case.
    """
    rows: list[Drift] = []
    for index, target in enumerate(targets):

        def told(done: int, cases: int, index: int = index, target: str = target) -> None:
            progress(f"comparing {target}", index * cases + done, len(targets) * cases)

        rows += run_golden(Session(bundle, measured=measured, target=target), target, told)
    return tuple(rows)


def compare_placed(bundle: Bundle, placed: Measured, progress: Callable[[str, int, int], None]) -> tuple[Drift, ...]:
    """Return how far the model is from its source where lossy number formats were chosen; empty where none was.

    The bounds of these rows are what the same bundle may show on another machine.

    Args:
        bundle: holds the golden inputs and outputs.
        placed: how every graph runs.
        progress: told after every case.
    """
    if all(way.format == FLOAT32 for graphs in placed.placements.values() for way in graphs.values()):
        return ()
    session = Session(bundle, measured=placed)
    rows = run_golden(session, AS_PLACED, lambda done, total: progress("comparing formats", done, total))
    lossy = [row for row in rows if session.is_lossy(row.graphs)]
    return tuple(replace(row, bound=max(_float_bound(bundle, row), SLACK * row.max_abs)) for row in lossy)


def _float_bound(bundle: Bundle, row: Drift) -> float:
    """Return the bound of a row's golden case in float32."""
    cases = bundle.manifest().golden.cases
    return next(case.bound for case in cases if (case.graphs, case.settings) == (row.graphs, row.settings))
