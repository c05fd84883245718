"""The way to run a graph that is measured fastest wins; engines whose calls take what we say stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from toy_bundle import toy_measured, write_toy

from sanderling.bundle import Bundle
from sanderling.calibration import choose
from sanderling.calibration.admit import place
from sanderling.calibration.choose import fastest, race_graphs, take_turns
from sanderling.engine import Engine
from sanderling.manifest import FULL, Placement, PlacementCost
from sanderling.opening import open_graph

ONE, TWO = Placement("onnxruntime", "float32", 1), Placement("onnxruntime", "float32", 2)
Choice: TypeAlias = tuple[dict[str, dict[str, Placement]], tuple[PlacementCost, ...]]


class Clock:
    """A clock that only moves when an engine is called."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Timed:
    """An engine whose calls take what `cost` says, in milliseconds, by call number from 0."""

    def __init__(self, clock: Clock, cost: Callable[[int], float], log: list[object], who: object) -> None:
        self._clock, self._cost, self._log, self._who, self._calls = clock, cost, log, who, 0

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._clock.now_s += self._cost(self._calls) / 1e3
        self._log.append(self._who)
        self._calls += 1
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(choose, "perf_counter", made)
    return made


def race(clock: Clock, **costs: Callable[[int], float]) -> tuple[dict[str, list[float]], list[object]]:
    """Return name -> milliseconds of its calls, and who was called in order."""
    log: list[object] = []
    engines: dict[Any, Engine] = {name: Timed(clock, cost, log, name) for name, cost in costs.items()}
    return {str(name): ms for name, ms in take_turns(engines, {}).items()}, log


def test_candidates_take_turns_and_the_first_call_does_not_count(clock: Clock) -> None:
    spent, log = race(clock, a=lambda call: 100.0 if call == 0 else 2.0, b=lambda _: 2.5)
    assert log == ["a", "b"] * (choose.ROUNDS + 1)
    assert spent["a"] == pytest.approx([2.0] * choose.ROUNDS)


def test_a_clearly_slower_candidate_is_given_up_early(clock: Clock) -> None:
    spent, _ = race(clock, quick=lambda _: 2.0, close=lambda _: 2.9, slow=lambda _: 3.1)
    assert {name: len(ms) for name, ms in spent.items()} == {
        "quick": choose.ROUNDS,
        "close": choose.ROUNDS,
        "slow": choose.LEAST_ROUNDS,
    }


def test_a_long_race_ends_by_the_clock_after_its_least_rounds(clock: Clock) -> None:
    spent, _ = race(clock, a=lambda _: 3_000.0, b=lambda _: 3_000.0)
    assert len(spent["a"]) == len(spent["b"]) == choose.LEAST_ROUNDS
    spent, _ = race(clock, a=lambda _: 500.0)
    assert choose.LEAST_ROUNDS < len(spent["a"]) < choose.ROUNDS


def cost(placement: Placement, p50_ms: float, tokens: int = 8) -> PlacementCost:
    return PlacementCost("look", FULL, placement, {"tokens": tokens}, p50_ms, 25)


def test_the_full_model_alone_does_not_decide() -> None:
    # The sum says ONE, 6 + 2 x 2 against 10 + 2 x 1; relative to each other TWO gains more.
    costs = [
        cost(ONE, 6.0),
        cost(TWO, 10.0),
        cost(ONE, 2.0, 4),
        cost(TWO, 1.0, 4),
        cost(ONE, 2.0, 2),
        cost(TWO, 1.0, 2),
    ]
    assert fastest(costs) == TWO


def test_a_candidate_given_up_on_the_first_input_cannot_win() -> None:
    assert fastest([cost(ONE, 0.5), cost(TWO, 2.0), cost(TWO, 3.0, 4)]) == TWO


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    with Bundle.open(write_toy(tmp_path / "toy.sand")) as opened:
        yield opened


def chosen_with(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, costs: Callable[[str, str, int], float]) -> Choice:
    """Choose for the toy bundle, whose engines answer as they do and take what `costs` says by graph and threads."""
    clock = Clock()
    monkeypatch.setattr(choose, "perf_counter", clock)
    real = open_graph

    class Slowed:
        def __init__(self, engine: Engine, ms: float) -> None:
            self._engine, self._ms = engine, ms

        def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            clock.now_s += self._ms / 1e3
            return self._engine.run(inputs)

    def opened(opened_bundle: Bundle, graph: Any, placement: Placement) -> Engine:
        return Slowed(real(opened_bundle, graph, placement), costs(graph.component, graph.name, placement.threads))

    monkeypatch.setattr(choose, "open_graph", opened)
    measured = replace(toy_measured(), threads=2)
    found = race_graphs(bundle, measured, ["onnxruntime"], lambda *_: None)
    return place(found, {}), found


GIVEN = {"picture": np.arange(8, dtype=np.float32)[None], "words": np.ones((1, 3), np.float32)}


@pytest.fixture(autouse=True)
def whole_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "golden_sample", lambda bundle: GIVEN)


def test_every_graph_has_its_own_winner(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def costs(component: str, graph: str, threads: int) -> float:
        return 8.0 / threads if (component, graph) == ("look", FULL) else 1.0 * threads

    placements, found = chosen_with(bundle, monkeypatch, costs)
    threads = {(c, g): way.threads for c, graphs in placements.items() for g, way in graphs.items()}
    assert threads == {("look", FULL): 2, ("look", "top@0"): 1, ("read", FULL): 1, ("join", FULL): 1}
    assert {c.placement.threads for c in found} == {1, 2}


def test_graphs_race_on_the_inputs_they_get(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = chosen_with(bundle, monkeypatch, lambda *_: 1.0)
    raced = {(c.component, c.graph, c.settings["tokens"]) for c in found}
    # `look` reduces; what `read` and `join` are given has one shape whatever `look` keeps, so it costs the same.
    assert raced == {
        ("look", FULL, 8),
        ("look", "top@0", 4),
        ("look", "top@0", 2),
        ("read", FULL, 8),
        ("join", FULL, 8),
    }
