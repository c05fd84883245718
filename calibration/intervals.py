"""Confidence intervals of percentiles without an assumption about the distribution, and whether calls were steady."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95
"""Of every interval; two disjoint ones of equal width differ at about 0.5 % (two-sided)."""

STEADY = 0.05
"""Largest share by which the medians of the thirds of steady calls differ."""

LEAST_CALLS = 6
"""Fewer than this have no 95 % interval of the median: both extremes together miss it once in 2^(n-1)."""


@dataclass(frozen=True)
class Interval:
    """A percentile of measured calls and its confidence interval, in milliseconds.

    Attributes:
        value_ms: the percentile, between neighbouring calls by a straight line.
        low_ms: lower end; None when there are too few calls for one.
        high_ms: upper end; None when there are too few calls for one.
    """

    value_ms: float
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True)
class Steadiness:
    """Whether calls took as long in the end as in the beginning.

    Attributes:
        thirds_ms: medians of the first, middle and last third of the calls.
        spread: the largest of them over the smallest, minus 1.
        is_steady: whether the spread is within `band`.
        band: the share allowed.
    """

    thirds_ms: tuple[float, float, float]
    spread: float
    is_steady: bool
    band: float


def percentile_interval(milliseconds: Sequence[float], percentile: float, confidence: float = CONFIDENCE) -> Interval:
    """Return a percentile with the interval that two order statistics span.

    How many of n calls are faster than the true percentile is binomial whatever the distribution, so ranks of the
    sorted calls bound it (W. J. Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2; H. A. David and
    H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1). Calls are taken as independent; `steadiness` tells when
    they were not.

    Args:
        milliseconds: one or more calls.
        percentile: between 0 and 100.
        confidence: share of the intervals that hold the true percentile, at least.
    """
    ordered = np.sort(np.asarray(milliseconds, dtype=np.float64))
    low, high = _ranks(len(ordered), percentile / 100, confidence)
    return Interval(
        float(np.percentile(ordered, percentile)),
        float(ordered[low - 1]) if low >= 1 else None,
        float(ordered[high - 1]) if high <= len(ordered) else None,
    )


def steadiness(milliseconds: Sequence[float], band: float = STEADY) -> Steadiness:
    """Return whether the medians of the thirds of calls, in the order they were made, agree.

    Args:
        milliseconds: three calls or more, the earliest first.
        band: the share by which the medians may differ.
    """
    thirds = np.array_split(np.asarray(milliseconds, dtype=np.float64), 3)
    first, middle, last = (float(np.median(third)) for third in thirds)
    spread = max(first, middle, last) / min(first, middle, last) - 1
    return Steadiness((first, middle, last), spread, spread <= band, band)


def widened(interval: Interval, steady: Steadiness) -> Interval:
    """Return an interval stretched by how far calls drifted while they were made.

    Drift makes calls depend on each other, and an interval for independent ones too narrow. What happened between the
    thirds of one profile may happen between two profiles, so the ends move out to the percentile less and plus the
    spread of the thirds, where they are not there already.

    Args:
        interval: of any percentile.
        steady: of the same calls.
    """
    return Interval(
        interval.value_ms,
        None if interval.low_ms is None else min(interval.low_ms, interval.value_ms / (1 + steady.spread)),
        None if interval.high_ms is None else max(interval.high_ms, interval.value_ms * (1 + steady.spread)),
    )


@lru_cache(maxsize=256)  # every rung and component of a profile asks for the same
def _ranks(count: int, share: float, confidence: float) -> tuple[int, int]:
    """Return the ranks, from 1, of the order statistics that span the interval; 0 and count + 1 where there is none."""
    tail = (1 - confidence) / 2
    below = np.cumsum(_binomial(count, share))  # below[k]: at most k of the calls are faster than the percentile
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return low, high


def _binomial(count: int, share: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the probabilities of 0 to `count` successes; by logarithms, as the factors alone overflow."""
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(share)
        + (count - k) * math.log1p(-share)
        for k in range(count + 1)
    ]
    return np.exp(np.asarray(logs, dtype=np.float64))


def calls_needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest calls that have an interval of a percentile with both ends.

    The extremes of n calls lie on both sides of it unless all n are below or all above.

    Args:
        percentile: between 0 and 100.
        confidence: of the interval.
    """
    rarer = max(percentile / 100, 1 - percentile / 100)
    return math.ceil(math.log((1 - confidence) / 2) / math.log(rarer))
