"""Intervals of percentiles against SciPy's binomial test of a quantile, and their coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sanderling.calibration.intervals import (
    LEAST_CALLS,
    Interval,
    Steadiness,
    calls_needed,
    percentile_interval,
    steadiness,
    widened,
)


@pytest.mark.parametrize("count", [6, 7, 20, 60, 199, 1000])
@pytest.mark.parametrize("percentile", [50, 90, 99])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_ends_are_scipy_s(count: int, percentile: float, confidence: float) -> None:
    calls = np.random.default_rng(count).lognormal(size=count)
    found = percentile_interval(list(calls), percentile, confidence)
    oracle = stats.quantile_test(calls, q=0, p=percentile / 100).confidence_interval(confidence)
    low = -np.inf if found.low_ms is None else found.low_ms
    high = np.inf if found.high_ms is None else found.high_ms
    assert (np.nan_to_num(oracle.low, nan=-np.inf), np.nan_to_num(oracle.high, nan=np.inf)) == (low, high)
    assert found.value_ms == pytest.approx(np.percentile(calls, percentile))


@pytest.mark.parametrize("count", [20, 60, 200])
def test_intervals_hold_the_true_median_as_often_as_they_say(count: int) -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        found = percentile_interval(list(rng.pareto(1.5, count)), 50)
        assert found.low_ms is not None
        assert found.high_ms is not None
        held += found.low_ms <= 2 ** (1 / 1.5) - 1 <= found.high_ms
    assert held >= 935  # 95 % less two standard errors of 1000 tries


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_the_fewest_calls_that_have_both_ends(percentile: float) -> None:
    enough = calls_needed(percentile)
    for count, expected in ((enough, True), (enough - 1, False)):
        found = percentile_interval(list(np.arange(count, dtype=float)), percentile)
        assert (found.low_ms is not None and found.high_ms is not None) is expected
    assert calls_needed(50) == LEAST_CALLS


def test_thirds_that_agree_are_steady_and_others_are_not() -> None:
    assert steadiness([10, 11, 10, 10, 9, 10, 10, 10, 12]) == Steadiness((10, 10, 10), 0.0, True, 0.05)
    drifting = steadiness([10.0] * 5 + [10.2] * 5 + [11.0] * 5)
    assert drifting.thirds_ms == (10.0, 10.2, 11.0)
    assert drifting.spread == pytest.approx(0.1)
    assert not drifting.is_steady
    assert steadiness([10.0] * 5 + [10.2] * 5 + [11.0] * 5, band=0.2).is_steady


def test_drift_widens_an_interval_and_steadiness_leaves_it() -> None:
    narrow = Interval(10.0, 9.9, 10.1)
    assert widened(narrow, Steadiness((10.0, 10.0, 10.0), 0, True, 0.05)) == narrow
    found = widened(narrow, Steadiness((9.6, 10.0, 12.0), 0.25, False, 0.05))
    assert (found.low_ms, found.high_ms) == pytest.approx((8.0, 12.5))
    assert widened(Interval(10.0, None, None), Steadiness((9.6, 10.0, 12.0), 0.25, False, 0.05)).low_ms is None
