"""What re-use saves before a still scene with a small moving thing, against encoding every frame whole.

    python -m benchmarks.camera_reuse [BUNDLE]

Two cameras on one session get every frame in turn, one with change detection and one without. Milliseconds are from
handing over the frame to the answer, threads and change detection included. The distance is that of the image tokens
answered about to those of the frame itself, |a - b| / |b|.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import numpy as np

import sanderling
from examples.scene_qa.clips import watch
from sanderling.camera import Camera, FrameAnswer
from sanderling.changes import WARM_UP, Changes
from sanderling.engine import AnyArray
from sanderling.frames import Pushed
from sanderling.machine import describe
from sanderling.manifest import FULL
from sanderling.opening import open_graph
from sanderling.prepare import Preparer
from sanderling.progress import ProgressLine
from sanderling.tables import table

FRAMES = 300
EVERY = (0, 30, 10, 4, 1)
QUESTION = "how many red things are there"


@dataclass
class Row:
    """What was seen of one clip, frame by frame; pairs are with re-use and without."""

    spent_ms: list[tuple[float, float]] = field(default_factory=list)
    tokens: list[tuple[int, int]] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)

    def cells(self, every: int) -> list[str]:
        """Return the row as text."""
        ours_ms, whole_ms = zip(*self.spent_ms, strict=True)
        ours, whole = (mean(tokens) for tokens in zip(*self.tokens, strict=True))
        return [
            f"1 of {every}" if every else "none",
            f"{ours:.1f}",
            f"{whole:.0f}",
            f"{whole / max(ours, 1e-9):.1f}",
            *(f"{of(ms):.2f}" for of in (median, mean) for ms in (ours_ms, whole_ms)),
            f"{median(self.distance):.3f}",
            f"{max(self.distance):.3f}",
            f"{mean(self.same):.1%}",
        ]


class Embedder:
    """Returns a frame's image tokens from the full vision graph, outside any session's call."""

    def __init__(self, session: sanderling.Session) -> None:
        # One thread, because the idle threads of a second engine would slow down the calls that are timed.
        placement = replace(session.measured.placements["vision"][FULL], threads=1)
        self._preparer = Preparer(session.manifest.model, session.bundle)
        self._engine = open_graph(session.bundle, session.manifest.graph("vision", FULL), placement)

    def __call__(self, pixels: AnyArray) -> AnyArray:
        """uint8 [height, width, 3] -> float [1, tokens, width]."""
        return self._engine.run(self._preparer.values({"image": pixels}))["image_tokens"]


def encoded_tokens(answer: FrameAnswer) -> int:
    """Return how many image tokens were encoded for an answer."""
    return 0 if "vision" in answer.receipt.reused else answer.outputs["image_kept"].shape[1]


def compare(session: sanderling.Session, embed: Embedder, every: int) -> Row:
    """Return what both cameras did with one clip."""
    row, sources = Row(), (Pushed(), Pushed())
    options = {"inputs": {"text": QUESTION}, "ahead": False}
    seen: AnyArray = np.empty(0)
    with (
        Camera(session, sources[0], changes=Changes(), **options) as ours,  # type: ignore[arg-type]
        Camera(session, sources[1], **options) as whole,  # type: ignore[arg-type]
    ):
        readers = (ours.answers(), whole.answers())
        for number, pixels in enumerate(islice(watch(7, every), FRAMES + WARM_UP + 1)):
            answers, spent_ms = {}, {}
            for which in (0, 1) if number % 2 else (1, 0):  # whoever comes first finds the caches cold
                begun = perf_counter()
                sources[which].push(pixels)
                answers[which] = next(readers[which])
                spent_ms[which] = (perf_counter() - begun) * 1e3
            tokens = embed(pixels)
            seen = tokens if answers[0].seen == number else seen
            if number <= WARM_UP:
                continue
            row.distance.append(float(np.linalg.norm(seen - tokens) / np.linalg.norm(tokens)))
            row.spent_ms.append((spent_ms[0], spent_ms[1]))
            row.tokens.append((encoded_tokens(answers[0]), encoded_tokens(answers[1])))
            ours_best, whole_best = (int(a.outputs["answer_scores"].argmax()) for a in (answers[0], answers[1]))
            row.same.append(ours_best == whole_best)
    return row


def main() -> None:
    """Print the table."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/scene_qa.sand")
    progress, rows = ProgressLine(), []
    with sanderling.load(path) as session:
        embed = Embedder(session)
        for number, every in enumerate(EVERY):
            rows.append(compare(session, embed, every).cells(every))
            progress("clips", number + 1, len(EVERY))
    print(f"on {describe()['cpu']}, {FRAMES} frames a clip, the thing moves in some of them:")
    head = [
        "moves",
        "tokens",
        "whole",
        "fewer",
        "p50 ms",
        "whole",
        "mean ms",
        "whole",
        "distance",
        "most",
        "same answer",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
