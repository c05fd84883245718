"""The state of a run: what a checkpoint holds, how it is written and read back."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanderling.atomic import write_whole
from sanderling.compile.training.options import Options
from sanderling.errors import CheckpointError

CHECKPOINT = "checkpoint.pt"
_AGAIN = "delete it to start again, or give another folder"


@dataclass
class State:
    """Everything that changes while a run goes on; random numbers need no place in it, each step seeds its own.

    Attributes:
        student: in training.
        average: its moving average; the student itself when there is none.
        helpers: trained beside the student and dropped afterwards.
        optimizer: over both.
        step: steps done.
        seconds: time spent, over all resumed parts.
        best: the watched metric's best value, and `best_step` when that was.
        best_weights: the averaged weights at that step.
        waited: validations since.
        stopped: it ended early.
    """

    student: nn.Module
    average: nn.Module
    helpers: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: float = math.nan
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    stopped: bool = False

    def update_average(self, decay: float) -> None:
        """Move the average towards the student; the first steps count more, so that the start is forgotten."""
        if self.average is self.student:
            return
        decay = min(decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.student.parameters()), 1 - decay)
            for mine, theirs in zip(self.average.buffers(), self.student.buffers(), strict=True):
                mine.copy_(theirs)

    def keep_best(self, value: float, higher: bool) -> None:
        """Remember the averaged weights when the value is the best so far."""
        if math.isnan(self.best) or (value > self.best if higher else value < self.best):
            self.best, self.best_step, self.waited = value, self.step, 0
            self.best_weights = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        else:
            self.waited += 1


_MODULES = ("student", "average", "helpers", "optimizer")
_VALUES = ("step", "seconds", "best", "best_step", "best_weights", "waited", "stopped")


def averaged(student: nn.Module, decay: float) -> nn.Module:
    """Return a copy of the student to average into, or the student itself when the decay is 0."""
    return deepcopy(student).requires_grad_(False).eval() if decay else student


def save(state: State, options: Options, batches: int, out: Path) -> None:
    """Write the checkpoint, wholly or not at all.

    Raises:
        UserError: it cannot be written; an older one stays.
    """
    held: dict[str, Any] = {name: getattr(state, name).state_dict() for name in _MODULES}
    held |= {name: getattr(state, name) for name in _VALUES}
    buffer = io.BytesIO()
    torch.save({**held, "options": options.described(), "batches": batches}, buffer)
    write_whole(out / CHECKPOINT, [buffer.getbuffer()])


def load(state: State, options: Options, batches: int, out: Path, device: torch.device) -> None:
    """Bring the state to where the folder's checkpoint is; nothing when there is none.

    Args:
        state: freshly made.
        options: of this run.
        batches: a step's batches, over all processes.
        out: folder of the run.
        device: where tensors go.

    Raises:
        CheckpointError: damaged, or of a run with other options, batches or models.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return
    held = _read(path, device)
    _check_same(path, held, options, batches)
    try:
        for name in _MODULES:
            getattr(state, name).load_state_dict(held[name])
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is of another model ({error}); {_AGAIN}") from error
    for name in _VALUES:
        setattr(state, name, held[name])


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        held = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({type(error).__name__}); {_AGAIN}") from error
    missing = sorted({*_MODULES, *_VALUES, "options", "batches"} - set(held if isinstance(held, dict) else ()))
    if missing:
        raise CheckpointError(f"{path} has no {missing[0]!r}, so it is no checkpoint of a run; {_AGAIN}")
    assert isinstance(held, dict)
    return held


def _check_same(path: Path, held: Mapping[str, Any], options: Options, batches: int) -> None:
    before, now = held["options"], options.described()
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise CheckpointError(
                f"{path} was made with {name} = {before.get(name)} and this run has {now.get(name)}; "
                f"resume with the same options, {_AGAIN}"
            )
    if held["batches"] != batches:
        raise CheckpointError(
            f"{path} was made with {held['batches']} batches a step and this run has {batches} (processes times "
            f"accumulate); resume with as many, {_AGAIN}"
        )
