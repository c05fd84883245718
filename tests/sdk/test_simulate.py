from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from command import sanderling

from sanderling.budget import Budget
from sanderling.errors import BudgetError, InputError
from sanderling.ladder import Cost, Ladder, Quality, Rung
from sanderling.simulate import Trace, read_trace, simulate, summary


def rung(tokens: int, p50: float) -> Rung:
    cost = Cost(p50, 1.05 * p50, 1.1 * p50, 50)
    return Rung({"tokens": tokens}, {"look": "top@0"}, cost, {"look": cost}, None, Quality(tokens / 16, 0, 1, 50))


LADDER = Ladder("accuracy", tuple(rung(tokens, float(tokens)) for tokens in (2, 4, 8, 16)))
LOOK = frozenset({"look"})
BUDGET = Budget(latency_ms=20)
STEP = Trace((0.0, 2.0, 4.0, 8.0), (1.0, 3.0, 1.0, 1.0), 8.0)


def test_plans_follow_the_load_and_come_back() -> None:
    calls = simulate(LADDER, LOOK, BUDGET, STEP)
    found = summary(calls)
    kept = {call.plan.settings["tokens"] for call in calls if call.plan and 2.2 < call.t_s < 4}
    assert kept == {4}, "a third of 20 ms buys 4 tokens"
    assert [c.plan.settings["tokens"] for c in calls if c.plan and (c.t_s < 2 or c.t_s > 5)] == [16] * found_outside(
        calls
    )
    late = [call for call in calls if not call.met]
    assert len(late) == 3
    assert all(2.0 <= call.t_s < 2.2 for call in late)
    assert found["calls"] == found["met"] + 3
    assert found["switches"] == 2
    assert found["refused"] == 0


def found_outside(calls: list) -> int:  # type: ignore[type-arg]
    return sum(call.t_s < 2 or call.t_s > 5 for call in calls)


def test_calls_begin_once_per_deadline_or_when_the_last_one_ended() -> None:
    calls = simulate(LADDER, LOOK, BUDGET, STEP)
    for before, after in itertools.pairwise(calls):
        assert after.t_s - before.t_s == pytest.approx(max(20, before.spent_ms) / 1e3)


def test_degrade_misses_less() -> None:
    budget = Budget(latency_ms=20, on_miss="degrade")
    assert summary(simulate(LADDER, LOOK, budget, STEP))["met"] > summary(simulate(LADDER, LOOK, BUDGET, STEP))["met"]


def test_what_no_rung_can_hold_is_refused_until_what_was_measured_fades() -> None:
    trace = Trace((0.0, 1.0, 60.0), (30.0, 1.0, 1.0), 60.0)
    found = summary(simulate(LADDER, LOOK, BUDGET, trace))
    assert found["refused"] > 0
    assert simulate(LADDER, LOOK, BUDGET, trace)[-1].met
    cheapest = Budget(latency_ms=20, otherwise="cheapest")
    assert summary(simulate(LADDER, LOOK, cheapest, trace))["refused"] == 0


def test_measured_ratios_are_taken_one_per_call() -> None:
    ratios = tuple(float(r) for r in np.random.default_rng(0).uniform(1, 1.1, 50))
    calls = simulate(LADDER, LOOK, BUDGET, Trace((), ratios, 0.0))
    assert tuple(call.slowdown for call in calls) == ratios
    assert all(call.spent_ms == pytest.approx(16 * call.slowdown) for call in calls)


def test_a_simulation_needs_a_deadline_and_an_end() -> None:
    with pytest.raises(BudgetError, match="needs a deadline"):
        simulate(LADDER, LOOK, Budget(), STEP)
    with pytest.raises(BudgetError, match="more than 1,000,000 calls"):
        simulate(LADDER, LOOK, BUDGET, Trace((0.0, 1e9), (1.0, 1.0), 1e9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ("{}", "no list with entries"),
        ("[]", "no list with entries"),
        ('[{"t_s": 0}]', "entry 0 is .*expected t_s and slowdown and nothing else"),
        ('[{"t_s": 0, "slowdown": 1}, 2]', "entry 1 is 2"),
        ('[{"t_s": 0, "slowdown": 1}]', "at least two"),
        ('[{"t_s": 1, "slowdown": 1}, {"t_s": 2, "slowdown": 1}]', "rise from 0"),
        ('[{"t_s": 0, "slowdown": 1}, {"t_s": 0, "slowdown": 1}]', "rise from 0"),
        ('[{"t_s": 0, "slowdown": 0}, {"t_s": 1, "slowdown": 1}]', "entry 0 has slowdown 0, expected above 0"),
        ('[{"t_s": 0, "slowdown": NaN}, {"t_s": 1, "slowdown": 1}]', "entry 0 has nan"),
        ('[{"t_s": 0, "slowdown": true}, {"t_s": 1, "slowdown": 1}]', "entry 0 has True"),
        ('[1, "2"]', "entry 1 has '2', expected a number"),
        ("[1, -2]", "entry 1 has slowdown -2"),
    ],
)
def test_traces_that_make_no_sense(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_trace(path)


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_trace(tmp_path / "absent.json")


class TestPlanVerb:
    def test_simulates_a_trace(self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        trace = tmp_path / "trace.json"
        trace.write_text(json.dumps([{"t_s": t, "slowdown": s} for t, s in ((0, 1.0), (2, 2.0), (4, 1.0), (8, 1.0))]))
        given = ["plan", laddered, "--latency-ms", "16", "--simulate", trace]
        found = sanderling(capsys, *given, "--json").json["simulation"]
        assert found["calls"] == found["met"] + 3
        assert found["switches"] == 2
        assert [change["settings"]["tokens.image"] for change in found["changes"]] == [16, 8, 16]
        out = sanderling(capsys, *given).out
        assert f"met        {found['met']} deadlines" in out
        assert "switches   2" in out
        assert "tokens.image=8" in out

    def test_refuses_a_trace_without_a_deadline(
        self, laddered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trace = tmp_path / "trace.json"
        trace.write_text("[1, 1, 2]")
        result = sanderling(capsys, "plan", laddered, "--simulate", trace)
        assert result.code == 2
        assert "needs a deadline" in result.err

    def test_explain_says_which_limit_refuses_and_what_another_10_ms_would_buy(
        self, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = ["plan", laddered, "--latency-ms", "7", "--memory-mb", "110", "--min-quality", "0.85", "--explain"]
        out = sanderling(capsys, *given).out
        assert "8.00 ms over, 6 MB over" in out
        assert "quality 0.050 short" in out
        assert "Another 10 ms" not in out, "the memory limit is in the way"
        found = sanderling(capsys, "plan", laddered, "--latency-ms", "7", "--explain")
        assert "Another 10 ms would buy full at tokens.image=16, quality 1.000 (+0.100)." in found.out
        data = sanderling(capsys, "plan", laddered, "--latency-ms", "7", "--explain", "--json").json
        assert data["another_10_ms"]["plan"]["settings"] == {"tokens.image": 16}

    def test_energy_that_was_not_measured_cannot_be_limited(
        self, laddered: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = sanderling(capsys, "plan", laddered, "--energy-j", "1")
        assert result.code == 2
        assert "energy was not measured" in result.err
