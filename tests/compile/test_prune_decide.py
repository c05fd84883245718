"""Which units go: the least important ones, in the counts asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sanderling.compile.pruning.decide import decide, rounded, weakest
from sanderling.compile.pruning.groups import Group, Kind
from sanderling.errors import RecipeError

FIRST, SECOND = Group("heads", "layers.0.self_attn", 4), Group("heads", "layers.1.self_attn", 4)
FEED = Group("channels", "layers.0.mlp", 32)
STACK = Group("layers", "layers", 2)
SCORES = {
    FIRST: torch.tensor([1.0, 2.0, 3.0, 4.0]),
    SECOND: torch.tensor([8.0, 0.5, 7.0, 6.0]),
    FEED: torch.arange(32, 0, -1).double(),
    STACK: torch.tensor([5.0, 4.0]),
}


def test_an_even_spread_takes_the_same_share_everywhere() -> None:
    assert decide(SCORES, {"heads": 0.5}) == {FIRST: (0, 1), SECOND: (1, 3)}


def test_a_global_spread_takes_the_least_important_wherever_they_are() -> None:
    cuts = decide(SCORES, {"heads": 0.5}, spread="global")
    assert cuts == {FIRST: (0, 1, 2), SECOND: (1,)}
    pooled = np.sort(np.concatenate([SCORES[FIRST], SCORES[SECOND]]))
    gone = sorted(float(SCORES[group][unit]) for group, units in cuts.items() for unit in units)
    assert gone == pooled[:4].tolist()


def test_a_global_spread_leaves_one_unit_everywhere() -> None:
    scores = {FIRST: SCORES[FIRST] / 100, SECOND: SCORES[SECOND]}
    assert decide(scores, {"heads": 0.625}, spread="global") == {FIRST: (0, 1, 2), SECOND: (1,)}


@pytest.mark.parametrize(
    ("multiple", "fraction", "kept"),
    [(1, 0.4, 19), (8, 0.4, 24), (16, 0.4, 32), (16, 0.5, 16), (8, 0.99, 8), (32, 0.9, 32), (64, 0.5, 32)],
)
def test_channels_that_stay_are_a_multiple_and_never_fewer_than_asked(
    multiple: int, fraction: float, kept: int
) -> None:
    cuts = decide(SCORES, {"channels": fraction}, multiple)
    assert 32 - len(cuts.get(FEED, ())) == kept
    # Scores fall, so the last channels go.
    assert cuts.get(FEED, ()) == tuple(range(kept, 32))


def test_only_channels_are_rounded() -> None:
    assert decide(SCORES, {"heads": 0.25}, multiple=8) == {FIRST: (0,), SECOND: (1,)}


def test_what_is_inside_a_removed_layer_is_not_decided_on() -> None:
    kinds: dict[Kind, float] = {"layers": 0.5, "heads": 0.25, "channels": 0.5}
    assert decide(SCORES, kinds) == {STACK: (1,), FIRST: (0,), FEED: tuple(range(16, 32))}
    flipped = {**SCORES, STACK: torch.tensor([4.0, 5.0])}
    assert decide(flipped, kinds) == {STACK: (0,), SECOND: (1,)}


def test_a_stack_s_tenth_layer_is_not_inside_its_first() -> None:
    stack, tenth = Group("layers", "layers", 12), Group("heads", "layers.10.self_attn", 4)
    assert tenth.inside(stack, 10)
    assert not tenth.inside(stack, 1)
    assert Group("heads", "0.self_attn", 4).inside(Group("layers", "", 2), 0)


def test_shares_of_zero_and_kinds_not_listed_leave_everything() -> None:
    assert decide(SCORES, {"heads": 0.0}) == {}
    assert decide(SCORES, {"heads": 0.1}) == {}
    assert decide({}, {"heads": 0.5}, spread="global") == {}


def test_ties_go_to_the_first() -> None:
    assert weakest(torch.tensor([1.0, 0.0, 0.0, 1.0]), 3) == (0, 1, 2)
    assert weakest(torch.ones(4), 0) == ()


def test_rounding_stays_between_one_step_and_all() -> None:
    assert [rounded(keep, 20, 8) for keep in (0, 1, 8, 9, 17, 20)] == [8, 8, 8, 16, 20, 20]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fractions": {"heads": 1.0}}, "heads is 1.0, expected a share to remove, from 0 to below 1"),
        ({"fractions": {"layers": -0.1}}, "layers is -0.1"),
        ({"fractions": {"channels": float("nan")}}, "channels is nan"),
        ({"fractions": {}, "multiple": 0}, "multiple is 0, expected at least 1"),
        ({"fractions": {}, "spread": "odd"}, "spread is 'odd', expected one of even, global"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        decide(SCORES, **options)
