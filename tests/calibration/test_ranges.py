"""Observers: what of a tensor's values decides the range its integers stand for."""

from __future__ import annotations

import numpy as np
import pytest

from sanderling.calibration.ranges import BINS, LEVELS, Extremes, Histogram


def normal(count: int = 20000, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).standard_normal(count)


def test_extremes_are_those_of_all_feeds() -> None:
    seen = Extremes()
    for values in ([0.5, 2.0], [-3.0, 1.0]):
        seen.add(np.asarray(values))
    assert (seen.low, seen.high) == (-3.0, 2.0)


@pytest.mark.parametrize("share", [90.0, 99.0, 99.9])
def test_percentiles_are_numpy_s_to_a_bin(share: float) -> None:
    values = normal(500_000)
    seen = Histogram(values.min(), values.max())
    seen.add(values)
    outside = (100 - share) / 2
    wanted = np.percentile(values, [outside, 100 - outside])
    np.testing.assert_allclose(seen.percentile(share), wanted, atol=2 * (values.max() - values.min()) / BINS)


def test_a_percentile_of_100_keeps_everything() -> None:
    seen = Histogram(-1.0, 3.0)
    seen.add(np.asarray([-1.0, 3.0]))
    assert seen.percentile(100) == (-1.0, 3.0)


def test_every_feed_counts_the_same_whatever_its_number_of_tokens() -> None:
    """Image tokens a hundred times as many as text tokens do not drown them."""
    image, text = normal(10000), 10 + normal(100, seed=1)
    seen, repeated = Histogram(-5.0, 15.0), Histogram(-5.0, 15.0)
    for values in (image, text):
        seen.add(values)
    repeated.add(np.concatenate([image, np.repeat(text, 100)]))
    assert seen.percentile(90) == pytest.approx(repeated.percentile(90), abs=0.02)
    drowned = Histogram(-5.0, 15.0)
    drowned.add(np.concatenate([image, text]))
    assert drowned.percentile(90)[1] < 2
    assert seen.percentile(90)[1] > 10


def brute_force(values: np.ndarray[tuple[int], np.dtype[np.float64]], low: float, high: float) -> float:
    """Return the threshold of least divergence, bin by bin as the method is described."""
    largest = max(abs(low), abs(high))
    counts, edges = np.histogram(values, BINS, (low, high))
    magnitude = np.zeros(BINS)
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        magnitude[min(int(abs(left + right) / 2 / largest * BINS), BINS - 1)] += count / values.size
    losses = {}
    for kept in range(LEVELS, BINS + 1, LEVELS // 8):
        p = list(magnitude[:kept])
        p[-1] += magnitude[kept:].sum()
        q = [0.0] * kept
        for level in range(LEVELS):
            places = [i for i in range(kept) if i * LEVELS // kept == level and magnitude[i] > 0]
            for i in places:
                q[i] = sum(magnitude[j] for j in places) / len(places)
        total_p, total_q = sum(p), max(sum(q), 1e-4)
        losses[kept] = sum(
            a / total_p * np.log(a / total_p / max(b / total_q, 1e-4)) for a, b in zip(p, q, strict=True) if a
        )
    return min(losses, key=lambda kept: losses[kept]) / BINS * largest


@pytest.mark.parametrize("outlier", [3.0, 20.0])
def test_the_entropy_range_is_that_of_the_least_divergence(outlier: float) -> None:
    values = np.append(normal(2000), outlier)
    seen = Histogram(values.min(), values.max())
    seen.add(values)
    limit = brute_force(values, seen.low, seen.high)
    assert seen.entropy() == pytest.approx((max(seen.low, -limit), min(seen.high, limit)))


def test_entropy_cuts_a_lone_outlier_and_keeps_what_is_common() -> None:
    values = np.append(normal(), 100.0)
    seen = Histogram(values.min(), values.max())
    seen.add(values)
    low, high = seen.entropy()
    assert low == values.min()
    assert 3 < high < 10
