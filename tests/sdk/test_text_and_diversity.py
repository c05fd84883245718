"""Diversity, relevance and head-tail against plain loops, exact greedy selection and linear algebra."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sanderling import lookup
from sanderling.arrays import NumpyArrays, among, before, rank
from sanderling.errors import RecipeError
from sanderling.reducers.head_tail import HeadTail
from sanderling.reducers.text_guided import TextGuided
from sanderling.reduction import View
from sanderling.scores import changed, cosine, energy, relevance

ARRAYS = NumpyArrays()
N = 20


def view_of(keep: int, seed: int = 0, n: int = N) -> View:
    rng = np.random.default_rng(seed)
    return View(
        metric=rng.standard_normal((1, n, 4)).astype(np.float32),
        saliency=rng.random((1, n), dtype=np.float32),
        count=np.float32(keep),
        grid=(1, n),
        relevance=rng.standard_normal((1, n)).astype(np.float32),
    )


def kept_by(name: str, view: View) -> list[int]:
    return [int(place) for place in lookup.find("reducer", name)(ARRAYS, view, int(view.count)).kept[0]]


def cosines(view: View) -> NDArray[np.float64]:
    rows = view.metric[0].astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    product: NDArray[np.float64] = unit @ unit.T
    return product


def best(worth: dict[int, float], keep: int) -> list[int]:
    return sorted(sorted(worth, key=lambda i: (-worth[i], i))[:keep])


def deltas(likeness: Any, saliency: Any, among: list[int]) -> dict[int, float]:
    """Distance to the nearest more salient token of the same set; 3 for the most salient."""
    found = {}
    for i in among:
        ahead = [j for j in among if (-saliency[j], j) < (-saliency[i], i)]
        found[i] = min((1 - float(likeness[i, j]) for j in ahead), default=3.0)
    return found


@pytest.mark.parametrize("keep", [1, 2, 7, 19, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_diversity_keeps_what_is_farthest_from_every_more_salient_token(keep: int, seed: int) -> None:
    view = view_of(keep, seed)
    worth = deltas(cosines(view), view.saliency[0], list(range(N)))
    assert kept_by("diversity", view) == best(worth, keep)


@pytest.mark.parametrize("seed", range(5))
def test_diversity_keeps_tokens_as_far_apart_as_the_smallest_delta_among_them(seed: int) -> None:
    for keep in range(2, N + 1):
        view = view_of(keep, seed)
        kept, likeness = kept_by("diversity", view), cosines(view)
        worth = deltas(likeness, view.saliency[0], list(range(N)))
        apart = min(1 - likeness[i, j] for i in kept for j in kept if i != j)
        assert apart >= min(worth[i] for i in kept) - 1e-4  # cosines are rounded to 3e-5


def farthest_first(likeness: Any, keep: int) -> list[int]:
    """The exact greedy: start anywhere, add the token farthest from all that were taken."""
    taken = [0]
    while len(taken) < keep:
        taken.append(max(range(len(likeness)), key=lambda i: min(1 - likeness[i, j] for j in taken)))
    return taken


@pytest.mark.parametrize("seed", range(5))
def test_diversity_and_exact_greedy_take_one_token_of_every_cluster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = np.eye(8, dtype=np.float32)
    cluster = rng.permutation(np.repeat(np.arange(8), 5))
    rows = centres[cluster] + 0.05 * rng.standard_normal((40, 8)).astype(np.float32)
    view = View(rows[None], rng.random((1, 40), dtype=np.float32), np.float32(8), (1, 40))
    assert sorted(cluster[farthest_first(cosines(view), 8)]) == list(range(8))
    assert sorted(cluster[kept_by("diversity", view)]) == list(range(8))
    assert len(set(cluster[kept_by("saliency", view)])) < 8


@pytest.mark.parametrize("name", ["diversity", "relevance_diversity"])
def test_smaller_budgets_keep_part_of_what_larger_ones_keep(name: str) -> None:
    sets = [set(kept_by(name, view_of(keep))) for keep in range(1, N + 1)]
    assert all(small < large for small, large in itertools.pairwise(sets))


def kernel(view: View) -> NDArray[np.float64]:
    """The determinantal kernel: cosine times the scaled relevance of both tokens."""
    assert view.relevance is not None
    given = view.relevance[0].astype(np.float64)
    scaled = (given - given.min() + 1e-6) / (given.max() - given.min() + 1e-6)
    product: NDArray[np.float64] = scaled[:, None] * cosines(view) * scaled[None, :]
    return product


def more_relevant(view: View) -> dict[int, list[int]]:
    assert view.relevance is not None
    given = view.relevance[0]
    return {i: [j for j in range(N) if (-given[j], j) < (-given[i], i)] for i in range(N)}


@pytest.mark.parametrize("keep", [1, 2, 7, 19, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_relevance_diversity_keeps_the_largest_variance_given_one_more_relevant_token(keep: int, seed: int) -> None:
    view = view_of(keep, seed)
    k, ahead = kernel(view), more_relevant(view)
    worth = {i: min((k[i, i] - k[i, j] ** 2 / k[j, j] for j in ahead[i]), default=9.0) for i in range(N)}
    assert kept_by("relevance_diversity", view) == best(worth, keep)


@pytest.mark.parametrize("seed", range(3))
def test_its_gain_bounds_the_variance_given_all_more_relevant_tokens(seed: int) -> None:
    view = view_of(5, seed)
    k, ahead = kernel(view) + 1e-9 * np.eye(N), more_relevant(view)
    for i in range(N):
        if not ahead[i]:
            continue
        cross = k[np.ix_([i], ahead[i])][0]
        exact = k[i, i] - cross @ np.linalg.lstsq(k[np.ix_(ahead[i], ahead[i])], cross, rcond=None)[0]
        assert min(k[i, i] - k[i, j] ** 2 / k[j, j] for j in ahead[i]) >= exact - 1e-8


def test_without_differences_in_relevance_it_is_diversity_alone() -> None:
    view = view_of(6)
    flat = View(view.metric, view.saliency, view.count, view.grid, np.full((1, N), 0.3, np.float32))
    worth = {i: 1 - max((cosines(view)[i, j] ** 2 for j in range(i)), default=-2.0) for i in range(N)}
    assert kept_by("relevance_diversity", flat) == best(worth, 6)


def recovered(view: View, keep: int, visual: int, text: int) -> tuple[list[int], list[int]]:
    """Recoverable Compression in loops: what stays, and where every token goes."""
    assert view.relevance is not None
    likeness, everything = cosines(view), list(range(N))
    seen = best({i: float(view.saliency[0, i]) for i in everything}, visual)
    asked = best({i: float(view.relevance[0, i]) for i in everything if i not in seen}, text)
    rest = [i for i in everything if i not in seen + asked]
    centres = best(deltas(likeness, view.saliency[0], rest), keep - visual - text)
    nearest = {i: i if i in centres else max(centres, key=lambda c: float(likeness[i, c])) for i in rest}
    return sorted(seen + asked + centres), [nearest.get(i, i) for i in everything]


@pytest.mark.parametrize(
    ("keep", "visual", "text"), [(1, 0, 0), (2, 1, 0), (4, 2, 1), (7, 3, 1), (12, 6, 3), (19, 9, 4), (20, 10, 5)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_text_guided_equals_recoverable_compression_in_loops(keep: int, visual: int, text: int, seed: int) -> None:
    view = view_of(keep, seed)
    reduction = TextGuided()(ARRAYS, view, keep)
    kept, target = recovered(view, keep, visual, text)
    assert reduction.kept[0].tolist() == kept
    assert reduction.target is not None
    assert reduction.target[0].tolist() == target


@pytest.mark.parametrize(
    ("shares", "visual", "text"), [((0.7, 0.1), 7, 1), ((0.0, 0.9), 0, 9), ((0.3, 0.6), 3, 6), ((0.0, 0.0), 0, 0)]
)
def test_both_shares_of_text_guided_turn_something(shares: tuple[float, float], visual: int, text: int) -> None:
    view = view_of(10)
    reduction = TextGuided(*shares)(ARRAYS, view, 10)
    assert reduction.kept[0].tolist() == recovered(view, 10, visual, text)[0]
    assert reduction.kept[0].tolist() != kept_by("text_guided", view)


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.2, -0.1), (0.6, 0.4), (float("nan"), 0.1)])
def test_shares_that_leave_no_cluster_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match="expected both 0 or more and less than 1 together"):
        TextGuided(*shares)


@pytest.mark.parametrize(
    ("head", "keep", "expected"),
    [
        (0.25, 8, [0, 1, 14, 15, 16, 17, 18, 19]),
        (0.25, 1, [0]),
        (0.25, 20, list(range(20))),
        (0.3, 10, [0, 1, 2, 13, 14, 15, 16, 17, 18, 19]),
        (0.0, 3, [17, 18, 19]),
        (1.0, 3, [0, 1, 2]),
    ],
)
def test_head_tail_keeps_both_ends(head: float, keep: int, expected: list[int]) -> None:
    assert HeadTail(head)(ARRAYS, view_of(keep), keep).kept[0].tolist() == expected


@pytest.mark.parametrize("head", [-0.1, 1.1, float("nan")])
def test_a_head_that_is_no_share_is_refused(head: float) -> None:
    with pytest.raises(RecipeError, match="expected a share of the kept tokens, 0 to 1"):
        HeadTail(head)


def test_order_and_number_go_by_score_and_then_by_place() -> None:
    scores = np.random.default_rng(0).integers(0, 4, (3, 30)).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(np.take_along_axis(rank(ARRAYS, scores), order, 1), np.tile(np.arange(30), (3, 1)))
    ahead = before(ARRAYS, scores)
    for b, row in enumerate(order.tolist()):
        assert all(set(np.flatnonzero(ahead[b, place])) == set(row[:number]) for number, place in enumerate(row))


def test_places_are_marked() -> None:
    marked = among(ARRAYS, np.array([[0, 3], [1, 2]]), np.zeros((2, 4)))
    assert marked.tolist() == [[True, False, False, True], [False, True, True, False]]


def test_cosine_of_copies_and_of_zeros_is_exactly_one() -> None:
    rows = np.random.default_rng(0).standard_normal((1, 3, 768)).astype(np.float32)
    both = np.concatenate([rows, 7 * rows, np.zeros((1, 2, 768), np.float32)], axis=1)
    alike = cosine(ARRAYS, both)[0]
    assert [alike[0, 3], alike[1, 4], alike[2, 5], alike[6, 7], alike[6, 6]] == [1.0] * 5
    assert abs(alike[0, 6]) < 0.2


def test_relevance_of_the_text_itself_is_one_and_of_zeros_is_small() -> None:
    text = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    rows = np.stack([text, -2 * text, 0 * text], axis=1)
    np.testing.assert_allclose(relevance(rows, text)[0, :2], [1, -1], atol=1e-5)  # the shift of 1e-6 moves both
    assert abs(relevance(rows, text)[0, 2]) < 0.5


def test_what_changed_is_what_a_budget_keeps() -> None:
    rng = np.random.default_rng(0)
    previous = rng.random((1, 16, 12), dtype=np.float32)
    frame = previous.copy()
    frame[0, [2, 9, 11]] += 0.1
    moved = changed(frame, previous)
    np.testing.assert_allclose(moved[0, [2, 9, 11]], 0.1, rtol=1e-5)
    assert (np.delete(moved[0], [2, 9, 11]) == 0).all()
    assert kept_by("saliency", View(frame, moved, np.float32(3), (4, 4))) == [2, 9, 11]


def test_loud_audio_frames_are_kept_and_silence_is_dropped_first() -> None:
    rng = np.random.default_rng(0)
    loudness = np.array([0, 1, 0, 3, 2, 0.5], np.float32)
    frames = (loudness[:, None] * rng.choice([-1.0, 1.0], (6, 160)).astype(np.float32))[None]
    np.testing.assert_allclose(energy(frames)[0], loudness**2)
    assert kept_by("saliency", View(frames, energy(frames), np.float32(3), (1, 6))) == [1, 3, 4]
