"""What each pass buys on the scene question answerer, alone and together, at no more than a point of accuracy.

    python -m benchmarks.scene_qa_passes

Every row is compiled, and its cheapest rung that lost no more than a point against the trained model, on the
evaluation set, is called on fresh questions in turn with the others. Tokens, number format and layers are the three
things that change: the token lever needs no retraining, number formats need calibration, the student was distilled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

import sanderling
from examples.scene_qa.architecture import STUDENT, WEIGHTS, adapt_weights
from examples.scene_qa.data import draw_pair, evaluation, is_right
from sanderling.budget import Plan
from sanderling.calibration.profile import in_blocks
from sanderling.compile.flops import multiply_adds, parameters
from sanderling.compile.pipeline import compile_model
from sanderling.compile.recipe import from_mapping
from sanderling.machine import describe
from sanderling.progress import ProgressLine
from sanderling.tables import table

FRESH_SEED = 4_000_037
"""No training, compile or demonstration draws from this seed."""

QUESTIONS = 1000
LOSS = 0.01

REDUCE: Mapping[str, Any] = {
    "reduce": {"reducers": ["random", "saliency"], "layers": [0], "fractions": [0.5, 0.4, 0.3, 0.25, 0.2, 0.16, 0.12]}
}
QUANTIZE: Mapping[str, Any] = {"quantize": {"formats": ["int8_dynamic", "int8_static"]}}

ROWS: tuple[tuple[str, Path, tuple[Mapping[str, Any], ...]], ...] = (
    ("trained model, float32, all tokens", WEIGHTS, ()),
    ("number format", WEIGHTS, (QUANTIZE,)),
    ("half the layers", STUDENT, ()),
    ("tokens", WEIGHTS, (REDUCE,)),
    ("tokens and number format", WEIGHTS, (REDUCE, QUANTIZE)),
    ("all three", STUDENT, (REDUCE, QUANTIZE)),
)


@dataclass
class Row:
    """One way of answering, and what came of it."""

    label: str
    session: sanderling.Session
    plan: Plan
    size: tuple[float, float, float]
    spent_ms: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)


def model_size(weights: Path) -> tuple[float, float]:
    """Return millions of parameters and of multiply-adds for one picture and question, all tokens kept."""
    adapted = adapt_weights(weights)
    modules = [(part.build(None), part.example) for part in adapted.parts if part.build is not None]
    count = sum(parameters(module) for module, _ in modules)
    work = sum(multiply_adds(module, tuple(t[:1] for t in example)) for module, example in modules)
    return count / 1e6, work / 1e6


def make_row(
    label: str, weights: Path, passes: tuple[Mapping[str, Any], ...], floor: float | None, folder: Path
) -> Row:
    """Compile, and plan the cheapest rung whose quality is at least `floor`; the full model where there is none."""
    recipe = from_mapping({"passes": [dict(step) for step in passes], "targets": ["onnxruntime"]})
    path = folder / f"{label.replace(' ', '_')}.sand"
    compile_model(adapt_weights(weights), path, evaluation=evaluation(), recipe=recipe, progress=ProgressLine())
    session = sanderling.load(path)
    rungs = session.measured.ladder.rungs
    good = [rung for rung in rungs if floor is not None and rung.quality.score >= floor]
    rung = good[0] if good else rungs[-1]
    count, work = model_size(weights)
    return Row(label, session, session.at(rung.settings, rung.graphs), (count, work, path.stat().st_size / 1e6))


def main() -> None:
    """Compile every row, ask all of them the same questions, print the table."""
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Row] = []
        floor = None
        for label, weights, passes in ROWS:
            rows.append(make_row(label, weights, passes, floor, Path(folder)))
            if floor is None:
                floor = rows[0].session.measured.ladder.rungs[-1].quality.score - LOSS
        pairs = [draw_pair(FRESH_SEED, number) for number in range(QUESTIONS)]
        for place, number, counts in in_blocks(len(rows), QUESTIONS):
            image, question = pairs[number]
            answer = rows[place].session.run({"image": image, "text": question.text}, plan=rows[place].plan)
            if counts:
                rows[place].spent_ms.append(answer.receipt.spent_ms)
                rows[place].right.append(is_right(answer.outputs, question.answer))
        print(f"{QUESTIONS} fresh questions on {describe()['cpu']}\n")
        head = [
            "what was done",
            "M parameters",
            "M multiply-adds",
            "MB",
            "tokens",
            "formats",
            "p50 ms",
            "p90 ms",
            "times",
            "accuracy",
        ]
        print(table(head, [_cells(row, median(rows[0].spent_ms)) for row in rows]))


def _cells(row: Row, first_ms: float) -> list[str]:
    placements = row.session.measured.placements
    formats = sorted({placements[component][graph].format for component, graph in row.plan.graphs.items()})
    p50, p90 = np.percentile(row.spent_ms, (50, 90))
    return [
        row.label,
        *(f"{value:.2f}" for value in row.size),
        str(row.plan.settings["tokens.image"]),
        ", ".join(formats),
        f"{p50:.2f}",
        f"{p90:.2f}",
        f"{first_ms / p50:.2f}",
        f"{mean(row.right):.1%}",
    ]


if __name__ == "__main__":
    main()
