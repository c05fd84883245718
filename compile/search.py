"""Tries recipes in turn until one reaches its goals, and says of the others how close they came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sanderling.compile.passes.quantize import Quantize
from sanderling.compile.pipeline import compile_model, silent
from sanderling.compile.recipe import Recipe
from sanderling.compile.sources import Source
from sanderling.errors import GoalsMissedError, RecipeError


def compile_first(
    source: Source,
    output: str | Path,
    recipes: Sequence[tuple[str, Recipe]],
    progress: Callable[[str, int, int], None] = silent,
    **options: Any,
) -> Path:
    """Compile with the first recipe that reaches its goals and return the path of the bundle.

    Graphs that several recipes have in common are lowered once.

    Args:
        source: as for `compile_model`.
        output: as for `compile_model`.
        recipes: (name, recipe) in the order to try.
        progress: as for `compile_model`; also told what a recipe missed.
        options: whatever else `compile_model` takes.

    Raises:
        GoalsMissedError: no recipe reaches its goals; the message says of each how close it came.
        RecipeError: there is no recipe.
    """
    if not recipes:
        raise RecipeError("no recipe to try; give at least one")
    missed = []
    for name, recipe in recipes:
        try:
            return compile_model(source, output, recipe=recipe, progress=progress, **options)
        except GoalsMissedError as error:
            if len(recipes) == 1:
                raise
            missed.append(f"{name}: {error}")
            progress(f"recipe {name} misses its goals: {error}", 0, 0)
    raise GoalsMissedError(f"none of {len(recipes)} recipes reaches its goals. {' | '.join(missed)}")


def excluding(recipe: Recipe, patterns: Sequence[str]) -> Recipe:
    """Return a recipe whose quantize passes leave more layers in float32, as `sanderling compare --layers` suggests.

    Raises:
        RecipeError: the recipe has no quantize pass, which alone would follow the patterns.
    """
    passes = recipe.passes or ()
    if not any(isinstance(step, Quantize) for _, step in passes):
        raise RecipeError(
            "--exclude is for number formats, and the recipe has no pass `quantize`; add it, or leave it out"
        )
    changed = tuple(
        (name, replace(step, exclude=(*step.exclude, *patterns)) if isinstance(step, Quantize) else step)
        for name, step in passes
    )
    return replace(recipe, passes=changed)
