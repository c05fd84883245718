"""Losses on hidden states, and which layer of the teacher each layer of a shallower student follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sanderling.compile.training.shapes import require_same_shape
from sanderling.errors import InputError, RecipeError


def uniform_map(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Return the teacher's layer, from 0, whose output each of the student's layers follows.

    Layer m of M, counted from 1, follows layer m * N / M of N, so the last follows the last: Jiao et al. 2020,
    "TinyBERT", section 3 ("uniform" in their table 5), rounded down where it is no whole number.

    Raises:
        RecipeError: not 1 to `teacher_layers` student layers.
    """
    _require_shallower(student_layers, teacher_layers)
    return tuple(m * teacher_layers // student_layers - 1 for m in range(1, student_layers + 1))


def spread_layers(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Return evenly spaced teacher layers, from 0, first and last included, to start the student's layers from.

    6 of 12 are 0, 2, 4, 7, 9 and 11, which DistilBERT (Sanh et al. 2019, section 3) starts from.

    Raises:
        RecipeError: not 1 to `teacher_layers` student layers.
    """
    _require_shallower(student_layers, teacher_layers)
    if student_layers == 1:
        return (0,)
    step = (teacher_layers - 1) / (student_layers - 1)
    return tuple(round(step * layer) for layer in range(student_layers))


def _require_shallower(student_layers: int, teacher_layers: int) -> None:
    if not 1 <= student_layers <= teacher_layers:
        raise RecipeError(
            f"the student has {student_layers} layers and the teacher {teacher_layers}; "
            f"expected 1 to {teacher_layers}, or name the layers yourself"
        )


class HiddenStates(nn.Module):
    """The hidden-state loss of several layers, with learned projections where widths differ.

    For every pair MSE(H_student W, H_teacher), then the mean over pairs: TinyBERT (Jiao et al. 2020), equation 8. W is
    trained with the student and dropped afterwards; where the widths are equal there is none.

    Args:
        pairs: name of the student's hidden state -> name of the teacher's.
        student_width: channels of the student's.
        teacher_width: channels of the teacher's.
    """

    def __init__(self, pairs: Mapping[str, str], student_width: int, teacher_width: int) -> None:
        super().__init__()
        if not pairs:
            raise RecipeError("no pairs of hidden states to compare; name at least one")
        self.pairs = dict(pairs)
        same = student_width == teacher_width
        self.projections = nn.ModuleList(
            nn.Identity() if same else nn.Linear(student_width, teacher_width, bias=False) for _ in self.pairs
        )

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: hidden states by name, [..., student_width].
            teacher: hidden states by name, of the same tokens, [..., teacher_width].

        Raises:
            InputError: a name is missing or shapes do not fit.
        """
        losses = []
        for (mine, theirs), project in zip(self.pairs.items(), self.projections, strict=True):
            followed = _state("student", student, mine)
            wanted = _state("teacher", teacher, theirs)
            if isinstance(project, nn.Linear) and followed.shape[-1] != project.in_features:
                raise InputError(f"{mine!r} has {followed.shape[-1]} channels, expected {project.in_features}")
            projected = project(followed)
            require_same_shape(f"hidden states {mine!r} and {theirs!r}", projected, wanted)
            losses.append(functional.mse_loss(projected, wanted))
        return torch.stack(losses).mean()


def _state(whose: str, states: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in states:
        raise InputError(f"the {whose} has no hidden state {name!r}, only {sorted(states)}; tap it, or name another")
    return states[name]


def tokens_at(rows: Tensor, kept: Tensor) -> Tensor:
    """Return the rows that a student kept, to compare it with a teacher that kept all.

    Args:
        rows: [batch, n, width]
        kept: places, int64 [batch, keep].

    Returns:
        [batch, keep, width]
    """
    return torch.gather(rows, 1, kept[..., None].expand(-1, -1, rows.shape[-1]))


def layer_pairs(pattern: str, layers: Sequence[int]) -> dict[str, str]:
    """Return student name -> teacher name for `HiddenStates`, from one pattern with `{}` where the number stands.

    `layer_pairs("encoder.layers.{}", (1, 3, 5))` is layers.0 -> layers.1, layers.1 -> layers.3, layers.2 -> layers.5.

    Raises:
        RecipeError: the pattern has no `{}`.
    """
    if "{}" not in pattern:
        raise RecipeError(f"pattern {pattern!r} has no {{}} where the layer's number goes")
    return {pattern.format(mine): pattern.format(theirs) for mine, theirs in enumerate(layers)}
