"""Keep a random subset: the baseline that every other reducer has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sanderling.arrays import Arrays
from sanderling.reduction import Reduction, View


@dataclass(frozen=True)
class Random:
    """Keep places in the order of a seeded permutation, the same for every input.

    DropToken of VATT (Akbari et al., section 3.2) with the draw fixed at compile time, so that two runs of
    one plan agree and every engine keeps the same tokens. Subsets are nested: a smaller budget keeps part
    of what a larger one keeps.

    Attributes:
        seed: another seed keeps another subset.
    """

    seed: int = 0
    name: str = "random"
    merges: bool = False
    needs_text: bool = False

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return `keep` places drawn without replacement."""
        order = np.random.default_rng(self.seed).permutation(view.n).astype(np.float32)
        return Reduction(arrays.ascending(arrays.top(arrays.spread(order, view.saliency), keep)))


REDUCER = Random()
