from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import onnx_model
from toy_bundle import toy_measured, write_toy

import sanderling
from sanderling import lookup
from sanderling.budget import Budget, Plan
from sanderling.controller import Controller
from sanderling.engine import AnyArray, OpenOptions
from sanderling.errors import InputError
from sanderling.ladder import Cost, Ladder
from sanderling.prepare import Preparer
from sanderling.reuse import Reuse, comparable
from sanderling.session import Session
from sanderling.targets import Target

PICTURE = np.array([[5, 1, 4, 2, 8, 3, 7, 6]], dtype=np.float32)
WORDS = np.array([[10.0, 20.0]], dtype=np.float32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.sand")


@pytest.fixture
def session(toy: Path) -> Iterator[Session]:
    with sanderling.load(toy) as opened:
        yield opened


def ask(session: Session, reuse: Reuse | None, picture: AnyArray, words: AnyArray, **options: Any) -> sanderling.Answer:
    return session.run({"picture": picture, "words": words}, reuse=reuse, **options)


def test_a_second_question_about_the_same_picture_pays_for_no_encoder(session: Session) -> None:
    reuse = Reuse()
    first = ask(session, reuse, PICTURE, WORDS)
    second = ask(session, reuse, PICTURE.copy(), WORDS + 1)
    assert first.receipt.reused == ()
    assert second.receipt.reused == ("look",)
    assert set(second.receipt.components_ms) == {"read", "join"}
    assert second.outputs["joined"].item() == 36 + 32
    assert second.receipt.to_dict()["reused"] == ["look"]


def test_the_same_call_again_runs_nothing(session: Session) -> None:
    reuse = Reuse()
    ask(session, reuse, PICTURE, WORDS)
    again = ask(session, reuse, PICTURE, WORDS)
    assert again.receipt.reused == ("look", "read", "join")
    assert again.receipt.components_ms == {}
    assert again.outputs["joined"].item() == 66


def test_without_reuse_everything_runs(session: Session) -> None:
    for _ in range(2):
        assert ask(session, None, PICTURE, WORDS).receipt.reused == ()


def test_random_calls_answer_as_they_do_without_reuse(session: Session) -> None:
    rng, reuse = np.random.default_rng(0), Reuse()
    pictures = [PICTURE * k for k in (1, 2, 3)]
    words = [WORDS, WORDS * 2, np.ones((1, 5), np.float32)]
    budgets = [Budget(latency_ms=ms, otherwise="cheapest") for ms in (1.2, 2.3, 9.0)]
    skipped = 0
    for _ in range(200):
        picture, word = pictures[int(rng.integers(3))], words[int(rng.integers(3))]
        plan = session.plan(budgets[int(rng.integers(3))])
        ours, plain = (ask(session, r, picture, word, plan=plan) for r in (reuse, None))
        assert ours.outputs["joined"].tolist() == plain.outputs["joined"].tolist()
        skipped += len(ours.receipt.reused)
    assert skipped > 100


def test_a_caller_may_write_to_an_array_after_the_call(session: Session) -> None:
    reuse, picture = Reuse(), PICTURE.copy()
    ask(session, reuse, picture, WORDS)
    picture += 1
    answer = ask(session, reuse, picture, WORDS)
    assert "look" not in answer.receipt.reused
    assert answer.outputs["looked"].item() == 44
    assert picture.flags.writeable


def test_outputs_are_read_only_because_they_are_shared(session: Session) -> None:
    answer = ask(session, Reuse(), PICTURE, WORDS)
    with pytest.raises(ValueError, match="read-only"):
        answer.outputs["looked"][:] = 0
    ask(session, None, PICTURE, WORDS).outputs["looked"][:] = 0


def test_another_setting_or_graph_is_another_run(session: Session) -> None:
    reuse = Reuse()
    sums = []
    for tokens in (2, 3, 2):
        plan = session.at({"tokens": tokens}, {"look": "top@0"})
        sums.append(ask(session, reuse, PICTURE, WORDS, plan=plan))
    assert [a.outputs["looked"].item() for a in sums] == [15, 21, 15]
    assert ["look" in a.receipt.reused for a in sums] == [False, False, True]
    assert sums[2].receipt.reduced[0].kept == 2


def test_one_reuse_keeps_two_sessions_apart(toy: Path, session: Session) -> None:
    reuse = Reuse()
    ask(session, reuse, PICTURE, WORDS)
    with sanderling.load(toy) as other:
        assert ask(other, reuse, PICTURE, WORDS).receipt.reused == ()


def test_entries_bound_what_is_remembered(session: Session) -> None:
    for entries, expected in ((1, False), (2, True)):
        reuse = Reuse(entries)
        for picture in (PICTURE, PICTURE * 2):
            ask(session, reuse, picture, WORDS)
        assert ("look" in ask(session, reuse, PICTURE, WORDS).receipt.reused) is expected
        for k in range(3, 20):
            ask(session, reuse, PICTURE * k, WORDS)
        assert all(len(runs) <= entries for runs in reuse._runs.values())
    with pytest.raises(InputError, match="entries is 0"):
        Reuse(0)


def test_forgetting_runs_everything_again(session: Session) -> None:
    reuse = Reuse()
    ask(session, reuse, PICTURE, WORDS)
    reuse.forget()
    assert ask(session, reuse, PICTURE, WORDS).receipt.reused == ()


def test_a_frozen_array_is_prepared_once_and_a_writable_one_every_time(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    real = Preparer.values

    def noting(self: Preparer, inputs: Any) -> dict[str, AnyArray]:
        prepared.extend(inputs)
        return real(self, inputs)

    monkeypatch.setattr(Preparer, "values", noting)
    reuse, still = Reuse(), PICTURE.copy()
    still.flags.writeable = False
    view = PICTURE.copy()[:]
    view.flags.writeable = False  # its base can still be written to
    for picture, words in ((still, WORDS), (still, WORDS), (view, WORDS), (view, WORDS)):
        ask(session, reuse, picture, words)
    assert prepared == ["picture", "words", "words", "picture", "words", "picture", "words"]


def test_the_follower_compares_what_ran_and_nothing_too_small(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(Controller, "observe", lambda _self, typical_ms, _spent_ms, _now_s: seen.append(typical_ms))
    measured = toy_measured()
    parts = {"look": Cost(3, 3, 3, 9), "read": Cost(0.4, 0.4, 0.4, 9), "join": Cost(0.2, 0.2, 0.2, 9)}
    rungs = tuple(replace(rung, components=parts) for rung in measured.ladder.rungs[-1:])
    with sanderling.Bundle.open(toy) as bundle:
        session, reuse = Session(bundle, measured=replace(measured, ladder=Ladder("accuracy", rungs))), Reuse()
        ask(session, reuse, PICTURE, WORDS)
        ask(session, reuse, PICTURE * 2, WORDS)  # "read" again
        ask(session, reuse, PICTURE * 2, WORDS * 2)  # "look" again: too little is left to judge by
        ask(session, reuse, PICTURE * 2, WORDS * 2)  # everything again
    assert seen == pytest.approx([4.0, 4.0]), "the second call is scaled up to what all of it would have taken"


def test_what_ran_is_scaled_up_to_the_whole_call() -> None:
    parts = {"look": Cost(3, 3, 3, 9), "read": Cost(0.8, 0.8, 0.8, 9)}
    rung = replace(toy_measured().ladder.rungs[-1], components=parts)
    plan = Plan(rung.settings, rung.graphs, 4.0, 4.0, "")
    ladder = Ladder("accuracy", (rung,))
    assert comparable(ladder, plan, 9.0, {"look": 6.0, "read": 2.0}, ()) == 9.0
    assert comparable(ladder, plan, 6.5, {"look": 6.0}, ("read",)) == pytest.approx(8.0)
    assert comparable(ladder, plan, 2.0, {"read": 1.6}, ("look",)) == 0.0


@pytest.mark.parametrize("name", lookup.names("target"))
def test_every_engine_takes_read_only_inputs(name: str) -> None:
    target: Target = lookup.find("target", name)
    if target.missing() is not None:
        pytest.skip(str(target.missing()))
    engine = target.open(target.lower(onnx_model().SerializeToString()), OpenOptions(threads=1))
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    expected = engine.run({"x": x})["y"]
    x.flags.writeable = False
    np.testing.assert_array_equal(engine.run({"x": x})["y"], expected)
