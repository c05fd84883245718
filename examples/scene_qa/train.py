"""Trains the scene question answerer from scratch on two cores; stop it at any time, it goes on where it was.

    python -m examples.scene_qa.train --out out/scene_qa

Each step draws fresh scenes and asks several questions about each, so the vision encoder runs once per picture.
Helper heads, dropped after training, name what covers each patch, mark the patch that a thing's centre is in, and point
at the things a question is about. In most steps low-contrast patches are left out, down to a sixth of them, so that one
model is good at every token count. The step's number seeds its scenes, so an interrupted run and an uninterrupted one
see the same data.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from examples.scene_qa.model import MEAN, STD, VISION, WIDTH, SceneModel
from examples.scene_qa.questions import ANSWERS, KINDS, MAX_WORDS, WORDS, Question, ask_many
from examples.scene_qa.scenes import COLOUR_NAMES, IMAGE_SIZE, SHAPES, Scene, draw_scene
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.reducers.saliency import REDUCER as SALIENCY

LOSS_WEIGHTS = {"answer": 1.0, "patch": 1.0, "centre": 0.5, "point": 2.0}

_WORD_IDS = {word: index for index, word in enumerate(WORDS)}


@dataclass(frozen=True)
class Options:
    """How to train; every field is a command-line option of the same name."""

    steps: int = 7000
    pictures: int = 32
    questions: int = 8
    learning_rate: float = 1.5e-3
    warmup: int = 300
    weight_decay: float = 0.02
    average: float = 0.998
    seed: int = 7
    save_every: int = 100


@dataclass(frozen=True)
class Batch:
    """Pictures [p, 3, 96, 96], patch labels [p, 144], word ids [p, q, words], answers [p, q], kinds [p, q].

    `centres` [p, 144] is 1 for a patch that the centre of a thing is in, else 0.
    `points` [p, q, 4] has x and y, -1 to 1, of the first and second thing a question is about; NaN where it has none.
    """

    pixels: Tensor
    labels: Tensor
    centres: Tensor
    ids: Tensor
    answers: Tensor
    kinds: NDArray[np.int64]
    points: Tensor


def word_ids(text: str) -> list[int]:
    """Return [CLS] and the words' ids, padded to 16."""
    ids = [_WORD_IDS["[CLS]"], *(_WORD_IDS[word] for word in text.split())]
    return ids + [0] * (MAX_WORDS - len(ids))


def make_batch(seed: int, step: int, pictures: int, questions: int) -> Batch:
    """Return the batch of a step; the same seed and step give the same batch on every machine."""
    rng = np.random.default_rng((seed, step))
    scenes = [draw_scene(rng) for _ in range(pictures)]
    asked: list[list[Question]] = [ask_many(scene, rng, questions) for scene in scenes]
    pixels = np.stack([scene.image for scene in scenes]).astype(np.float32)
    return Batch(
        pixels=torch.from_numpy((pixels - MEAN) / STD).permute(0, 3, 1, 2).contiguous(),
        labels=torch.from_numpy(np.stack([s.labels for s in scenes]).reshape(pictures, -1).astype(np.int64)),
        centres=torch.from_numpy(np.stack([_centres(scene) for scene in scenes])),
        ids=_trim(torch.tensor([[word_ids(q.text) for q in row] for row in asked])),
        answers=torch.tensor([[ANSWERS.index(q.answer) for q in row] for row in asked]),
        kinds=np.array([[KINDS.index(q.kind) for q in row] for row in asked]),
        points=torch.tensor([[_points(q) for q in row] for row in asked]),
    )


def _centres(scene: Scene) -> NDArray[np.float32]:
    side = VISION.side
    found = np.zeros(side * side, dtype=np.float32)
    for thing in scene.things:
        found[int(thing.y) // VISION.patch_size * side + int(thing.x) // VISION.patch_size] = 1
    return found


def _points(question: Question) -> list[float]:
    places = [2 * value / IMAGE_SIZE - 1 for thing in question.about for value in (thing.x, thing.y)]
    return places + [math.nan] * (4 - len(places))


def _trim(ids: Tensor) -> Tensor:
    """Return the word ids without the columns in which every question is padding."""
    return ids[..., : int((ids != 0).sum(-1).max())]


class Trainee(nn.Module):
    """The model and its helper heads."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SceneModel(ReduceAt(SALIENCY, layer=0))
        self.patch_head = nn.Linear(WIDTH, 1 + len(SHAPES) * len(COLOUR_NAMES))
        self.centre_head = nn.Linear(WIDTH, 1)
        self.point_head = nn.Linear(WIDTH, 4)

    def losses(self, batch: Batch, keep: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by name, answer, patch, centre and point, and the answer scores [p * q, answers]."""
        tokens, sizes, kept = self.model.vision(batch.pixels, torch.tensor(keep))
        patch_loss = functional.cross_entropy(
            self.patch_head(tokens).flatten(0, 1), torch.gather(batch.labels, 1, kept).flatten()
        )
        centre_loss = functional.binary_cross_entropy_with_logits(
            self.centre_head(tokens)[..., 0], torch.gather(batch.centres, 1, kept), pos_weight=torch.tensor(5.0)
        )
        ids = batch.ids.flatten(0, 1)
        fused = self.model.fusion.ask_many(self.model.text(ids), ids, tokens, sizes)
        scores = self.model.fusion.head(fused)
        wanted = batch.points.flatten(0, 1)
        pointed = self.point_head(fused)[~wanted.isnan()]
        point_loss = functional.smooth_l1_loss(pointed, wanted[~wanted.isnan()], beta=0.1)
        answer_loss = functional.cross_entropy(scores, batch.answers.flatten())
        return {"answer": answer_loss, "patch": patch_loss, "centre": centre_loss, "point": point_loss}, scores


def learning_rate_at(step: int, options: Options) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def tokens_at(step: int, seed: int) -> int:
    """Return how many image tokens this step's model may look at: mostly fewer than all of them."""
    return int(np.random.default_rng((seed, step, 1)).choice([144, 100, 72, 56, 43, 32, 24]))


def train(options: Options, out: Path) -> None:
    """Train to the last step, writing `checkpoint.pt`, `record.jsonl` and at the end the averaged weights."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    trainee = Trainee()
    average = Trainee()
    average.load_state_dict(trainee.state_dict())
    optimizer = torch.optim.AdamW(
        trainee.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.98)
    )
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        trainee.load_state_dict(state.pop("trainee"))
        average.load_state_dict(state.pop("average"))
        optimizer.load_state_dict(state.pop("optimizer"))
        print(f"resuming at step {state['step']}")
    started = time.monotonic() - state["seconds"]
    for step in range(state["step"], options.steps):
        row = _step(trainee, average, optimizer, step, options)
        row["seconds"] = round(time.monotonic() - started, 1)
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            _save(checkpoint, trainee, average, optimizer, step + 1, row["seconds"])
            with (out / "record.jsonl").open("a") as record:
                record.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    _finish(average.model, options, out)


def _step(
    trainee: Trainee, average: Trainee, optimizer: torch.optim.Optimizer, step: int, options: Options
) -> dict[str, Any]:
    batch = make_batch(options.seed, step, options.pictures, options.questions)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, options)
    losses, scores = trainee.losses(batch, tokens_at(step, options.seed))
    optimizer.zero_grad(set_to_none=True)
    total = torch.stack([LOSS_WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
    optimizer.step()
    decay = min(options.average, (step + 1) / (step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(trainee.parameters()), 1 - decay)
    hits = (scores.argmax(-1) == batch.answers.flatten()).numpy()
    by_kind = {KINDS[i]: round(float(hits[batch.kinds.flatten() == i].mean()), 3) for i in np.unique(batch.kinds)}
    return {
        "step": step + 1,
        "learning_rate": round(learning_rate_at(step, options), 6),
        **{f"{name}_loss": round(loss.item(), 4) for name, loss in losses.items()},
        "accuracy": round(float(hits.mean()), 4),
        **by_kind,
    }


def _save(
    path: Path, trainee: Trainee, average: Trainee, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    temporary = path.with_suffix(".tmp")
    state = {"trainee": trainee.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "step": step, "seconds": seconds}, temporary)
    temporary.replace(path)


def evaluate(model: SceneModel, seed: int, pictures: int = 250, questions: int = 8) -> dict[str, float]:
    """Return accuracy on fresh scenes, over all and by kind, at full tokens."""
    hits, kinds = [], []
    with torch.inference_mode():
        for step in range(pictures // 50):
            batch = make_batch(seed, step, 50, questions)
            tokens, sizes, _ = model.vision(batch.pixels)
            ids = batch.ids.flatten(0, 1)
            scores = model.fusion.head(model.fusion.ask_many(model.text(ids), ids, tokens, sizes))
            hits.append((scores.argmax(-1) == batch.answers.flatten()).numpy())
            kinds.append(batch.kinds.flatten())
    hit, kind = np.concatenate(hits), np.concatenate(kinds)
    scores_by_kind = {name: float(hit[kind == i].mean()) for i, name in enumerate(KINDS)}
    return {"accuracy": float(hit.mean()), **scores_by_kind}


def _finish(model: SceneModel, options: Options, out: Path) -> None:
    plain = SceneModel()
    plain.load_state_dict(model.state_dict())
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in plain.state_dict().items()}
    save_file(weights, out / "weights.safetensors")
    plain.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    plain.eval()
    result = {
        "options": asdict(options),
        "fresh_scenes": evaluate(plain, seed=options.seed + 1_000_000, pictures=1000),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/scene_qa"))
    for name, default in asdict(Options()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    chosen = vars(parser.parse_args())
    out = chosen.pop("out")
    train(Options(**chosen), out)


if __name__ == "__main__":
    main()
