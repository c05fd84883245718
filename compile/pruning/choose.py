"""Which units to keep under a latency target: the least importance lost at a cost that was measured, not guessed.

`choose_greedy` takes any cost; `choose_separable` is exact where every group costs its own share. What is lost is the
sum of the importance of the removed units; what goes with a removed layer counts as that layer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from sanderling.compile.pruning.decide import rounded, weakest
from sanderling.compile.pruning.groups import Group, outside
from sanderling.compile.pruning.importance import Scores
from sanderling.errors import BudgetError, BudgetTooSmallError, RecipeError

Keep: TypeAlias = dict[Group, int]
"""Group -> units that stay."""

Cost: TypeAlias = Callable[[Mapping[Group, int]], float]
"""Units that stay in every group that is left -> milliseconds. Groups inside removed layers are not listed."""


@dataclass(frozen=True)
class Choice:
    """What to remove to meet a target.

    Attributes:
        cuts: group -> units to remove, as `prune_module` takes them.
        cost_ms: of the pruned model.
        lost: importance removed, in the unit of the scores.
    """

    cuts: dict[Group, tuple[int, ...]]
    cost_ms: float
    lost: float


def choose_greedy(scores: Scores, cost: Cost, target_ms: float, multiple: int = 1) -> Choice:
    """Return a choice within the target, by steps that lose the least importance per millisecond they save.

    Every step may shrink one group to any smaller size, so plateaus of the cost are jumped over. The best state within
    the target that any step led to is kept, and whatever it can take back is put back. It need not be the optimum: on
    400 random costs of four groups with up to four sizes each it was in 94 % of them, and lost 1.34 times the optimum's
    importance at worst; `tests/compile/test_prune_choose.py` bounds the gap.

    Args:
        scores: importance of every unit.
        cost: milliseconds of a state.
        target_ms: to be met.
        multiple: channels that stay are a multiple of it.

    Raises:
        BudgetTooSmallError: no state on the way meets the target; it has the cheapest cost seen.
        BudgetError: the target is not above 0.
    """
    _check(target_ms, multiple)
    state = _State(_Problem(scores, cost, multiple), {group: group.units for group in scores})
    best = state if state.cost_ms <= target_ms else None
    cheapest_ms = state.cost_ms
    while state.cost_ms > target_ms:
        steps = [step for step in state.smaller() if step.cost_ms < state.cost_ms]
        if not steps:
            break
        within = [step for step in steps if step.cost_ms <= target_ms]
        best = min([*within, *([best] if best else [])], key=lambda step: step.lost, default=None)
        here = state
        state = min(steps, key=lambda step: (step.lost - here.lost) / (here.cost_ms - step.cost_ms))
        cheapest_ms = min(cheapest_ms, *(step.cost_ms for step in steps))
    if best is None:
        raise BudgetTooSmallError(
            f"{target_ms} ms cannot be met by pruning; the cheapest found takes {cheapest_ms:.4g} ms", cheapest_ms
        )
    return _refilled(best, target_ms).choice()


def choose_separable(
    scores: Scores, tables: Mapping[Group, Mapping[int, float]], fixed_ms: float, target_ms: float
) -> Choice:
    """Return the choice within the target that loses the least importance, exactly.

    A multiple-choice knapsack, solved by joining the groups one by one and dropping every partial choice that another
    one beats in both cost and loss. The number of those left can grow with every group; equal tables keep it small.

    Args:
        scores: importance of every unit; no group inside a listed stack of layers.
        tables: group -> units that stay -> milliseconds of that group; only these sizes are chosen from.
        fixed_ms: what everything else costs.
        target_ms: to be met.

    Raises:
        BudgetTooSmallError: not even the cheapest sizes meet the target; it has their cost.
        BudgetError: the target is not above 0.
        RecipeError: tables that do not fit the scores, or groups that depend on each other.
    """
    _check(target_ms, 1)
    _check_tables(scores, tables)
    lost_by = {group: _lost_by(values) for group, values in scores.items()}
    front: list[tuple[float, float, Keep]] = [(fixed_ms, 0.0, {})]
    for group, table in tables.items():
        joined = (
            (ms + table[keep], lost + lost_by[group][keep], {**kept, group: keep})
            for ms, lost, kept in front
            for keep in table
        )
        front = list(_unbeaten(joined))
    within = [entry for entry in front if entry[0] <= target_ms]
    if not within:
        cheapest_ms = front[0][0]
        raise BudgetTooSmallError(
            f"{target_ms} ms cannot be met by pruning; the smallest sizes take {cheapest_ms:.4g} ms", cheapest_ms
        )
    ms, lost, kept = min(within, key=lambda entry: entry[1])
    return Choice(_cuts(scores, kept), ms, lost)


class _Problem:
    """What does not change from state to state."""

    def __init__(self, scores: Scores, cost: Cost, multiple: int) -> None:
        self.scores = scores
        self.cost = cost
        self.lost = {group: _lost_by(values) for group, values in scores.items()}
        self.sizes = {group: _sizes(group, multiple if group.kind == "channels" else 1) for group in scores}


class _State:
    """A number of units to keep in every group, its cost and what it loses."""

    def __init__(self, problem: _Problem, keep: Keep) -> None:
        self._problem, self._keep = problem, keep
        stacks = {group: units for group, units in keep.items() if group.kind == "layers"}
        self._left = outside(keep, _cuts(problem.scores, stacks))
        self.cost_ms = problem.cost({group: keep[group] for group in self._left})
        self.lost = sum(problem.lost[group][keep[group]] for group in self._left)

    def smaller(self) -> Iterator[_State]:
        """Yield the states with one group smaller."""
        return (
            self._with(group, n) for group in self._left for n in self._problem.sizes[group] if n < self._keep[group]
        )

    def larger(self) -> Iterator[_State]:
        """Yield the states with one group larger."""
        return (
            self._with(group, n) for group in self._left for n in self._problem.sizes[group] if n > self._keep[group]
        )

    def choice(self) -> Choice:
        """Return the state as a choice."""
        cuts = _cuts(self._problem.scores, {group: self._keep[group] for group in self._left})
        return Choice(cuts, self.cost_ms, self.lost)

    def _with(self, group: Group, units: int) -> _State:
        return _State(self._problem, {**self._keep, group: units})


def _refilled(state: _State, target_ms: float) -> _State:
    """Return the state with units put back, most important first, as long as the target holds."""
    while True:
        better = [step for step in state.larger() if step.cost_ms <= target_ms and step.lost < state.lost]
        if not better:
            return state
        state = min(better, key=lambda step: step.lost)


def _lost_by(values: Tensor) -> list[float]:
    """Return the importance lost by keeping 0, 1, ... of the units, the most important first."""
    by_removed = [0.0, *values.double().sort().values.cumsum(0).tolist()]
    return by_removed[::-1]


def _sizes(group: Group, multiple: int) -> list[int]:
    return sorted({rounded(units, group.units, multiple) for units in range(1, group.units + 1)})


def _cuts(scores: Scores, keep: Mapping[Group, int]) -> dict[Group, tuple[int, ...]]:
    return {group: weakest(scores[group], group.units - n) for group, n in keep.items() if n < group.units}


def _unbeaten(entries: Iterable[tuple[float, float, Keep]]) -> Iterator[tuple[float, float, Keep]]:
    """Yield the entries that no other beats in both cost and loss, cheapest first."""
    least = float("inf")
    for entry in sorted(entries, key=lambda entry: entry[:2]):
        if entry[1] < least:
            least = entry[1]
            yield entry


def _check(target_ms: float, multiple: int) -> None:
    if not target_ms > 0:
        raise BudgetError(f"target_ms is {target_ms}, expected more than 0")
    if multiple < 1:
        raise RecipeError(f"multiple is {multiple}, expected at least 1")


def _check_tables(scores: Scores, tables: Mapping[Group, Mapping[int, float]]) -> None:
    if set(tables) != set(scores):
        odd = next(iter(set(tables) ^ set(scores)))
        raise RecipeError(f"{odd.kind} of {odd.path!r} need both scores and a table of costs")
    for group, table in tables.items():
        wrong = [units for units in table if not 1 <= units <= group.units]
        if wrong or not table:
            came = wrong[0] if wrong else "no size"
            raise RecipeError(f"the table of {group.path!r} has {came}, expected sizes from 1 to {group.units}")
        stack = next(
            (s for s in tables if s.kind == "layers" and any(group.inside(s, n) for n in range(s.units))), None
        )
        if stack is not None:
            raise RecipeError(
                f"{group.path!r} goes with a layer of {stack.path!r}, so their costs do not add up; use choose_greedy"
            )
