"""Questions about fresh scenes, for compiling and for the demonstration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.scene_qa.questions import ANSWERS, Question, ask_many
from examples.scene_qa.scenes import draw_scene
from sanderling.calibration.dataset import Data

EVALUATION_SEED = 2_000_003
"""Training draws from (7, step); nothing else uses this one."""


def evaluation(count: int = 300, seed: int = EVALUATION_SEED) -> Data:
    """Return `count` questions, each about a scene of its own that training never saw."""
    pairs = [draw_pair(seed, number) for number in range(count)]
    return Data(
        samples=[{"image": image, "text": question.text} for image, question in pairs],
        expected=[question.answer for _, question in pairs],
        score=is_right,
        metric="accuracy",
    )


def quick() -> Data:
    """Return 40 questions, for a quick look."""
    return evaluation(count=40)


def draw_pair(seed: int, number: int) -> tuple[NDArray[np.uint8], Question]:
    """Return the numbered picture and question of a seed."""
    rng = np.random.default_rng((seed, number))
    scene = draw_scene(rng)
    return scene.image, ask_many(scene, rng, 1)[0]


def is_right(outputs: dict[str, NDArray[Any]], expected: str) -> float:
    """Return 1 when the highest score is the expected answer's, else 0."""
    return float(ANSWERS[int(outputs["answer_scores"][0].argmax())] == expected)
