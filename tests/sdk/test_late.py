"""Calls that take longer than their budget, by each rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from toy_bundle import toy_measured, write_toy

import sanderling
from sanderling.budget import Budget, OnMiss
from sanderling.errors import BudgetError, DeadlineMissedError
from sanderling.session import Session

ONE: dict[str, Any] = {"picture": np.ones((1, 8), np.float32), "words": np.ones((1, 2), np.float32)}
TWO: dict[str, Any] = {"picture": 2 * np.ones((1, 8), np.float32), "words": np.ones((1, 2), np.float32)}
NEVER_MS, ALWAYS_MS = 1e-6, 1e5
"""Deadlines that no call and every call holds, however slow the machine."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.sand")


@pytest.fixture
def session(toy: Path) -> Iterator[Session]:
    with sanderling.load(toy) as opened:
        yield opened


def late(rule: OnMiss | None) -> Budget:
    return Budget(latency_ms=NEVER_MS, otherwise="cheapest", on_miss=rule)


@pytest.mark.parametrize("rule", [None, "report"])
def test_report_says_so_and_nothing_else(session: Session, rule: OnMiss | None) -> None:
    answer = session.run(ONE, late(rule))
    assert (answer.receipt.met, answer.receipt.miss, answer.receipt.misses) == (False, "report", 1)
    assert answer.receipt.answers_call == answer.receipt.call == 1
    in_time = session.run(ONE, Budget(latency_ms=ALWAYS_MS)).receipt
    assert (in_time.met, in_time.miss, in_time.misses, in_time.call) == (True, None, 1, 2)
    assert session.run(ONE).receipt.miss is None, "there was no deadline"


def test_error_raises_with_the_answer(session: Session) -> None:
    with pytest.raises(DeadlineMissedError, match="its budget is 1e-06 ms") as caught:
        session.run(ONE, late("error"))
    assert caught.value.exit_code == 1
    assert caught.value.answer.outputs["read"].item() == 2.0
    assert caught.value.answer.receipt.miss == "error"
    assert session.run(ONE, Budget(latency_ms=ALWAYS_MS, on_miss="error")).receipt.met is True


def test_degrade_plans_the_next_call_as_slow_as_this_one_was(toy: Path) -> None:
    def second_plan(rule: OnMiss) -> dict[str, int]:
        # Nanoseconds are what the ladder promises: the first call is late, whatever the machine.
        promised = toy_measured(((2, 1e-6, 0.7), (4, 2e-6, 0.9), (8, 4e-6, 1.0)))
        with sanderling.Bundle.open(toy) as bundle:
            session = Session(bundle, measured=promised)
            budget = Budget(latency_ms=1e-5, on_miss=rule)
            assert session.run(ONE, budget).receipt.plan.settings == {"tokens": 8}
            return session.run(ONE, budget).receipt.plan.settings

    assert second_plan("degrade") == {"tokens": 2}
    assert second_plan("report") == {"tokens": 8}


def test_last_good_returns_the_last_outputs_in_time_and_says_whose(session: Session) -> None:
    good = session.run(TWO, Budget(latency_ms=ALWAYS_MS, on_miss="last_good"))
    missed = session.run(ONE, late("last_good"))
    assert missed.outputs is good.outputs
    assert (missed.receipt.miss, missed.receipt.answers_call, missed.receipt.call) == ("last_good", 1, 2)
    assert missed.receipt.met is False
    other = session.run({"picture": ONE["picture"]}, late("last_good"))
    assert set(other.outputs) == {"looked"}, "an answer stands in only for one of the same components"


def test_last_good_without_one_returns_the_late_answer_and_says_so(session: Session) -> None:
    answer = session.run(ONE, late("last_good"))
    assert answer.outputs["read"].item() == 2.0
    assert (answer.receipt.miss, answer.receipt.answers_call) == ("report", 1)


def test_partial_is_refused_where_nothing_loops(session: Session, toy: Path) -> None:
    with pytest.raises(BudgetError, match="no component of this model is called in a loop"):
        session.run(ONE, late("partial"))
    with pytest.raises(BudgetError, match="'partial' would change nothing"):
        sanderling.load(toy, budget=late("partial"))


def test_the_rule_of_a_call_comes_before_the_session_s_and_that_before_the_bundle_s(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.sand", {"budget": late("last_good")})
    with sanderling.load(path) as session:
        assert session.run(ONE).receipt.asked.on_miss == "last_good"
    with sanderling.load(path, budget=replace(late(None), percentile=50)) as session:
        assert session.run(ONE).receipt.asked == replace(late("last_good"), percentile=50)
    with sanderling.load(path, budget=late("error")) as session:
        with pytest.raises(DeadlineMissedError):
            session.run(ONE, late(None))
        assert session.run(ONE, late("report")).receipt.miss == "report"
        assert session.run(ONE, Budget()).receipt.asked == Budget(), "no deadline, nothing to miss"


def test_who_brings_a_plan_and_no_budget_is_not_bothered(toy: Path) -> None:
    with sanderling.load(toy, budget=late("error")) as session:
        assert session.run(ONE, plan=session.at({})).receipt.miss == "report"
        with pytest.raises(DeadlineMissedError):
            session.run(ONE, late("error"), session.at({}))


def test_the_receipt_has_what_was_kept_of_every_lever(session: Session) -> None:
    assert session.run(ONE).receipt.kept == {"tokens": (8, 8)}
    receipt = session.run(ONE, Budget(latency_ms=1.2)).receipt
    assert receipt.kept == {"tokens": (2, 8)}
    assert receipt.to_dict()["kept"] == {"tokens": [2, 8]}
    assert session.run({"words": ONE["words"]}).receipt.kept == {}, "the component with the lever did not run"


def test_refused_calls_recover_after_a_pause(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(latency_ms=9)
    for _ in range(4):
        session.run(ONE, plan=replace(session.at({}), typical_ms=1e-6))
    with pytest.raises(BudgetError, match="at slowdown"):
        session.run(ONE, budget)
    monkeypatch.setattr("sanderling.session.perf_counter", lambda: perf_counter() + 600)
    assert session.run(ONE, budget).receipt.plan.settings == {"tokens": 8}
