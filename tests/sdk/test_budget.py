from __future__ import annotations

import math
from dataclasses import replace

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


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "33"])
@pytest.mark.parametrize("name", ["latency_ms", "memory_mb", "energy_j"])
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
        ({"latency_ms": 5, "on_miss": "hope"}, "on_miss is 'hope', expected one of report, error, degrade, last_good"),
        ({"on_miss": "error"}, "on_miss='error' without latency_ms: there is no deadline to miss"),
        ({"percentile": "90"}, "percentile is '90'"),
        ({"min_quality": True}, "min_quality is True"),
    ],
    ids=str,
)
def test_other_fields_are_checked(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Budget(**wrong)  # type: ignore[arg-type]


def random_rung(rng: np.random.Generator, energy: bool) -> Rung:
    """A rung of several levers whose percentiles, memory and energy have nothing to do with each other."""
    settings = {f"tokens.{name}": int(rng.integers(1, 9)) for name in ("image", "audio", "text")}
    drawn = np.sort(rng.choice(np.arange(1.0, 60.0), (3, 3)))
    costs = [Cost(float(p50), float(p90), float(p99), 9) for p50, p90, p99 in drawn]
    score = float(rng.integers(0, 20)) / 20
    parts = {"vision": costs[1], "text": costs[2]}
    memory, joules = float(rng.integers(50, 60)), float(rng.integers(1, 12)) if energy else None
    quality = Quality(score, score, score, 9)
    return Rung(settings | {"steps": 4}, {"vision": "full", "text": "full"}, costs[0], parts, memory, quality, joules)


def random_ladder(rng: np.random.Generator) -> Ladder:
    """A ladder as `build_ladder` makes them: a front, and on top of it the full model, whatever its quality."""
    energy = bool(rng.integers(2))
    rungs = [random_rung(rng, energy) for _ in range(rng.integers(1, 30))]
    kept = front(rungs)
    return Ladder("accuracy", kept if rungs[0] in kept else (*kept, rungs[0]))


def random_budget(rng: np.random.Generator, energy: bool) -> Budget:
    given = rng.random(4) < 0.6
    return Budget(
        latency_ms=float(rng.integers(1, 80)) if given[0] else None,
        percentile=float(rng.choice([50, 75, 90, 95, 99])),
        memory_mb=float(rng.integers(50, 60)) if given[1] else None,
        min_quality=float(rng.integers(0, 20)) / 20 if given[2] else None,
        energy_j=float(rng.integers(1, 12)) if given[3] and energy else None,
        otherwise="cheapest" if rng.random() < 0.3 else "refuse",
    )


def by_brute_force(ladder: Ladder, components: set[str] | None, budget: Budget, slowdown: float) -> Rung | None:
    """Every rung held against every limit; the last is the best."""

    def cost(rung: Rung) -> float:
        if components is None:
            return rung.latency.at(budget.percentile) * slowdown
        return sum(rung.components[name].at(budget.percentile) for name in components) * slowdown

    allowed = [
        rung
        for rung in ladder.rungs
        if (budget.memory_mb is None or (rung.memory_mb or 0) <= budget.memory_mb)
        and (budget.energy_j is None or (rung.energy_j or 0) <= budget.energy_j)
        and (budget.min_quality is None or rung.quality.score >= budget.min_quality)
    ]
    fits = [rung for rung in allowed if budget.latency_ms is None or cost(rung) <= budget.latency_ms]
    if fits:
        return fits[-1]
    return min(allowed, key=cost) if allowed and budget.otherwise == "cheapest" else None


def test_planner_equals_brute_force_on_random_ladders() -> None:
    rng = np.random.default_rng(0)
    planned = 0
    for _ in range(1000):
        ladder = random_ladder(rng)
        components = {"vision"} if rng.random() < 0.3 else None
        planner = Planner(ladder, None if components is None else frozenset(components))
        for _ in range(3):
            budget = random_budget(rng, ladder.rungs[0].energy_j is not None)
            slowdown = float(rng.choice([1.0, 1.1, 1.7, 3.0]))
            wanted = by_brute_force(ladder, components, budget, slowdown)
            if wanted is None:
                with pytest.raises(BudgetError):
                    planner.plan(budget, slowdown)
                continue
            plan = planner.plan(budget, slowdown)
            assert (plan.settings, plan.typical_ms) == (wanted.settings, planner.cost_ms(wanted, 50.0))
            planned += 1
    assert planned > 1500, "most budgets are to be kept by some rung"


def test_energy_limit_moves_the_choice() -> None:
    ladder = Ladder("accuracy", tuple(replace(r, energy_j=r.latency.p50_ms / 10) for r in LADDER.rungs))
    assert Planner(ladder).plan(Budget(energy_j=0.5)).settings["tokens.image"] == 4
    with pytest.raises(BudgetError, match=r"at most 0\.1 J \(the least is 0\.2 J\)"):
        Planner(ladder).plan(Budget(energy_j=0.1))


def test_refuses_to_limit_energy_that_was_not_measured() -> None:
    with pytest.raises(BudgetError, match="energy was not measured"):
        Planner(LADDER).plan(Budget(energy_j=1))


def test_one_rung_is_taken_or_refused() -> None:
    planner = Planner(Ladder("accuracy", LADDER.rungs[:1]))
    assert planner.plan(Budget(latency_ms=2.3)).settings == {"tokens.image": 2}
    with pytest.raises(BudgetTooSmallError):
        planner.plan(Budget(latency_ms=2.1))


def test_a_measured_cost_of_zero_fits_every_budget() -> None:
    planner = Planner(Ladder("accuracy", (rung(0, 0.8, tokens=2), rung(4, 0.9, tokens=4))))
    assert planner.plan(Budget(latency_ms=1e-9), slowdown=3.0).settings == {"tokens.image": 2}
    assert planner.tail(90) == pytest.approx(1.1)


def test_degrade_takes_the_cheapest_rung_when_only_the_slowdown_is_in_the_way() -> None:
    budget = Budget(latency_ms=2.3, on_miss="degrade")
    assert Planner(LADDER).plan(budget, slowdown=5.0).settings == {"tokens.image": 2}
    with pytest.raises(BudgetTooSmallError):
        Planner(LADDER).plan(Budget(latency_ms=2.3), slowdown=5.0)
    with pytest.raises(BudgetTooSmallError):
        Planner(LADDER).plan(Budget(latency_ms=2.1, on_miss="degrade"), slowdown=5.0)


def test_more_kinds_of_budget_than_are_remembered() -> None:
    planner = Planner(LADDER)
    for number in range(Planner.REMEMBERED + 10):
        assert planner.plan(Budget(memory_mb=96 + number / 1e4)).settings == {"tokens.image": 4}


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
