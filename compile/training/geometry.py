"""A loss on neighbourhoods: samples that were near each other stay near each other, whatever the coordinates become."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sanderling.compile.training.shapes import require_positive, require_same_shape


def geometry_loss(student: Tensor, teacher: Tensor, levels: int = 3, temperature: float = 0.1) -> Tensor:
    """Return how far the student's neighbourhoods are from the teacher's, 0 to log 2; a scalar.

    STRUCTURE (Groeger et al. 2025, "With Limited Data for Multimodal Alignment, Let the STRUCTURE Guide You"): rows
    are scaled to length 1 and centred, P = softmax(X X^T / temperature) says how likely a sample walks to which
    neighbour, P^l where it is after l steps, and the loss is (1 / levels) * sum_l (1 / l) * JS(P_teacher^l,
    P_student^l), with the Jensen-Shannon divergence in nats, mean over samples. It is 0 when one is a rotation of the
    other. Their published code takes KL(mixture || P) where this takes the textbook's KL(P || mixture).

    Args:
        student: one embedding a sample, [batch, width].
        teacher: of the same samples, [batch, its width].
        levels: how many steps of the walk to compare.
        temperature: lower looks at nearer neighbours only.

    Raises:
        InputError: batches differ, or have fewer than 3 samples, where nothing is nearer than something else.
        RecipeError: levels or temperature are not positive.
    """
    require_positive("levels", levels)
    require_positive("temperature", temperature)
    s, t = _walk(student, temperature), _walk(teacher, temperature)
    require_same_shape("neighbourhoods", s, t, at_least_rows=3)
    total, s_far, t_far = torch.zeros((), dtype=s.dtype, device=s.device), s, t
    for level in range(1, levels + 1):
        total = total + _jensen_shannon(s_far, t_far) / level
        s_far, t_far = s_far @ s, t_far @ t
    return total / levels


def _walk(embeddings: Tensor, temperature: float) -> Tensor:
    unit = functional.normalize(embeddings, dim=-1)
    centred = unit - unit.mean(0)
    return functional.softmax(centred @ centred.T / temperature, -1)


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Return the divergence of rows of probabilities [n, n], mean over rows."""
    middle = (p + q) / 2
    return _divergence(p, middle) / 2 + _divergence(q, middle) / 2


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q), mean over rows; a probability that underflowed adds nothing, and has no infinite gradient."""
    p, q = (rows.clamp_min(torch.finfo(rows.dtype).tiny) for rows in (p, q))
    return (p * (p.log() - q.log())).sum(-1).mean()
