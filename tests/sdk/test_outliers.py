"""The local outlier factor of single numbers; scikit-learn's is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor

from sanderling.errors import InputError
from sanderling.outliers import count_outliers, local_outlier_factor


def oracle(scores: NDArray[Any], neighbours: int) -> tuple[NDArray[np.float64], int]:
    """Factors and how many outliers scikit-learn finds."""
    fitted = LocalOutlierFactor(n_neighbors=neighbours)
    labels = fitted.fit_predict(scores.astype(np.float64)[:, None])
    factors: NDArray[np.float64] = -fitted.negative_outlier_factor_
    return factors, int((labels == -1).sum())


def drawn(kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
    n = int(rng.integers(25, 200))
    if kind == "normal":
        return rng.standard_normal(n).astype(np.float32)
    if kind == "few large":
        return rng.random(n, dtype=np.float32) ** 8
    return rng.permutation(np.repeat(rng.standard_normal(n).astype(np.float32), rng.integers(1, 6, n)))


# scikit-learn warns of factors above 1e7, which a score next to more copies than neighbours has.
@pytest.mark.filterwarnings("ignore:Duplicate values are leading:UserWarning")
@pytest.mark.parametrize("neighbours", [1, 5, 20])
@pytest.mark.parametrize("kind", ["normal", "few large", "tied"])
def test_factors_and_counts_equal_scikit_learn(kind: str, neighbours: int) -> None:
    for seed in range(8):
        scores = drawn(kind, np.random.default_rng(seed))
        factors, outliers = oracle(scores, neighbours)
        # Both compute in float64; means are summed in another order. Copies next to others have factors of 1e8.
        np.testing.assert_allclose(local_outlier_factor(scores, neighbours), factors, rtol=1e-9)
        assert count_outliers(scores, scores.size, neighbours) == max(1, outliers)


def test_all_equal_scores_have_factor_one_and_ask_for_one_token() -> None:
    scores = np.full(30, 0.2)
    np.testing.assert_allclose(local_outlier_factor(scores), oracle(scores, 20)[0])
    assert count_outliers(scores, 10) == 1


def test_fewer_scores_than_neighbours_use_all_others() -> None:
    scores = np.array([0.0, 1.0, 1.5, 9.0])
    np.testing.assert_allclose(local_outlier_factor(scores, 20), oracle(scores, 3)[0])


def test_the_plan_bounds_what_the_content_asks_for() -> None:
    scores = np.concatenate([np.linspace(0, 1, 60), [5, 9, 14, 20, 27]])
    asked = count_outliers(scores, 65)
    assert asked >= 5
    assert count_outliers(scores, 3) == 3
    assert count_outliers(scores, 65, neighbours=2) != asked


@pytest.mark.parametrize(
    ("scores", "neighbours", "reason"),
    [
        (np.zeros((2, 3)), 20, r"shape \(2, 3\), expected one row of at least 2 finite numbers"),
        (np.zeros(1), 20, r"shape \(1,\), expected"),
        (np.array([0.0, np.nan]), 20, "finite"),
        (np.zeros(5), 0, "neighbours is 0, expected 1 or more"),
    ],
)
def test_scores_that_have_no_factor_are_refused(scores: NDArray[Any], neighbours: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        local_outlier_factor(scores, neighbours)


def test_no_room_is_refused() -> None:
    with pytest.raises(InputError, match="most is 0, expected room for at least 1 token"):
        count_outliers(np.arange(5.0), 0)
