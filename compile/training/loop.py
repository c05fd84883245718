"""The training loop: resumable, on CPU or GPU, on one process or several.

    result = train(task, student, teacher, Options(steps=2000), Path("out/student"), helpers=task.hidden)

Start several processes with Hugging Face's `accelerate launch --num_processes 2 script.py`, which also chooses the
device. A run that is killed goes on from its last checkpoint when it is started again, and on CPU ends in the same
weights, bit for bit: a step's batch, budget and random numbers follow from the seed and the step alone.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor, nn

from sanderling.compile.training.options import Options
from sanderling.compile.training.record import Record
from sanderling.compile.training.resume import CHECKPOINT, State, averaged, load, save
from sanderling.compile.training.task import Answer, Batch, Setting, Task, check_agreement, check_losses
from sanderling.errors import CheckFailedError, InputError, MissingExtraError, RecipeError, UnknownNameError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        step: steps done.
        stopped_early: by `patience`.
        best: the watched metric's best value; NaN when none is watched.
        best_step: steps done when it was reached; the last one when none is watched.
    """

    step: int
    stopped_early: bool
    best: float
    best_step: int


def train(
    task: Task[Batch],
    student: nn.Module,
    teacher: nn.Module | None,
    options: Options,
    out: Path,
    *,
    helpers: nn.Module | None = None,
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Train the student, which ends in eval mode with its averaged weights: the best by `watch`, else the last.

    Seeds the random numbers of torch, NumPy and Python at every step.

    Args:
        task: what is learned.
        student: weights that require gradients are trained; on several processes each of them has to take part in every
            run, as torch's DistributedDataParallel asks.
        teacher: not changed, run in eval mode; None lets the student's moving average teach it (ALBEF, Li et al. 2021,
            section 3.3).
        options: how to train.
        out: folder of `checkpoint.pt`, `record.jsonl` and TensorBoard's events; made when missing.
        helpers: trained with the student and dropped afterwards, such as the projections of `hidden.HiddenStates`.
        tensorboard: write TensorBoard's scalars.
        progress: called as `sanderling.progress.ProgressLine`.

    Raises:
        InputError: student and teacher disagree on their outputs, or a loss is no scalar; before the first step.
        RecipeError: options that contradict each other or the models.
        CheckpointError: the folder has a run with other options or models.
        CheckFailedError: a loss, gradient or watched metric is not finite; the last good checkpoint stays.
        MissingExtraError: accelerate, or the TensorBoard that is asked for, is not installed.
    """
    accelerator = _accelerator()
    run = _Run(accelerator, task, student, teacher, options, out, helpers or nn.Module())
    out.mkdir(parents=True, exist_ok=True)
    load(run.state, options, run.batches, out, accelerator.device)
    main: bool = accelerator.is_main_process
    record = Record(out, run.state.step, options.steps, tensorboard, progress) if main else None
    try:
        run.go(record)
    finally:
        if record is not None:
            record.close()
    return run.finish()


def _accelerator() -> Any:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise MissingExtraError("accelerate", "train", "training") from error
    return Accelerator()


class _Measured(nn.Module):
    """Student and helpers as one module whose output is the losses, so that their gradients are averaged together."""

    def __init__(
        self, task: Task[Any], student: nn.Module, helpers: nn.Module, device_type: str, bfloat16: bool
    ) -> None:
        super().__init__()
        self.student, self.helpers = student, helpers
        self._run, self._losses = task.run, task.losses
        self._device_type, self._bfloat16 = device_type, bfloat16

    def forward(self, batch: Any, taught: Answer, setting: Setting) -> dict[str, Tensor]:
        """Return the losses by name."""
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._bfloat16):
            return self._losses(self._run(self.student, batch, setting), taught, batch)


class _Run(Generic[Batch]):
    """One run of `train`."""

    def __init__(
        self,
        accelerator: Any,
        task: Task[Batch],
        student: nn.Module,
        teacher: nn.Module | None,
        options: Options,
        out: Path,
        helpers: nn.Module,
    ) -> None:
        if teacher is None and not options.average:
            raise RecipeError("no teacher and no moving average to teach instead; give a teacher, or average above 0")
        self.accelerator, self.task, self.options, self.out = accelerator, task, options, out
        self.device: torch.device = accelerator.device
        self.batches: int = accelerator.num_processes * options.accumulate
        student.to(self.device).train()
        helpers.to(self.device).train()
        self.trained = [p for module in (student, helpers) for p in module.parameters() if p.requires_grad]
        optimizer = _optimizer(self.trained, options)
        measured = _Measured(task, student, helpers, self.device.type, options.precision == "bfloat16")
        self.model = accelerator.prepare_model(measured)
        # After the line above, which gives every process the first one's weights.
        average = averaged(student, options.average)
        self.state = State(student, average, helpers, optimizer)
        self.teacher = average if teacher is None else teacher.to(self.device).eval()
        self.names = self._check(measured)
        self.sums = torch.zeros(len(self.names), device=self.device)
        self.first_bad = torch.full((len(self.names) + 1,), -1, device=self.device)

    def _check(self, measured: _Measured) -> tuple[str, ...]:
        """Return the losses' names, after one run that compares student and teacher."""
        batch = self._batch(0)
        taught = self._taught(batch)
        measured.eval()  # a run in train mode would move the statistics of batch norms
        answer = self.task.run(measured.student, batch, self.options.elastic.largest)
        check_agreement(answer, taught)
        losses = self.task.losses(answer, taught, batch)
        check_losses(losses, self.options.weights)
        measured.train()
        return tuple(losses)

    def go(self, record: Record | None) -> None:
        """Train until the last step, or until patience is over."""
        options, state = self.options, self.state
        begun, logged = time.monotonic() - state.seconds, state.step
        while state.step < options.steps and not state.stopped:
            norm = self._step(state.step)
            state.update_average(options.average)
            state.step += 1
            if not options.due(options.log_every, state.step):
                continue
            row = self._row(norm, state.step - logged)
            state.seconds, logged = time.monotonic() - begun, state.step
            if options.due(options.validate_every, state.step):
                row |= {f"validation.{name}": value for name, value in self._validate().items()}
            if record is not None:
                record.write({"step": state.step, **row, "seconds": round(state.seconds, 3)})
            if options.due(options.save_every, state.step) or state.stopped:
                self._save()

    def finish(self) -> Result:
        """Return how it ended, with the weights to keep in the student."""
        state = self.state
        best = state.best_weights or state.average.state_dict()
        state.student.load_state_dict(best)
        state.student.eval()
        return Result(state.step, state.stopped, state.best, state.best_step or state.step)

    def _step(self, step: int) -> Tensor:
        """Return the length of the gradient, after one update of the weights."""
        options, accelerator = self.options, self.accelerator
        _seed_all(options.seed, step, accelerator.process_index, self.device)
        settings = options.elastic.settings(options.seed, step)
        first = step * self.batches + accelerator.process_index
        for number in range(first, first + self.batches, accelerator.num_processes):
            batch = self._batch(number)
            taught = self._taught(batch)
            for setting in settings:
                last = number + accelerator.num_processes >= first + self.batches and setting is settings[-1]
                with nullcontext() if last else accelerator.no_sync(self.model):
                    self._learn(batch, taught, setting, 1 / (options.accumulate * len(settings)))
        norm = nn.utils.clip_grad_norm_(self.trained, options.clip_norm)
        for group in self.state.optimizer.param_groups:
            group["lr"] = options.learning_rate_at(step)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        self._mark_bad(norm, step)
        return norm

    def _learn(self, batch: Batch, taught: Answer, setting: Setting, share: float) -> None:
        losses: dict[str, Tensor] = self.model(batch, taught, setting)
        if tuple(losses) != self.names:
            raise InputError(
                f"the losses are {tuple(losses)} and were {self.names} at first; return the same every time"
            )
        weights = self.options.weights
        total = torch.stack([loss.float() * weights.get(name, 1.0) for name, loss in losses.items()]).sum()
        (total * share).backward()  # type: ignore[no-untyped-call]
        self.sums += torch.stack([loss.detach().float() for loss in losses.values()]) * share

    def _mark_bad(self, norm: Tensor, step: int) -> None:
        """Note on the device, without waiting for it, at which step each loss and the gradient stopped being finite."""
        finite = torch.cat([self.sums, norm[None]]).isfinite()
        self.first_bad = torch.where(finite | (self.first_bad >= 0), self.first_bad, step)

    def _row(self, norm: Tensor, steps: int) -> dict[str, float]:
        """Return what the record says: losses as means over the steps and over the processes.

        Raises:
            CheckFailedError: one of them is not finite.
        """
        means = self.accelerator.reduce(torch.cat([self.sums / steps, norm[None]]), "mean").tolist()
        bad = self.accelerator.gather(self.first_bad).reshape(-1, len(self.names) + 1).amax(0).tolist()
        self._refuse_bad(bad)
        self.sums.zero_()
        named = dict(zip(self.names, means, strict=False))
        row = {"loss": sum(value * self.options.weights.get(name, 1.0) for name, value in named.items())}
        row |= {f"loss.{name}": value for name, value in named.items()}
        rate = self.options.learning_rate_at(self.state.step - 1)
        return {**row, "gradient_norm": means[-1], "learning_rate": rate}

    def _refuse_bad(self, bad: list[int]) -> None:
        steps = {name: step for name, step in zip([*self.names, ""], bad, strict=True) if step >= 0}
        if not steps:
            return
        name = min(steps, key=lambda bad_name: steps[bad_name])
        path = self.out / CHECKPOINT
        kept = f"{path} still holds the last good weights" if path.exists() else "there was no checkpoint yet"
        what = f"loss {name!r}" if name else "the gradient"
        raise CheckFailedError(
            f"{what} is not finite at step {steps[name]}; {kept}. Look at batch {steps[name] * self.batches} and those "
            f"after it, or train in another folder with a lower learning_rate than {self.options.learning_rate:g}"
        )

    def _validate(self) -> dict[str, float]:
        """Return the task's metrics for the averaged weights, and remember the weights when they are the best."""
        state, options = self.state, self.options
        state.average.eval()
        metrics: list[dict[str, float]] = [{}]
        if self.accelerator.is_main_process:
            with torch.no_grad():
                metrics = [self.task.validate(state.average)]
        state.student.train()
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(metrics)
        if options.watch:
            self._watch(metrics[0])
        return metrics[0]

    def _watch(self, metrics: dict[str, float]) -> None:
        state, options = self.state, self.options
        if options.watch not in metrics:
            raise UnknownNameError("validation metric", options.watch, metrics)
        value = metrics[options.watch]
        if not math.isfinite(value):
            raise CheckFailedError(f"validation metric {options.watch!r} is {value} after {state.step} steps")
        state.keep_best(value, options.better == "higher")
        state.stopped = bool(options.patience) and state.waited >= options.patience

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save(self.state, self.options, self.batches, self.out)
        self.accelerator.wait_for_everyone()

    def _batch(self, number: int) -> Batch:
        batch = self.task.batch(self.options.seed, number)
        if self.device.type == "cpu":
            return batch
        from accelerate.utils import send_to_device

        moved: Batch = send_to_device(batch, self.device)
        return moved

    def _taught(self, batch: Batch) -> Answer:
        bfloat16 = self.options.precision == "bfloat16"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            return self.task.run(self.teacher, batch, {})


def _optimizer(trained: list[nn.Parameter], options: Options) -> torch.optim.Optimizer:
    if not trained:
        raise RecipeError("no weight of the student requires gradients; there is nothing to train")
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=options.learning_rate, betas=options.betas, fused=True
    )


def _seed_all(seed: int, step: int, process: int, device: torch.device) -> None:
    """Seed every generator that a batch or a dropout may draw from, differently at each step and process."""
    torch_seed, numpy_seed, python_seed = np.random.SeedSequence((seed, step, process)).generate_state(3)
    # Not torch.manual_seed, which formats a stack trace for every kind of device that is not in use.
    torch.default_generator.manual_seed(int(torch_seed))
    if device.type == "cuda":
        torch.cuda.manual_seed(int(torch_seed))
    np.random.seed(int(numpy_seed))
    random.seed(int(python_seed))
