"""Losses on scores: what the teacher thinks of every answer says more than which one is right."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sanderling.compile.training.shapes import require_between, require_positive, require_same_shape


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Return T^2 * KL(softmax(teacher / T) || softmax(student / T)), mean over rows; a scalar.

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2; T^2 keeps the size of the
    gradient as T changes.

    Args:
        student: scores, [..., answers].
        teacher: scores of the same shape.
        temperature: T; higher shows more of how the teacher ranks wrong answers.

    Raises:
        InputError: shapes differ.
        RecipeError: the temperature is not positive.
    """
    require_same_shape("scores", student, teacher)
    require_positive("temperature", temperature)
    return temperature**2 * divergence(teacher / temperature, student / temperature)


def divergence(target: Tensor, predicted: Tensor) -> Tensor:
    """Return KL(softmax(target) || softmax(predicted)), mean over rows, for logits [..., n]; -inf marks nothing."""
    logs, wanted = functional.log_softmax(predicted, -1), functional.log_softmax(target, -1)
    # A place hidden on both sides has -inf - -inf; it holds no probability and adds nothing.
    gap = torch.where(wanted.isneginf(), torch.zeros_like(wanted), wanted - logs)
    return (wanted.exp() * gap).sum(-1).mean()


def mixed_target_loss(student: Tensor, teacher: Tensor, labels: Tensor, alpha: float = 0.4) -> Tensor:
    """Return the cross-entropy to alpha * softmax(teacher) + (1 - alpha) * one_hot(labels), mean over rows; a scalar.

    Momentum distillation of ALBEF (Li et al. 2021, "Align before Fuse", section 3.3, equations 6 and 7), up to the
    entropy of the teacher, which has no gradient. With the similarities of a batch as scores and `labels` 0, 1, 2, ...
    it is ALBEF's contrastive loss with soft targets. Where labels are noisy, the teacher speaks for pairs that match
    although nobody said so.

    Args:
        student: scores, [rows, answers].
        teacher: scores of the same shape, of the moving average of the student.
        labels: int64 [rows].
        alpha: how much the teacher counts, 0 to 1; ALBEF takes 0.4.

    Raises:
        InputError: shapes differ.
        RecipeError: alpha is not between 0 and 1.
    """
    require_same_shape("scores", student, teacher)
    require_between("alpha", alpha, 0, 1)
    hard = functional.one_hot(labels, student.shape[-1]).to(teacher.dtype)
    target = alpha * functional.softmax(teacher, -1) + (1 - alpha) * hard
    return functional.cross_entropy(student, target)


def similarity_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], temperature: float = 0.07
) -> Tensor:
    """Return how far the student's image-text similarities are from the teacher's; a scalar.

    The mean over both directions of KL(softmax(t) || softmax(s)), s and t being the cosine similarities of every image
    with every text of the batch over the temperature: contrastive relational distillation, Yang et al. 2024, "CLIP-KD",
    section 3.3. Widths of student and teacher may differ.

    Args:
        student: image and text embeddings, both [batch, width].
        teacher: the same of the teacher, both [batch, its width].
        temperature: divides the similarities.

    Raises:
        InputError: batches differ or have fewer than 2 rows.
        RecipeError: the temperature is not positive.
    """
    require_positive("temperature", temperature)
    s, t = _similarities(*student) / temperature, _similarities(*teacher) / temperature
    require_same_shape("similarities", s, t, at_least_rows=2)
    return (divergence(t, s) + divergence(t.T, s.T)) / 2


def _similarities(images: Tensor, texts: Tensor) -> Tensor:
    return functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).T
