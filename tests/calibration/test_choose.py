"""The engine that is measured faster runs a component; a fake session stands in, whose engines take what we say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from toy_bundle import toy_measured, write_toy

from sanderling.bundle import Bundle
from sanderling.calibration import choose
from sanderling.calibration.choose import Chosen, choose_targets
from sanderling.manifest import Golden, GoldenCase, GoldenInput, TargetCost

Cost: TypeAlias = Callable[[str, int, str, str, int], float]
"""Target, threads, component, graph and call number -> milliseconds."""

PARTS = ("look", "read", "join")
FULL = dict.fromkeys(PARTS, "full")
REDUCED = (("a@0", 6), ("a@0", 2), ("b@0", 6), ("c@0", 2))
GOLDEN = Golden(
    (GoldenInput("picture", None, "golden/input/picture.npy"),),
    (
        GoldenCase({"tokens": 8}, FULL, {}, 0.0),
        *(GoldenCase({"tokens": tokens}, {**FULL, "look": graph}, {}, 0.0) for graph, tokens in REDUCED),
    ),
)
CASES = 3
"""Those that are called: the full model and both of the first reduced graph."""


class FakeSession:
    """Answers as a session does, without running anything."""

    cost: Cost
    log: list[tuple[str, int]]

    def __init__(self, bundle: Bundle, *, measured: Any, target: str, threads: int) -> None:
        self._who = (target, threads)
        self._calls = 0

    def at(self, settings: Mapping[str, int], graphs: Mapping[str, str]) -> Mapping[str, str]:
        return graphs

    def run(self, sample: Mapping[str, Any], plan: Mapping[str, str]) -> Any:
        self._calls += 1
        FakeSession.log.append(self._who)
        times = {c: FakeSession.cost(*self._who, c, plan[c], self._calls) for c in PARTS}
        return SimpleNamespace(receipt=SimpleNamespace(components_ms=times))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Chosen, tuple[TargetCost, ...]]]:
    """Choose among targets whose costs are given."""
    monkeypatch.setattr(choose, "Session", FakeSession)
    monkeypatch.setattr(choose, "ROUNDS", 5)
    FakeSession.log = []

    def choose_with(
        cost: Cost, targets: Sequence[str] = ("slow", "quick"), threads: int = 1
    ) -> tuple[Chosen, tuple[TargetCost, ...]]:
        FakeSession.cost = cost
        with Bundle.open(write_toy(tmp_path / "toy.sand", {"golden": GOLDEN})) as bundle:
            return choose_targets(bundle, replace(toy_measured(), threads=threads), targets, lambda *_: None)

    return choose_with


def test_the_slower_target_is_not_chosen(run: Any) -> None:
    chosen, costs = run(lambda target, *_: {"slow": 3.0, "quick": 2.0}[target])
    assert chosen == Chosen(dict.fromkeys(PARTS, "quick"), dict.fromkeys(PARTS, 1))
    assert {(cost.component, cost.target): cost.p50_ms for cost in costs}["look", "slow"] == 3.0


def test_every_component_has_its_own_winner(run: Any) -> None:
    chosen, _ = run(lambda target, threads, part, *_: 1.0 if (part == "read") == (target == "slow") else 2.0)
    assert chosen.targets == {"look": "quick", "read": "slow", "join": "quick"}


def test_more_threads_are_taken_only_where_they_pay(run: Any) -> None:
    chosen, costs = run(lambda target, threads, part, *_: {"look": 8.0 / threads}.get(part, 1.0 * threads), threads=4)
    assert chosen.threads == {"look": 4, "read": 1, "join": 1}
    assert {cost.threads for cost in costs} == {1, 4}


def test_a_hiccup_and_the_first_calls_do_not_decide(run: Any) -> None:
    def cost(target: str, threads: int, part: str, graph: str, call: int) -> float:
        if target == "quick" and (call <= 2 * CASES or call == 3 * CASES):  # two rounds to warm up, then one hiccup
            return 100.0
        return {"slow": 3.0, "quick": 2.0}[target]

    chosen, costs = run(cost)
    assert set(chosen.targets.values()) == {"quick"}
    assert {cost.p50_ms for cost in costs} == {2.0, 3.0}


def test_candidates_take_turns(run: Any) -> None:
    run(lambda *_: 1.0, threads=2)
    order = [("slow", 1), ("slow", 2), ("quick", 1), ("quick", 2)]
    assert FakeSession.log == order * CASES * 7, "two rounds to warm up and five that count"


def test_the_full_model_alone_does_not_decide(run: Any) -> None:
    # The sum over the cases says quick, 6 + 2 x 2 against 10 + 2 x 1; relative to each other slow gains more.
    milliseconds = {("slow", True): 10.0, ("slow", False): 1.0, ("quick", True): 6.0, ("quick", False): 2.0}
    chosen, costs = run(lambda target, _, part, graph, __: milliseconds[target, graph == "full"])
    assert chosen.targets == {"look": "slow", "read": "quick", "join": "quick"}
    called = {(cost.graph, cost.settings["tokens"]) for cost in costs if cost.component == "look"}
    assert called == {("full", 8), ("a@0", 6), ("a@0", 2)}
