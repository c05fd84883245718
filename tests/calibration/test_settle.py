"""How all graphs run together is settled by whole calls; sessions whose calls take what we say stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toy_bundle import toy_measured, write_toy

from sanderling.bundle import Bundle
from sanderling.calibration import settle as module
from sanderling.calibration.choose import Placements
from sanderling.calibration.settle import settle, telling, ways_to_place
from sanderling.manifest import FULL, Placement, PlacementCost


def cost(graph: str, target: str, threads: int, p50_ms: float, component: str = "look") -> PlacementCost:
    return PlacementCost(component, graph, Placement(target, "float32", threads), {}, p50_ms, 25)


RACES = [
    cost(FULL, "a", 1, 4.0),
    cost(FULL, "a", 2, 3.0),
    cost(FULL, "b", 1, 4.0),
    cost(FULL, "b", 2, 2.0),
    cost("top@0", "a", 1, 1.0),
    cost("top@0", "a", 2, 1.1),
    cost("top@0", "b", 1, 1.2),
    cost("top@0", "b", 2, 1.1),
]


def words(way: Placements) -> tuple[str, str]:
    full, top = (way["look"][graph] for graph in (FULL, "top@0"))
    return f"{full.target}{full.threads}", f"{top.target}{top.threads}"


def test_ways_are_the_fastest_alone_each_engine_and_each_engine_on_one_thread() -> None:
    assert [words(way) for way in ways_to_place(RACES, {})] == [
        ("b2", "a1"),
        ("a2", "a1"),
        ("a1", "a1"),
        ("b2", "b2"),
        ("b1", "b1"),
    ]


def test_an_engine_that_lacks_a_graph_is_no_way_of_its_own() -> None:
    rows = [*RACES, cost(FULL, "a", 1, 1.0, "read")]
    assert {way["read"][FULL].target for way in ways_to_place(rows, {})} == {"a"}
    assert len(list(ways_to_place(rows, {}))) == 3


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    with Bundle.open(write_toy(tmp_path / "toy.sand")) as opened:
        yield opened


def test_the_full_model_and_one_reduced_graph_are_called(bundle: Bundle) -> None:
    found = telling(bundle.manifest())
    assert [(s.graphs["look"], s.settings["tokens"]) for s in found] == [
        (FULL, 8),
        ("top@0", 4),
        ("top@0", 2),
        ("top@0", 1),
    ]


def settled(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, ms: Callable[[tuple[str, str], str], float]) -> Any:
    class Timed:
        def __init__(self, opened: Bundle, *, measured: Any) -> None:
            self._way = words(measured.placements)

        def at(self, settings: Any, graphs: Any) -> str:
            return str(graphs["look"])

        def run(self, sample: Any, plan: str) -> Any:
            return SimpleNamespace(receipt=SimpleNamespace(spent_ms=ms(self._way, plan)))

    monkeypatch.setattr(module, "Session", Timed)
    return words(settle(bundle, toy_measured(), RACES, {}, lambda *_: None))


def test_whole_calls_decide_and_not_the_races(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    # Alone "b2" is the fastest for the full graph; in whole calls it costs the reduced ones more than it gains.
    def ms(way: tuple[str, str], graph: str) -> float:
        return {("b2", FULL): 2.0, ("a2", FULL): 3.0}.get(
            (way[0], graph), 4.0 if graph == FULL else 1.0 + ("b2" in way)
        )

    assert settled(bundle, monkeypatch, ms) == ("a2", "a1")


def test_the_setting_with_the_longest_calls_does_not_decide_alone(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_but_quick_when_reduced = ("b1", "b1")

    def ms(way: tuple[str, str], graph: str) -> float:
        if way == slow_but_quick_when_reduced:
            return 40.0 if graph == FULL else 0.5
        return 20.0 if graph == FULL else 1.0

    assert settled(bundle, monkeypatch, ms) == slow_but_quick_when_reduced
