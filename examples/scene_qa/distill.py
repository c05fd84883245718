"""Distills the trained scene question answerer into one with half the layers; stop it at any time, it goes on.

    python -m examples.scene_qa.distill --out out/scene_qa_student

The teacher always sees every image token. The student draws how many it may look at, so that it is good at every rung,
and learns the answers, how the teacher ranks them, and the teacher's tokens at the places it kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from examples.scene_qa.architecture import WEIGHTS
from examples.scene_qa.model import VISION, SceneModel
from examples.scene_qa.train import Batch, evaluate, make_batch
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.training.elastic import Choice, Elastic
from sanderling.compile.training.hidden import tokens_at
from sanderling.compile.training.initialise import initialise_student
from sanderling.compile.training.loop import train
from sanderling.compile.training.options import Options
from sanderling.compile.training.soft_targets import soft_target_loss
from sanderling.compile.training.task import Answer, Setting
from sanderling.progress import ProgressLine
from sanderling.reducers.saliency import REDUCER as SALIENCY

LEVER = "tokens.image"
TOKENS = Choice((144, 100, 72, 56, 43, 32, 24))
"""What a step's student may look at."""

FRESH_SEED = 1_000_011


class SceneTask:
    """Several questions about each of a batch of fresh scenes.

    Args:
        pictures: scenes a batch.
        questions: about each scene.
    """

    def __init__(self, pictures: int, questions: int) -> None:
        self._pictures, self._questions = pictures, questions

    def batch(self, seed: int, number: int) -> Batch:
        """Return the numbered batch of a seed."""
        return make_batch(seed, number, self._pictures, self._questions)

    def run(self, model: nn.Module, batch: Batch, setting: Setting) -> Answer:
        """Return the answer scores, the image tokens with their places, and what the scores are read from."""
        assert isinstance(model, SceneModel)
        keep = torch.tensor(setting.get(LEVER, VISION.tokens))
        image, sizes, kept = model.vision(batch.pixels, keep)
        ids = batch.ids.flatten(0, 1)
        fused = model.fusion.ask_many(model.text(ids), ids, image, sizes)
        return Answer({"answer_scores": model.fusion.head(fused)}, {"image": image, "kept": kept, "fused": fused})

    def losses(self, student: Answer, teacher: Answer, batch: Batch) -> dict[str, Tensor]:
        """Return the losses on answers, on how they are ranked, and on both kinds of hidden states."""
        scores, taught = student.outputs["answer_scores"], teacher.outputs["answer_scores"]
        wanted = tokens_at(teacher.inner["image"], student.inner["kept"])
        return {
            "answer": functional.cross_entropy(scores, batch.answers.flatten()),
            "ranking": soft_target_loss(scores, taught),
            "image": functional.mse_loss(student.inner["image"], wanted),
            "fused": functional.mse_loss(student.inner["fused"], teacher.inner["fused"]),
        }

    def validate(self, student: nn.Module) -> dict[str, float]:
        """Return the accuracy on fresh scenes, all tokens kept."""
        assert isinstance(student, SceneModel)
        return evaluate(student, FRESH_SEED)


def teacher_model(weights: Path = WEIGHTS) -> SceneModel:
    """Return the trained model."""
    model = SceneModel()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    return model.eval()


def distill(student: SceneModel, out: Path, options: Options) -> dict[str, float]:
    """Train a student, write its weights in float16, and return its accuracy on fresh scenes."""
    task = SceneTask(pictures=32, questions=8)
    train(task, student, teacher_model(), options, out, progress=ProgressLine())
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in student.state_dict().items()}
    save_file(weights, out / "weights.safetensors")
    return evaluate(student, FRESH_SEED, pictures=1000)


def main() -> None:
    """Read the options and distill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/scene_qa_student"))
    parser.add_argument("--layers", type=int, nargs=3, default=(2, 1, 2), metavar=("VISION", "TEXT", "FUSION"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    student = SceneModel(ReduceAt(SALIENCY, layer=0), tuple(given.layers))
    initialise_student(teacher_model(), student)
    options = Options(
        steps=given.steps, learning_rate=2e-3, warmup=100, average=0.995, seed=given.seed,
        elastic=Elastic({LEVER: TOKENS}, ends_every=0), log_every=50, save_every=100,
    )  # fmt: skip
    accuracy = distill(student, given.out, options)
    result = {"layers": list(given.layers), "steps": given.steps, "seed": given.seed, "fresh_scenes": accuracy}
    (given.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
