"""Choosing under a latency target, held against every combination tried out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sanderling.compile.pruning.choose import Choice, choose_greedy, choose_separable
from sanderling.compile.pruning.groups import Group, outside
from sanderling.errors import BudgetError, BudgetTooSmallError, RecipeError

WORST, MEAN = 1.4, 1.02
"""How many times the optimum's loss the greedy choice may lose, in one case and on average over the cases below."""

Scores = dict[Group, Tensor]
Kept = Mapping[Group, int]


def brute(scores: Scores, cost: Callable[[Kept], float], target_ms: float) -> float:
    """Return the least importance that any combination within the target loses."""
    best = float("inf")
    for sizes in itertools.product(*(range(1, group.units + 1) for group in scores)):
        keep = dict(zip(scores, sizes, strict=True))
        cuts = {g: tuple(np.argsort(scores[g].numpy())[: g.units - n].tolist()) for g, n in keep.items()}
        left = {group: keep[group] for group in outside(scores, cuts)}
        if cost(left) <= target_ms:
            best = min(best, sum(float(np.sort(scores[g].numpy())[: g.units - n].sum()) for g, n in left.items()))
    return best


def case(seed: int) -> tuple[Scores, dict[Group, dict[int, float]], float]:
    """Return scores of four groups, what each size costs, and a target that takes pruning to meet."""
    rng = np.random.default_rng(seed)
    groups = [Group("heads", f"layers.{n}.self_attn", int(rng.integers(2, 5))) for n in range(4)]
    scores = {group: torch.tensor(rng.exponential(1, group.units)) for group in groups}
    tables = {g: dict(enumerate(np.cumsum(rng.uniform(0, 1, g.units)).tolist(), start=1)) for g in groups}
    whole = sum(max(table.values()) for table in tables.values())
    cheapest = sum(min(table.values()) for table in tables.values())
    return scores, tables, 1 + cheapest + (whole - cheapest) * float(rng.uniform(0.2, 0.9))


def cost_of(tables: dict[Group, dict[int, float]]) -> Callable[[Kept], float]:
    return lambda keep: 1 + sum(tables[group][units] for group, units in keep.items())


def check(choice: Choice, scores: Scores, cost: Callable[[Kept], float], target_ms: float) -> None:
    """Check that a choice says what it is."""
    left = outside(scores, choice.cuts)
    assert choice.cost_ms == pytest.approx(cost({g: g.units - len(choice.cuts.get(g, ())) for g in left}))
    assert choice.cost_ms <= target_ms
    assert choice.lost == pytest.approx(sum(float(scores[g][list(units)].sum()) for g, units in choice.cuts.items()))


@pytest.mark.parametrize("seed", range(20))
def test_a_separable_choice_is_the_optimum(seed: int) -> None:
    scores, tables, target_ms = case(seed)
    choice = choose_separable(scores, tables, 1.0, target_ms)
    check(choice, scores, cost_of(tables), target_ms)
    assert choice.lost == pytest.approx(brute(scores, cost_of(tables), target_ms))


def test_a_greedy_choice_stays_near_the_optimum() -> None:
    ratios = []
    for seed in range(60):
        scores, tables, target_ms = case(seed)
        choice = choose_greedy(scores, cost_of(tables), target_ms)
        check(choice, scores, cost_of(tables), target_ms)
        ratios.append(choice.lost / choose_separable(scores, tables, 1.0, target_ms).lost)
    assert min(ratios) >= 1 - 1e-9
    assert max(ratios) <= WORST
    assert np.mean(ratios) <= MEAN


@pytest.mark.parametrize("seed", range(8))
def test_a_greedy_choice_of_layers_and_what_is_in_them(seed: int) -> None:
    """A removed layer takes its heads along, in cost and in loss."""
    rng = np.random.default_rng(seed)
    stack = Group("layers", "layers", 3)
    heads = [Group("heads", f"layers.{n}.self_attn", 3) for n in range(3)]
    scores = {stack: torch.tensor(rng.exponential(2, 3)), **{h: torch.tensor(rng.exponential(1, 3)) for h in heads}}

    def cost(keep: Kept) -> float:
        assert len(keep) == 1 + keep[stack]
        return 0.5 + sum(0.3 + 0.2 * units for group, units in keep.items() if group.kind == "heads")

    for target_ms in (1.0, 1.6, 2.3):
        choice = choose_greedy(scores, cost, target_ms)
        check(choice, scores, cost, target_ms)
        assert choice.lost <= WORST * brute(scores, cost, target_ms) + 1e-9


def test_sizes_that_save_nothing_are_jumped_over() -> None:
    """An engine that works in fours gains nothing from the first channels that go."""
    group = Group("channels", "mlp", 8)
    scores = {group: torch.ones(8)}
    assert len(choose_greedy(scores, lambda keep: -(-keep[group] // 4), 1.0).cuts[group]) == 4


def test_what_need_not_go_is_put_back() -> None:
    """The cheapest step per millisecond overshoots; the smaller one alone is enough."""
    one, other = Group("heads", "a", 2), Group("heads", "b", 2)
    scores = {one: torch.tensor([1.0, 9.0]), other: torch.tensor([3.0, 9.0])}
    saves = {one: 1.0, other: 4.0}
    choice = choose_greedy(scores, lambda keep: sum(saves[g] * n for g, n in keep.items()), 9.0)
    assert choice.cuts == {one: (0,)}


def test_a_target_that_is_met_already_removes_nothing() -> None:
    scores, tables, _ = case(0)
    assert choose_greedy(scores, cost_of(tables), 100.0).cuts == {}
    assert choose_separable(scores, tables, 1.0, 100.0).cuts == {}


def test_every_option_turns_the_choice() -> None:
    group = Group("channels", "mlp", 32)
    scores = {group: torch.arange(32).double()}

    def kept(target_ms: float, multiple: int) -> int:
        return 32 - len(choose_greedy(scores, lambda keep: keep[group], target_ms, multiple).cuts[group])

    assert [kept(target, 1) for target in (30.0, 21.0)] == [30, 21]
    assert [kept(21.0, multiple) for multiple in (4, 16)] == [20, 16]
    tables = {group: {8: 8.0, 16: 16.0, 32: 32.0}}
    sizes = [len(choose_separable(scores, tables, fixed, 20.0).cuts[group]) for fixed in (0.0, 10.0)]
    assert sizes == [16, 24]


def test_targets_that_cannot_be_met_say_how_close_it_comes() -> None:
    scores, tables, _ = case(1)
    cheapest_ms = 1 + sum(min(table.values()) for table in tables.values())
    with pytest.raises(BudgetTooSmallError, match=r"1\.0 ms cannot be met by pruning") as raised:
        choose_greedy(scores, cost_of(tables), 1.0)
    assert raised.value.cheapest_ms == pytest.approx(cheapest_ms)
    with pytest.raises(BudgetTooSmallError, match=r"1\.0 ms cannot be met by pruning") as raised:
        choose_separable(scores, tables, 1.0, 1.0)
    assert raised.value.cheapest_ms == pytest.approx(cheapest_ms)


ONE = Group("heads", "layers.0.self_attn", 2)
STACK = Group("layers", "layers", 2)
TWO = {ONE: torch.ones(2)}


@pytest.mark.parametrize("target_ms", [0.0, -1.0, float("nan")])
def test_targets_that_make_no_sense_are_refused(target_ms: float) -> None:
    with pytest.raises(BudgetError, match=r"target_ms is .*, expected more than 0"):
        choose_greedy(TWO, lambda _: 1.0, target_ms)
    with pytest.raises(BudgetError, match=r"target_ms is .*, expected more than 0"):
        choose_separable(TWO, {ONE: {1: 1.0}}, 0.0, target_ms)


@pytest.mark.parametrize(
    ("scores", "tables", "reason"),
    [
        (TWO, {}, "heads of 'layers.0.self_attn' need both scores and a table of costs"),
        ({}, {ONE: {1: 1.0}}, "need both scores and a table"),
        (TWO, {ONE: {}}, "has no size, expected sizes from 1 to 2"),
        (TWO, {ONE: {1: 1.0, 3: 2.0}}, "has 3, expected sizes from 1 to 2"),
        ({**TWO, STACK: torch.ones(2)}, {ONE: {1: 1.0}, STACK: {1: 1.0}}, "goes with a layer of 'layers'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(scores: Any, tables: Any, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        choose_separable(scores, tables, 0.0, 1.0)


def test_a_multiple_below_one_is_refused() -> None:
    with pytest.raises(RecipeError, match="multiple is 0, expected at least 1"):
        choose_greedy(TWO, lambda _: 1.0, 1.0, 0)
