"""What a user writes to distill a model, and the checks that are made before the first step.

A `Task` says how to make a batch, what student and teacher say about it, and how far apart they are; the loop does the
rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from sanderling.errors import InputError, UnknownNameError

Setting = Mapping[str, int]
"""Lever name -> value of one run of the student; empty for everything the model can do, as the teacher runs."""

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        outputs: tensors by name, on which student and teacher must agree in names and shapes.
        inner: hidden states, queries, places that were kept, by name; they may differ.
    """

    outputs: dict[str, Tensor]
    inner: dict[str, Tensor] = field(default_factory=dict)


class Task(Protocol[Batch]):
    """What is learned; keeps no state between steps, or a resumed run would not equal an uninterrupted one."""

    def batch(self, seed: int, number: int) -> Batch:
        """Return batch `number`, the same for the same seed on every machine.

        Numbers count up over the whole run and over all processes. To be moved to a GPU it has to be a tensor, a tuple
        or dict of tensors, or have a method `to(device)`.
        """
        ...

    def run(self, model: nn.Module, batch: Batch, setting: Setting) -> Answer:
        """Return what a model, student or teacher, says about a batch at a setting."""
        ...

    def losses(self, student: Answer, teacher: Answer, batch: Batch) -> dict[str, Tensor]:
        """Return scalars by name; the loop adds them with the options' weights."""
        ...

    def validate(self, student: nn.Module) -> dict[str, float]:
        """Return metrics by name, of a student in eval mode and without gradients; empty when there are none."""
        ...


@contextmanager
def tapped(model: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that holds the outputs of the named submodules once the model has run inside the `with`.

    Args:
        model: student or teacher.
        names: of submodules, as in `named_modules`, that return one tensor.

    Raises:
        UnknownNameError: no submodule of that name.
        InputError: a submodule was not called, or returned something else than one tensor.
    """
    seen: dict[str, Tensor] = {}
    handles = [module.register_forward_hook(_keep(seen, name)) for name, module in _submodules(model, names)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in names if name not in seen]
    if missing:
        raise InputError(f"submodule {missing[0]!r} was not called while the model ran; tap one that is")


def _submodules(model: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    try:
        return [(name, model.get_submodule(name)) for name in names]
    except AttributeError:
        known = [name for name, _ in model.named_modules() if name]
        raise UnknownNameError("submodule", next(name for name in names if name not in known), known) from None


def _keep(seen: dict[str, Tensor], name: str) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise InputError(f"submodule {name!r} returns {type(output).__name__}, expected one tensor; tap one inside")
        if name in seen:
            raise InputError(f"submodule {name!r} is called more than once in a run; tap something that is called once")
        seen[name] = output

    return hook


def check_agreement(student: Answer, teacher: Answer) -> None:
    """Return nothing when both have the same outputs, of the same shapes, and the teacher's are finite.

    Raises:
        InputError: they disagree; the message names the output and both shapes.
    """
    if not teacher.outputs:
        raise InputError("the teacher has no outputs; `run` must return at least one by name")
    if set(student.outputs) != set(teacher.outputs):
        raise InputError(
            f"the student's outputs are {sorted(student.outputs)} and the teacher's {sorted(teacher.outputs)}; "
            "name what both say alike, and put what only one has into `inner`"
        )
    for name, wanted in teacher.outputs.items():
        shape = student.outputs[name].shape
        if shape != wanted.shape:
            raise InputError(
                f"output {name!r} of the student is {list(shape)} and of the teacher {list(wanted.shape)}; "
                "build the student with the teacher's answers"
            )
        if not bool(torch.isfinite(wanted).all()):
            raise InputError(f"output {name!r} of the teacher is not finite; check its weights and the batch")


def check_losses(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
    """Return nothing when the losses are scalars, one of them at least can be learned from, and every weight is of one.

    Raises:
        InputError: a loss is not a scalar, or none depends on the student.
        UnknownNameError: a weight for a loss that the task does not return.
    """
    for name, loss in losses.items():
        if loss.ndim:
            raise InputError(f"loss {name!r} is {list(loss.shape)}, expected a scalar; take its mean")
    for name in weights:
        if name not in losses:
            raise UnknownNameError("loss", name, losses)
    learned = [name for name, loss in losses.items() if loss.requires_grad and weights.get(name, 1.0)]
    if not learned:
        raise InputError(f"none of the losses {sorted(losses)} depends on a weight of the student that can be trained")
