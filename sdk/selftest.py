"""The self-test in a bundle: the source model's answers, held against what an engine answers here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sanderling.bundle import Bundle, read_array
from sanderling.engine import AnyArray
from sanderling.errors import DriftError
from sanderling.manifest import Drift, GoldenCase
from sanderling.session import Session
from sanderling.tables import settings_words


def golden_sample(bundle: Bundle) -> dict[str, Any]:
    """Return the golden inputs as `Session.run` takes them."""
    return {
        entry.name: entry.text if entry.member is None else read_array(bundle, entry.member)
        for entry in bundle.manifest().golden.inputs
    }


AS_PLACED = "as placed"
"""Instead of a target's name: every graph where and in the format that was chosen for it."""

SLACK = 2.0
"""How much further than where it was compiled a lossy format may move elsewhere."""


def run_golden(session: Session, target: str, told: Callable[[int, int], None]) -> tuple[Drift, ...]:
    """Return how far a session is from the source model, case by case and output by output.

    Graphs in a lossy format are held against how far they were when the bundle was compiled.

    Args:
        session: the opened bundle.
        target: what to call the engine or engines that the session runs on.
        told: called after every case with how many are done and how many there are.
    """
    cases = session.manifest.golden.cases
    sample = golden_sample(session.bundle)
    rows: list[Drift] = []
    for number, case in enumerate(cases, start=1):
        rows += _run_case(session, target, case, sample)
        told(number, len(cases))
    return tuple(rows)


def check(rows: Sequence[Drift]) -> None:
    """Check that nothing drifted past its bound.

    Raises:
        DriftError: the message names the first target, graph, setting and output that did.
    """
    first = next((row for row in rows if not is_inside(row)), None)
    if first is not None:
        raise DriftError(drift_words(first))


def drift_words(row: Drift) -> str:
    """Return what drifted, how far, and what to do about it."""
    graphs = ", ".join(f"{component}/{graph}" for component, graph in row.graphs.items())
    return (
        f"{row.target} differs from the source model by {row.max_abs:.3g} in {row.output!r}, bound {row.bound:.3g} "
        f"(cosine {row.cosine:.6f}), with {graphs} at {settings_words(row.settings)}; "
        "leave this target out of the recipe, or give the part a wider bound if that is acceptable"
    )


def is_inside(row: Drift) -> bool:
    """Return whether an output is within its bound; one with NaN never is."""
    return row.max_abs <= row.bound


def drift_data(row: Drift) -> dict[str, Any]:
    """Return a row for JSON, which has no infinity and no NaN."""
    return {
        "target": row.target,
        "graphs": row.graphs,
        "settings": row.settings,
        "output": row.output,
        "max_abs": row.max_abs if row.max_abs < float("inf") else None,
        "cosine": row.cosine if abs(row.cosine) < float("inf") else None,
        "bound": row.bound,
        "inside": is_inside(row),
    }


def cosine(a: AnyArray, b: AnyArray) -> float:
    """Return the cosine of two arrays taken as vectors; 1 when both are zero, 0 when their shapes differ."""
    if a.shape != b.shape:
        return 0.0
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norms if norms > 0 else float(np.array_equal(x, y))


def _run_case(session: Session, target: str, case: GoldenCase, sample: dict[str, Any]) -> list[Drift]:
    outputs = session.run(sample, plan=session.at(case.settings, case.graphs)).outputs
    rows = []
    for name, member in case.outputs.items():
        expected = read_array(session.bundle, member)
        distance = _largest_difference(outputs[name], expected)
        bound = _bound(session, case, name)
        row = Drift(target, case.graphs, case.settings, name, distance, cosine(outputs[name], expected), bound)
        rows.append(row)
    return rows


def _bound(session: Session, case: GoldenCase, output: str) -> float:
    """Return how far an output may be: the case's bound, or for a lossy format what was seen when it was chosen."""
    if not session.is_lossy(case.graphs):
        return case.bound
    placed = [row for row in session.measured.drift if row.target == AS_PLACED]
    key = (case.graphs, case.settings, output)
    # Nothing recorded yet means that this call is the one that records it.
    return max((row.bound for row in placed if (row.graphs, row.settings, row.output) == key), default=float("inf"))


def _largest_difference(a: AnyArray, b: AnyArray) -> float:
    """Return the largest absolute difference; infinity when the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))
