"""How to train, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from sanderling.compile.training.elastic import Elastic
from sanderling.errors import RecipeError

FLOOR = 0.01
"""The cosine ends at this part of the learning rate."""


@dataclass(frozen=True)
class Options:
    """How to train; a run resumes only with the options it was started with.

    Attributes:
        steps: updates of the weights.
        learning_rate: the highest; it rises over `warmup` steps and falls along a cosine to a hundredth.
        warmup: steps of linear rise.
        weight_decay: of AdamW (Loshchilov and Hutter 2019), on matrices; biases, norms and other vectors have none.
        betas: of AdamW.
        clip_norm: longest gradient, over all weights together.
        average: decay of the moving average of the weights, which is what training returns; 0 for none.
        accumulate: batches whose gradients are averaged before a step, on each process.
        precision: "bfloat16" runs matrix products in bfloat16 where torch's autocast does; weights stay float32.
        weights: loss name -> weight; a loss not named here weighs 1.
        elastic: the token budgets that steps draw.
        seed: of batches, budgets and dropout.
        log_every: steps between rows of the record; the only moments at which the loop waits for a GPU.
        save_every: steps between checkpoints, a multiple of `log_every`.
        validate_every: steps between validations, a multiple of `log_every`; 0 for none.
        watch: the validation metric that decides which weights are returned; empty for the last ones.
        better: which way the watched metric improves.
        patience: validations without improvement after which to stop; 0 for never.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    average: float = 0.995
    accumulate: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    weights: Mapping[str, float] = field(default_factory=dict)
    elastic: Elastic = field(default_factory=Elastic)
    seed: int = 0
    log_every: int = 10
    save_every: int = 100
    validate_every: int = 0
    watch: str = ""
    better: Literal["higher", "lower"] = "higher"
    patience: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "save_every"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("warmup", "validate_every", "patience", "weight_decay", "seed"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, expected 0 or more")
        for name in ("learning_rate", "clip_norm"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, expected more than 0")
        _require(0 <= self.average < 1, f"average is {self.average}, expected 0 to below 1")
        for name in ("save_every", "validate_every"):
            rest = getattr(self, name) % self.log_every
            _require(not rest, f"{name} is {getattr(self, name)}, expected a multiple of log_every, {self.log_every}")
        _require(self.better in ("higher", "lower"), f"better is {self.better!r}, expected 'higher' or 'lower'")
        precisions = ("float32", "bfloat16")
        _require(self.precision in precisions, f"precision is {self.precision!r}, expected one of {precisions}")
        _require(not self.watch or self.validate_every > 0, f"watch is {self.watch!r}, so give validate_every as well")
        _require(not self.patience or bool(self.watch), "patience needs a metric to watch; give watch as well")
        _require(self.watch != "" or self.better == "higher", "better needs a metric to watch; give watch as well")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    def due(self, every: int, done: int) -> bool:
        """Return whether something that happens every so many steps happens after `done` steps; the last one counts."""
        return every > 0 and (done % every == 0 or done == self.steps)

    def described(self) -> dict[str, str]:
        """Return every option as text, to compare a resumed run's with."""
        return {item.name: repr(getattr(self, item.name)) for item in fields(self)}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RecipeError(message)
