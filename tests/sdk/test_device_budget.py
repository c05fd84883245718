from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from toy_bundle import toy_measured, write_toy

import sanderling
from sanderling.budget import Budget
from sanderling.device_budget import DeviceBudget, share_out
from sanderling.errors import BudgetError, DeviceFullError
from sanderling.ladder import Ladder, Rung

LADDER = toy_measured().ladder
"""Three rungs of 1.1, 2.2 and 4.4 ms at p90; `sized` gives them 10, 20 and 40 MB."""


def sized(ladder: Ladder = LADDER) -> Ladder:
    def with_memory(rung: Rung) -> Rung:
        return Rung(
            rung.settings, rung.graphs, rung.latency, rung.components, 5.0 * rung.settings["tokens"], rung.quality
        )

    return Ladder("accuracy", tuple(with_memory(rung) for rung in ladder.rungs))


def test_alone_on_a_device_everything_is_allowed() -> None:
    share = DeviceBudget(latency_ms_per_s=1000, memory_mb=100).admit("a", sized(), 0, 10)
    assert share.memory_mb == 40
    assert share.latency_ms == pytest.approx(4.4)


def test_what_is_left_goes_by_priority() -> None:
    device = DeviceBudget(memory_mb=60)
    low = device.admit("low", sized(), 1, 1)
    assert low.memory_mb == 40
    high = device.admit("high", sized(), 2, 1)
    assert (high.memory_mb, low.memory_mb) == (40, 20)
    high.leave()
    high.leave()
    assert low.memory_mb == 40


def test_equals_share_evenly() -> None:
    device = DeviceBudget(latency_ms_per_s=60)
    first, second = device.admit("a", sized(), 0, 10), device.admit("b", sized(), 0, 10)
    assert first.latency_ms == second.latency_ms == pytest.approx(3.0)


def test_who_does_not_fit_is_refused_and_leaves_the_others_alone() -> None:
    device = DeviceBudget(latency_ms_per_s=40, memory_mb=25)
    first = device.admit("a", sized(), 0, 10)
    device.admit("b", sized(), 5, 10)
    before = (first.memory_mb, first.latency_ms)
    with pytest.raises(DeviceFullError, match=r"c needs at least 10 MB and the 2 other sessions 20 of the device's 25"):
        device.admit("c", sized(), 9, 1)
    slow = DeviceBudget(latency_ms_per_s=40)
    with pytest.raises(DeviceFullError, match=r"d needs at least 110 ms per second and the 0 other sessions 0 of"):
        slow.admit("d", sized(), 9, 100)
    assert (first.memory_mb, first.latency_ms) == before


def test_shares_are_inside_the_claims_and_the_total_and_waste_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        claims = []
        for _ in range(rng.integers(1, 7)):
            least = float(rng.integers(0, 10))
            claims.append((int(rng.integers(3)), least, least + float(rng.integers(0, 20))))
        needed, wanted = sum(c[1] for c in claims), sum(c[2] for c in claims)
        total = needed + float(rng.uniform(0, 1.2)) * (wanted - needed)
        got = share_out(total, claims)
        assert all(least - 1e-9 <= g <= most + 1e-9 for g, (_, least, most) in zip(got, claims, strict=True))
        assert sum(got) == pytest.approx(min(total, wanted))
        for g, (priority, least, _) in zip(got, claims, strict=True):
            if g > least + 1e-9:
                above = [(h, most) for h, (p, _, most) in zip(got, claims, strict=True) if p > priority]
                assert all(h == pytest.approx(most) for h, most in above), "a higher priority is served in full first"
        for g, (p, least, most) in zip(got, claims, strict=True):
            for h, (q, other_least, _) in zip(got, claims, strict=True):
                if p == q and g < most - 1e-9:
                    assert h - other_least <= g - least + 1e-9, "among equals nobody gets more than one who wants more"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "limits nothing"),
        ({"memory_mb": 0}, "memory_mb is 0, expected a number above 0"),
        ({"latency_ms_per_s": -1}, "latency_ms_per_s is -1"),
        ({"latency_ms_per_s": math.nan}, "latency_ms_per_s is nan"),
    ],
)
def test_budgets_that_make_no_sense(given: dict[str, float], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        DeviceBudget(**given)


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_rates_that_make_no_sense(rate: float) -> None:
    with pytest.raises(BudgetError, match="calls_per_s is"):
        DeviceBudget(memory_mb=100).admit("a", sized(), 0, rate)


def test_a_device_with_limited_memory_refuses_what_nobody_measured() -> None:
    rung = LADDER.rungs[0]
    unmeasured = Ladder("", (Rung(rung.settings, rung.graphs, rung.latency, rung.components, None, rung.quality),))
    with pytest.raises(BudgetError, match="memory of a was not measured"):
        DeviceBudget(memory_mb=100).admit("a", unmeasured, 0, 1)
    DeviceBudget(latency_ms_per_s=100).admit("a", unmeasured, 0, 1)
    with pytest.raises(BudgetError, match="no rungs yet"):
        DeviceBudget(memory_mb=100).admit("a", Ladder("", ()), 0, 1)


def test_sessions_plan_inside_their_shares(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.sand")
    inputs = {"picture": np.ones((1, 8), np.float32), "words": np.ones((1, 2), np.float32)}
    device = DeviceBudget(latency_ms_per_s=60)
    with sanderling.load(path, device=device, priority=1, calls_per_s=10) as pilot:
        assert pilot.plan().settings == {"tokens": 8}
        with sanderling.load(path, device=device, priority=2, calls_per_s=10) as guide:
            assert guide.plan().settings == {"tokens": 8}
            assert pilot.plan().settings == {"tokens": 2}
            assert pilot.plan(Budget(latency_ms=1.15)).settings == {"tokens": 2}
            receipt = pilot.run(inputs).receipt
            assert receipt.asked.latency_ms == pytest.approx(1.6)
            with pytest.raises(DeviceFullError):
                sanderling.load(path, device=device, calls_per_s=40)
        assert pilot.plan().settings == {"tokens": 8}


def test_a_session_that_cannot_open_leaves_the_device(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.sand")
    device = DeviceBudget(latency_ms_per_s=60)
    with pytest.raises(sanderling.UnknownNameError):
        sanderling.load(path, target="openvino", device=device, calls_per_s=50)
    sanderling.load(path, device=device, calls_per_s=50).close()


def test_many_threads_come_and_go() -> None:
    device = DeviceBudget(memory_mb=100)
    wrong: list[float] = []

    def come_and_go(priority: int) -> None:
        for _ in range(200):
            share = device.admit("a", sized(), priority, 1)
            wrong.extend([] if 10 <= (share.memory_mb or 0) <= 40 else [share.memory_mb or 0])
            share.leave()

    threads = [threading.Thread(target=come_and_go, args=(priority,)) for priority in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert device.admit("last", sized(), 0, 1).memory_mb == 40
