from __future__ import annotations

import pytest

from sanderling.calibration.trials import settings_to_try
from sanderling.errors import RecipeError
from sanderling.spec import ArrayInput, Component, Lever, Loop, ModelSpec, TensorSpec

X, Y = TensorSpec("x", "float32", ("batch", 4)), TensorSpec("y", "float32", ("batch", 4))


def model(loop: Loop | None = None) -> ModelSpec:
    return ModelSpec(
        name="toy",
        inputs=(ArrayInput("x", "float32", ("batch", 4)),),
        components=(Component("a", (X,), (Y,), loop), Component("b", (Y,), (TensorSpec("z", "float32", ("batch",)),))),
        levers=(Lever("tokens", "tokens", 1, 16, 16), Lever("steps", "steps", 1, 8, 8)),
        outputs=("z",),
    )


def test_full_model_comes_first_and_every_pair_once() -> None:
    graphs = {"a": {"r@0": [{"tokens": 8}, {"tokens": 4}]}, "b": {"s@1": [{"steps": 2}]}}
    found = settings_to_try(model(), graphs)
    assert found[0].graphs == {"a": "full", "b": "full"}
    assert found[0].settings == {"tokens": 16, "steps": 8}
    assert len(found) == len({str(s) for s in found}) == 3 * 2


def test_components_that_share_a_lever_run_at_one_setting() -> None:
    graphs = {"a": {"r@0": [{"tokens": 8}, {"tokens": 4}]}, "b": {"s@1": [{"tokens": 4}]}}
    both = [s for s in settings_to_try(model(), graphs) if "full" not in s.graphs.values()]
    assert [s.settings["tokens"] for s in both] == [4]


def test_loops_are_tried_at_fewer_calls() -> None:
    found = settings_to_try(model(Loop("steps", (("y", "x"),))), {})
    assert [s.settings["steps"] for s in found] == [8, 6, 4, 2]


def many(graphs: int) -> dict[str, dict[str, list[dict[str, int]]]]:
    """Choices of two levers: ten settings of `tokens` in each of many graphs, and eight of `steps` in one."""
    tokens, steps = ([{name: n} for n in range(1, most + 1)] for name, most in (("tokens", 10), ("steps", 7)))
    return {"a": {f"r@{i}": tokens for i in range(graphs)}, "b": {"s@0": steps}}


def test_where_all_combinations_are_too_many_each_choice_is_tried_alone_and_in_step() -> None:
    found = settings_to_try(model(), many(graphs=6))
    assert found[0].settings == {"tokens": 16, "steps": 8}
    assert len(found) == 1 + 60 + 7 + 60
    alone = [s for s in found if s.graphs["b"] == "full" and s.graphs["a"] != "full"]
    assert len(alone) == 60
    together = [s for s in found if "full" not in s.graphs.values()]
    assert [s.settings["steps"] for s in together[:8]] == [1, 2, 3, 4, 5, 6, 7, 7]


def test_too_many_combinations_are_refused_with_the_number() -> None:
    with pytest.raises(RecipeError, match="408 combinations, at most 400"):
        settings_to_try(model(), many(graphs=20))
