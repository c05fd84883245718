"""A component that the session calls again and again, from a bundle compiled from torch modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import STEPS, adapted_loop, compile_quick, looped

from sanderling.budget import Budget
from sanderling.bundle import Bundle
from sanderling.calibration.dataset import Data
from sanderling.calibration.pareto import name
from sanderling.compile.cache import Cache
from sanderling.errors import BudgetError
from sanderling.ladder import Cost, Ladder
from sanderling.manifest import Measured
from sanderling.receipt import Reduced
from sanderling.reuse import Reuse
from sanderling.session import Session, load

ROUNDING = 1e-5
"""Values of size 1 after up to eight steps, each of which may double a difference of 1e-7."""


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Cache:
    """Lowered graphs that outlive the run; its keys change with everything that goes in."""
    return Cache(Path(request.config.cache.mkdir("sanderling")))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, cache: Cache) -> Path:
    rng = np.random.default_rng(0)
    samples = [
        {key: rng.standard_normal((1, 8)).astype(np.float32) for key in ("state", "condition")} for _ in range(30)
    ]
    return compile_quick(adapted_loop(), tmp_path_factory.mktemp("loop"), cache=cache, evaluation=Data(samples))


@pytest.fixture
def session(compiled: Path) -> Iterator[Session]:
    with load(compiled) as session:
        yield session


@pytest.fixture
def inputs() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    return {key: rng.standard_normal((2, 8)).astype(np.float32) for key in ("state", "condition")}


def in_torch(inputs: dict[str, Any], steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    step, head = looped()
    state, condition = (torch.from_numpy(inputs[key]) for key in ("state", "condition"))
    with torch.inference_mode():
        for _ in range(steps):
            state = step(state, condition)
        return state, head(state)


def measured_of(path: Path) -> Measured:
    with Bundle.open(path) as bundle:
        bundle.verify()
        found = bundle.measured()
    assert found is not None
    return found


@pytest.mark.parametrize("steps", [2, 3, 5, 8])
def test_the_answer_is_the_step_applied_that_often(session: Session, inputs: dict[str, Any], steps: int) -> None:
    outputs = session.run(inputs, plan=session.at({"steps": steps})).outputs
    state, picture = in_torch(inputs, steps)
    np.testing.assert_allclose(outputs["next_state"], state, atol=ROUNDING)
    np.testing.assert_allclose(outputs["picture"], picture, atol=ROUNDING)
    one_more = in_torch(inputs, steps + 1)[0]
    assert np.abs(outputs["next_state"] - one_more.numpy()).max() > 100 * ROUNDING, "a step more would show"


def test_the_caller_s_arrays_stay_as_they_were(session: Session, inputs: dict[str, Any]) -> None:
    before = {key: value.copy() for key, value in inputs.items()}
    session.run(inputs)
    for key, value in inputs.items():
        np.testing.assert_array_equal(value, before[key])


def test_the_receipt_says_how_many_calls_were_left_out(session: Session, inputs: dict[str, Any]) -> None:
    receipt = session.run(inputs, plan=session.at({"steps": 3})).receipt
    assert receipt.reduced == (Reduced("steps", "denoise", 3, STEPS, "", "loop", 0),)
    assert str(receipt.reduced[0]) == "denoise: kept 3 of 8 steps (loop, layer 0)"
    assert session.run(inputs, plan=session.at({})).receipt.reduced == ()


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_steps_outside_the_lever_s_range_are_refused(session: Session, steps: int) -> None:
    with pytest.raises(BudgetError, match=f"steps is {steps}, expected 2 to 8 steps"):
        session.at({"steps": steps})


def test_a_partial_answer_has_the_loops_that_finished_in_time(session: Session, inputs: dict[str, Any]) -> None:
    plan = session.at({"steps": STEPS})
    session.run(inputs, plan=plan)
    short = session.run(inputs, Budget(latency_ms=1e-6, on_miss="partial"), plan)
    np.testing.assert_allclose(short.outputs["picture"], in_torch(inputs, 2)[1], atol=ROUNDING)
    assert short.receipt.miss == "partial"
    assert short.receipt.kept == {"steps": (2, STEPS)}, "the fewest steps the lever allows are always made"
    assert short.receipt.reduced == (Reduced("steps", "denoise", 2, STEPS, "", "loop", 0),)
    whole = session.run(inputs, Budget(latency_ms=1e5, on_miss="partial"), plan)
    np.testing.assert_allclose(whole.outputs["picture"], in_torch(inputs, STEPS)[1], atol=ROUNDING)
    assert (whole.receipt.miss, whole.receipt.reduced, whole.receipt.kept) == (None, (), {"steps": (STEPS, STEPS)})
    late = session.run(inputs, Budget(latency_ms=1e-6), plan)
    np.testing.assert_allclose(late.outputs["picture"], in_torch(inputs, STEPS)[1], atol=ROUNDING)
    assert late.receipt.miss == "report"


def test_a_partial_answer_cannot_be_remembered(session: Session, inputs: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match="call without `reuse`"):
        session.run(inputs, Budget(latency_ms=1e5, on_miss="partial"), reuse=Reuse())


def test_a_loop_that_was_stopped_does_not_make_the_device_look_fast(compiled: Path, inputs: dict[str, Any]) -> None:
    def learned(budget: Budget) -> float:
        with load(compiled) as session:
            plan = replace(session.at({"steps": STEPS}), typical_ms=1e-3)
            for _ in range(4):
                session.run(inputs, budget, plan)
            return session.run(inputs, budget, plan).receipt.slowdown

    # Two of eight steps ran; had only they been counted, the ratio would be about a quarter.
    assert learned(Budget(latency_ms=1e-6, on_miss="partial")) > 0.4 * learned(Budget())


def test_several_step_counts_were_measured_and_compared(compiled: Path) -> None:
    measured = measured_of(compiled)
    tried = [trial.rung.settings["steps"] for trial in measured.trials]
    assert tried == [8, 6, 4, 2]
    assert {row.settings["steps"] for row in measured.drift} == {8, 4}
    last = measured.ladder.rungs[-1]
    assert last.settings == {"steps": STEPS}
    assert [name(trial.rung, last) for trial in measured.trials] == ["full", "steps=6", "steps=4", "steps=2"]
    assert len(measured.ladder.rungs) > 1, "six calls less are faster on any machine"
    costs = {trial.rung.settings["steps"]: trial.rung.components["denoise"].p50_ms for trial in measured.trials}
    assert costs[2] < costs[8], "a component's cost has its loops in it"


def test_a_budget_buys_steps(compiled: Path, inputs: dict[str, Any]) -> None:
    measured = measured_of(compiled)
    rungs = [trial.rung for trial in measured.trials]
    # Made-up costs of 1 ms a step, so that the plan does not depend on this machine.
    priced = [replace(r, latency=Cost(*(float(r.settings["steps"]),) * 3, 20)) for r in reversed(rungs)]
    with Session(Bundle.open(compiled), measured=replace(measured, ladder=Ladder("", tuple(priced)))) as session:
        assert session.plan(Budget(latency_ms=4.5)).settings == {"steps": 4}
        assert session.plan().settings == {"steps": STEPS}
        with pytest.raises(BudgetError, match="below the cheapest rung"):
            session.plan(Budget(latency_ms=1.5))


def test_a_default_below_the_maximum_is_not_the_full_model(
    cache: Cache, tmp_path: Path, inputs: dict[str, Any]
) -> None:
    path = compile_quick(adapted_loop(default=5), tmp_path, cache=cache)
    measured = measured_of(path)
    assert measured.ladder.rungs[-1].settings == {"steps": STEPS}
    assert [trial.rung.settings["steps"] for trial in measured.trials] == [8, 6, 5, 4, 2]
    with load(path) as session:
        assert session.at({}).settings == {"steps": 5}
        np.testing.assert_allclose(
            session.run(inputs, plan=session.at({})).outputs["next_state"], in_torch(inputs, 5)[0], atol=ROUNDING
        )
