"""Hidden states are compared layer by layer, and layers are mapped as published."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sanderling.compile.training.hidden import HiddenStates, layer_pairs, spread_layers, tokens_at, uniform_map
from sanderling.errors import InputError, RecipeError


def test_layers_are_mapped_as_tinybert_maps_them() -> None:
    assert uniform_map(4, 12) == (2, 5, 8, 11)  # g(m) = 3 m, counted from 1
    assert uniform_map(6, 12) == (1, 3, 5, 7, 9, 11)
    assert uniform_map(4, 6) == (0, 2, 3, 5)
    assert uniform_map(3, 3) == (0, 1, 2)


def test_layers_are_copied_as_distilbert_copies_them() -> None:
    assert spread_layers(6, 12) == (0, 2, 4, 7, 9, 11)
    assert spread_layers(3, 6) == (0, 2, 5)
    assert spread_layers(1, 6) == (0,)
    assert spread_layers(5, 5) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("make", [uniform_map, spread_layers])
@pytest.mark.parametrize("student", [0, 7])
def test_student_as_deep_as_its_teacher_at_most(make: type, student: int) -> None:
    with pytest.raises(RecipeError, match=f"student has {student} layers and the teacher 6; expected 1 to 6"):
        make(student, 6)


def test_pairs_come_from_a_pattern() -> None:
    assert layer_pairs("a.{}.mlp", (1, 3)) == {"a.0.mlp": "a.1.mlp", "a.1.mlp": "a.3.mlp"}
    with pytest.raises(RecipeError, match=r"pattern 'a.0' has no \{\}"):
        layer_pairs("a.0", (1,))


def test_loss_of_equal_widths_is_the_mean_square_and_has_no_weights() -> None:
    torch.manual_seed(0)
    hidden = HiddenStates({"a": "x", "b": "y"}, 4, 4)
    a, b, x, y = torch.randn(4, 2, 3, 4)
    expected = np.mean([((s - t).numpy() ** 2).mean() for s, t in ((a, x), (b, y))])
    assert float(hidden({"a": a, "b": b}, {"x": x, "y": y})) == pytest.approx(expected, rel=1e-6)
    assert not list(hidden.parameters())


def test_narrower_states_are_projected_with_learned_weights() -> None:
    torch.manual_seed(0)
    hidden = HiddenStates({"a": "x"}, 3, 5)
    (weight,) = hidden.parameters()
    a, x = torch.randn(2, 4, 3), torch.randn(2, 4, 5)
    loss = hidden({"a": a}, {"x": x})
    expected = [
        (a[i, j].numpy() @ weight.detach().numpy().T - x[i, j].numpy()) ** 2 for i in range(2) for j in range(4)
    ]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.any()


def test_kept_tokens_are_those_at_their_places() -> None:
    rows = torch.arange(24.0).reshape(2, 4, 3)
    kept = torch.tensor([[0, 3], [1, 2]])
    assert torch.equal(tokens_at(rows, kept), torch.stack([rows[0, [0, 3]], rows[1, [1, 2]]]))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ({"b": (2, 3)}, {"x": (2, 5)}, r"student has no hidden state 'a', only \['b'\]"),
        ({"a": (2, 3)}, {}, r"teacher has no hidden state 'x', only \[\]"),
        ({"a": (2, 4)}, {"x": (2, 5)}, "'a' has 4 channels, expected 3"),
        ({"a": (2, 3)}, {"x": (2, 6)}, r"'a' and 'x' of the student are \[2, 5\] and of the teacher \[2, 6\]"),
        ({"a": (2, 3)}, {"x": (4, 5)}, "compare only tokens that both kept"),
    ],
)
def test_states_that_do_not_fit_are_refused(
    student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]], message: str
) -> None:
    hidden = HiddenStates({"a": "x"}, 3, 5)
    mine, theirs = ({name: torch.zeros(shape) for name, shape in given.items()} for given in (student, teacher))
    with pytest.raises(InputError, match=message):
        hidden(mine, theirs)


def test_no_pairs_are_refused() -> None:
    with pytest.raises(RecipeError, match="no pairs of hidden states"):
        HiddenStates({}, 3, 5)
