"""Receipts: what one call asked for, planned, spent and left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sanderling.budget import Budget, OnMiss, Plan
from sanderling.codec import plain


@dataclass(frozen=True)
class Reduced:
    """What a lever left out of a component.

    Attributes:
        lever: such as "tokens.image".
        component: where it acted.
        kept: how many went on.
        of: how many there were.
        reducer: the rule, "" when the session itself made fewer calls.
        kind: kind of site: "input", "inner", "output" or "loop".
        layer: after which layer; 0 is before the first.
    """

    lever: str
    component: str
    kept: int
    of: int
    reducer: str
    kind: str
    layer: int

    def __str__(self) -> str:
        rule = f" by {self.reducer}" if self.reducer else ""
        return f"{self.component}: kept {self.kept} of {self.of} {self.lever}{rule} ({self.kind}, layer {self.layer})"


@dataclass(frozen=True)
class Receipt:
    """What became of one call.

    Attributes:
        asked: the budget in force.
        plan: what was decided, and why.
        reduced: what the plan left out, one entry per lever and component; empty for the full model.
        skipped: components that did not run because an input of theirs was not given.
        prepare_ms: resizing, normalising, tokenizing.
        components_ms: component -> milliseconds in its engine.
        spent_ms: the whole call.
        met: whether `spent_ms` was within the latency asked for; None when none was asked for.
        slowdown: measured over predicted cost lately, as the planner used it.
        kept: lever -> (how many went on, how many there were), for every lever of the components that ran.
        call: number of this call in its session, from 1.
        answers_call: whose outputs these are: this call's, or an earlier one's when this one was late and the budget
            says `on_miss="last_good"`.
        miss: what was done because the time ran out, as in `Budget.on_miss`; None when nothing had to be.
        misses: calls of this session that were late so far.
        reused: components that did not run because an earlier call had the same inputs and settings; their outputs are
            that call's, and they have no entry in `components_ms`.
    """

    asked: Budget
    plan: Plan
    reduced: tuple[Reduced, ...]
    skipped: tuple[str, ...]
    prepare_ms: float
    components_ms: dict[str, float]
    spent_ms: float
    met: bool | None
    slowdown: float
    kept: dict[str, tuple[int, int]]
    call: int
    answers_call: int
    miss: OnMiss | None
    misses: int
    reused: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain dicts, lists, strings and numbers, ready for JSON."""
        fields: dict[str, Any] = plain(self)
        return fields
