"""Trains the digit recognizer from scratch on two cores; stop it at any time, it goes on where it was.

    python -m examples.digits.train --data FOLDER --out out/digits

Each step draws fresh pairs, degrades them anew, and draws how many tokens of each modality the model may look at, down
to an eighth, so that one model is good at every split of a budget. In some pairs the picture or the sound is missing.
Helper heads, dropped after training, read the digit from each modality alone. The step's number seeds all of it, so an
interrupted run and an uninterrupted one see the same data.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from examples.digits.model import AUDIO, MEAN, STD, VISION, WIDTH, DigitModel
from examples.digits.pairs import DIGITS, SNR_DB, Corpus, Pair, draw_pair, load_corpus, no_picture, no_sound
from examples.digits.sound import log_mel
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.reducers.saliency import REDUCER as SALIENCY

BUDGETS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12)
"""Shares of a modality's tokens that a step may look at."""

SNRS_DB = (-6.0, 12.0)
"""Training draws the noise between these."""

STRETCHES = (0.85, 1.15)
"""Training says words faster and slower, for there are few of them."""

MISSING = 0.1
"""Share of the pairs without picture, and as many without sound."""

HELPER_WEIGHT = 0.5

EVALUATED_PAIRS = 2000
EVALUATED_SNRS_DB = (-6.0, SNR_DB, 0.0, 6.0)
HIDDEN = {"both": (False, False), "image only": (False, True), "sound only": (True, False)}
"""What evaluation hides: picture, sound."""


@dataclass(frozen=True)
class Options:
    """How to train; every field is a command-line option of the same name."""

    steps: int = 2600
    pairs: int = 64
    learning_rate: float = 1.5e-3
    warmup: int = 200
    weight_decay: float = 0.02
    average: float = 0.995
    seed: int = 11
    save_every: int = 50


@dataclass(frozen=True)
class Batch:
    """Pictures [b, 1, 36, 36], log-mel frames [b, 128, 40], digits [b]; which are there, float [b] each."""

    pixels: Tensor
    frames: Tensor
    digits: Tensor
    picture_there: Tensor
    sound_there: Tensor


def make_batch(corpus: Corpus, seed: int, step: int, count: int) -> Batch:
    """Return the batch of a step; the same seed and step give the same batch on every machine."""
    rng = np.random.default_rng((seed, step))
    pairs = [draw_pair(corpus, rng, rng.uniform(*SNRS_DB), rng.uniform(*STRETCHES)) for _ in range(count)]
    fate = rng.uniform(size=count)
    return to_batch(pairs, hide_picture=fate < MISSING, hide_sound=fate > 1 - MISSING)


def to_batch(pairs: Sequence[Pair], hide_picture: NDArray[np.bool_], hide_sound: NDArray[np.bool_]) -> Batch:
    """Return pairs as tensors, with nothing to see or to hear where it is hidden, bool [b] each."""
    pictures = np.stack([pair.picture for pair in pairs])
    waveforms = np.stack([pair.waveform for pair in pairs])
    pictures[hide_picture], waveforms[hide_sound] = no_picture(), no_sound()
    return Batch(
        pixels=torch.from_numpy((pictures[:, None].astype(np.float32) - MEAN) / STD),
        frames=torch.from_numpy(log_mel(waveforms)),
        digits=torch.tensor([pair.digit for pair in pairs]),
        picture_there=torch.from_numpy((~hide_picture).astype(np.float32)),
        sound_there=torch.from_numpy((~hide_sound).astype(np.float32)),
    )


class Trainee(nn.Module):
    """The model and its helper heads."""

    def __init__(self) -> None:
        super().__init__()
        self.model = DigitModel(ReduceAt(SALIENCY, layer=0), ReduceAt(SALIENCY, layer=0))
        self.picture_head = nn.Linear(WIDTH, DIGITS)
        self.sound_head = nn.Linear(WIDTH, DIGITS)

    def losses(self, batch: Batch, keep: tuple[int, int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by name, of the answer and of the two helpers, and the scores [b, 10].

        Args:
            batch: what to learn from.
            keep: image tokens and audio tokens.
        """
        image, image_sizes, _ = self.model.vision(batch.pixels, torch.tensor(keep[0]))
        audio, audio_sizes, _ = self.model.audio(batch.frames, torch.tensor(keep[1]))
        scores = self.model.fusion(image, image_sizes, audio, audio_sizes)
        helpers = (
            ("picture", self.picture_head(image.mean(1)), batch.picture_there),
            ("sound", self.sound_head(audio.mean(1)), batch.sound_there),
        )
        losses = {"answer": functional.cross_entropy(scores, batch.digits)}
        for name, guess, there in helpers:
            losses[name] = (functional.cross_entropy(guess, batch.digits, reduction="none") * there).mean()
        return losses, scores


def learning_rate_at(step: int, options: Options) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def tokens_at(step: int, seed: int) -> tuple[int, int]:
    """Return how many image and audio tokens this step's model may look at, drawn independently."""
    image, audio = np.random.default_rng((seed, step, 1)).choice(BUDGETS, 2)
    return round(VISION.tokens * image), round(AUDIO.tokens * audio)


def train(options: Options, data: Path, out: Path) -> None:
    """Train to the last step, writing `checkpoint.pt`, `record.jsonl` and at the end the averaged weights."""
    corpus, unseen = load_corpus(data, "train"), load_corpus(data, "test")
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
        row = _step(trainee, average, optimizer, make_batch(corpus, options.seed, step, options.pairs), step, options)
        row["seconds"] = round(time.monotonic() - started, 1)
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            _save(checkpoint, trainee, average, optimizer, step + 1, row["seconds"])
            with (out / "record.jsonl").open("a") as record:
                record.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    _finish(average.model, unseen, options, out)


def _step(
    trainee: Trainee,
    average: Trainee,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    options: Options,
) -> dict[str, Any]:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, options)
    keep = tokens_at(step, options.seed)
    losses, scores = trainee.losses(batch, keep)
    optimizer.zero_grad(set_to_none=True)
    (losses["answer"] + HELPER_WEIGHT * (losses["picture"] + losses["sound"])).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
    optimizer.step()
    decay = min(options.average, (step + 1) / (step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(trainee.parameters()), 1 - decay)
    return {
        "step": step + 1,
        "learning_rate": round(learning_rate_at(step, options), 6),
        "tokens": keep,
        **{f"{name}_loss": round(loss.item(), 4) for name, loss in losses.items()},
        "accuracy": round(float((scores.argmax(-1) == batch.digits).float().mean()), 4),
    }


def _save(
    path: Path, trainee: Trainee, average: Trainee, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    temporary = path.with_suffix(".tmp")
    state = {"trainee": trainee.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "step": step, "seconds": seconds}, temporary)
    temporary.replace(path)


def evaluate(model: DigitModel, corpus: Corpus, seed: int, count: int, snr_db: float = SNR_DB) -> dict[str, float]:
    """Return accuracy at full tokens on `count` seeded pairs: with both, with the picture only, with the sound only."""
    pairs = [draw_pair(corpus, np.random.default_rng((seed, number)), snr_db) for number in range(count)]
    hits = dict.fromkeys(HIDDEN, 0)
    with torch.inference_mode():
        for start in range(0, count, 100):
            some = pairs[start : start + 100]
            for name, (picture, sound) in HIDDEN.items():
                batch = to_batch(some, np.full(len(some), picture), np.full(len(some), sound))
                hits[name] += int((model(batch.pixels, batch.frames).argmax(-1) == batch.digits).sum())
    return {name: hit / count for name, hit in hits.items()}


def _finish(model: DigitModel, unseen: Corpus, options: Options, out: Path) -> None:
    plain = DigitModel()
    plain.load_state_dict(model.state_dict())
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in plain.state_dict().items()}
    save_file(weights, out / "weights.safetensors")
    plain.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    plain.eval()
    result = {
        "options": asdict(options),
        "test_pairs": EVALUATED_PAIRS,
        "accuracy_by_snr_db": {
            f"{snr_db:g}": evaluate(plain, unseen, options.seed + 1_000_000, EVALUATED_PAIRS, snr_db)
            for snr_db in EVALUATED_SNRS_DB
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the two .npz files")
    parser.add_argument("--out", type=Path, default=Path("out/digits"))
    for name, default in asdict(Options()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    chosen = vars(parser.parse_args())
    data, out = chosen.pop("data"), chosen.pop("out")
    train(Options(**chosen), data, out)


if __name__ == "__main__":
    main()
