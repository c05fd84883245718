"""Compares engines with the source model's golden outputs, and names the first that drifts past its bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sanderling.bundle import Bundle, read_array
from sanderling.calibration.quality import cosine
from sanderling.engine import AnyArray
from sanderling.errors import DriftError
from sanderling.manifest import Drift, GoldenCase, Measured
from sanderling.session import Session


def golden_sample(bundle: Bundle) -> dict[str, Any]:
    """Return the golden inputs as `Session.run` takes them."""
    return {
        entry.name: entry.text if entry.member is None else read_array(bundle, entry.member)
        for entry in bundle.manifest().golden.inputs
    }


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
    cases = bundle.manifest().golden.cases
    sample = golden_sample(bundle)
    rows: list[Drift] = []
    for index, target in enumerate(targets):
        session = Session(bundle, measured=measured, target=target)
        for number, case in enumerate(cases, start=1):
            rows += _compare_case(session, target, case, sample)
            progress(f"comparing {target}", index * len(cases) + number, len(targets) * len(cases))
    return tuple(rows)


def check(rows: Sequence[Drift]) -> None:
    """Check that nothing drifted past its bound.

    Raises:
        DriftError: the message names the first target, graph, setting and output that did.
    """
    for row in rows:
        if not row.max_abs <= row.bound:  # so that a NaN fails as well
            reduced = ", ".join(f"{c}/{g}" for c, g in row.graphs.items())
            raise DriftError(
                f"{row.target} differs from the source model by {row.max_abs:.3g} in {row.output!r}, bound "
                f"{row.bound:.3g} (cosine {row.cosine:.6f}), with {reduced} at {row.settings}; "
                "leave this target out of the recipe, or give the part a wider bound if that is acceptable"
            )


def _compare_case(session: Session, target: str, case: GoldenCase, sample: dict[str, Any]) -> list[Drift]:
    outputs = session.run(sample, plan=session.at(case.settings, case.graphs)).outputs
    rows = []
    for name, member in case.outputs.items():
        expected = read_array(session.bundle, member)
        distance = _largest_difference(outputs[name], expected)
        row = Drift(target, case.graphs, case.settings, name, distance, cosine(outputs[name], expected), case.bound)
        rows.append(row)
    return rows


def _largest_difference(a: AnyArray, b: AnyArray) -> float:
    """Return the largest absolute difference; infinity when the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))
