"""A number format is kept when it is faster here and good enough; sessions that score what we say stand in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from toy_bundle import toy_measured

from sanderling.calibration import admit
from sanderling.calibration.admit import admit_formats, place
from sanderling.calibration.dataset import Data
from sanderling.calibration.profile import Setting
from sanderling.manifest import FULL, Placement, PlacementCost

DATA = Data([{}] * 10, [0.0] * 10, lambda outputs, _: float(outputs["score"]), "accuracy")


def cost(component: str, number_format: str, p50_ms: float, graph: str = FULL, target: str = "a") -> PlacementCost:
    return PlacementCost(component, graph, Placement(target, number_format, 1), {}, p50_ms, 25)


@pytest.fixture
def admitted(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(costs: list[PlacementCost], losses: dict[tuple[str, str], float], allowed: float = 0.01) -> Any:
        """`losses` is what each (component, format) takes off a score of 0.9."""

        class Scored:
            def __init__(self, bundle: Any, *, measured: Any) -> None:
                used = {(c, way.format) for c, graphs in measured.placements.items() for way in graphs.values()}
                self._score = 0.9 - sum(losses.get(pair, 0.0) for pair in used)

            def at(self, settings: Any, graphs: Any) -> None:
                return None

            def run(self, sample: Any, plan: Any) -> Any:
                return SimpleNamespace(outputs={"score": self._score})

        monkeypatch.setattr(admit, "Session", Scored)
        settings = [Setting({}, {})]
        bundle: Any = None
        kept, decisions = admit_formats(bundle, toy_measured(), costs, settings, DATA, allowed, lambda *_: None)
        return place(costs, kept), decisions

    return run


def verdicts(decisions: Any) -> dict[tuple[str, str], str]:
    return {(d.component, d.format): d.verdict for d in decisions}


def test_the_fastest_good_enough_is_kept(admitted: Any) -> None:
    costs = [cost("v", "float32", 4.0), cost("v", "int8", 2.0), cost("v", "int4", 1.0)]
    placements, decisions = admitted(costs, {("v", "int4"): 0.05, ("v", "int8"): 0.005})
    assert placements["v"][FULL].format == "int8"
    assert verdicts(decisions) == {
        ("v", "int4"): "quality falls by 0.050, more than the 0.010 allowed",
        ("v", "int8"): "kept",
    }


def test_the_goal_decides(admitted: Any) -> None:
    costs = [cost("v", "float32", 4.0), cost("v", "int4", 1.0)]
    placements, _ = admitted(costs, {("v", "int4"): 0.05}, allowed=0.06)
    assert placements["v"][FULL].format == "int4"


def test_float32_wins_when_it_wins(admitted: Any) -> None:
    placements, decisions = admitted([cost("v", "float32", 4.0), cost("v", "int8", 3.99)], {})
    assert placements["v"][FULL].format == "float32"
    assert verdicts(decisions) == {("v", "int8"): "not faster than float32 here"}
    assert decisions[0].quality is None


def test_losses_add_up_over_components_and_the_larger_saving_comes_first(admitted: Any) -> None:
    costs = [cost("v", "float32", 9.0), cost("v", "int8", 4.0), cost("t", "float32", 2.0), cost("t", "int8", 1.0)]
    placements, decisions = admitted(costs, {("v", "int8"): 0.008, ("t", "int8"): 0.008})
    assert (placements["v"][FULL].format, placements["t"][FULL].format) == ("int8", "float32")
    assert "falls by 0.016" in verdicts(decisions)["t", "int8"]


def test_a_second_format_of_a_component_is_not_tried_once_one_is_kept(admitted: Any) -> None:
    costs = [cost("v", "float32", 4.0), cost("v", "int8", 2.0), cost("v", "bf16", 3.0)]
    _, decisions = admitted(costs, {})
    assert verdicts(decisions)["v", "bf16"] == "int8 is faster and good enough"


def test_a_graph_that_is_faster_in_float32_stays_there() -> None:
    costs = [
        cost("v", "float32", 4.0),
        cost("v", "int8", 2.0),
        cost("v", "float32", 1.0, "saliency@0"),
        cost("v", "int8", 1.5, "saliency@0"),
    ]
    placements = place(costs, {"v": "int8"})
    assert {graph: way.format for graph, way in placements["v"].items()} == {FULL: "int8", "saliency@0": "float32"}
