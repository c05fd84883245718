"""Observers: from the values a tensor takes to the range that its integers stand for.

Every feed counts the same, whatever its number of tokens: in a histogram each element weighs one over the elements
that the tensor has in that feed. So feeds with many image tokens do not drown those with few, and a rung of the ladder
that keeps 17 tokens shapes the range as much as the full model does. Extremes are extremes: they have no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sanderling.engine import AnyArray

BINS = 2048
_TRACE = 1e-4
"""Share of the mass that rounding is taken to leave where it leaves none, so that a clipped tail has a finite price."""

LEVELS = 128
"""Magnitudes of int8; the steps that the entropy rule compares a histogram with."""


@dataclass
class Extremes:
    """The smallest and largest value so far."""

    low: float = np.inf
    high: float = -np.inf

    def add(self, values: AnyArray) -> None:
        """Take in the tensor of one feed."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))


@dataclass
class Histogram:
    """Mass over equal bins from `low` to `high`; each feed brings a mass of one.

    Attributes:
        low: smallest value that will come.
        high: largest one, above `low`.
        mass: [BINS]
    """

    low: float
    high: float
    mass: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, values: AnyArray) -> None:
        """Take in the tensor of one feed."""
        self.mass += np.histogram(values, BINS, (self.low, self.high))[0] / values.size

    def percentile(self, share: float) -> tuple[float, float]:
        """Return the range that leaves out (100 - share) / 2 percent of the mass at either end."""
        outside = (100 - share) / 200
        edges = np.linspace(self.low, self.high, BINS + 1)
        filled = np.concatenate([[0.0], np.cumsum(self.mass) / self.mass.sum()])
        low, high = np.interp([outside, 1 - outside], filled, edges)
        return float(low), float(high)

    def entropy(self) -> tuple[float, float]:
        """Return the range whose int8 steps lose the least information.

        The threshold on magnitudes with the least Kullback-Leibler divergence between the clipped histogram and its
        rounding to `LEVELS` steps (Migacz, 8-bit Inference with TensorRT, GTC 2017), cut to the values that occur.
        """
        magnitude = _by_magnitude(self)
        counts = range(LEVELS, BINS + 1, LEVELS // 8)
        losses = [_divergence(magnitude, count) for count in counts]
        limit = counts[int(np.argmin(losses))] / BINS * max(abs(self.low), abs(self.high))
        return max(self.low, -limit), min(self.high, limit)


def _by_magnitude(histogram: Histogram) -> NDArray[np.float64]:
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    largest = max(abs(histogram.low), abs(histogram.high))
    centres = np.abs(edges[:-1] + edges[1:]) / 2
    places = np.minimum((centres / largest * BINS).astype(np.int64), BINS - 1)
    return np.bincount(places, histogram.mass, BINS).astype(np.float64)


def _divergence(magnitude: NDArray[np.float64], count: int) -> float:
    """Return what clipping to the first `count` bins and rounding those to `LEVELS` steps loses, in nats."""
    inside = magnitude[:count]
    clipped = inside.copy()
    clipped[-1] += magnitude[count:].sum()
    step = np.arange(count) * LEVELS // count
    filled = inside > 0
    sums, sizes = np.bincount(step, inside, LEVELS), np.bincount(step, filled, LEVELS)
    rounded = np.where(filled, (sums / np.maximum(sizes, 1))[step], 0.0)
    there = clipped > 0
    p, q = clipped[there] / clipped.sum(), rounded[there] / max(rounded.sum(), _TRACE)
    return float((p * np.log(p / np.maximum(q, _TRACE))).sum())
