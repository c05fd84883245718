"""The array verbs that reducers are written in, and their NumPy form.

A reducer uses ordinary operators (+, *, <, @, indexing) plus the verbs of `Arrays`. Each array
library supplies the verbs once, so one definition of a reducer runs on NumPy, on torch and, through
torch's exporter, inside the graph.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""An array of whichever library the verbs belong to."""


class Arrays(Protocol):
    """What a reducer may ask of an array library, beyond operators."""

    def top(self, scores: Array, keep: int) -> Array:
        """[batch, n] -> int [batch, keep]: places of the highest scores, best first; equal ones by place."""
        ...

    def ascending(self, places: Array) -> Array:
        """[batch, keep] -> the same places in ascending order."""
        ...

    def rows(self, table: Array, places: Array) -> Array:
        """[batch, n, width], [batch, keep] -> [batch, keep, width]."""
        ...

    def best(self, scores: Array) -> tuple[Array, Array]:
        """[..., n] -> the highest score of each row [...] and its place [...]."""
        ...

    def where(self, condition: Array, then: Array, otherwise: Array) -> Array:
        """Elementwise choice; `then` and `otherwise` may be plain numbers."""
        ...

    def floor(self, values: Array) -> Array:
        """Round down, elementwise."""
        ...

    def round(self, values: Array) -> Array:
        """Round to the nearest whole number, halves to the even one, elementwise."""
        ...

    def spread(self, values: NDArray[np.float32], like: Array) -> Array:
        """float [n] -> [batch, n], with the batch of `like` [batch, ...]."""
        ...

    def count_up(self, keep: int, like: Array) -> Array:
        """float [keep]: 0, 1, 2, ... on the device of `like`."""
        ...

    def as_float(self, values: Array) -> Array:
        """Booleans or integers as float32."""
        ...

    def as_place(self, values: Array) -> Array:
        """Whole floats as int64 places."""
        ...


def before(arrays: Arrays, scores: Array) -> Array:
    """Return which tokens come before which by falling score, equal ones by place.

    Args:
        arrays: the array library's verbs.
        scores: [batch, n]

    Returns:
        bool [batch, n, n]; in row i the tokens that come before token i.
    """
    place = _places(arrays, scores)
    earlier = place[:, None, :] < place[:, :, None]
    other, own = scores[:, None, :], scores[:, :, None]
    return (other > own) | ((other == own) & earlier)


def rank(arrays: Arrays, scores: Array) -> Array:
    """Return each token's number in the order of falling scores, [batch, n] -> float [batch, n]: 0 for the first."""
    return arrays.as_float(before(arrays, scores)).sum(-1)


def among(arrays: Arrays, places: Array, like: Array) -> Array:
    """Return which tokens are listed, int [batch, keep] -> bool [batch, n]; `like` is any array [batch, n]."""
    listed = arrays.as_float(places)[:, :, None] == _places(arrays, like)[:, None, :]
    return arrays.as_float(listed).sum(1) > 0.5


def _places(arrays: Arrays, like: Array) -> Array:
    """Return 0, 1, 2, ... in each row, [batch, n] -> float [batch, n]."""
    return arrays.spread(np.arange(like.shape[1], dtype=np.float32), like)


class NumpyArrays:
    """The verbs on NumPy; also the definition that the other forms are tested against."""

    def top(self, scores: Array, keep: int) -> Array:
        """[batch, n] -> int [batch, keep]; ties go to the earlier place."""
        return np.argsort(-scores, axis=-1, kind="stable")[..., :keep]

    def ascending(self, places: Array) -> Array:
        """[batch, keep] -> the same places in ascending order."""
        return np.sort(places, axis=-1)

    def rows(self, table: Array, places: Array) -> Array:
        """[batch, n, width], [batch, keep] -> [batch, keep, width]."""
        return np.take_along_axis(table, places[..., None], axis=1)

    def best(self, scores: Array) -> tuple[Array, Array]:
        """[..., n] -> highest score [...] and its place [...]."""
        return scores.max(-1), scores.argmax(-1)

    def where(self, condition: Array, then: Array, otherwise: Array) -> Array:
        """Elementwise choice."""
        return np.where(condition, then, otherwise)

    def floor(self, values: Array) -> Array:
        """Round down, elementwise."""
        return np.floor(values)

    def round(self, values: Array) -> Array:
        """Round to the nearest whole number, elementwise."""
        return np.round(values)

    def spread(self, values: NDArray[np.float32], like: Array) -> Array:
        """float [n] -> [batch, n]."""
        return np.broadcast_to(values.astype(np.float32), (like.shape[0], values.shape[0]))

    def count_up(self, keep: int, like: Array) -> Array:
        """float [keep]: 0, 1, 2, ..."""
        return np.arange(keep, dtype=np.float32)

    def as_float(self, values: Array) -> Array:
        """Booleans or integers as float32."""
        return np.asarray(values, dtype=np.float32)

    def as_place(self, values: Array) -> Array:
        """Whole floats as int64 places."""
        return np.asarray(values, dtype=np.int64)
