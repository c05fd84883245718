"""Batches from a data set of a fixed size, shuffled anew in every pass over it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import InputError, RecipeError


@dataclass(frozen=True)
class Shuffled:
    """Which samples make batch `number`.

    Attributes:
        samples: in the data set.
        batch: samples a batch; those left over at the end of a pass wait for the next one's shuffle.

    Raises:
        InputError: the data set is empty, or smaller than one batch.
    """

    samples: int
    batch: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise RecipeError(f"batch is {self.batch}, expected 1 or more")
        if self.samples < 1:
            raise InputError("the data set to train on has no samples; give at least one batch")
        if self.samples < self.batch:
            raise InputError(
                f"the data set to train on has {self.samples} samples, too few for a batch of {self.batch}; "
                "give more samples or smaller batches"
            )

    def places(self, seed: int, number: int) -> NDArray[np.int64]:
        """Return the places of a batch's samples, int64 [batch]; no sample comes twice in one pass."""
        per_pass = self.samples // self.batch
        passed, place = divmod(number, per_pass)
        return _order(self.samples, seed, passed)[place * self.batch : (place + 1) * self.batch]


@lru_cache(maxsize=1)
def _order(samples: int, seed: int, passed: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, passed)).permutation(samples)
