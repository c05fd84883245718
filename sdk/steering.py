"""Everything a run decides: plans from budgets, and what later plans learn from how calls went.

Sessions steer with it, and so do `plan --simulate` and the replay of recorded receipts: the same calls at the same
times give the same plans.
"""

from __future__ import annotations

from dataclasses import dataclass

from sanderling.budget import Budget, Plan, Planner
from sanderling.controller import Controller
from sanderling.ladder import Ladder


@dataclass(frozen=True)
class Decision:
    """What went into one call's plan and what was learned from it, besides its budget.

    Attributes:
        running: the components that ran.
        given: whether the caller brought the plan.
        planned_s: when the plan was made, on the session's clock.
        ended_s: when the call ended.
        learned_ms: what the controller was told that the plan took: the time spent, and what a loop that was cut short
            or a component that was re-used would have taken on top; 0 when the call says nothing about the device.
        degraded: whether the call was late and its budget says that the next one is to be planned as slow.
    """

    running: tuple[str, ...]
    given: bool
    planned_s: float
    ended_s: float
    learned_ms: float
    degraded: bool


class Steering:
    """A planner and a controller for every set of components that calls run.

    Args:
        ladder: what to choose from.
    """

    def __init__(self, ladder: Ladder) -> None:
        self.ladder = ladder
        self._planners: dict[frozenset[str], Planner] = {}
        self._controllers: dict[frozenset[str], Controller] = {}

    def slowdown(self, running: frozenset[str], percentile: float, now_s: float) -> float:
        """Return what predictions at a percentile are multiplied by now."""
        controller = self._controllers.get(running)
        if controller is None:
            return 1.0
        return controller.factor(percentile, self._planner(running).tail(percentile), now_s)

    def plan(self, running: frozenset[str], budget: Budget, now_s: float) -> Plan:
        """Return the plan for a call that runs these components.

        Raises:
            BudgetTooSmallError: no rung fits the budget.
        """
        return self._planner(running).plan(budget, self.slowdown(running, budget.percentile, now_s))

    def learn(self, running: frozenset[str], plan: Plan, learned_ms: float, degraded: bool, now_s: float) -> None:
        """Take in how a call went; see `Decision` for the arguments."""
        if not plan.typical_ms or not learned_ms:
            return  # nobody measured that setting, so there is nothing to compare with
        controller = self._controllers.setdefault(running, Controller())
        controller.observe(plan.typical_ms, learned_ms, now_s)
        if degraded:
            controller.degrade(plan.typical_ms, learned_ms)

    def _planner(self, running: frozenset[str]) -> Planner:
        if running not in self._planners:
            self._planners[running] = Planner(self.ladder, running)
        return self._planners[running]
