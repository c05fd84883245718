"""Compares engines with the source model's golden outputs, and names the first that drifts past its bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sanderling.bundle import Bundle
from sanderling.manifest import Drift, Measured
from sanderling.selftest import check, golden_sample, run_golden
from sanderling.session import Session

__all__ = ["check", "compare", "golden_sample"]


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
