"""Every loss equals its published equation written out in NumPy loops, or torch's own function."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sanderling.compile.training.geometry import geometry_loss
from sanderling.compile.training.relations import attention_score_loss, relation_loss
from sanderling.compile.training.soft_targets import mixed_target_loss, similarity_loss, soft_target_loss
from sanderling.errors import InputError, RecipeError

Array: TypeAlias = NDArray[np.float64]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(scores: Array) -> Array:
    exponents = np.exp(scores - scores.max())
    return np.asarray(exponents / exponents.sum())


def kl(p: Array, q: Array) -> float:
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))


STUDENT, TEACHER = 3 * randn(7, 5, seed=1), 3 * randn(7, 5, seed=2)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_equal_torch_and_the_equation(temperature: float) -> None:
    loss = soft_target_loss(STUDENT, TEACHER, temperature)
    logs = functional.log_softmax(STUDENT / temperature, -1)
    theirs = functional.kl_div(logs, functional.softmax(TEACHER / temperature, -1), reduction="batchmean")
    assert torch.isclose(loss, temperature**2 * theirs)
    rows = zip(STUDENT.numpy() / temperature, TEACHER.numpy() / temperature, strict=True)
    assert float(loss) == pytest.approx(temperature**2 * np.mean([kl(softmax(t), softmax(s)) for s, t in rows]))


def test_gradient_of_soft_targets_at_high_temperature_is_that_of_centred_scores() -> None:
    """Hinton et al., equation 4: (z - v) / N for scores of mean zero, whatever T is."""
    student = (STUDENT - STUDENT.mean(-1, keepdim=True)).requires_grad_()
    teacher = TEACHER - TEACHER.mean(-1, keepdim=True)
    soft_target_loss(student, teacher, 1e4).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert torch.allclose(student.grad * len(student), (student.detach() - teacher) / 5, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_mixed_targets_equal_albefs_equation(alpha: float) -> None:
    """(1 - alpha) H(y, p) + alpha KL(q || p), up to the entropy of q."""
    expected = []
    for s, t, label in zip(STUDENT.numpy(), TEACHER.numpy(), LABELS.tolist(), strict=True):
        p, q = softmax(s), softmax(t)
        entropy = -float((q * np.log(q)).sum())
        expected.append(-(1 - alpha) * np.log(p[label]) + alpha * (kl(q, p) + entropy))
    loss = mixed_target_loss(STUDENT, TEACHER, LABELS, alpha)
    assert float(loss) == pytest.approx(np.mean(expected))
    if alpha == 0:
        assert torch.isclose(loss, functional.cross_entropy(STUDENT, LABELS))


def test_similarities_equal_the_equation_in_both_directions() -> None:
    student, teacher = (randn(4, 3, seed=3), randn(4, 3, seed=4)), (randn(4, 6, seed=5), randn(4, 6, seed=6))

    def distributions(pair: tuple[Tensor, Tensor]) -> list[Array]:
        images, texts = (rows.numpy() for rows in pair)
        cosine = np.zeros((4, 4))
        for i, j in product(range(4), range(4)):
            cosine[i, j] = images[i] @ texts[j] / np.linalg.norm(images[i]) / np.linalg.norm(texts[j])
        return [softmax(row) for row in cosine / 0.5] + [softmax(column) for column in cosine.T / 0.5]

    expected = np.mean([kl(t, s) for s, t in zip(distributions(student), distributions(teacher), strict=True)])
    assert float(similarity_loss(student, teacher, 0.5)) == pytest.approx(expected)
    assert float(similarity_loss(student, teacher, 0.1)) != pytest.approx(expected)


def relation_matrices(pair: tuple[Tensor, Tensor], heads: int) -> list[Array]:
    """The scaled scores [n, n] of each sample and head."""
    a, b = (tensor.numpy() for tensor in pair)
    width = a.shape[-1] // heads
    matrices = []
    for sample, head in product(range(len(a)), range(heads)):
        part = slice(head * width, (head + 1) * width)
        n = a.shape[1]
        scores = np.zeros((n, n))
        for i, j in product(range(n), range(n)):
            scores[i, j] = a[sample, i, part] @ b[sample, j, part] / np.sqrt(width)
        matrices.append(scores)
    return matrices


QK, WIDE_QK = (randn(2, 5, 8, seed=7), randn(2, 5, 8, seed=8)), (randn(2, 5, 12, seed=9), randn(2, 5, 12, seed=10))


@pytest.mark.parametrize("heads", [1, 4])
def test_relations_equal_minilms_equation(heads: int) -> None:
    expected = [
        kl(softmax(t), softmax(s))
        for ss, ts in zip(relation_matrices(QK, heads), relation_matrices(WIDE_QK, heads), strict=True)
        for s, t in zip(ss, ts, strict=True)
    ]
    assert float(relation_loss(QK, WIDE_QK, heads)) == pytest.approx(np.mean(expected))


def test_attention_transfer_uses_torchs_own_attention_weights() -> None:
    """The relation of (q, k) with a model's heads is what its attention computes."""
    q, k = (rows.reshape(2, 5, 2, 4).transpose(1, 2) for rows in QK)
    weights = functional.scaled_dot_product_attention(q, k, torch.eye(5, dtype=q.dtype).expand(2, 2, 5, 5))
    zeros = (torch.zeros_like(QK[0]), torch.zeros_like(QK[1]))
    entropy = -(weights * weights.log()).sum(-1).mean()
    assert torch.isclose(relation_loss(zeros, QK, 2), np.log(5) - entropy)


def test_padding_counts_neither_as_row_nor_as_column() -> None:
    hidden = torch.tensor([[False, False, False, True, True], [False] * 3 + [True, True]])
    student = tuple(rows.clone().requires_grad_() for rows in QK)
    loss = relation_loss((student[0], student[1]), WIDE_QK, 4, hidden)
    cut = [tuple(rows[:, :3] for rows in pair) for pair in (QK, WIDE_QK)]
    assert torch.isclose(loss, relation_loss((cut[0][0], cut[0][1]), (cut[1][0], cut[1][1]), 4))
    loss.backward()  # type: ignore[no-untyped-call]
    for rows in student:
        assert rows.grad is not None
        assert rows.grad.isfinite().all()
        assert not rows.grad[:, 3:].any()


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_scores_equal_tinyberts_equation(heads: int) -> None:
    pairs = zip(relation_matrices(QK, heads), relation_matrices(WIDE_QK, heads), strict=True)
    expected = np.mean([((s - t) ** 2).mean() for s, t in pairs])
    assert float(attention_score_loss(QK, WIDE_QK, heads)) == pytest.approx(expected)


SAMPLES = randn(9, 6, seed=11)


def walk(embeddings: Array, temperature: float) -> Array:
    unit = np.stack([row / np.linalg.norm(row) for row in embeddings])
    centred = unit - unit.mean(0)
    return np.stack([softmax(np.array([a @ b for b in centred]) / temperature) for a in centred])


@pytest.mark.parametrize(("levels", "temperature"), [(1, 0.1), (3, 0.1), (3, 0.5)])
def test_geometry_equals_the_equation(levels: int, temperature: float) -> None:
    other = randn(9, 4, seed=12)
    p, q = walk(SAMPLES.numpy(), temperature), walk(other.numpy(), temperature)
    expected = 0.0
    for level in range(1, levels + 1):
        far_p, far_q = np.linalg.matrix_power(p, level), np.linalg.matrix_power(q, level)
        middle = (far_p + far_q) / 2
        rows = [(kl(a, m) + kl(b, m)) / 2 for a, b, m in zip(far_p, far_q, middle, strict=True)]
        expected += float(np.mean(rows)) / level
    assert float(geometry_loss(other, SAMPLES, levels, temperature)) == pytest.approx(expected / levels)


def test_geometry_is_kept_by_a_rotation_and_lost_by_a_permutation() -> None:
    rotation = torch.linalg.qr(randn(6, 6, seed=13)).Q
    assert float(geometry_loss(SAMPLES @ rotation, SAMPLES)) == pytest.approx(0, abs=1e-12)
    assert float(geometry_loss(3 * SAMPLES, SAMPLES)) == pytest.approx(0, abs=1e-12)
    assert 0.01 < float(geometry_loss(SAMPLES.roll(1, 0), SAMPLES)) <= np.log(2)


def test_geometry_has_a_finite_gradient_where_probabilities_underflow() -> None:
    student = SAMPLES.float().requires_grad_()
    geometry_loss(student, (SAMPLES + randn(9, 6, seed=14) / 5).float(), temperature=4e-3).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.any()


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda: soft_target_loss(STUDENT, TEACHER[:, :4]), InputError, r"student are \[7, 5\] and of .* \[7, 4\]"),
        (lambda: soft_target_loss(STUDENT, TEACHER, 0), RecipeError, "temperature is 0, expected more than 0"),
        (lambda: mixed_target_loss(STUDENT, TEACHER[:4], LABELS), InputError, r"\[7, 5\] and of .* \[4, 5\]"),
        (lambda: mixed_target_loss(STUDENT, TEACHER, LABELS, 1.1), RecipeError, "alpha is 1.1, expected 0 to 1"),
        (lambda: similarity_loss((STUDENT, STUDENT), (TEACHER[:3], TEACHER[:3])), InputError, r"\[7, 7\] .* \[3, 3\]"),
        (lambda: similarity_loss((STUDENT[:1],) * 2, (TEACHER[:1],) * 2), InputError, "1 rows, expected 2 or more"),
        (lambda: similarity_loss((STUDENT,) * 2, (TEACHER,) * 2, -1), RecipeError, "temperature is -1"),
        (lambda: relation_loss(QK, WIDE_QK, 3), InputError, "width 8 is not a multiple of 3 relation heads"),
        (lambda: relation_loss(QK, (WIDE_QK[0][:, :4],) * 2, 4), InputError, "only tokens that both kept"),
        (lambda: attention_score_loss(QK, (WIDE_QK[0][:, :4],) * 2, 4), InputError, "only tokens that both kept"),
        (lambda: geometry_loss(STUDENT, TEACHER[:4]), InputError, r"\[7, 7\] and of the teacher \[4, 4\]"),
        (lambda: geometry_loss(STUDENT[:2], TEACHER[:2]), InputError, "2 rows, expected 3 or more"),
        (lambda: geometry_loss(STUDENT, TEACHER, levels=0), RecipeError, "levels is 0"),
        (lambda: geometry_loss(STUDENT, TEACHER, temperature=0), RecipeError, "temperature is 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(loss: Callable[[], Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        loss()


@pytest.mark.parametrize(
    "loss",
    [
        lambda t: soft_target_loss(t, t),
        lambda t: similarity_loss((t, t.flip(0)), (t, t.flip(0))),
        lambda t: relation_loss((t[None], t[None]), (t[None], t[None]), 1),
        lambda t: attention_score_loss((t[None], t[None]), (t[None], t[None]), 1),
        lambda t: geometry_loss(t, t),
    ],
    ids=["scores", "similarities", "relations", "attention", "geometry"],
)
def test_student_that_equals_its_teacher_has_no_loss(loss: Callable[[Tensor], Tensor]) -> None:
    assert float(loss(STUDENT)) == pytest.approx(0, abs=1e-12)
