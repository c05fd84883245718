"""Starts a shallower student from its teacher: shared parts are copied, and so are chosen layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sanderling.compile.training.hidden import spread_layers
from sanderling.errors import CheckpointError, RecipeError, UnknownNameError


def initialise_student(
    teacher: nn.Module, student: nn.Module, layers: Mapping[str, Sequence[int]] | None = None
) -> dict[str, tuple[int, ...]]:
    """Copy the teacher's weights into a student with fewer layers; return which layers went into each stack.

    Every `nn.ModuleList` that the student has under the same name with fewer entries is a stack; its entries come from
    evenly spaced ones of the teacher, first and last included, unless `layers` says which. DistilBERT (Sanh et al.
    2019, section 3).

    Args:
        teacher: its weights are read.
        student: its weights are overwritten, all of them or, after an error, none.
        layers: stack name such as "vision.encoder.layers" -> teacher's layers, from 0, one for each of the student's.

    Raises:
        UnknownNameError: `layers` names no stack of the student.
        RecipeError: not one layer of the teacher for every layer of the student.
        CheckpointError: a tensor that the teacher lacks or has in another shape; the message has both.
    """
    chosen = _chosen_layers(teacher, student, dict(layers or {}))
    weights = teacher.state_dict()
    found = {name: _source(name, tensor, weights, chosen) for name, tensor in student.state_dict().items()}
    with torch.no_grad():
        student.load_state_dict(found)
    return chosen


def _chosen_layers(
    teacher: nn.Module, student: nn.Module, layers: dict[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    have, want = _stacks(teacher), _stacks(student)
    for name in layers:
        if name not in want:
            raise UnknownNameError("stack of layers", name, want)
    chosen = {}
    for name, count in want.items():
        if name in have and (name in layers or count < have[name]):
            chosen[name] = tuple(layers[name] if name in layers else spread_layers(count, have[name]))
            _check_layers(name, chosen[name], count, have[name])
    return chosen


def _stacks(model: nn.Module) -> dict[str, int]:
    return {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}


def _check_layers(name: str, chosen: tuple[int, ...], wanted: int, available: int) -> None:
    outside = [layer for layer in chosen if not 0 <= layer < available]
    if len(chosen) != wanted or outside:
        raise RecipeError(
            f"layers {list(chosen)} for {name!r}: the student has {wanted} layers, so give {wanted} numbers, "
            f"each 0 to {available - 1}"
        )


def _source(name: str, tensor: Tensor, weights: Mapping[str, Tensor], chosen: Mapping[str, tuple[int, ...]]) -> Tensor:
    theirs = _teacher_name(name, chosen)
    if theirs not in weights:
        raise CheckpointError(
            f"{name} of the student would come from {theirs}, which the teacher lacks; build both from the same blocks"
        )
    if weights[theirs].shape != tensor.shape:
        raise CheckpointError(
            f"{name} of the student is {list(tensor.shape)} and {theirs} of the teacher {list(weights[theirs].shape)}; "
            "a student started from its teacher has the same widths"
        )
    return weights[theirs]


def _teacher_name(name: str, chosen: Mapping[str, tuple[int, ...]]) -> str:
    for stack, layers in chosen.items():
        match = re.match(rf"{re.escape(stack)}\.(\d+)\.", name)
        if match:
            return f"{stack}.{layers[int(match[1])]}.{name[match.end() :]}"
    return name
