"""Which units go, for a share of each kind: the least important ones, in counts that the device likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sanderling.compile.pruning.groups import Group, Kind, outside
from sanderling.compile.pruning.importance import Scores
from sanderling.errors import RecipeError

SPREAD = ("even", "global")


def decide(
    scores: Scores, fractions: Mapping[Kind, float], multiple: int = 1, spread: str = "even"
) -> dict[Group, tuple[int, ...]]:
    """Return the units to remove; layers are decided first, and what is inside them goes with them.

    Args:
        scores: importance of every unit.
        fractions: kind -> share of its units to remove, from 0 to below 1; a kind not listed is left alone.
        multiple: channels that stay are a multiple of it, never fewer than asked; heads and layers are not rounded.
        spread: "even" removes the share in every group, "global" the least important units of all groups of a kind
            together, leaving at least one unit (or `multiple` channels) in each.

    Raises:
        RecipeError: an option makes no sense.
    """
    _check(fractions, multiple, spread)
    cuts: dict[Group, tuple[int, ...]] = {}
    kinds: tuple[Kind, ...] = ("layers", "heads", "channels")
    for kind in kinds:
        if fractions.get(kind, 0.0) > 0:
            groups = [group for group in outside(scores, cuts) if group.kind == kind]
            keep = _even(groups, fractions[kind]) if spread == "even" else _global(scores, groups, fractions[kind])
            step = multiple if kind == "channels" else 1
            for group in groups:
                removed = weakest(scores[group], group.units - rounded(keep[group], group.units, step))
                if removed:
                    cuts[group] = removed
    return cuts


def weakest(values: Tensor, count: int) -> tuple[int, ...]:
    """Return the places of the `count` smallest values [units], ascending; of equal ones the first."""
    return tuple(sorted(torch.argsort(values, stable=True)[:count].tolist()))


def rounded(keep: int, units: int, multiple: int) -> int:
    """Return `keep` rounded up to a multiple, at least one of it and at most all units."""
    return min(units, max(1, -(-keep // multiple)) * multiple)


def _check(fractions: Mapping[Kind, float], multiple: int, spread: str) -> None:
    for kind, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise RecipeError(f"{kind} is {fraction}, expected a share to remove, from 0 to below 1")
    if multiple < 1:
        raise RecipeError(f"multiple is {multiple}, expected at least 1")
    if spread not in SPREAD:
        raise RecipeError(f"spread is {spread!r}, expected one of {', '.join(SPREAD)}")


def _even(groups: Sequence[Group], fraction: float) -> dict[Group, int]:
    return {group: group.units - round(fraction * group.units) for group in groups}


def _global(scores: Scores, groups: Sequence[Group], fraction: float) -> dict[Group, int]:
    if not groups:
        return {}
    values = torch.cat([scores[group] for group in groups])
    gone = torch.zeros(len(values), dtype=torch.bool)
    gone[list(weakest(values, round(fraction * len(values))))] = True
    parts = torch.split(gone, [group.units for group in groups])
    return {group: group.units - int(part.sum()) for group, part in zip(groups, parts, strict=True)}
