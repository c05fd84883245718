"""Follows how the device really runs: the ratio of measured to predicted cost, and its spread."""

from __future__ import annotations

import math
from collections import deque
from statistics import NormalDist

_Z90 = NormalDist().inv_cdf(0.9)


class Controller:
    """Keeps a running slowdown, quick to notice a slower device and slow to trust a faster one.

    Two numbers are held: `slowdown`, the median ratio of measured to predicted cost, and `tail`, by how much the
    ratio's 90th percentile exceeds it. Both move only when the latest calls leave a band around them that is as wide
    as chance makes one window of calls differ from the next, so plans do not flicker.

    * Quick down: three calls in a row that are all slower than noise explains raise the slowdown to the middle one; one
      hiccup changes nothing. A slower drift is noticed by the median of a whole window.
    * Slow up: the slowdown falls when the median of a whole window says so, to the median of its newer half.
    * A rise soon after a fall shows that the fall was rash: it then takes twice as many calls until the next, up to
      `MOST_PATIENCE` windows. So a device whose large rungs are slowed down more than its small ones is not tried
      again and again.
    * After a pause what was measured fades: nobody knows what the device did meanwhile. This is also what lets a
      session recover whose calls are all refused.

    One ratio stands for all rungs. Load and heat slow a call's fixed part as well as the part that grows with tokens,
    so the ratio of the rung that runs is the best guess of every other's. Where a fixed cost per call came on top, the
    small rung's ratio would be above the large one's, and the plan stays a rung too low rather than a rung too high.
    """

    QUICK = 3
    WINDOW = 24
    SPREAD_WINDOW = 64
    """Calls that the spread is taken from; it is looked at once in as many."""
    NOISE = 1.2
    """A call counts as slower when it took at least this much longer than the slowdown explains."""
    MOST_PATIENCE = 8
    PAUSE_S = 2.0
    """Time without calls after which what was measured begins to fade."""
    HALF_LIFE_S = 10.0

    def __init__(self) -> None:
        self.slowdown = 1.0
        self.tail = 1.0
        self._ratios: deque[float] = deque(maxlen=self.WINDOW)
        self._spread: deque[float] = deque(maxlen=self.SPREAD_WINDOW)
        self._next_look = self.WINDOW
        self._calls = 0
        self._fell = -self.WINDOW
        self._not_before = 0
        self._patience = 1
        self._last_s: float | None = None

    def observe(self, typical_ms: float, spent_ms: float, now_s: float | None = None) -> None:
        """Take in one call.

        Args:
            typical_ms: the measured median of what was run, without slowdown.
            spent_ms: what it took now. Nothing is learned from a time that is not above 0, as of a clock set back.
            now_s: when it ended, on any clock; without it nothing fades.
        """
        if not (spent_ms > 0 and typical_ms > 0 and math.isfinite(spent_ms)):
            return
        if now_s is not None:
            self._wake(now_s)
        self._calls += 1
        ratios = self._ratios
        ratios.append(spent_ms / typical_ms)
        self._spread.append(ratios[-1] / self.slowdown)
        if self._calls >= self._next_look:
            self._look_at_spread()
        if len(ratios) < self.QUICK:
            return
        low, middle, _ = sorted((ratios[-1], ratios[-2], ratios[-3]))
        if low > self.slowdown * max(self.NOISE, self.tail**1.6):
            self._rise(middle)
        elif len(ratios) == self.WINDOW:
            self._look_at_window()

    def degrade(self, typical_ms: float, spent_ms: float) -> None:
        """Expect the next call to be as slow as this one was, at once."""
        if typical_ms > 0 and math.isfinite(spent_ms) and spent_ms > typical_ms * self.slowdown:
            self._rise(spent_ms / typical_ms)

    def factor(self, percentile: float, idle_tail: float, now_s: float | None = None) -> float:
        """Return what to multiply predictions at a percentile by, at least 1.

        Predictions have the spread of an idle device in them. Where the device now varies more, the factor makes up for
        it; percentiles other than 90 are taken as those of a log-normal distribution with the same 90th.

        Args:
            percentile: of the predictions.
            idle_tail: by how much that percentile exceeds the median in the predictions.
            now_s: on the clock of `observe`.
        """
        slowdown = self.slowdown if now_s is None else self._faded(now_s)
        if self.tail == 1.0 or percentile <= 50:
            return slowdown
        present = math.exp(math.log(self.tail) * _z(percentile) / _Z90)
        return slowdown * max(1.0, present / idle_tail)

    def _look_at_window(self) -> None:
        """Move the slowdown if the window's median left the band around it."""
        ordered = sorted(self._ratios)
        # Where half of the calls are slow and half are not, neither half has a majority, and nothing moves.
        lower, middle, high = (ordered[i] for i in (self.WINDOW // 2 - 1, self.WINDOW // 2, int(0.9 * self.WINDOW)))
        # The median of 24 log-normal ratios has a standard error of 0.2 times the log of their tail.
        band = math.exp(max(0.05, 0.64 * math.log(max(self.tail, high / middle))))
        if lower > self.slowdown * band:
            self._rise(lower)
        elif max(1.0, middle) * band < self.slowdown and self._calls >= self._not_before:
            newer = list(self._ratios)[self.WINDOW // 2 :]
            self._fell = self._calls
            self._move(sorted(newer)[len(newer) // 2])
            self._ratios.clear()
            self._ratios.extend(newer)

    def _look_at_spread(self) -> None:
        """Move the tail if the calls' 90th percentile left the band around it, which is wider below than above.

        As these are more calls than a window has, their median may also move the slowdown by less than a window's can.
        """
        self._next_look = self._calls + self.SPREAD_WINDOW
        ordered = sorted(self._spread)
        lower, middle, high = (
            ordered[i] for i in ((len(ordered) - 1) // 2, len(ordered) // 2, int(0.9 * len(ordered)))
        )
        tail, held = math.log(max(1.0, high / max(1.0, lower))), math.log(self.tail)
        if tail > 1.25 * held + 0.02 or tail < 0.6 * held - 0.01:
            self.tail = math.exp(tail)
        band = math.exp(max(0.03, 0.37 * math.log(self.tail)))  # three standard errors, as for a window
        if len(ordered) < self.SPREAD_WINDOW:
            return
        if lower > band:
            self._move(self.slowdown * lower)
        elif middle * band < 1 < self.slowdown and self._calls >= self._not_before:
            self._move(self.slowdown * middle)

    def _rise(self, ratio: float) -> None:
        rash = self._calls - self._fell < self.WINDOW
        self._patience = min(self.MOST_PATIENCE, 2 * self._patience) if rash else 1
        self._not_before = self._calls + self._patience * self.WINDOW
        self._ratios.clear()
        self._move(ratio)

    def _move(self, ratio: float) -> None:
        """Hold another slowdown; the spread around the one before says nothing of the spread around it."""
        self.slowdown = max(1.0, ratio)
        self._spread.clear()
        self._next_look = self._calls + (self.SPREAD_WINDOW if self.tail > 1 else self.WINDOW)

    def _faded(self, now_s: float) -> float:
        """Return the slowdown as it is to be believed now."""
        if self._last_s is None or now_s - self._last_s < self.PAUSE_S:
            return self.slowdown  # a clock that went backwards is no pause
        pause_s = now_s - self._last_s - self.PAUSE_S
        return 1.0 + (self.slowdown - 1.0) * math.exp2(-pause_s / self.HALF_LIFE_S)

    def _wake(self, now_s: float) -> None:
        faded = self._faded(now_s)
        if faded != self.slowdown:
            self._ratios.clear()
            self._move(faded)
        self._last_s = now_s


_Z: dict[float, float] = {}


def _z(percentile: float) -> float:
    """Return how many standard deviations a percentile lies above the mean."""
    if percentile not in _Z:
        _Z[percentile] = NormalDist().inv_cdf(percentile / 100)
    return _Z[percentile]
