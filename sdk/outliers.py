"""How many tokens stand out from the others: the local outlier factor of their scores.

Breunig et al., LOF: Identifying Density-Based Local Outliers, SIGMOD 2000, definitions 3 to 7, for single numbers. With
d_k(o) the distance of o to its k-th nearest neighbour and N_k(p) the k nearest neighbours of p::

    reach(p, o) = max(d_k(o), |p - o|)
    density(p)  = 1 / mean over o in N_k(p) of reach(p, o)
    LOF(p)      = mean over o in N_k(p) of density(o) / density(p)

Recoverable Compression (Chen et al., AAAI 2025) keeps as many tokens as there are outliers. In one dimension the
nearest neighbours are neighbours in sorted order, so n scores need a sort, windows of 2 k and no tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError

OUTLIER = 1.5
"""Factor above which a score is an outlier, scikit-learn's threshold for `contamination="auto"`."""

_TINY = 1e-10
"""Added to the mean reach, as in scikit-learn, so that the density of equal scores is finite."""


def local_outlier_factor(scores: NDArray[Any], neighbours: int = 20) -> NDArray[np.float64]:
    """Return the local outlier factor of every score, about 1 inside a crowd and more outside.

    Equals scikit-learn's `-LocalOutlierFactor(neighbours).fit(...).negative_outlier_factor_`. Where a score to the left
    and one to the right are exactly as far, the left one counts as nearer; scikit-learn's choice depends on its tree.

    Args:
        scores: finite numbers, [n], at least 2.
        neighbours: how many nearest scores a density is taken over; all others when there are fewer.

    Returns:
        [n]

    Raises:
        InputError: scores of another shape, fewer than 2, not finite, or less than 1 neighbour.
    """
    given = np.asarray(scores, np.float64)
    if given.ndim != 1 or given.size < 2 or not np.isfinite(given).all():
        raise InputError(f"scores have shape {given.shape}, expected one row of at least 2 finite numbers")
    if neighbours < 1:
        raise InputError(f"neighbours is {neighbours}, expected 1 or more")
    order = np.argsort(given, kind="stable")
    factors = np.empty_like(given)
    factors[order] = _factors(given[order], min(neighbours, given.size - 1))
    return factors


def count_outliers(scores: NDArray[Any], most: int, neighbours: int = 20) -> int:
    """Return how many scores are outliers, 1 to `most`: how many tokens the content asks for, within the plan.

    Args:
        scores: of the tokens, such as saliency or relevance, [n].
        most: what the plan allows.
        neighbours: as for `local_outlier_factor`.

    Raises:
        InputError: `most` is less than 1, or as for `local_outlier_factor`.
    """
    if most < 1:
        raise InputError(f"most is {most}, expected room for at least 1 token")
    return int(np.clip((local_outlier_factor(scores, neighbours) > OUTLIER).sum(), 1, most))


def _factors(ascending: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the factors of sorted scores."""
    distances, places = _nearest(ascending, k)
    reach = np.maximum(distances[places, -1], distances)
    density = 1.0 / (reach.mean(1) + _TINY)
    factors: NDArray[np.float64] = density[places].mean(1) / density
    return factors


def _nearest(ascending: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return distance and place of the k nearest other scores, [n, k] each, nearest first."""
    n = ascending.size
    steps = np.concatenate([np.arange(-k, 0), np.arange(1, k + 1)])
    places = np.arange(n)[:, None] + steps
    inside = (places >= 0) & (places < n)
    places = np.clip(places, 0, n - 1)
    distances = np.where(inside, np.abs(ascending[:, None] - ascending[places]), np.inf)
    chosen = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, chosen, 1), np.take_along_axis(places, chosen, 1)
