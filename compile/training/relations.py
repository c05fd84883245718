"""Losses on how tokens relate to each other; they compare matrices [n, n], so widths and head counts may differ."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor
from torch.nn import functional

from sanderling.compile.training.shapes import require_same_shape
from sanderling.compile.training.soft_targets import divergence
from sanderling.errors import InputError

Pair: TypeAlias = tuple[Tensor, Tensor]
"""What is related, both [batch, n, width]: (q, k) is attention, (q, q), (k, k) and (v, v) are MiniLM's relations."""


def relation_scores(pair: Pair, heads: int) -> Tensor:
    """Return A B^T / sqrt(head width) per relation head, [batch, heads, n, n].

    Raises:
        InputError: a width is not a multiple of `heads`.
    """
    rows, columns = (_split(tensor, heads) for tensor in pair)
    head_width = rows.shape[-1]
    return (rows * float(head_width**-0.5)) @ columns.transpose(-1, -2)


def relation_loss(student: Pair, teacher: Pair, heads: int, hidden: Tensor | None = None) -> Tensor:
    """Return KL(softmax(teacher's relations) || softmax(student's)), mean over batch, heads and tokens; a scalar.

    Of (q, k) it is the attention transfer and of (v, v) the value relation of MiniLM (Wang et al. 2020, equations 6 to
    8). The head count belongs to the relation, not to a model, as in MiniLMv2 (Wang et al. 2021, section 3.1), so both
    models may have other widths and heads than `heads`.

    Args:
        student: of the same tokens as the teacher's.
        teacher: may be of another width.
        heads: relation heads; divides both widths.
        hidden: bool [batch, n], True at padding, which counts neither as a row nor as a column.

    Raises:
        InputError: token counts differ, or a width is not a multiple of `heads`.
    """
    s, t = relation_scores(student, heads), relation_scores(teacher, heads)
    require_same_shape("relations", s, t)
    if hidden is None:
        return divergence(t, s)
    columns = hidden[:, None, None, :]
    s, t = s.masked_fill(columns, float("-inf")), t.masked_fill(columns, float("-inf"))
    seen = ~hidden[:, None, :].expand(s.shape[:-1])
    return divergence(t[seen], s[seen])


def attention_score_loss(student: Pair, teacher: Pair, heads: int) -> Tensor:
    """Return the mean squared difference of the attention scores before softmax; a scalar.

    TinyBERT (Jiao et al. 2020), equation 7: (1/h) sum_i MSE(A_i of the student, A_i of the teacher), on unnormalised
    scores, which they found to converge faster.

    Args:
        student: (q, k) of the same tokens as the teacher's.
        teacher: (q, k), may be of another width.
        heads: attention heads of both.

    Raises:
        InputError: token counts differ, or a width is not a multiple of `heads`.
    """
    s, t = relation_scores(student, heads), relation_scores(teacher, heads)
    require_same_shape("attention scores", s, t)
    return functional.mse_loss(s, t)


def _split(tensor: Tensor, heads: int) -> Tensor:
    batch, n, width = tensor.shape
    if width % heads:
        raise InputError(f"width {width} is not a multiple of {heads} relation heads; choose a divisor of both widths")
    return tensor.reshape(batch, n, heads, width // heads).transpose(1, 2)
