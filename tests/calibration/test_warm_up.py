"""Warming up ends when calls are steady, and at its bound when they never are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from sanderling.calibration.warm_up import MOST, WINDOW, warm_up


def calls(milliseconds: Iterable[float]) -> Callable[[], float]:
    source = iter(milliseconds)
    return lambda: next(source)


def test_steady_calls_end_it_after_two_windows_and_the_first_call_is_told() -> None:
    found = warm_up(calls([99.0, *[10.0] * 100]))
    assert (found.first_ms, found.calls, found.steady) == (99.0, 1 + 2 * WINDOW, True)


def test_it_goes_on_while_calls_get_faster() -> None:
    found = warm_up(calls([99.0, *(20.0 - step for step in range(10)), *[10.0] * 100]))
    assert found.steady
    assert found.calls > 1 + 2 * WINDOW


def test_calls_that_never_settle_end_at_the_bound() -> None:
    found = warm_up(calls(1.5**n for n in count()))
    assert (found.calls, found.steady) == (MOST, False)


def test_every_knob_changes_the_result() -> None:
    falling = [99.0, *(100.0 - step for step in range(60))]
    assert warm_up(calls(falling), band=0.01).calls > warm_up(calls(falling), band=0.1).calls
    assert warm_up(calls([1.0] * 60), window=10).calls == 21
    assert warm_up(calls(1.5**n for n in count()), most=20).calls == 20
