"""Follows how the device really runs: the ratio of measured to predicted cost."""

from __future__ import annotations

from collections import deque
from statistics import median


class Controller:
    """Keeps a running slowdown, quick to notice a slower device and slow to trust a faster one.

    Three calls in a row that are all slower than expected raise the slowdown to the mildest of the three, so one
    hiccup changes nothing. It falls to the median of a whole window, so that it does not flicker.
    """

    QUICK = 3
    WINDOW = 24
    NOISE = 1.15
    """A call counts as slower when it took this much longer than the current slowdown explains."""

    def __init__(self) -> None:
        self.slowdown = 1.0
        self._ratios: deque[float] = deque(maxlen=self.WINDOW)

    def observe(self, typical_ms: float, spent_ms: float) -> None:
        """Take in one call.

        Args:
            typical_ms: the measured median of what was run, without slowdown.
            spent_ms: what it took now.
        """
        self._ratios.append(spent_ms / typical_ms)
        if len(self._ratios) < self.QUICK:
            return
        mildest = min(self._ratios[-i] for i in range(1, self.QUICK + 1))
        if mildest > self.slowdown * self.NOISE:
            self.slowdown = mildest
            self._ratios.clear()
        elif len(self._ratios) == self.WINDOW:
            self.slowdown = min(self.slowdown, max(1.0, median(self._ratios)))
