"""Which combinations of graphs and settings to measure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from sanderling.calibration.profile import Setting
from sanderling.errors import RecipeError
from sanderling.manifest import FULL
from sanderling.spec import ModelSpec

MOST = 400
"""Combinations beyond this take longer to measure than anyone waits."""

LOOP_FRACTIONS = (0.75, 0.5, 0.25)
"""Of a loop lever's maximum, the numbers of calls to measure."""

Choice = tuple[str, str, dict[str, int]]
"""A component, one of its graphs, and settings of the levers that graph has."""


def settings_to_try(model: ModelSpec, graphs: Mapping[str, Mapping[str, Sequence[Mapping[str, int]]]]) -> list[Setting]:
    """Return the combinations of one choice per component to measure, the full model first: every lever at its maximum.

    All of them where they are few enough. Else every choice with all others full, and the choices of the same rank
    together: what each component costs adds up, so the settings between them can be predicted.

    Args:
        model: components and levers.
        graphs: component -> graph -> settings of that graph's levers to measure; "full" needs none.

    Raises:
        RecipeError: too many combinations to measure even so.
    """
    full = {lever.name: lever.maximum for lever in model.levers}
    per_component = [_choices(component.name, graphs) for component in model.components]
    loops = [_loop_choices(model, component.loop.lever) for component in model.components if component.loop]
    every = (*per_component, *loops)
    few = math.prod(len(choices) for choices in every) <= MOST
    combinations = list(itertools.product(*every) if few else _thinned(every))
    if len(combinations) > MOST:
        raise RecipeError(
            f"the recipe asks for {len(combinations)} combinations, at most {MOST} can be measured; "
            "name fewer reducers, layers or fractions"
        )
    found = []
    for combination in combinations:
        chosen = [pair for _, _, settings in combination for pair in settings.items()]
        # Two components that share a lever can only run at one setting of it.
        if len(dict(chosen)) == len(set(chosen)):
            found.append(Setting(full | dict(chosen), {c: g for c, g, _ in combination if c}))
    return found


def _thinned(every: Sequence[Sequence[Choice]]) -> Iterator[tuple[Choice, ...]]:
    """Yield the full model, every choice with all others full, and choices of the same rank together."""
    full = tuple(choices[0] for choices in every)
    yield full
    for place, choices in enumerate(every):
        for choice in choices[1:]:
            yield (*full[:place], choice, *full[place + 1 :])
    if sum(len(choices) > 1 for choices in every) > 1:
        for rank in range(1, max(len(choices) for choices in every)):
            yield tuple(choices[min(rank, len(choices) - 1)] for choices in every)


def _choices(component: str, graphs: Mapping[str, Mapping[str, Sequence[Mapping[str, int]]]]) -> list[Choice]:
    choices: list[Choice] = [(component, FULL, {})]
    for graph, settings in graphs.get(component, {}).items():
        choices += [(component, graph, dict(setting)) for setting in settings]
    return choices


def _loop_choices(model: ModelSpec, name: str) -> list[Choice]:
    lever = model.lever(name)
    counts = {max(lever.minimum, round(lever.maximum * f)) for f in LOOP_FRACTIONS} | {lever.default, lever.maximum}
    return [("", "", {name: count}) for count in sorted(counts, reverse=True)]
