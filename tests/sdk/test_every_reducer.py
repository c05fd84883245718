"""Every reducer, found by the library's own lookup: the contract, and brute-force oracles in plain loops."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from sanderling import lookup
from sanderling.arrays import NumpyArrays
from sanderling.errors import RecipeError
from sanderling.reducers.random import Random
from sanderling.reduction import Reduction, View, shrink

ARRAYS = NumpyArrays()
REDUCERS = lookup.names("reducer")
GRIDS = [(4, 4), (3, 5), (1, 7), (6, 2)]


def make_view(grid: tuple[int, int], keep: int, batch: int = 3, seed: int = 0) -> View:
    rng = np.random.default_rng(seed)
    n = grid[0] * grid[1]
    return View(
        metric=rng.standard_normal((batch, n, 8)).astype(np.float32),
        saliency=rng.random((batch, n), dtype=np.float32),
        count=np.float32(keep),
        grid=grid,
        relevance=rng.standard_normal((batch, n)).astype(np.float32),
    )


def reduce(name: str, view: View, keep: int) -> Reduction:
    answer: Reduction = lookup.find("reducer", name)(ARRAYS, view, keep)
    return answer


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", REDUCERS)
def test_keeps_exactly_the_number_asked_for_in_order(name: str, grid: tuple[int, int]) -> None:
    n = grid[0] * grid[1]
    for keep in range(1, n + 1):
        kept = reduce(name, make_view(grid, keep), keep).kept
        assert kept.shape == (3, keep)
        assert (np.diff(kept, axis=1) > 0).all(), f"{name} repeats or reorders places at keep={keep} on {grid}"
        assert kept.min() >= 0
        assert kept.max() < n


@pytest.mark.parametrize("name", REDUCERS)
def test_keeping_everything_is_the_identity(name: str) -> None:
    view = make_view((4, 4), 16)
    rows = view.metric
    left, sizes = shrink(ARRAYS, reduce(name, view, 16), rows, np.ones((3, 16), np.float32))
    np.testing.assert_array_equal(left, rows)
    np.testing.assert_array_equal(sizes, np.ones((3, 16)))


@pytest.mark.parametrize("name", REDUCERS)
def test_merged_sizes_add_up_and_targets_are_kept_places(name: str) -> None:
    for keep in (1, 3, 8, 11):
        view = make_view((4, 4), keep)
        reduction = reduce(name, view, keep)
        sizes = np.random.default_rng(1).integers(1, 4, (3, 16)).astype(np.float32)
        left, left_sizes = shrink(ARRAYS, reduction, view.metric, sizes)
        assert left.shape == (3, keep, 8)
        if reduction.target is None:
            continue
        np.testing.assert_allclose(left_sizes.sum(1), sizes.sum(1))
        for b in range(3):
            assert set(reduction.target[b]) == set(reduction.kept[b])
        whole = (view.metric * sizes[..., None]).sum(1)
        # The weighted sum of all rows survives merging; float32 sums of 16 rows.
        np.testing.assert_allclose((left * left_sizes[..., None]).sum(1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", REDUCERS)
def test_is_named_after_its_file_and_documented(name: str) -> None:
    reducer = lookup.find("reducer", name)
    assert reducer.name == name
    assert inspect.getdoc(reducer)
    assert inspect.getdoc(inspect.getmodule(type(reducer)))


@pytest.mark.parametrize("name", REDUCERS)
def test_merges_when_it_says_so(name: str) -> None:
    assert (reduce(name, make_view((4, 4), 5), 5).target is not None) == lookup.find("reducer", name).merges


@pytest.mark.parametrize("name", REDUCERS)
def test_needs_the_text_when_it_says_so_and_chooses_by_it(name: str) -> None:
    view = make_view((4, 4), 8)
    blind = replace(view, relevance=None)
    if not lookup.find("reducer", name).needs_text:
        np.testing.assert_array_equal(reduce(name, blind, 8).kept, reduce(name, view, 8).kept)
        return
    with pytest.raises(RecipeError, match="relevance to the text was given none; pass the relevance"):
        reduce(name, blind, 8)
    assert view.relevance is not None
    other = reduce(name, replace(view, relevance=-view.relevance), 8)
    assert (other.kept != reduce(name, view, 8).kept).any()


@pytest.mark.parametrize("name", REDUCERS)
def test_of_equal_tokens_the_earlier_ones_stay_and_numbers_stay_finite(name: str) -> None:
    """Where nothing tells tokens apart, a rule that looks at them keeps the first; the others go by place anyway."""
    same = np.ones((1, 6), np.float32)
    view = View(np.zeros((1, 6, 4), np.float32), same, np.float32(3), (1, 6), same)
    reduction = reduce(name, view, 3)
    left, _ = shrink(ARRAYS, reduction, view.metric, same)
    assert np.isfinite(left).all()
    looks = {"diversity", "relevance_diversity", "saliency", "text_guided"}
    assert name not in looks or reduction.kept.tolist() == [[0, 1, 2]]


def test_random_is_nested_and_follows_its_seed() -> None:
    view = make_view((4, 4), 8)
    eight = set(Random(seed=3)(ARRAYS, view, 8).kept[0])
    assert set(Random(seed=3)(ARRAYS, view, 5).kept[0]) <= eight
    assert eight != set(Random(seed=4)(ARRAYS, view, 8).kept[0])


def test_saliency_keeps_the_largest() -> None:
    view = make_view((3, 5), 4)
    kept = reduce("saliency", view, 4).kept
    for b in range(3):
        assert list(kept[b]) == sorted(sorted(range(15), key=lambda i: -view.saliency[b, i])[:4])


def test_grid_spreads_over_rows_and_columns() -> None:
    kept = reduce("grid", make_view((6, 6), 9), 9).kept[0]
    assert len({place // 6 for place in kept}) == 3
    assert len({place % 6 for place in kept}) == 3


def test_grid_merges_every_token_into_a_nearest_place() -> None:
    reduction = reduce("grid", make_view((6, 6), 7), 7)
    assert reduction.target is not None
    for place in range(36):
        distances = {k: (k // 6 - place // 6) ** 2 + (k % 6 - place % 6) ** 2 for k in reduction.kept[0]}
        assert distances[reduction.target[0, place]] == min(distances.values())


@pytest.mark.parametrize("keep", [8, 11, 15])
def test_merge_equals_bipartite_matching_in_loops(keep: int) -> None:
    """For keep >= n / 2: alternate tokens, merge the n - keep sources that are most like a target."""
    view = make_view((4, 4), keep)
    reduction = reduce("merge", view, keep)
    assert reduction.target is not None
    for b in range(3):
        unit = view.metric[b] / np.linalg.norm(view.metric[b], axis=1, keepdims=True)
        sources, targets = range(0, 16, 2), range(1, 16, 2)
        best = {s: max(targets, key=lambda t: float(unit[s] @ unit[t])) for s in sources}
        merged = sorted(sources, key=lambda s: -float(unit[s] @ unit[best[s]]))[: 16 - keep]
        expected = [best[i] if i in merged else i for i in range(16)]
        assert list(reduction.target[b]) == expected


def test_merge_of_zero_rows_stays_finite() -> None:
    view = View(np.zeros((1, 6, 4), np.float32), np.zeros((1, 6), np.float32), np.float32(2), (2, 3))
    left, _ = shrink(ARRAYS, reduce("merge", view, 2), view.metric, np.ones((1, 6), np.float32))
    assert np.isfinite(left).all()
