"""Goals: reached or missed by both numbers, and refused when they make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from toy_bundle import toy_measured

from sanderling.compile.goals import Goals
from sanderling.compile.recipe import from_mapping
from sanderling.errors import RecipeError

LADDER = toy_measured(((2, 1.0, 0.7), (4, 2.0, 0.9), (8, 4.0, 1.0))).ladder
"""p90 is 1.1 times these medians."""


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        (Goals(), ""),
        (Goals(latency_ms=1.2), ""),
        (Goals(latency_ms=1.05), "takes 1.1 ms at p90, at most 1.05 ms"),
        (Goals(latency_ms=1.05, percentile=50), ""),
        (Goals(latency_ms=2.3, quality_drop_max=0.1), ""),
        (
            Goals(latency_ms=2.3, quality_drop_max=0.05),
            "takes 4.4 ms at p90, at most 2.3 ms asked for; cheaper rungs lose more",
        ),
        (Goals(size_mb=2.0), ""),
        (Goals(size_mb=0.5), "has 1.00 MB, at most 0.5"),
    ],
)
def test_each_goal_turns_the_answer(goals: Goals, said: str) -> None:
    missed = goals.missed(LADDER, source_quality=1.0, size_mb=1.0)
    assert (said in "; ".join(missed)) if said else missed == ()


def test_a_ladder_below_the_source_misses_quality() -> None:
    assert (
        "the best rung has 1.000, needed 1.040"
        in Goals(quality_drop_max=0.01).missed(LADDER, source_quality=1.05, size_mb=1.0)[0]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quality_drop_max": -0.1}, "expected 0 to 1"),
        ({"latency_ms": 0}, "above 0"),
        ({"size_mb": float("nan")}, "above 0"),
        ({"percentile": 100}, "expected 50 to 99"),
        ({"latencyms": 3}, "did you mean 'latency_ms'"),
    ],
)
def test_goals_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        from_mapping({"goals": given})


def test_a_format_may_cost_what_the_goal_says() -> None:
    assert (Goals().format_drop_max, Goals(quality_drop_max=0.03).format_drop_max) == (0.01, 0.03)
