"""What becomes of calls that took longer than their budget: the rules of `Budget.on_miss`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sanderling.budget import UNLIMITED, Budget, OnMiss
from sanderling.engine import AnyArray
from sanderling.errors import BudgetError
from sanderling.spec import ModelSpec


@dataclass(frozen=True)
class Settled:
    """What is returned of a call.

    Attributes:
        outputs: value name -> array.
        answers_call: number of the call whose outputs these are.
        miss: as in `Receipt`.
    """

    outputs: dict[str, AnyArray]
    answers_call: int
    miss: OnMiss | None


class LateCalls:
    """The rules for one session's late calls.

    Args:
        model: a partial answer needs a component with a loop.
        own: the session's budget.
        default: the bundle's budget.

    Attributes:
        budget: for calls that bring none.
        misses: late calls so far.
    """

    def __init__(self, model: ModelSpec, own: Budget | None, default: Budget | None) -> None:
        self._loops = any(component.loop for component in model.components)
        self._good: dict[frozenset[str], tuple[int, dict[str, AnyArray]]] = {}
        self.misses = 0
        self.budget = default or UNLIMITED
        self.budget = self.in_force(own)

    def in_force(self, budget: Budget | None) -> Budget:
        """Return a call's own budget over the session's; a budget without a rule for late calls takes the session's.

        Raises:
            BudgetError: a partial answer is asked of a model without a loop.
        """
        asked = self.budget if budget is None else budget
        if asked.on_miss is None and asked.latency_ms is not None and self.budget.on_miss is not None:
            asked = replace(asked, on_miss=self.budget.on_miss)
        if asked.on_miss == "partial" and not self._loops:
            raise BudgetError(
                "on_miss='partial' would change nothing: no component of this model is called in a loop that could "
                "stop early; choose 'degrade', 'last_good', 'error' or 'report'"
            )
        return asked

    def settle(
        self,
        call: int,
        running: frozenset[str],
        outputs: dict[str, AnyArray],
        met: bool | None,
        rule: OnMiss | None,
        cut: bool,
    ) -> Settled:
        """Return what is to be returned of a call.

        Args:
            call: its number.
            running: the components that ran; an answer stands in only for one of the same components.
            outputs: what it computed.
            met: whether it was in time; None without a deadline.
            rule: for late calls.
            cut: whether a loop was stopped early.
        """
        self.misses += met is False
        if rule == "last_good":
            if met:
                self._good[running] = (call, outputs)
            elif running in self._good:
                earlier, good = self._good[running]
                return Settled(good, earlier, rule)
        if cut:
            return Settled(outputs, call, "partial")
        if met is not False:
            return Settled(outputs, call, None)
        # Before the first answer in time there is none to go back to, and what has no loop left cannot be stopped.
        return Settled(outputs, call, rule if rule in ("error", "degrade") else "report")
