"""One device shared by several sessions: who is let in, and how much time and memory each may use."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sanderling.budget import Budget
from sanderling.errors import BudgetError, DeviceFullError
from sanderling.ladder import Ladder


@dataclass(frozen=True)
class Claim:
    """What a session needs and could use of a device.

    Attributes:
        priority: a higher one is served first, once everybody has the least they need.
        least_mb: peak memory of the leanest rung.
        most_mb: peak memory of the hungriest rung.
        least_ms: milliseconds per second that calls on the cheapest rung take, at p90.
        most_ms: the same on the dearest rung.
        calls_per_s: how often the session is called.
    """

    priority: int
    least_mb: float
    most_mb: float
    least_ms: float
    most_ms: float
    calls_per_s: float


class DeviceBudget:
    """What the sessions on one device may use together. Safe to use from several threads.

        device = DeviceBudget(latency_ms_per_s=800, memory_mb=1500)
        pilot = sanderling.load("steer.sand", device=device, priority=2, calls_per_s=20)
        guide = sanderling.load("describe.sand", device=device, priority=1, calls_per_s=1)

    A session is let in only if everybody's cheapest rungs fit together, in time and in memory; so memory does not run
    out, and nobody is pushed off the device later. What is left is given out by priority, up to each one's dearest
    rung; equal priorities share it evenly. Shares change as sessions come and go, from the next call on.

    Memory is a session's measured peak of the whole process, so sessions in one process count the interpreter more than
    once: more is set aside than is used, never less. Time is what the sessions promise: `calls_per_s` calls a second.

    Args:
        latency_ms_per_s: milliseconds of computing per second, 1000 for one device fully used; None for no limit.
        memory_mb: peak memory; None for no limit.

    Raises:
        BudgetError: neither is given, or one is not a number above 0.
    """

    def __init__(self, *, latency_ms_per_s: float | None = None, memory_mb: float | None = None) -> None:
        for name, value in (("latency_ms_per_s", latency_ms_per_s), ("memory_mb", memory_mb)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise BudgetError(f"{name} is {value}, expected a number above 0; leave it out for no limit")
        if latency_ms_per_s is None and memory_mb is None:
            raise BudgetError("a device's budget without latency_ms_per_s and memory_mb limits nothing; give one")
        self.latency_ms_per_s = latency_ms_per_s
        self.memory_mb = memory_mb
        self._lock = threading.Lock()
        self._shares: list[Share] = []

    def admit(self, name: str, ladder: Ladder, priority: int, calls_per_s: float) -> Share:
        """Return a session's share of the device.

        Args:
            name: for people.
            ladder: what its calls may cost.
            priority: a higher one is served first.
            calls_per_s: how often it is going to be called.

        Raises:
            DeviceFullError: its cheapest rung does not fit beside what the others need.
            BudgetError: a rate that is not above 0, or memory is limited and was not measured.
        """
        share = Share(self, name, _claim(name, ladder, priority, calls_per_s, self.memory_mb is not None))
        with self._lock:
            claims = [other.claim for other in self._shares] + [share.claim]
            self._check(name, claims)
            self._shares.append(share)
            self._share_out()
        return share

    def leave(self, share: Share) -> None:
        """Give a share back; the others get what they can use of it."""
        with self._lock:
            if share in self._shares:
                self._shares.remove(share)
                self._share_out()

    def _check(self, name: str, claims: Sequence[Claim]) -> None:
        for limit, least, unit in (
            (self.memory_mb, [c.least_mb for c in claims], "MB"),
            (self.latency_ms_per_s, [c.least_ms for c in claims], "ms per second"),
        ):
            if limit is not None and sum(least) > limit:
                raise DeviceFullError(
                    f"{name} needs at least {least[-1]:.4g} {unit} and the {len(least) - 1} other sessions "
                    f"{sum(least[:-1]):.4g} of the device's {limit:.4g}; close one, call less often, or give the "
                    "device a larger budget"
                )

    def _share_out(self) -> None:
        claims = [share.claim for share in self._shares]
        memory = time = [math.inf] * len(claims)
        if self.memory_mb is not None:
            memory = share_out(self.memory_mb, [(c.priority, c.least_mb, c.most_mb) for c in claims])
        if self.latency_ms_per_s is not None:
            time = share_out(self.latency_ms_per_s, [(c.priority, c.least_ms, c.most_ms) for c in claims])
        for share, mb, ms in zip(self._shares, memory, time, strict=True):
            share.memory_mb = None if mb == math.inf else mb
            share.latency_ms = None if ms == math.inf else ms / share.claim.calls_per_s


class Share:
    """A session's part of a device.

    Args:
        device: whose part.
        name: of the session, for people.
        claim: what it needs and could use.

    Attributes:
        memory_mb: peak memory that its calls may take now; None for no limit.
        latency_ms: milliseconds that one call may take now; None for no limit.
    """

    def __init__(self, device: DeviceBudget, name: str, claim: Claim) -> None:
        self.name = name
        self.claim = claim
        self.memory_mb: float | None = None
        self.latency_ms: float | None = None
        self._device = device

    def inside(self, budget: Budget) -> Budget:
        """Return the budget, no larger than this share.

        Where the share is the smaller one, the cheapest rung is taken when none fits: a device that slows down makes
        every share too small, and somebody who was let in is not turned away for that.
        """
        latency, memory = _smaller(budget.latency_ms, self.latency_ms), _smaller(budget.memory_mb, self.memory_mb)
        if (latency, memory) == (budget.latency_ms, budget.memory_mb):
            return budget
        otherwise = budget.otherwise if latency == budget.latency_ms else "cheapest"
        return replace(budget, latency_ms=latency, memory_mb=memory, otherwise=otherwise)

    def leave(self) -> None:
        """Give it back."""
        self._device.leave(self)


def share_out(total: float, claims: Sequence[tuple[int, float, float]]) -> list[float]:
    """Return how much each claim gets: the least first, then more by priority, evenly among equals.

    Args:
        total: at least the sum of what everybody needs.
        claims: (priority, least, most) of each.
    """
    got = [least for _, least, _ in claims]
    left = total - sum(got)
    for level in sorted({priority for priority, _, _ in claims}, reverse=True):
        # The most modest first: what one cannot use is shared by the others of its priority.
        wanting = sorted(
            (i for i, claim in enumerate(claims) if claim[0] == level), key=lambda i: claims[i][2] - claims[i][1]
        )
        for number, place in enumerate(wanting):
            more = min(claims[place][2] - claims[place][1], left / (len(wanting) - number))
            got[place] += more
            left -= more
    return got


def _claim(name: str, ladder: Ladder, priority: int, calls_per_s: float, needs_memory: bool) -> Claim:
    if not (math.isfinite(calls_per_s) and calls_per_s > 0):
        raise BudgetError(f"calls_per_s is {calls_per_s}, expected a number above 0")
    if not ladder.rungs:
        raise BudgetError("this bundle has no rungs yet; `sanderling profile` measures them")
    memory = [rung.memory_mb for rung in ladder.rungs if rung.memory_mb is not None]
    if needs_memory and len(memory) < len(ladder.rungs):
        raise BudgetError(
            f"memory of {name} was not measured, so a device with memory_mb cannot let it in; leave memory_mb out, or "
            "run `sanderling profile` where memory can be measured"
        )
    ms = [rung.latency.p90_ms * calls_per_s for rung in ladder.rungs]
    least_mb, most_mb = (min(memory), max(memory)) if needs_memory else (0.0, 0.0)
    return Claim(priority, least_mb, most_mb, min(ms), max(ms), calls_per_s)


def _smaller(first: float | None, second: float | None) -> float | None:
    given = [value for value in (first, second) if value is not None]
    return min(given) if given else None
