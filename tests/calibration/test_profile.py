"""Measuring: settings take turns, percentiles are right, quality is the task's or the agreement with the full model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_bundle import MODEL, toy_measured, write_toy

from sanderling import machine
from sanderling.bundle import Bundle
from sanderling.calibration import profile
from sanderling.calibration.dataset import Data
from sanderling.calibration.profile import (
    WARM_UP,
    Setting,
    call_in_turn,
    cost_of,
    count_calls,
    in_blocks,
    is_full,
    measure,
    remeasure,
)
from sanderling.calibration.reprofile import reprofile
from sanderling.errors import InputError
from sanderling.ladder import Rung
from sanderling.meter import NoMeter
from sanderling.session import Answer, Session

FULL = dict.fromkeys((component.name for component in MODEL.components), "full")
TOP = {**FULL, "look": "top@0"}
SETTINGS = [Setting({"tokens": 8}, FULL), Setting({"tokens": 4}, TOP), Setting({"tokens": 1}, TOP)]


def samples(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [{"picture": rng.random((1, 8), np.float32), "words": rng.random((1, 3), np.float32)} for _ in range(count)]


@pytest.fixture
def session(tmp_path: Path) -> Any:
    with Session(Bundle.open(write_toy(tmp_path / "toy.sand"))) as session:
        yield session


@pytest.fixture
def log(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sample and tokens of every call."""
    calls: list[tuple[int, int]] = []
    known = samples(8)
    run = session.run

    def logged(inputs: Mapping[str, Any], **options: Any) -> Answer:
        number = next(i for i, sample in enumerate(known) if np.array_equal(sample["picture"], inputs["picture"]))
        calls.append((number, options["plan"].settings["tokens"]))
        return run(inputs, **options)

    monkeypatch.setattr(session, "run", logged)
    monkeypatch.setattr(profile, "reset_peak_memory", lambda: False)
    return calls


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


def test_settings_take_turns_in_blocks_and_the_order_turns_by_one(
    session: Session, log: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "BLOCK", 2)
    monkeypatch.setattr(profile, "WARM_UP", 2)
    measure(session, SETTINGS, Data(samples(3), [0] * 3, lambda outputs, expected: 1.0, "accuracy"), silent)
    first = [(sample, tokens) for tokens in (8, 4, 1) for sample in (0, 0, 0, 1)]
    second = [(2, tokens) for tokens in (4, 1, 8) for _ in range(2)]
    assert log == first + second
    assert count_calls(3, 3) == len(log)


@pytest.mark.parametrize(("plans", "calls"), [(1, 1), (3, 10), (2, 25)])
def test_every_plan_makes_every_call_that_counts_once(plans: int, calls: int) -> None:
    order = list(in_blocks(plans, calls))
    counted = [(place, call) for place, call, counts in order if counts]
    assert sorted(counted) == [(place, call) for place in range(plans) for call in range(calls)]
    assert len(order) == count_calls(plans, calls)


def test_without_a_score_every_sample_is_held_against_the_first_setting(
    session: Session, log: list[tuple[int, int]]
) -> None:
    rungs = measure(session, SETTINGS, Data(samples(2)), silent)
    assert log[:2] == [(0, 8), (1, 8)]
    # Each output is a single positive number, so every cosine is 1.
    assert [rung.quality.score for rung in rungs] == pytest.approx([1.0, 1.0, 1.0])


def test_measured_rungs_have_what_was_asked_and_what_it_cost(session: Session, log: list[tuple[int, int]]) -> None:
    told: list[tuple[str, int, int]] = []

    def score(outputs: Mapping[str, Any], expected: float) -> float:
        return float(outputs["looked"][0, 0] > expected)

    given = samples(4)
    totals = [float(sample["picture"].sum()) for sample in given]
    data = Data(given, [total - 0.01 for total in totals], score, "accuracy")
    rungs = measure(session, SETTINGS, data, lambda *step: told.append(step))
    assert [(rung.settings, rung.graphs) for rung in rungs] == [(s.settings, s.graphs) for s in SETTINGS]
    assert [rung.quality.score for rung in rungs] == [1.0, 0.0, 0.0]
    assert all(rung.latency.samples == 4 and set(rung.components) == set(FULL) for rung in rungs)
    assert all(0 < rung.components["look"].p50_ms < rung.latency.p50_ms for rung in rungs)
    assert [rung.memory_mb for rung in rungs] == [None] * 3, "where the system does not tell, nothing is made up"
    assert told == [("measuring", number, len(told)) for number in range(1, len(told) + 1)]
    assert [is_full(rung) for rung in rungs] == [True, False, False]


def test_memory_is_the_process_s_where_the_system_tells(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "reset_peak_memory", lambda: True)
    monkeypatch.setattr(profile, "peak_memory_mb", lambda: 123.5)
    assert [rung.memory_mb for rung in measure(session, SETTINGS, Data(samples(1)), silent)] == [123.5] * 3


def test_energy_is_the_meter_s_joules_over_the_calls(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class TwoJoulesACall:
        name = "made up"

        def measure(self, work: Callable[[], object]) -> float:
            before = len(calls)
            work()
            return 2.0 * (len(calls) - before)

    run = session.run

    def counted(inputs: Mapping[str, Any], **options: Any) -> Answer:
        calls.append(1)
        return run(inputs, **options)

    monkeypatch.setattr(session, "run", counted)
    monkeypatch.setattr(profile, "ENERGY_S", 0.01)
    monkeypatch.setattr(profile, "find_energy_meter", TwoJoulesACall)
    assert [rung.energy_j for rung in measure(session, SETTINGS, Data(samples(1)), silent)] == [2.0] * 3
    monkeypatch.setattr(profile, "find_energy_meter", lambda: NoMeter("none here"))
    assert [rung.energy_j for rung in measure(session, SETTINGS, Data(samples(1)), silent)] == [None] * 3


def test_a_profile_fits_the_cost_model_to_what_it_measured(tmp_path: Path) -> None:
    measured = toy_measured(((2, 1.0, 0.7), (4, 2.0, 0.9), (6, 3.0, 0.95), (8, 4.0, 1.0)))
    here = replace(measured, machine=machine.describe())
    with Bundle.open(write_toy(tmp_path / "toy.sand", measured=here)) as bundle:
        after = reprofile(bundle, 5, everything=False, threads=None, progress=silent)
    assert after.cost_model is not None
    assert after.cost_model.held_out == 1, "4 of 2, 4 and 6 tokens lies between others"
    assert after.cost_model.error is not None
    # The self-test's input is a picture without words, so the other components do not run.
    assert [(part.component, part.graph) for part in after.cost_model.parts] == [("look", "full"), ("look", "top@0")]


@pytest.mark.parametrize("score", [float("nan"), 1.5, -1.0])
def test_scores_outside_0_to_1_are_refused(session: Session, score: float) -> None:
    with pytest.raises(InputError, match=f"score of sample 0 is {score}, expected 0"):
        measure(session, SETTINGS, Data(samples(1), [0], lambda outputs, expected: score, "accuracy"), silent)


def test_measuring_again_keeps_the_quality(session: Session, log: list[tuple[int, int]]) -> None:
    data = Data(samples(3), [0, 1, 1], lambda outputs, expected: float(expected), "accuracy")
    before: Sequence[Rung] = measure(session, SETTINGS, data, silent)
    after = remeasure(session, before, samples(2), 5, silent)
    assert [rung.quality for rung in after] == [rung.quality for rung in before]
    assert [(rung.settings, rung.graphs) for rung in after] == [(s.settings, s.graphs) for s in SETTINGS]
    assert [rung.latency.samples for rung in after] == [5] * 3


def test_calls_in_turn_go_through_the_samples(session: Session, log: list[tuple[int, int]]) -> None:
    plans = [session.at(s.settings, s.graphs) for s in SETTINGS[:2]]
    records = call_in_turn(session, plans, samples(2), 4, silent)
    assert [len(record.spent_ms) for record in records] == [4, 4]
    block = [0] * WARM_UP + [0, 1, 0, 1]
    assert log == [(sample, tokens) for tokens in (8, 4) for sample in block]


def test_percentiles() -> None:
    cost = cost_of(list(range(101)))
    assert (cost.p50_ms, cost.p90_ms, cost.p99_ms, cost.samples) == (50.0, 90.0, 99.0, 101)
    assert cost_of([7.0]) == type(cost)(7.0, 7.0, 7.0, 1)
