"""A vision transformer of a few thousand weights, its task, and the run that the tests kill or start twice.

python -m tiny_distillation OUT [NUMBER]    trains into OUT; the process kills itself when it makes batch NUMBER
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.blocks.vision import VisionConfig, VisionEncoder
from sanderling.compile.training.elastic import Elastic, Uniform
from sanderling.compile.training.hidden import HiddenStates, layer_pairs, tokens_at, uniform_map
from sanderling.compile.training.loop import train
from sanderling.compile.training.options import Options
from sanderling.compile.training.soft_targets import soft_target_loss
from sanderling.compile.training.task import Answer, Setting, tapped
from sanderling.reducers.saliency import REDUCER as SALIENCY

ANSWERS = 5
TOKENS = 16
LEVER = "tokens.image"
ELASTIC = Elastic({LEVER: Uniform(4, TOKENS)}, draws=1, ends_every=3)
OPTIONS = Options(steps=30, learning_rate=3e-3, warmup=3, average=0.6, log_every=5, save_every=10, elastic=ELASTIC)
SHARED = dataclasses.replace(OPTIONS, steps=10)
"""Of the run that two processes share."""


class Classifier(nn.Module):
    """Pictures of 16 x 16 pixels -> scores of 5 answers; `layers` deep, `width` wide."""

    def __init__(self, layers: int, width: int = 16, answers: int = ANSWERS, dropout: float = 0.0) -> None:
        super().__init__()
        config = VisionConfig(image_size=16, patch_size=4, width=width, layers=layers, heads=2, hidden=2 * width)
        self.encoder = VisionEncoder(config, ReduceAt(SALIENCY, layer=0))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, answers)

    def forward(self, pixels: Tensor, keep: int | None) -> tuple[Tensor, Tensor]:
        """Return scores [batch, answers] and the places kept [batch, keep]."""
        tokens = self.encoder(pixels, None if keep is None else torch.tensor(keep))
        return self.head(self.dropout(tokens.rows.mean(1))), tokens.kept


def models(
    layers: int = 2, width: int = 16, answers: int = ANSWERS, dropout: float = 0.0, seed: int = 0
) -> tuple[Classifier, Classifier]:
    """Return a student and a teacher of 4 layers; the teacher's scores differ a lot between pictures."""
    torch.manual_seed(seed)
    student, teacher = Classifier(layers, width, answers, dropout), Classifier(4)
    with torch.no_grad():
        teacher.head.weight.mul_(5)
    return student, teacher


@dataclass
class ScoresTask:
    """Follow the teacher's scores and hidden states on random pictures.

    Attributes:
        pictures: in a batch.
        kill_at: number of the batch at which the process kills itself; -1 for never.
        spoil_at: number of the batch whose pictures are NaN; -1 for never.
        careless: draw noise from torch's global generator as well.
        numbers: of the batches made so far.
        settings: of the student's runs so far.
    """

    hidden: HiddenStates
    pictures: int = 4
    kill_at: int = -1
    spoil_at: int = -1
    careless: bool = False
    numbers: list[int] = field(default_factory=list)
    settings: list[dict[str, int]] = field(default_factory=list)

    def batch(self, seed: int, number: int) -> Tensor:
        """Return pictures [pictures, 3, 16, 16]."""
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.numbers.append(number)
        pixels = np.random.default_rng((seed, number)).standard_normal((self.pictures, 3, 16, 16))
        batch = torch.from_numpy(pixels.astype(np.float32))
        if self.careless:
            batch = batch + torch.randn_like(batch) + float(np.random.rand())
        return batch * float("nan") if number == self.spoil_at else batch

    def run(self, model: nn.Module, batch: Tensor, setting: Setting) -> Answer:
        """Return scores, and the hidden state of every layer."""
        assert isinstance(model, Classifier)
        if setting:
            self.settings.append(dict(setting))
        names = tuple(f"encoder.layers.{layer}" for layer in range(len(model.encoder.layers)))
        with tapped(model, names) as seen:
            scores, kept = model(batch, setting.get(LEVER))
        return Answer({"scores": scores}, {**seen, "kept": kept})

    def losses(self, student: Answer, teacher: Answer, batch: Tensor) -> dict[str, Tensor]:
        """Return "scores" and "hidden"."""
        kept = student.inner["kept"]
        wanted = {name: tokens_at(rows, kept) for name, rows in teacher.inner.items() if name != "kept"}
        return {
            "scores": soft_target_loss(student.outputs["scores"], teacher.outputs["scores"]),
            "hidden": self.hidden(student.inner, wanted),
        }

    def validate(self, student: nn.Module) -> dict[str, float]:
        """Return the negative size of the scores on one batch; it needs no labels."""
        assert isinstance(student, Classifier)
        assert not student.training
        size = functional.softmax(student(self.batch(99, 0), None)[0], -1).amax()
        return {"calm": -float(size)}


def task_for(student: Classifier, **changes: object) -> ScoresTask:
    """Return the task for a student of any depth and width, its projections seeded."""
    torch.manual_seed(1)
    pairs = layer_pairs("encoder.layers.{}", uniform_map(len(student.encoder.layers), 4))
    return dataclasses.replace(ScoresTask(HiddenStates(pairs, student.head.in_features, 16)), **changes)  # type: ignore[arg-type]


def train_tiny(out: Path, options: Options = OPTIONS, width: int = 16, **changes: object) -> Classifier:
    """Return a trained student with dropout; the same arguments give the same weights."""
    student, teacher = models(width=width, dropout=0.0 if "pictures" in changes else 0.1)
    task = task_for(student, **changes)
    train(task, student, teacher, options, out, helpers=task.hidden)
    return student


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        train_tiny(Path(sys.argv[1]), width=8, careless=True, kill_at=int(sys.argv[2]))
    else:
        trained = train_tiny(Path(sys.argv[1]), SHARED, pictures=4)
        torch.save(trained.state_dict(), Path(sys.argv[1]) / f"trained-{os.environ['RANK']}.pt")
