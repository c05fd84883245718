"""Compiles the trained model for this machine and lets it answer fresh questions inside three deadlines.

make demo
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np

import sanderling
from examples.scene_qa.data import draw_pair, is_right
from sanderling.budget import Plan
from sanderling.calibration.pareto import name as rung_name
from sanderling.calibration.profile import count_calls, in_blocks
from sanderling.cli import main as command
from sanderling.manifest import FULL
from sanderling.progress import ProgressLine
from sanderling.tables import table

FRESH_SEED = 3_000_017
"""Neither training nor the compile's evaluation draws from this seed."""

SHARES = (1.0, 0.6, 0.35)
"""The deadlines, as shares of the full model's median."""

HERE = Path(__file__).parent


@dataclass
class Row:
    """One way of answering, and what came of it.

    A row that `follows` another drops tokens at random, at the site and token count that the other row used last.
    """

    label: str
    deadline_ms: float | None
    budget: sanderling.Budget | None = None
    plan: Plan | None = None
    follows: Row | None = None
    spent_ms: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    last: Plan | None = None

    def plan_now(self, session: sanderling.Session) -> Plan | None:
        """Return the plan of the next call, or None to let the budget decide."""
        if self.follows is None or self.follows.last is None:
            return self.plan
        followed = self.follows.last
        graph = followed.graphs["vision"]
        if graph == FULL:
            return followed
        return session.at(followed.settings, {"vision": "random@" + graph.partition("@")[2]})

    def cells(self) -> list[str]:
        """Return the row as text."""
        met = "-" if self.deadline_ms is None else f"{mean(ms <= self.deadline_ms for ms in self.spent_ms):.1%}"
        p50, p99 = np.percentile(self.spent_ms, (50, 99))
        asked = "-" if self.deadline_ms is None else f"{self.deadline_ms:.2f}"
        return [
            self.label,
            asked,
            f"{mean(self.tokens):.0f}",
            f"{p50:.2f}",
            f"{p99:.2f}",
            met,
            f"{mean(self.right):.1%}",
        ]


def answer_all(session: sanderling.Session, rows: Sequence[Row], questions: int) -> None:
    """Ask every row every question, taking turns, so that a slow moment of the machine falls on all of them."""
    progress = ProgressLine()
    pairs = [draw_pair(FRESH_SEED, number) for number in range(questions)]
    for done, (place, number, counts) in enumerate(in_blocks(len(rows), questions)):
        row, (image, question) = rows[place], pairs[number]
        inputs = {"image": image, "text": question.text}
        answer = session.run(inputs, budget=row.budget, plan=row.plan_now(session))
        if counts:
            row.last = answer.receipt.plan
            row.spent_ms.append(answer.receipt.spent_ms)
            row.tokens.append(answer.outputs["image_kept"].shape[1])
            row.right.append(is_right(answer.outputs, question.answer))
        progress("answering fresh questions", done + 1, count_calls(len(rows), questions))


def make_rows(session: sanderling.Session) -> list[Row]:
    """Return the full model and the three deadlines, each with random dropping at the same token counts beside it."""
    full_ms = session.measured.ladder.rungs[-1].latency.p50_ms
    rows = [Row("full model", None, plan=session.at({}))]
    for share in SHARES:
        deadline = share * full_ms
        budget = sanderling.Budget(latency_ms=deadline, otherwise="cheapest")
        planned = Row(f"{share:.0%} of full", deadline, budget=budget)
        rows += [planned, Row("  random, same tokens", deadline, follows=planned)]
    return rows


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--questions", type=int, default=300)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    bundle, report = options.out / "scene_qa.sand", options.out / "scene_qa.html"
    data = ["--data", "examples.scene_qa.data:evaluation"]
    run("compile", str(HERE / "architecture.py"), "-o", str(bundle), "--recipe", str(HERE / "demo.yaml"), *data)
    run("profile", str(bundle), "--all", "--calls", "60")
    with sanderling.load(bundle) as session:
        rows = make_rows(session)
        answer_all(session, rows, options.questions)
        rungs = session.measured.ladder.rungs
        print("\nThe ladder:", ", ".join(rung_name(rung, rungs[-1]) for rung in rungs))
    header = ["answered by", "deadline ms", "tokens", "p50 ms", "p99 ms", "met", "accuracy"]
    print(f"\n{options.questions} fresh questions, each asked in every way:\n")
    print(table(header, [row.cells() for row in rows]))
    run("report", str(bundle), "-o", str(report), *data)


def run(*arguments: str) -> None:
    """Run a verb of the command line, showing what a user would type."""
    print(f"\n$ sanderling {' '.join(arguments)}", flush=True)
    try:
        command(list(arguments))
    except SystemExit as ended:
        if ended.code:
            raise


if __name__ == "__main__":
    main()
