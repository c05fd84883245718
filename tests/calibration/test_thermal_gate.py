"""The thermal gate waits, with a clock of the test's own, or refuses."""

from __future__ import annotations

import pytest

from sanderling.calibration.thermal_gate import LOOK_S, wait_until_cool
from sanderling.errors import CheckFailedError, UnsupportedError


class Cooling:
    """A machine that loses a degree a second, and the time that passes only when somebody sleeps."""

    def __init__(self, start_c: float | None) -> None:
        self.start_c = start_c
        self.now_s = 0.0
        self.told: list[tuple[str, int, int]] = []

    def read(self) -> float | None:
        return None if self.start_c is None else self.start_c - self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def gate(self, limit_c: float, wait_s: float) -> float:
        return wait_until_cool(
            limit_c, wait_s, lambda *step: self.told.append(step), self.read, lambda: self.now_s, self.sleep
        )


def test_a_cool_machine_does_not_wait() -> None:
    machine = Cooling(50)
    assert machine.gate(50, 100) == 0
    assert machine.told == []


def test_a_hot_machine_waits_and_says_how_long() -> None:
    machine = Cooling(80)
    assert machine.gate(70, 100) == pytest.approx(10, abs=LOOK_S)
    assert machine.told[0] == ("cooling from 80 to 70 °C", 0, 100)
    assert [done for _, done, _ in machine.told] == [0, 2, 4, 6, 8]


def test_one_that_stays_hot_is_refused_with_both_temperatures() -> None:
    machine = Cooling(90)
    with pytest.raises(CheckFailedError, match=r"85\.0 °C after 5 s, asked for at most 60 °C"):
        machine.gate(60, 5)


def test_without_waiting_it_refuses_at_once() -> None:
    machine = Cooling(90)
    with pytest.raises(CheckFailedError, match="after 0 s"):
        machine.gate(60, 0)
    assert machine.now_s == 0


def test_a_machine_without_a_sensor_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"no thermal zone and no hwmon sensor.*leave --cool-below out"):
        Cooling(None).gate(60, 5)
