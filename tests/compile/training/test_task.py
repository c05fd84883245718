"""Taps see what submodules return; disagreements are named before the first step."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from tiny_distillation import models
from torch import Tensor, nn

from sanderling.compile.training.task import Answer, check_agreement, check_losses, tapped
from sanderling.errors import InputError, UnknownNameError

PIXELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_taps_see_the_outputs_and_are_gone_afterwards() -> None:
    _, teacher = models()
    names = ("encoder.layers.1", "head")
    with tapped(teacher, names) as seen:
        scores, _ = teacher(PIXELS, None)
    assert seen["head"] is scores
    assert seen["encoder.layers.1"].shape == (2, 16, 16)
    assert not any(module._forward_hooks for module in teacher.modules())


class Odd(nn.Module):
    """Calls one part twice, one never, and one that returns a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.pair = nn.Linear(3, 3), nn.Linear(3, 3), nn.LSTM(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3] -> [n, 3]."""
        out: Tensor = self.pair(self.twice(self.twice(x)))[0]
        return out


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("twicf", UnknownNameError, "submodule 'twicf'; did you mean 'twice'"),
        ("twice", InputError, "'twice' is called more than once"),
        ("never", InputError, "'never' was not called"),
        ("pair", InputError, "'pair' returns tuple, expected one tensor"),
    ],
)
def test_what_cannot_be_tapped_is_refused(name: str, error: type[Exception], message: str) -> None:
    model = Odd()
    with pytest.raises(error, match=message), tapped(model, (name,)):
        model(torch.zeros(2, 3))
    assert not any(module._forward_hooks for module in model.modules())


def answer(**shapes: tuple[int, ...]) -> Answer:
    return Answer({name: torch.zeros(shape) for name, shape in shapes.items()})


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (answer(a=(1,)), answer(), "the teacher has no outputs"),
        (answer(a=(1,)), answer(a=(1,), b=(1,)), r"student's outputs are \['a'\] and the teacher's \['a', 'b'\]"),
        (answer(a=(2, 3)), answer(a=(2, 4)), r"'a' of the student is \[2, 3\] and of the teacher \[2, 4\]"),
        (answer(a=(2,)), Answer({"a": torch.tensor([0, float("nan")])}), "'a' of the teacher is not finite"),
    ],
)
def test_answers_that_disagree_are_refused(student: Answer, teacher: Answer, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_agreement(student, teacher)


LEARNED = torch.ones((), requires_grad=True) * 2


@pytest.mark.parametrize(
    ("losses", "weights", "error", "message"),
    [
        ({"a": torch.zeros(2, requires_grad=True)}, {}, InputError, r"loss 'a' is \[2\], expected a scalar"),
        ({"scores": LEARNED}, {"score": 2.0}, UnknownNameError, "loss 'score'; did you mean 'scores'"),
        ({"a": torch.zeros(())}, {}, InputError, r"none of the losses \['a'\] depends on a weight"),
        ({"a": LEARNED}, {"a": 0.0}, InputError, r"none of the losses \['a'\] depends on a weight"),
        ({}, {}, InputError, r"none of the losses \[\] depends on a weight"),
    ],
)
def test_losses_that_teach_nothing_are_refused(
    losses: Mapping[str, Tensor], weights: Mapping[str, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_losses(losses, weights)
