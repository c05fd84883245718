"""Recipes are tried in turn; the first that reaches its goals wins, and the others are told with their figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import QUICK, adapted_onnx, brief, rows_data

from sanderling.bundle import Bundle
from sanderling.compile.cache import Cache
from sanderling.compile.goals import Goals
from sanderling.compile.passes.quantize import Quantize
from sanderling.compile.recipe import Recipe
from sanderling.compile.search import compile_first, excluding
from sanderling.errors import GoalsMissedError, RecipeError

HARD = replace(QUICK, goals=Goals(latency_ms=1e-6))
SMALL = replace(QUICK, goals=Goals(size_mb=1e-6))


def search(folder: Path, *recipes: tuple[str, Recipe], told: list[str] | None = None) -> Path:
    with brief():
        return compile_first(
            adapted_onnx(), folder / "out.sand", recipes, evaluation=rows_data(), cache=Cache(folder / "cache"),
            progress=lambda what, done, total: None if told is None or total else told.append(what),
        )  # fmt: skip


def test_the_first_recipe_that_reaches_its_goals_wins(tmp_path: Path) -> None:
    told: list[str] = []
    path = search(tmp_path, ("hard", HARD), ("easy", replace(QUICK, seed=3)), ("never", SMALL), told=told)
    with Bundle.open(path) as bundle:
        assert '"seed": 3' in bundle.manifest().provenance.recipe
    missed = [line for line in told if "misses its goals" in line]
    assert len(missed) == 1
    assert "recipe hard misses its goals: latency: the fastest rung that counts" in missed[0]


def test_when_none_does_each_says_how_close_it_came_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(GoalsMissedError, match=r"none of 2 recipes.*hard: latency.*small: size: the bundle has"):
        search(tmp_path, ("hard", HARD), ("small", SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_one_recipe_misses_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(GoalsMissedError, match=r"^size: the bundle has"):
        search(tmp_path, ("small", SMALL))


def test_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="give at least one"):
        search(tmp_path)


def test_patterns_are_added_to_the_formats_exclusions() -> None:
    recipe = Recipe(passes=(("quantize", Quantize(exclude=("*head*",))),))
    assert excluding(recipe, ["*fc2*"]).passes == (("quantize", Quantize(exclude=("*head*", "*fc2*"))),)
    with pytest.raises(RecipeError, match=r"no pass `quantize`"):
        excluding(Recipe(), ["*fc2*"])
