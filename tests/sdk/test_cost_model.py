from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_bundle import toy_measured, write_toy

import sanderling
from sanderling.budget import Budget, Planner
from sanderling.codec import from_json, to_json
from sanderling.cost_model import BETWEEN, TRUSTED, CostModel, Curve, PartCost, WholeUse, refined
from sanderling.ladder import Cost, Ladder, Quality, Rung

LINE = Curve(("tokens",), ((2, 16),), (2.0, 16.0))
"""One millisecond a token."""

MODEL = CostModel(
    parts=(PartCost("look", "top@0", LINE, LINE, LINE),),
    wholes=(WholeUse({"look": "top@0"}, Curve(("tokens",), ((2, 16),), (10.0, 24.0)), LINE),),
    beyond_ms=(0.5, 0.6, 0.7),
    error=0.05,
    held_out=3,
)


def rung(tokens: int, p50: float, score: float, graph: str = "top@0") -> Rung:
    cost = Cost(p50, p50, p50, 20)
    quality = Quality(score, score - 0.02, score + 0.02, 20)
    return Rung({"tokens": tokens}, {"look": graph}, cost, {"look": cost}, 10.0 + tokens, quality, p50)


LADDER = Ladder("accuracy", (rung(4, 4.5, 0.6), rung(12, 12.5, 0.9), rung(16, 20, 1.0, "full")))


def test_curves_equal_numpy_between_knots() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        knots = sorted(int(k) for k in rng.choice(50, 5, replace=False))
        values = [float(v) for v in rng.random(5)]
        curve = Curve(("a",), (tuple(knots),), tuple(values))
        for setting in range(knots[0], knots[-1] + 1):
            assert curve.at({"a": setting}) == pytest.approx(np.interp(setting, knots, values))


def test_several_levers_are_multilinear() -> None:
    """A function that is linear in each lever is met exactly, anywhere between the knots."""
    grid = [(2, 5, 9), (1, 7), (10, 20, 40)]
    values = [a * b * c + 3 * a + b for a in grid[0] for b in grid[1] for c in grid[2]]
    curve = Curve(("a", "b", "c"), tuple(grid), tuple(float(v) for v in values))
    rng = np.random.default_rng(0)
    for a, b, c in rng.integers([2, 1, 10], [10, 8, 41], (100, 3)):
        assert curve.at({"c": int(c), "a": int(a), "b": int(b), "other": 5}) == pytest.approx(a * b * c + 3 * a + b)


def test_outside_of_what_was_measured_nothing_is_predicted() -> None:
    assert LINE.at({"tokens": 1}) is None
    assert LINE.at({"tokens": 17}) is None
    assert MODEL.predict({"tokens": 17}, {"look": "top@0"}) is None
    assert MODEL.predict({"tokens": 8}, {"look": "other"}) is None
    assert MODEL.predict({"tokens": 8}, {"listen": "full"}) is None
    assert Curve((), (), (3.0,)).at({"tokens": 99}) == 3.0, "a graph without levers costs the same everywhere"


def test_a_whole_call_is_its_components_and_what_lies_between() -> None:
    found = MODEL.predict({"tokens": 8}, {"look": "top@0"})
    assert found is not None
    assert found.latency == Cost(8.5, 8.6, 8.7, 0)
    assert found.components["look"].p50_ms == 8.0
    assert (found.memory_mb, found.energy_j) == pytest.approx((16.0, 8.0))
    unmetered = replace(MODEL, wholes=(WholeUse({"look": "top@0"}, None, None),))
    found = unmetered.predict({"tokens": 8}, {"look": "top@0"})
    assert found is not None
    assert (found.memory_mb, found.energy_j) == (None, None)


def test_a_component_that_did_not_run_in_the_profile_is_in_no_cost() -> None:
    alone = MODEL.predict({"tokens": 8}, {"look": "top@0"})
    assert alone is not None
    assert MODEL.predict({"tokens": 8}, {"look": "top@0", "read": "full"}) == replace(
        alone, memory_mb=None, energy_j=None
    )


def test_percentiles_keep_their_order() -> None:
    found = replace(MODEL, beyond_ms=(0.5, -3.0, -5.0)).predict({"tokens": 8}, {"look": "top@0"})
    assert found is not None
    assert found.latency.p50_ms <= found.latency.p90_ms <= found.latency.p99_ms


def test_between_rungs_come_settings_that_cost_more_and_promise_less_than_the_straight_line() -> None:
    found = refined(LADDER, MODEL).rungs
    between = [r for r in found if not r.measured]
    assert [r.settings["tokens"] for r in between] == [6, 8, 10]
    assert len(between) == BETWEEN
    for r in between:
        tokens = r.settings["tokens"]
        assert r.latency.p50_ms == pytest.approx((tokens + 0.5) * 1.05), "the model's own error comes on top"
        share = (tokens - 4) / 8
        assert r.quality.score == pytest.approx(0.6 + share * (0.88 - 0.6)), "towards the low end of the upper rung"
        assert r.quality.low <= r.quality.score <= r.quality.high
        assert r.memory_mb == 22.0, "the upper rung's"
        assert r.energy_j == pytest.approx(tokens * 1.05)
    assert [r for r in found if r.measured] == list(LADDER.rungs)


def test_costs_and_quality_rise_up_the_refined_ladder() -> None:
    rungs = refined(LADDER, MODEL).rungs
    assert all(a.latency.p50_ms < b.latency.p50_ms for a, b in itertools.pairwise(rungs))
    assert all(a.quality.score < b.quality.score for a, b in itertools.pairwise(rungs))


@pytest.mark.parametrize(
    ("ladder", "model"),
    [
        (LADDER, None),
        (LADDER, replace(MODEL, error=None)),
        (LADDER, replace(MODEL, error=TRUSTED * 1.01)),
        (Ladder("", LADDER.rungs[:1]), MODEL),
        (Ladder("", ()), MODEL),
        (Ladder("", (rung(4, 4.5, 0.6), rung(5, 12.5, 0.9))), MODEL),
        (Ladder("", (rung(4, 4.5, 0.90), rung(12, 12.5, 0.91))), MODEL),
        (Ladder("", (rung(4, 4.5, 0.6, "other"), rung(12, 12.5, 0.9))), MODEL),
        (Ladder("", (rung(12, 4.5, 0.6), rung(4, 12.5, 0.9))), MODEL),
        (Ladder("", (rung(4, 0.5, 0.6), rung(12, 1.5, 0.9))), MODEL),
    ],
    ids=["none", "no error", "error", "one", "empty", "adjacent", "same quality", "graphs", "falling", "costs differ"],
)
def test_nothing_is_put_between_where_it_cannot_be_trusted(ladder: Ladder, model: CostModel | None) -> None:
    assert refined(ladder, model) == ladder


def test_a_plan_between_rungs_says_so_and_keeps_the_budget() -> None:
    planner = Planner(refined(LADDER, MODEL))
    plan = planner.plan(Budget(latency_ms=10))
    assert plan.settings == {"tokens": 8}
    assert plan.reason == "best rung that fits, predicted from its measured neighbours"
    assert plan.predicted_ms is not None
    assert plan.predicted_ms <= 10
    assert Planner(LADDER).plan(Budget(latency_ms=10)).settings == {"tokens": 4}


def test_a_session_plans_between_rungs_where_the_bundle_has_a_model(tmp_path: Path) -> None:
    graphs = {"look": "top@0", "read": "full", "join": "full"}
    flat = Curve((), (), (0.25,))
    part = Curve(("tokens",), ((2, 8),), (0.5, 3.5))
    model = CostModel(
        (
            PartCost("look", "top@0", part, part, part),
            PartCost("read", "full", flat, flat, flat),
            PartCost("join", "full", flat, flat, flat),
        ),
        (WholeUse(graphs, None, None),),
        (0.0, 0.0, 0.0),
        0.02,
        3,
    )
    measured = toy_measured(((2, 1.0, 0.7), (6, 4.0, 0.9), (8, 6.0, 1.0)))
    path = write_toy(tmp_path / "toy.sand", measured=replace(measured, cost_model=model))
    with sanderling.load(path) as session:
        inputs = {"picture": np.arange(8, dtype=np.float32)[None], "words": np.ones((1, 2), np.float32)}
        answer = session.run(inputs, Budget(latency_ms=2.8))
        assert answer.receipt.plan.settings == {"tokens": 5}
        assert answer.outputs["looked"].item() == 7 + 6 + 5 + 4 + 3


def test_what_was_written_comes_back() -> None:
    assert from_json(CostModel, to_json(MODEL), "it") == MODEL
