from __future__ import annotations

import math

import numpy as np
import pytest

from sanderling.budget import Budget, Planner
from sanderling.errors import BudgetError, BudgetTooSmallError
from sanderling.ladder import Cost, Ladder, Quality, Rung, front


def rung(p50: float, quality: float, memory_mb: float | None = 100.0, tokens: int = 8) -> Rung:
    cost = Cost(p50, p50 * 1.1, p50 * 1.5, 100)
    half = Cost(p50 / 2, p50 * 0.55, p50 * 0.75, 100)
    score = Quality(quality, quality - 0.01, quality + 0.01, 100)
    return Rung({"tokens.image": tokens}, {"vision": "full"}, cost, {"vision": half, "text": half}, memory_mb, score)


LADDER = Ladder("accuracy", (rung(2, 0.8, 90, 2), rung(4, 0.9, 95, 4), rung(8, 0.99, 100, 8)))


def test_takes_the_best_rung_inside_the_budget() -> None:
    planner = Planner(LADDER)
    # The p90 of a rung is 1.1 times its median here.
    for budget_ms, tokens in [(2.3, 2), (4.3, 2), (4.5, 4), (8.7, 4), (8.9, 8), (100, 8)]:
        plan = planner.plan(Budget(latency_ms=budget_ms))
        assert plan.settings == {"tokens.image": tokens}
        assert plan.predicted_ms is not None
        assert plan.predicted_ms <= budget_ms


def test_percentile_moves_the_choice() -> None:
    planner = Planner(LADDER)
    assert planner.plan(Budget(latency_ms=8.5, percentile=50)).settings["tokens.image"] == 8
    assert planner.plan(Budget(latency_ms=8.5, percentile=90)).settings["tokens.image"] == 4
    assert planner.plan(Budget(latency_ms=5.0, percentile=99)).settings["tokens.image"] == 2


def test_slowdown_moves_the_choice() -> None:
    assert Planner(LADDER).plan(Budget(latency_ms=9), slowdown=2.0).settings["tokens.image"] == 4


def test_no_limit_means_the_full_model() -> None:
    assert Planner(LADDER).plan(Budget()).settings["tokens.image"] == 8


def test_memory_limit_moves_the_choice() -> None:
    assert Planner(LADDER).plan(Budget(memory_mb=96)).settings["tokens.image"] == 4


def test_fewer_components_cost_less() -> None:
    planner = Planner(LADDER, frozenset({"vision"}))
    assert planner.plan(Budget(latency_ms=4.5)).settings["tokens.image"] == 8


def test_refuses_a_budget_below_the_cheapest_rung() -> None:
    with pytest.raises(
        BudgetTooSmallError, match=r"budget 1 ms at p90.*predicted 2\.2 ms.*otherwise='cheapest'"
    ) as caught:
        Planner(LADDER).plan(Budget(latency_ms=1))
    assert caught.value.cheapest_ms == pytest.approx(2.2)


def test_takes_the_cheapest_rung_when_asked_to() -> None:
    plan = Planner(LADDER).plan(Budget(latency_ms=1, otherwise="cheapest"))
    assert plan.settings["tokens.image"] == 2
    assert "too little" in plan.reason


def test_cheapest_still_keeps_the_quality_floor() -> None:
    plan = Planner(LADDER).plan(Budget(latency_ms=1, min_quality=0.85, otherwise="cheapest"))
    assert plan.settings["tokens.image"] == 4


def test_refuses_a_quality_nothing_reaches() -> None:
    with pytest.raises(BudgetError, match=r"at least 0\.999.*best quality is 0\.990"):
        Planner(LADDER).plan(Budget(min_quality=0.999))


def test_refuses_to_limit_memory_that_was_not_measured() -> None:
    with pytest.raises(BudgetError, match="memory was not measured"):
        Planner(Ladder("accuracy", (rung(2, 0.8, None),))).plan(Budget(memory_mb=10))


def test_refuses_to_plan_without_rungs() -> None:
    with pytest.raises(BudgetError, match="no rungs yet"):
        Planner(Ladder("accuracy", ())).plan(Budget())


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["latency_ms", "memory_mb"])
def test_budgets_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(BudgetError, match=f"{name} is .*expected a number above 0"):
        Budget(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"percentile": 49}, "percentile is 49"),
        ({"percentile": 99.9}, "percentile is 99.9"),
        ({"min_quality": 1.1}, "min_quality is 1.1"),
        ({"min_quality": math.nan}, "min_quality is nan"),
        ({"otherwise": "hope"}, "otherwise is 'hope'"),
    ],
    ids=str,
)
def test_other_fields_are_checked(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Budget(**wrong)  # type: ignore[arg-type]


def test_planner_equals_brute_force_on_random_ladders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        rungs = [rung(float(p), float(q), float(m)) for p, q, m in rng.uniform([1, 0, 50], [10, 1, 150], (8, 3))]
        ladder = Ladder("accuracy", front(rungs))
        latency_ms, memory_mb = float(rng.uniform(1, 12)), float(rng.uniform(60, 160))
        budget = Budget(latency_ms=latency_ms, memory_mb=memory_mb, percentile=90)
        fits = [r for r in ladder.rungs if r.latency.p90_ms <= latency_ms and (r.memory_mb or 0) <= memory_mb]
        if not fits:
            with pytest.raises(BudgetError):
                Planner(ladder).plan(budget)
            continue
        plan = Planner(ladder).plan(budget)
        assert plan.typical_ms == max(fits, key=lambda r: r.quality.score).latency.p50_ms


def test_front_equals_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        rungs = [rung(float(p), float(q)) for p, q in rng.integers(1, 9, (10, 2))]
        kept = front(rungs)
        for r in rungs:
            beaten = any(
                o.latency.p50_ms <= r.latency.p50_ms
                and o.quality.score >= r.quality.score
                and (o.latency.p50_ms, o.quality.score) != (r.latency.p50_ms, r.quality.score)
                for o in rungs
            )
            assert any(k.latency.p50_ms == r.latency.p50_ms and k.quality == r.quality for k in kept) == (not beaten)


def test_cost_between_measured_percentiles() -> None:
    cost = Cost(10, 18, 36, 5)
    assert [cost.at(p) for p in (50, 70, 90, 94.5, 99)] == [10, 14, 18, 27, 36]
    with pytest.raises(BudgetError, match="percentile 40 was not measured"):
        cost.at(40)
