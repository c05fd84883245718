from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_bundle import toy_measured, write_toy

import sanderling
from sanderling.budget import Budget
from sanderling.engine import Engine, OpenOptions
from sanderling.errors import BudgetError, BudgetTooSmallError, BundleError, InputError, UnknownNameError
from sanderling.ladder import Ladder
from sanderling.session import Session
from sanderling.targets.onnxruntime import OnnxRuntime

PICTURE = np.array([[5, 1, 4, 2, 8, 3, 7, 6]], dtype=np.float32)
WORDS = np.array([[10.0, 20.0]], dtype=np.float32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.sand")


@pytest.fixture
def session(toy: Path) -> Iterator[Session]:
    with sanderling.load(toy) as opened:
        yield opened


def test_the_full_model_runs_without_a_budget(session: Session) -> None:
    answer = session.run({"picture": PICTURE, "words": WORDS})
    assert answer.outputs["joined"].tolist() == [[66.0]]
    assert answer.receipt.reduced == ()
    assert answer.receipt.met is None


def test_a_budget_decides_how_many_tokens_are_looked_at(session: Session) -> None:
    sums = {}
    for budget_ms in (1.2, 2.3, 9.0):
        answer = session.run({"picture": PICTURE, "words": WORDS}, budget=Budget(latency_ms=budget_ms))
        sums[budget_ms] = answer.outputs["looked"].item()
        assert answer.receipt.plan.predicted_ms is not None
        assert answer.receipt.plan.predicted_ms <= budget_ms
    assert sums == {1.2: 8 + 7, 2.3: 8 + 7 + 6 + 5, 9.0: 36}


def test_the_receipt_says_what_was_asked_planned_spent_and_left_out(session: Session) -> None:
    receipt = session.run({"picture": PICTURE, "words": WORDS}, budget=Budget(latency_ms=1.2)).receipt
    assert receipt.asked.latency_ms == 1.2
    assert receipt.plan.settings == {"tokens": 2}
    assert [str(r) for r in receipt.reduced] == ["look: kept 2 of 8 tokens by top (input, layer 0)"]
    assert set(receipt.components_ms) == {"look", "read", "join"}
    assert sum(receipt.components_ms.values()) + receipt.prepare_ms <= receipt.spent_ms
    assert receipt.met == (receipt.spent_ms <= 1.2)
    assert receipt.to_dict()["reduced"][0]["kept"] == 2


def test_components_run_whose_inputs_are_there(session: Session) -> None:
    answer = session.run({"picture": PICTURE})
    assert set(answer.outputs) == {"looked"}
    assert answer.receipt.skipped == ("read", "join")


def test_batches_of_more_than_one(session: Session) -> None:
    answer = session.run({"picture": np.repeat(PICTURE, 3, 0), "words": np.repeat(WORDS, 3, 0)})
    assert answer.outputs["joined"].tolist() == [[66.0]] * 3


def test_the_session_budget_holds_where_the_call_brings_none(toy: Path) -> None:
    with sanderling.load(toy, budget=Budget(latency_ms=1.2)) as session:
        assert session.run({"picture": PICTURE, "words": WORDS}).receipt.plan.settings == {"tokens": 2}
        wide = session.run({"picture": PICTURE, "words": WORDS}, budget=Budget(latency_ms=50))
        assert wide.receipt.plan.settings == {"tokens": 8}


def test_the_bundle_budget_comes_last(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.sand", {"budget": Budget(latency_ms=2.3)})
    with sanderling.load(path) as session:
        assert session.plan().settings == {"tokens": 4}
    with sanderling.load(path, budget=Budget(latency_ms=1.2)) as session:
        assert session.plan().settings == {"tokens": 2}


def test_settings_of_the_callers_own_choice(session: Session) -> None:
    plan = session.at({"tokens": 3}, {"look": "top@0"})
    answer = session.run({"picture": PICTURE}, plan=plan)
    assert answer.outputs["looked"].item() == 8 + 7 + 6
    assert answer.receipt.plan.predicted_ms is None


def test_a_slow_device_moves_the_plan_and_the_receipt_says_so(session: Session) -> None:
    plan = session.at({})
    slow = replace(plan, typical_ms=1e-6)  # every call is far slower than that, as if the device had been throttled
    for _ in range(4):
        session.run({"picture": PICTURE, "words": WORDS}, plan=slow)
    receipt = session.run(
        {"picture": PICTURE, "words": WORDS}, budget=Budget(latency_ms=9, otherwise="cheapest")
    ).receipt
    assert receipt.slowdown > 2
    assert receipt.plan.settings == {"tokens": 2}


def test_two_threads_may_share_a_session(session: Session) -> None:
    wrong: list[float] = []

    def ask(scale: float) -> None:
        for _ in range(50):
            got = session.run({"picture": PICTURE * scale, "words": WORDS}).outputs["joined"].item()
            wrong.extend([got] if got != 36 * scale + 30 else [])

    threads = [threading.Thread(target=ask, args=(scale,)) for scale in (1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"photo": PICTURE}, "no input is called 'photo'; this model takes picture, words"),
        ({}, "no component can run with the inputs given"),
        ({"picture": PICTURE[0]}, r"picture.*8"),
        ({"picture": PICTURE[:, :5]}, r"picture.*5.*8|picture.*8.*5"),
        ({"picture": PICTURE.astype(np.float64)}, "float64.*float32|float32.*float64"),
        ({"picture": PICTURE * np.nan}, "picture"),
        ({"picture": PICTURE, "words": np.repeat(WORDS, 2, 0)}, "read has batch 2 and looked has batch 1"),
    ],
    ids=["name", "nothing", "rank", "length", "dtype", "nan", "batch"],
)
def test_wrong_inputs_are_refused(session: Session, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        session.run(inputs)


def test_a_budget_below_the_cheapest_rung_is_refused_or_missed_as_asked(session: Session) -> None:
    with pytest.raises(BudgetTooSmallError, match="below the cheapest rung"):
        session.run({"picture": PICTURE, "words": WORDS}, budget=Budget(latency_ms=1e-3))
    cheapest = Budget(latency_ms=1e-3, otherwise="cheapest")
    receipt = session.run({"picture": PICTURE, "words": WORDS}, budget=cheapest).receipt
    assert receipt.plan.settings == {"tokens": 2}
    assert receipt.met is False


@pytest.mark.parametrize(
    ("settings", "graphs", "error", "message"),
    [
        ({"tokens": 9}, {"look": "top@0"}, BudgetError, "tokens is 9, expected 1 to 8"),
        ({"tokens": 0}, {"look": "top@0"}, BudgetError, "tokens is 0, expected 1 to 8"),
        ({"tokens": 4}, None, BudgetError, "tokens=4 would change nothing"),
        ({"token": 4}, None, UnknownNameError, "unknown lever 'token'; did you mean 'tokens'"),
        ({}, {"look": "top@1"}, UnknownNameError, "did you mean 'top@0'"),
        ({}, {"listen": "full"}, UnknownNameError, "unknown component 'listen'"),
    ],
    ids=["large", "zero", "no-op", "lever", "graph", "component"],
)
def test_wrong_settings_are_refused(
    session: Session, settings: dict[str, int], graphs: dict[str, str] | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        session.at(settings, graphs)


def test_a_target_the_bundle_has_no_graph_for_is_refused(toy: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"openvino.*Known: onnxruntime"):
        sanderling.load(toy, target="openvino")


def test_a_bundle_without_rungs_refuses_to_plan_but_runs_what_it_is_told(toy: Path) -> None:
    empty = replace(toy_measured(), ladder=Ladder("accuracy", ()))
    with sanderling.Bundle.open(toy) as bundle:
        session = Session(bundle, measured=empty)
        assert session.run({"picture": PICTURE}, plan=session.at({})).outputs["looked"].item() == 36
        with pytest.raises(BudgetError, match="no rungs yet"):
            session.run({"picture": PICTURE})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.sand"):
        sanderling.load(tmp_path / "none.sand")


def test_threads_reach_the_engine(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = OnnxRuntime.open

    def noting(self: OnnxRuntime, graph: bytes, options: OpenOptions) -> Engine:
        seen.append(options.threads)
        return real(self, graph, options)

    monkeypatch.setattr(OnnxRuntime, "open", noting)
    sanderling.load(toy).close()
    sanderling.load(toy, threads=2).close()
    assert set(seen[:4]) == {1}
    assert set(seen[4:]) == {2}
