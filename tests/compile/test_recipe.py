"""Recipes: what YAML says is what is done, and nothing in it is ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sanderling.budget import Budget
from sanderling.compile.passes.reduce import Reduce
from sanderling.compile.recipe import Recipe, from_mapping, read_recipe
from sanderling.engine import usable_cores
from sanderling.errors import RecipeError, UserError

WHOLE = """
passes:
  - reduce: {reducers: [saliency, random], layers: [0, 2], fractions: [0.5, 0.25]}
targets: [onnxruntime, openvino]
threads: 2
budget: {latency_ms: 33, percentile: 99}
seed: 4
"""


def test_a_whole_recipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(WHOLE)
    reduce = Reduce(("saliency", "random"), (0, 2), (0.5, 0.25))
    wanted = Recipe((("reduce", reduce),), ("onnxruntime", "openvino"), 2, Budget(latency_ms=33, percentile=99), 4)
    assert read_recipe(tmp_path / "recipe.yaml") == wanted


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Recipe()),
        ({"passes": None, "threads": None, "budget": None}, Recipe()),
        ({"passes": []}, Recipe(passes=())),
        ({"passes": ["reduce"]}, Recipe(passes=(("reduce", Reduce()),))),
        ({"passes": [{"reduce": None}]}, Recipe(passes=(("reduce", Reduce()),))),
        ({"budget": {}}, Recipe(budget=Budget())),
    ],
    ids=["empty", "nothing", "no passes", "pass by name", "pass without options", "budget without limits"],
)
def test_what_is_left_out_has_its_default(given: dict[str, Any], wanted: Recipe) -> None:
    assert from_mapping(given) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "a recipe is a mapping, got list"),
        ({"thread": 2}, "recipe has no option 'thread'; did you mean 'threads'. Known: passes, targets"),
        ({"quality": 2}, r"recipe has no option 'quality'\. Known: passes"),
        ({"threads": 0}, "threads is 0, expected at least 1; leave it out for one per core"),
        ({"threads": 1.5}, "threads is 1.5, expected a whole number"),
        ({"threads": True}, "threads is True, expected a whole number"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"seed": None}, "seed is None, expected a whole number"),
        ({"targets": None}, "targets is None, expected a list"),
        ({"targets": "onnxruntime"}, "targets is 'onnxruntime', expected a list"),
        ({"targets": [1]}, r"targets\[0\] is 1, expected a name"),
        ({"targets": ["onnxrt"]}, "unknown target 'onnxrt'"),
        ({"targets": ["openvino", "openvino"]}, "target 'openvino' is listed twice"),
        ({"budget": 33}, "budget is 33, expected options by name"),
        ({"budget": {"latency": 3}}, "budget has no option 'latency'; did you mean 'latency_ms'"),
        ({"budget": {"latency_ms": "33"}}, "latency_ms is '33', expected a number"),
        ({"budget": {"latency_ms": 0}}, "latency_ms is 0, expected a number above 0"),
        ({"budget": {"otherwise": "hope"}}, "otherwise is 'hope', expected 'refuse' or 'cheapest'"),
        ({"passes": {"reduce": {}}}, "passes is {'reduce': {}}, expected a list"),
        ({"passes": [{"reduce": {}, "prune": {}}]}, "one name with its options"),
        ({"passes": ["reduse"]}, "unknown pass 'reduse'; did you mean 'reduce'"),
        ({"passes": [{"reduce": 0}]}, "pass 'reduce' is 0, expected options by name"),
        ({"passes": [{"reduce": {"layer": [1]}}]}, "pass 'reduce' has no option 'layer'; did you mean 'layers'"),
        ({"passes": [{"reduce": {"layers": 1}}]}, "layers is 1, expected a list"),
        ({"passes": [{"reduce": {"layers": ["a"]}}]}, r"layers\[0\] is 'a', expected a whole number"),
        ({"passes": [{"reduce": {"fractions": ["half"]}}]}, r"fractions\[0\] is 'half', expected a number"),
        ({"passes": [{"reduce": {"fractions": [True]}}]}, r"fractions\[0\] is True, expected a number"),
        ({"passes": [{"reduce": {"reducers": [None]}}]}, r"reducers\[0\] is None, expected a name"),
    ],
)
def test_what_cannot_be_followed_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_mapping(given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"recipe .*recipe.yaml cannot be read: No such file"),
        (b"a: [", "recipe.yaml is not YAML"),
        (b"\xff\xfe\x00", "recipe.yaml is not YAML"),
        (b"- 1", "a recipe is a mapping, got list"),
        (b"!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
    ids=["absent", "broken", "binary", "list", "code"],
)
def test_files_that_are_no_recipe_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        read_recipe(tmp_path / "recipe.yaml")


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("# nothing\n")
    assert read_recipe(tmp_path / "recipe.yaml") == Recipe()


def test_the_effective_recipe_has_every_default_filled_in() -> None:
    filled = json.loads(Recipe(budget=Budget(latency_ms=5)).effective((("reduce", Reduce()),), ("openvino",)))
    assert filled["passes"][0]["reduce"]["layers"] == []
    assert len(filled["passes"][0]["reduce"]["fractions"]) == 8
    assert (filled["targets"], filled["threads"], filled["seed"]) == (["openvino"], usable_cores(), 0)
    assert filled["budget"]["percentile"] == 90
