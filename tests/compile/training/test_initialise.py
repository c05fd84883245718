"""A shallower student starts from its teacher's layers; what does not fit is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_distillation import Classifier, models
from torch import nn

from sanderling.compile.training.initialise import initialise_student
from sanderling.errors import CheckpointError, RecipeError, SanderlingError, UnknownNameError

STACK = "encoder.layers"


@pytest.mark.parametrize(("given", "expected"), [(None, (0, 3)), ({STACK: (3, 1)}, (3, 1))])
def test_layers_and_shared_parts_are_copied(given: Any, expected: tuple[int, ...]) -> None:
    student, teacher = models()
    assert initialise_student(teacher, student, given) == {STACK: expected}
    mine, theirs = student.state_dict(), teacher.state_dict()
    for name, tensor in mine.items():
        source = name
        for place, layer in enumerate(expected):
            if name.startswith(f"{STACK}.{place}."):
                source = name.replace(f"{STACK}.{place}.", f"{STACK}.{layer}.")
        assert torch.equal(tensor, theirs[source]), name
    with torch.no_grad():
        student.head.weight.zero_()
    assert teacher.head.weight.any()


def test_student_of_all_layers_is_its_teacher() -> None:
    student, teacher = models(layers=4)
    assert initialise_student(teacher, student) == {}
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.equal(student(pixels, None)[0], teacher(pixels, None)[0])
    initialise_student(teacher, student, {STACK: (3, 2, 1, 0)})
    assert not torch.equal(student(pixels, None)[0], teacher(pixels, None)[0])


def test_layers_left_out_because_they_did_nothing_change_nothing() -> None:
    student, teacher = models()
    with torch.no_grad():
        for layer in (1, 3):
            for name in ("self_attn.out_proj", "mlp.fc2"):
                idle = teacher.get_submodule(f"{STACK}.{layer}.{name}")
                assert isinstance(idle, nn.Linear)
                idle.weight.zero_()
                idle.bias.zero_()
    initialise_student(teacher, student, {STACK: (0, 2)})
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.allclose(student(pixels, 7)[0], teacher(pixels, 7)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("student", "layers", "error", "message"),
    [
        (
            Classifier(2, width=8),
            None,
            CheckpointError,
            r"encoder.position_embedding of the student is \[16, 8\] and encoder.position_embedding .* \[16, 16\]",
        ),
        (Classifier(2, answers=3), None, CheckpointError, r"head.weight of the student is \[3, 16\] and .* \[5, 16\]"),
        (Classifier(5), None, CheckpointError, r"encoder.layers.4.layer_norm1.weight, which the teacher lacks"),
        (Classifier(2), {"encoder.layer": (0, 1)}, UnknownNameError, "did you mean 'encoder.layers'"),
        (Classifier(2), {STACK: (0,)}, RecipeError, r"layers \[0\] .* has 2 layers, so give 2 numbers, each 0 to 3"),
        (Classifier(2), {STACK: ()}, RecipeError, r"layers \[\] .* has 2 layers"),
        (Classifier(2), {STACK: (0, 4)}, RecipeError, r"layers \[0, 4\] .* each 0 to 3"),
        (Classifier(2), {STACK: (-1, 0)}, RecipeError, r"layers \[-1, 0\] .* each 0 to 3"),
    ],
    ids=["width", "answers", "deeper", "no such stack", "too few", "none", "too high", "negative"],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(
    student: Classifier, layers: Any, error: type[SanderlingError], message: str
) -> None:
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with pytest.raises(error, match=message):
        initialise_student(models()[1], student, layers)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
