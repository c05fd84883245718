"""Calls until they are steady, so that the clock starts on a warm machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

WINDOW = 5
"""Calls whose median is compared with that of the calls before them."""

BAND = 0.05
"""Share by which two windows of steady calls may differ."""

MOST = 50
"""Calls after which warming up ends, steady or not."""


@dataclass(frozen=True)
class WarmUp:
    """How warming up went.

    Attributes:
        first_ms: of the very first call.
        calls: how many were made, the first included.
        steady: whether the last two windows agree; False when the bound ended it.
    """

    first_ms: float
    calls: int
    steady: bool


def warm_up(call: Callable[[], float], window: int = WINDOW, band: float = BAND, most: int = MOST) -> WarmUp:
    """Return how it went once the medians of the last two windows of calls agree.

    The first call is in no window: it pays for what is done once.

    Args:
        call: makes one and returns its milliseconds.
        window: calls in a window.
        band: share by which two windows may differ.
        most: calls at most; at least two windows and the first call are needed to find out.
    """
    first_ms = call()
    spent: list[float] = []
    while len(spent) + 1 < most:
        spent.append(call())
        if len(spent) >= 2 * window:
            earlier, later = median(spent[-2 * window : -window]), median(spent[-window:])
            if abs(later / earlier - 1) <= band:
                return WarmUp(first_ms, len(spent) + 1, True)
    return WarmUp(first_ms, len(spent) + 1, False)
