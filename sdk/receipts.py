"""Receipts on disk, as JSON lines, and the replay of what a session decided.

Each line is an object with a field "is":

    start    a session: digest of its ladder
    budget   a budget, under a number of its own
    plan     settings and graphs, under a number of their own
    call     one call: the numbers of its budget and plan, what was spent, and what its plan was made from
    lost     how many lines could not be written before this one

Budgets and plans repeat, so a call's line is short and quick to write.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sanderling.budget import Budget, Plan
from sanderling.codec import from_json, plain, to_json
from sanderling.errors import BundleError, InputError, ReceiptsLostError
from sanderling.ladder import Ladder
from sanderling.receipt import Receipt
from sanderling.steering import Decision, Steering


class ReceiptLog:
    """A file that a session appends its receipts to. Safe to use from several threads; one session per log.

        with sanderling.ReceiptLog("receipts.jsonl") as log, sanderling.load("model.sand", receipts=log) as session:
            ...

    Every line goes to the operating system at once, so what was written outlives a crash of the process. A line that
    cannot be written, because the disk is full, say, never stops a call: it is counted in `lost`, the next line that
    can be written tells how many are missing, and `close` raises if nothing could tell.

    Args:
        path: appended to.

    Raises:
        InputError: the file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lost = 0
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise InputError(f"receipts cannot be written to {self.path}: {error.strerror}") from error
        self._open = True
        self._untold = 0
        self._torn = False
        self._lock = threading.Lock()
        self._budgets: dict[Budget, int] = {}
        self._plans: dict[tuple[object, ...], int] = {}
        self._start: dict[str, Any] | None = None

    def start(self, ladder: Ladder) -> None:
        """Note which ladder the calls that follow are planned with."""
        with self._lock:
            self._budgets.clear()
            self._plans.clear()
            self._start = {"is": "start", "ladder": ladder_digest(ladder)}
            self._append([self._start])

    def write(self, receipt: Receipt, decision: Decision) -> None:
        """Append a call."""
        with self._lock:
            lines: list[dict[str, Any]] = []
            if self._untold:
                lines.append({"is": "lost", "lines": self._untold})
            budget, plan = self._number_budget(receipt.asked, lines), self._number_plan(receipt.plan, lines)
            lines.append(_call(receipt, decision, budget, plan))
            self._append(lines)

    def close(self) -> None:
        """Close the file.

        Raises:
            ReceiptsLostError: lines are lost and the file does not say so.
        """
        with self._lock:
            if not self._open:
                return
            self._open = False
            if self._untold:
                self._append([{"is": "lost", "lines": self._untold}])
            os.close(self._file)
        if self._untold:
            raise ReceiptsLostError(
                f"{self.lost} lines of receipts could not be written to {self.path}; make room there, or write "
                "elsewhere"
            )

    def __enter__(self) -> ReceiptLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _number_budget(self, budget: Budget, lines: list[dict[str, Any]]) -> int:
        if budget not in self._budgets:
            self._budgets[budget] = len(self._budgets)
            lines.append({"is": "budget", "number": self._budgets[budget], "budget": plain(budget)})
        return self._budgets[budget]

    def _number_plan(self, chosen: Plan, lines: list[dict[str, Any]]) -> int:
        key = (*chosen.settings.items(), *chosen.graphs.items())
        if key not in self._plans:
            self._plans[key] = len(self._plans)
            entry = {"is": "plan", "number": self._plans[key], "settings": chosen.settings, "graphs": chosen.graphs}
            lines.append(entry)
        return self._plans[key]

    def _append(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        text = b"\n" + text if self._torn else text
        try:
            written = os.write(self._file, text)
        except OSError:
            written = 0
        if written == len(text):
            self._untold, self._torn = 0, False
            return
        # What was defined in the lost lines has to be defined again.
        self._budgets.clear()
        self._plans.clear()
        self._torn = self._torn or written > 0
        count = sum(line["is"] != "lost" for line in lines)
        self.lost += count
        self._untold += count


def ladder_digest(ladder: Ladder) -> str:
    """Return 12 hexadecimal digits that change when anything in the ladder does."""
    return hashlib.sha256(to_json(ladder)).hexdigest()[:12]


def _call(receipt: Receipt, decision: Decision, budget: int, plan: int) -> dict[str, Any]:
    return {
        "is": "call",
        "call": receipt.call,
        "budget": budget,
        "plan": plan,
        "reason": receipt.plan.reason,
        "predicted_ms": receipt.plan.predicted_ms,
        "typical_ms": receipt.plan.typical_ms,
        "slowdown": receipt.slowdown,
        "prepare_ms": receipt.prepare_ms,
        "components_ms": receipt.components_ms,
        "spent_ms": receipt.spent_ms,
        "met": receipt.met,
        "miss": receipt.miss,
        "misses": receipt.misses,
        "answers_call": receipt.answers_call,
        "kept": receipt.kept,
        "reduced": [str(entry) for entry in receipt.reduced],
        "skipped": receipt.skipped,
        "running": decision.running,
        "given": decision.given,
        "planned_s": decision.planned_s,
        "ended_s": decision.ended_s,
        "learned_ms": decision.learned_ms,
        "degraded": decision.degraded,
    }


@dataclass(frozen=True)
class Replayed:
    """One recorded call: the plan that was carried out, and the one that follows from the record."""

    call: int
    recorded: Plan
    derived: Plan


def replay(path: str | Path, ladder: Ladder) -> list[Replayed]:
    """Return every recorded call with the plan that the recorded times lead to; no engine runs.

    Where lines are lost, what those calls taught the session is too, and plans behind them may differ.

    Args:
        path: what a `ReceiptLog` wrote.
        ladder: of the session that was recorded, `session.ladder`.

    Raises:
        InputError: the file is no such record, or it is of another ladder.
    """
    budgets: dict[int, Budget] = {}
    plans: dict[int, dict[str, Any]] = {}
    steering = Steering(ladder)
    found: list[Replayed] = []
    for number, line in _lines(Path(path)):
        try:
            kind = line["is"]
            if kind == "start":
                _check_ladder(line["ladder"], ladder, path)
                budgets, plans, steering = {}, {}, Steering(ladder)
            elif kind == "budget":
                text = json.dumps(line["budget"]).encode()
                budgets[line["number"]] = from_json(Budget, text, f"{path} line {number}")
            elif kind == "plan":
                plans[line["number"]] = line
            elif kind == "call":
                found.append(_replay_call(line, budgets[line["budget"]], plans[line["plan"]], steering))
        except (KeyError, TypeError, BundleError) as error:
            raise InputError(f"{path} line {number} is no receipt of this version: {error}") from error
    return found


def _replay_call(line: dict[str, Any], budget: Budget, plan: dict[str, Any], steering: Steering) -> Replayed:
    recorded = Plan(plan["settings"], plan["graphs"], line["predicted_ms"], line["typical_ms"], line["reason"])
    running = frozenset(line["running"])
    derived = recorded if line["given"] else steering.plan(running, budget, line["planned_s"])
    steering.learn(running, derived, line["learned_ms"], line["degraded"], line["ended_s"])
    return Replayed(line["call"], recorded, derived)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the whole lines of a record with their numbers; a torn one is told of by a "lost" line after it."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"receipts {path} cannot be read: {error}") from error
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            parsed = json.loads(line)
        except ValueError as error:
            following = lines[number] if number < len(lines) else ""
            if not line or number == len(lines) or following.startswith('{"is":"lost"'):
                continue
            raise InputError(f"{path} line {number} is not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise InputError(f"{path} line {number} is {type(parsed).__name__}, expected an object")
        yield number, parsed


def _check_ladder(digest: object, ladder: Ladder, path: str | Path) -> None:
    if digest != ladder_digest(ladder):
        raise InputError(
            f"{path} records a ladder {digest}, this one is {ladder_digest(ladder)}; replay with the bundle, as it was "
            "measured, that the session had"
        )
