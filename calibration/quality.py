"""Quality of answers: a task metric where the user has one, else agreement with the full model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from sanderling.engine import AnyArray
from sanderling.ladder import Quality
from sanderling.selftest import cosine

__all__ = ["agreement", "cosine", "with_interval"]

_Z = NormalDist().inv_cdf(0.975)


def with_interval(scores: Sequence[float]) -> Quality:
    """Return the mean score with its 95 % interval.

    Scores of 0 and 1 get the Wilson interval, which stays inside 0 to 1 and is not empty when all are right; others get
    the normal one, clipped.

    Args:
        scores: 0 to 1, one per sample.
    """
    values = np.asarray(scores, dtype=np.float64)
    n, mean = len(values), float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        centre = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n * n))
    else:
        centre, half = mean, _Z * float(values.std(ddof=1 if n > 1 else 0)) / math.sqrt(n)
    return Quality(mean, max(0.0, centre - half), min(1.0, centre + half), n)


def agreement(outputs: Mapping[str, AnyArray], full: Mapping[str, AnyArray]) -> float:
    """Return how far outputs agree with the full model's: mean over float outputs of the cosine, 0 to 1.

    Outputs that list places or other integers do not count, unless there are no others: then it is the share of equal
    elements, over the outputs of equal shape.
    """
    cosines = [
        cosine(outputs[name], full[name])
        for name in full
        if np.issubdtype(full[name].dtype, np.floating) and outputs[name].shape == full[name].shape
    ]
    if cosines:
        return float(np.clip(np.mean(cosines), 0.0, 1.0))  # rounding lifts a cosine above 1
    same = [float(np.mean(outputs[name] == full[name])) for name in full if outputs[name].shape == full[name].shape]
    return float(np.mean(same)) if same else 0.0
