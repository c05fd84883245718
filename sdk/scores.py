"""The numbers that reducers choose by: likeness, relevance to a text, change since the last frame, energy.

Written in operators that NumPy and torch share, so one definition serves the device, training and the graph.
"""

from __future__ import annotations

from sanderling.arrays import Array, Arrays

_SHIFT = 1e-6
"""Added to every coordinate before a length is taken, so that rows of zeros are alike instead of undefined."""

_STEPS = 2.0**15
"""Cosines are rounded to this part of 1. Engines add in different orders and differ in the seventh digit; rounded,
copies of a token tie, and ties go by place everywhere."""


def cosine(arrays: Arrays, rows: Array) -> Array:
    """Return the cosine of every pair of rows, to about 3e-5; copies have exactly 1, and so have rows of zeros.

    Args:
        arrays: the array library's verbs.
        rows: [batch, n, width]

    Returns:
        [batch, n, n]
    """
    unit = _unit(rows)
    return arrays.round((unit * _STEPS) @ unit.swapaxes(-1, -2)) * (1.0 / _STEPS)


def relevance(rows: Array, text: Array) -> Array:
    """Return how much each row is like the text, as a cosine.

    Args:
        rows: tokens in the space of the text, [batch, n, width].
        text: one vector per text, [batch, width].

    Returns:
        [batch, n], -1 to 1
    """
    return (_unit(rows) @ _unit(text)[..., None])[..., 0]


def changed(patches: Array, previous: Array) -> Array:
    """Return how much each patch changed since the previous frame: the root of the mean squared difference.

    Given as saliency, patches that stayed the same are left out first. For a first frame give zeros as the previous.

    Args:
        patches: [batch, n, values]
        previous: the same patches one frame earlier, [batch, n, values].

    Returns:
        [batch, n], in the unit of the values; 0 where nothing changed.
    """
    return energy(patches - previous) ** 0.5


def energy(frames: Array) -> Array:
    """Return the mean square of each frame, [batch, n, samples] -> [batch, n]; silence is 0.

    Given as saliency, silent audio frames are left out first.
    """
    return (frames * frames).mean(-1)


def nearest(arrays: Arrays, similarity: Array, others: Array) -> Array:
    """Return how similar each token is to the most similar one of others.

    Args:
        arrays: the array library's verbs.
        similarity: of every pair, -1 to 1, [batch, n, n].
        others: which tokens each is compared with, bool [batch, n, n].

    Returns:
        [batch, n]; -2 where there is nothing to compare with.
    """
    highest, _ = arrays.best(arrays.where(others, similarity, -2.0))
    return highest


def _unit(rows: Array) -> Array:
    """[..., width] -> rows of length 1."""
    shifted = rows + _SHIFT
    return shifted / ((shifted * shifted).sum(-1) ** 0.5)[..., None]
