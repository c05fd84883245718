"""Waits until the machine is cool enough to measure on, or refuses."""

from __future__ import annotations

import time
from collections.abc import Callable

from sanderling.calibration.profile import Progress
from sanderling.conditions import read_conditions
from sanderling.errors import CheckFailedError, UnsupportedError

LOOK_S = 2.0
"""Seconds between two looks at the sensors."""


def wait_until_cool(
    limit_c: float,
    wait_s: float,
    progress: Progress,
    read: Callable[[], float | None] = lambda: read_conditions().hottest_c(),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Return the seconds waited until the hottest sensor was at or below a limit.

    Args:
        limit_c: degrees Celsius.
        wait_s: how long to wait at most; 0 looks once.
        progress: told at every look how much of the wait is over.
        read: the hottest sensor in degrees Celsius, None where there is none.
        clock: seconds.
        sleep: waits so many seconds.

    Raises:
        CheckFailedError: still hotter after the wait; the message has both temperatures.
        UnsupportedError: there is no sensor to go by.
    """
    begun = clock()
    while True:
        now_c, waited_s = read(), clock() - begun
        if now_c is None:
            raise UnsupportedError(
                "a temperature was asked for and this machine shows none (no thermal zone and no hwmon sensor); "
                "leave --cool-below out"
            )
        if now_c <= limit_c:
            return waited_s
        if waited_s >= wait_s:
            raise CheckFailedError(
                f"the hottest sensor is at {now_c:.1f} °C after {waited_s:.0f} s, asked for at most {limit_c:g} °C; "
                "cool the machine, wait longer with --wait, or allow more with --cool-below"
            )
        progress(f"cooling from {now_c:.0f} to {limit_c:g} °C", int(waited_s), int(wait_s))
        sleep(min(LOOK_S, wait_s - waited_s))
